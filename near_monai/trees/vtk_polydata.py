"""VTP: the XML files of points, lines and triangles that 3D Slicer, ParaView and VMTK read."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from near_monai.formats.atomic_writing import replacing

#: 3D Slicer reads the frame of the points from a field of this name, and takes LPS without it.
SPACE_FIELD, SPACE = "SPACE", "RAS"
TYPES = {"f4": "Float32", "f8": "Float64", "i4": "Int32", "i8": "Int64", "u1": "UInt8"}

Arrays = Mapping[str, NDArray[np.generic]]


def write_vtp(
    path: Path,
    points: NDArray[np.floating],
    lines: Sequence[NDArray[np.integer]] = (),
    triangles: NDArray[np.integer] | None = None,
    point_data: Arrays | None = None,
    cell_data: Arrays | None = None,
    words: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write points in RAS mm with lines or triangles of them; the file says RAS.

    Args:
        path: target.
        points: ``(N, 3)``.
        lines: numbers of the points of every line.
        triangles: ``(M, 3)`` numbers of points, anticlockwise as seen from outside.
        point_data: by name, ``(N,)`` each.
        cell_data: by name, a value per line, or else per triangle.
        words: by name, texts about the whole.

    Raises:
        NearError: it cannot be written.
    """
    faces = np.zeros((0, 3), np.int64) if triangles is None else triangles
    stops = np.cumsum([len(line) for line in lines], dtype=np.int64)
    joined = np.concatenate([np.asarray(line, np.int64) for line in lines]) if len(lines) else np.zeros(0, np.int64)
    said = "".join(_texts(name, texts) for name, texts in {SPACE_FIELD: (SPACE,), **(words or {})}.items())
    parts = [
        '<?xml version="1.0"?>',
        '<VTKFile type="PolyData" version="1.0" byte_order="LittleEndian" header_type="UInt64">',
        "<PolyData>",
        f"<FieldData>{said}</FieldData>",
        f'<Piece NumberOfPoints="{len(points)}" NumberOfVerts="0" NumberOfLines="{len(lines)}" NumberOfStrips="0" '
        f'NumberOfPolys="{len(faces)}">',
        f"<PointData>{_all(point_data)}</PointData>",
        f"<CellData>{_all(cell_data)}</CellData>",
        f"<Points>{_array('Points', points.astype('<f4'))}</Points>",
        f"<Lines>{_array('connectivity', joined)}{_array('offsets', stops)}</Lines>",
        f"<Polys>{_array('connectivity', faces.astype(np.int64).ravel())}"
        f"{_array('offsets', 3 * np.arange(1, len(faces) + 1, dtype=np.int64))}</Polys>",
        "</Piece>",
        "</PolyData>",
        "</VTKFile>",
    ]
    with replacing(path) as part:
        part.write_text("\n".join(parts) + "\n", encoding="ascii")


def _texts(name: str, texts: Sequence[str]) -> str:
    """Texts as the numbers of their letters, a 0 after each."""
    letters = " ".join(" ".join(map(str, (*text.encode(), 0))) for text in texts)
    return f'<Array type="String" Name="{name}" NumberOfTuples="{len(texts)}" format="ascii">{letters}</Array>'


def _all(arrays: Arrays | None) -> str:
    return "".join(_array(name, values) for name, values in (arrays or {}).items())


def _array(name: str, values: NDArray[np.generic]) -> str:
    """One array in base64, after its number of bytes."""
    stored = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    kind = TYPES[stored.dtype.str[1:]]
    components = f' NumberOfComponents="{stored.shape[1]}"' if stored.ndim == 2 else ""
    content = base64.b64encode(np.uint64(stored.nbytes).astype("<u8").tobytes() + stored.tobytes()).decode()
    return f'<DataArray type="{kind}" Name="{name}"{components} format="binary">{content}</DataArray>'
