"""NRRD (.nrrd, .nhdr): its header, read strictly, and files of it."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.formats.opened_volume import UnsupportedError, axes_of_one
from near_monai.formats.slicer_segments import layers_of
from near_monai.formats.text_headers import HEADER_BYTES, LPS_RAS, TextHeader, check_axes, finite_numbers, mm_of

TYPES = {
    "i1": ("int8", "int8_t", "signed char"),
    "u1": ("uint8", "uint8_t", "uchar", "unsigned char"),
    "i2": ("int16", "int16_t", "short", "short int", "signed short", "signed short int"),
    "u2": ("uint16", "uint16_t", "ushort", "unsigned short", "unsigned short int"),
    "i4": ("int32", "int32_t", "int", "signed int"),
    "u4": ("uint32", "uint32_t", "uint", "unsigned int"),
    "i8": ("int64", "int64_t", "longlong", "long long", "long long int", "signed long long", "signed long long int"),
    "u8": ("uint64", "uint64_t", "ulonglong", "unsigned long long", "unsigned long long int"),
    "f4": ("float",),
    "f8": ("double",),
}
ENCODINGS = {"gz": "gzip", "bz2": "bzip2", "ascii": "text", "txt": "text"}
#: A field that is none of these may be a misspelt one that says where the voxels lie.
FIELDS = {"type", "dimension", "encoding", "endian", "sizes", "spacings", "space", "spaceorigin", "spacedirections"}
FIELDS |= {"spacedimension", "spaceunits", "measurementframe", "kinds", "labels", "units", "centers", "centerings"}
FIELDS |= {"thicknesses", "content", "min", "max", "oldmin", "oldmax", "sampleunits", "datafile", "number"}
FIELDS |= {"blocksize", "byteskip", "lineskip"}
UNSUPPORTED = {"axismins", "axismaxs"}
#: Signs that turn a space into LPS; what is not here is taken for LPS, as ITK does.
SPACES = {"rightanteriorsuperior": (-1, -1, 1), "ras": (-1, -1, 1), "leftanteriorsuperior": (1, -1, 1)}
SPACES |= {"las": (1, -1, 1)}
SPATIAL_KINDS = ("domain", "space", "???", "none", "time")
LIST_AXIS = "list"
VECTOR = r"none|\([^)]*\)"


def read_header(path: Path) -> TextHeader:
    """The header of a NRRD file.

    Raises:
        UnsupportedError: it is sound, but not supported.
        ValueError: it is none, or says what is not understood; the message says what.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    if not content.startswith(b"NRRD"):
        raise ValueError("it does not begin with NRRD")
    end = re.search(rb"\r?\n\r?\n", content)
    lines = (content[: end.start()] if end else content).decode("utf-8", errors="replace").splitlines()
    fields, metadata = _fields(lines[1:])
    try:
        return _header(fields, metadata, end.end() if end else len(content))
    except KeyError as error:
        raise ValueError(f"its header lacks {error}") from error


def _fields(lines: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Known fields and metadata."""
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for line in lines:
        if line.startswith("#"):
            continue
        key, colon, value = line.partition(":")
        if value.startswith("="):
            if "\ufffd" not in line:  # what is not UTF-8 cannot be written again
                metadata[key.strip()] = value[1:]
            continue
        key = key.lower().replace(" ", "")
        if colon and key in UNSUPPORTED:
            raise UnsupportedError(f"{line[:40]!r} in its header is not supported; write it with a space origin")
        if not colon or key not in FIELDS or key in fields:
            raise ValueError(f"{line[:40]!r} in its header; expected fields of NRRD, each once")
        fields[key] = value.strip()
        if key == "datafile" and value.split()[:1] == ["LIST"]:
            raise UnsupportedError("data file: LIST (voxels in many files) is not supported; write them as one file")
    return fields, metadata


def _header(fields: dict[str, str], metadata: dict[str, str], length: int) -> TextHeader:
    shape = tuple(int(n) for n in fields["sizes"].split())
    if len(shape) != int(fields["dimension"]):
        raise ValueError(f"dimension {fields['dimension']}, but sizes {fields['sizes']}")
    kind = next((k for k, names in TYPES.items() if fields["type"].lower() in names), None)
    encoding = fields["encoding"].lower()
    encoding = ENCODINGS.get(encoding, encoding)
    if kind is None or encoding not in ("raw", "gzip", "bzip2", "text"):
        raise UnsupportedError(f"type {fields['type']} in encoding {fields['encoding']} is not supported")
    order = ""
    if np.dtype(kind).itemsize > 1 and encoding != "text":
        order = {"little": "<", "big": ">"}[fields["endian"].lower()]
    data = fields.get("datafile", "")
    kinds = fields.get("kinds", "").split() or ["domain"] * len(shape)
    directions = fields.get("spacedirections", "")
    rows = re.findall(VECTOR, directions)
    if len(kinds) != len(shape) or (directions and len(rows) != len(shape)) or re.sub(VECTOR, "", directions).strip():
        raise ValueError(f"kinds {kinds} and directions {directions} for {len(shape)} axes")
    spatial = tuple(
        axis for axis in range(len(shape)) if (rows[axis] != "none" if rows else kinds[axis].lower() in SPATIAL_KINDS)
    )
    if len(spatial) == 3 < len(shape):
        _check_others(shape, spatial, metadata)
    ones = axes_of_one(shape, spatial)
    inner = [axis for axis in range(len(shape)) if axis not in ones]
    skip = int(fields.get("lineskip", "0")), int(fields.get("byteskip", "0"))
    affine = _affine(fields, rows, inner, len(shape))
    return TextHeader(shape, ones, affine, order + kind, encoding, data, length, 0, skip, metadata)


def _check_others(shape: tuple[int, ...], spatial: tuple[int, ...], metadata: dict[str, str]) -> None:
    """Refuse several numbers per voxel, such as the layers of segments that overlap.

    Raises:
        UnsupportedError: there are; it says what to do.
    """
    count = int(np.prod([n for axis, n in enumerate(shape) if axis not in spatial]))
    layers = layers_of(metadata)
    if count > 1 and layers:
        raise UnsupportedError(
            f"{count} layers of segments that overlap ({layers}); expected one: in 3D Slicer, Segmentations, "
            "'Export to files' or 'Export visible segments to labelmap' with the segments that are wanted, then save it"
        )
    if count > 1:
        raise UnsupportedError(f"{count} numbers per voxel; expected one")


def _affine(fields: dict[str, str], rows: list[str], inner: list[int], n: int) -> NDArray[np.float64]:
    space = fields.get("space", "").lower().replace("-", "").replace(" ", "")
    wide = 4 if space.endswith("time") else 3
    units = _quoted(fields.get("units", ""))
    of_axes = [units[axis] for axis in inner] if len(units) == n and not rows else []
    of_space = _quoted(fields.get("spaceunits", "")) or of_axes or ["mm"] * 3
    if len(of_space) not in (3, wide):
        raise ValueError(f"units {of_space}; expected {wide}")
    scale = np.array(mm_of(*of_space[:3]))[:, None]
    if rows:
        vectors = np.array([finite_numbers(rows[axis].strip("()"), wide) for axis in inner])
        if vectors[:, 3:].any():
            raise UnsupportedError("axes that lead out of space are not supported; write one 3-D volume")
        columns = vectors[:, :3].T
    else:
        steps = fields.get("spacings", "1 " * n).split()
        if len(steps) != n:
            raise ValueError(f"spacings {fields['spacings']}; expected {n}")
        lengths = finite_numbers(" ".join(steps[axis] for axis in inner), 3)
        if min(lengths) <= 0:
            raise ValueError(f"spacings {lengths}; expected lengths above 0")
        columns = np.diag(lengths)
    check_axes(columns)
    start = fields.get("spaceorigin", f"({','.join('0' * wide)})").strip("()")
    origin = np.array(finite_numbers(start, wide))[:3, None]
    signs = np.array(SPACES.get(space.removesuffix("time"), (1, 1, 1)))[:, None]
    lps = np.eye(4)
    lps[:3] = signs * scale * np.hstack([columns, origin])
    return LPS_RAS @ lps


def _quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text)


def write(path: Path, array: NDArray[Any], ones: tuple[int, ...], affine: ArrayLike, metadata: dict[str, str]) -> None:
    """Write ``array`` ``(X, Y, Z)``, with axes of length 1 at ``ones``, as one file.

    Raises:
        OSError: it cannot be written.
    """
    lps = LPS_RAS @ np.asarray(affine, np.float64)
    vectors = iter(["({})".format(",".join(map(repr, column))) for column in lps[:3].T.tolist()])
    shape = np.expand_dims(np.empty(array.shape, bool), ones).shape
    kinds = [LIST_AXIS if axis in ones else "domain" for axis in range(len(shape))]
    lines = [
        "NRRD0005",
        f"type: {TYPES[array.dtype.str[1:]][0]}",
        f"dimension: {len(shape)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(map(str, shape))}",
        f"space directions: {' '.join('none' if kind == LIST_AXIS else next(vectors) for kind in kinds)}",
        f"kinds: {' '.join(kinds)}",
        *(["endian: little"] if array.dtype.itemsize > 1 else []),
        "encoding: gzip",
        f"space origin: {next(vectors)}",
        *(f"{key}:={value}" for key, value in metadata.items()),
    ]
    with path.open("wb") as file:
        file.write(("\n".join(lines) + "\n\n").encode())
        with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
            for plane in np.moveaxis(array, 2, 0):
                packed.write(plane.astype(array.dtype.newbyteorder("<"), copy=False).tobytes(order="F"))
