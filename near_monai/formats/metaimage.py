"""MetaImage (.mha, .mhd): its header, read strictly, and files of it, written by ITK.

A file is written as one: a name that ITK would have to put into a header can crash whoever reads it (``%``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.formats.opened_volume import UnsupportedError, axes_of_one
from near_monai.formats.text_headers import (
    HEADER_BYTES,
    LPS_RAS,
    TextHeader,
    check_axes,
    finite_numbers,
    lps_affine,
    mm_of,
)
from near_monai.geometry.coordinates import spacing_of

TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long": "i4",  # whatever the machine: MetaIO's own table says 4 bytes
    "met_ulong": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
#: Fields that say where a volume lies, each with its other names.
AXES, STEPS = ("TransformMatrix", "Rotation", "Orientation"), ("ElementSpacing", "ElementSize")
ORIGIN, ORDER = ("Offset", "Position", "Origin"), ("BinaryDataByteOrderMSB", "ElementByteOrderMSB")
#: Fields that say what a file holds; all others are metadata.
FIELDS = {"ObjectType", "NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "ElementDataFile"}
FIELDS |= {"BinaryData", "CompressedData", "CompressedDataSize", "HeaderSize", "CenterOfRotation"}
FIELDS |= {"AnatomicalOrientation", "DistanceUnits", *AXES, *STEPS, *ORIGIN, *ORDER}
#: What would be taken for metadata, and the volume would lie elsewhere: every field has one spelling.
MISSPELT = {name.lower() for name in FIELDS}


def read_header(path: Path) -> TextHeader:
    """The header of a MetaImage file.

    Raises:
        UnsupportedError: it is sound, but not supported.
        ValueError: it is none, or says what is not understood; the message says what.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        fields, metadata, length = _fields(file.read(HEADER_BYTES))
    try:
        return _header(fields, metadata, length)
    except KeyError as error:
        raise ValueError(f"its header lacks {error}") from error


def _fields(content: bytes) -> tuple[dict[str, str], dict[str, str], int]:
    """The known fields of a header, the others, and its length in bytes."""
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    start = 0
    while "ElementDataFile" not in fields:
        end = content.find(b"\n", start)
        text = content[start : end if end >= 0 else None].decode("utf-8", errors="replace")
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or key in fields or (key not in FIELDS and key.lower() in MISSPELT):
            raise ValueError(f"{text[:40]!r} in its header; expected KEY = VALUE, each once, up to ElementDataFile")
        if key in FIELDS:
            fields[key] = value
        elif "\ufffd" not in text:
            metadata[key] = value
        if end < 0 and "ElementDataFile" not in fields:
            raise ValueError("no ElementDataFile")
        start = end + 1 if end >= 0 else len(content)
    return fields, metadata, start


def _header(fields: dict[str, str], metadata: dict[str, str], length: int) -> TextHeader:
    n = int(fields["NDims"])
    shape = tuple(int(v) for v in fields["DimSize"].split())
    kind = TYPES.get(fields["ElementType"].lower())
    if len(shape) != n or kind is None:
        raise ValueError(f"NDims {n}, DimSize {fields['DimSize']}, ElementType {fields['ElementType']}")
    if fields.get("ElementNumberOfChannels", "1") != "1":
        raise UnsupportedError(f"{fields['ElementNumberOfChannels']} numbers per voxel; expected one")
    file = fields["ElementDataFile"]
    if file.upper().split()[:1] == ["LIST"]:
        raise UnsupportedError("ElementDataFile = LIST (voxels in many files) is not supported; write them as one file")
    file = "" if file.upper() == "LOCAL" else file
    packed = _true(fields.get("CompressedData", "False"))
    encoding = ("zlib" if packed else "raw") if _true(fields.get("BinaryData", "True")) else "text"
    size = int(fields.get("CompressedDataSize", "0")) if packed else 0
    if size < 0 or (packed and not file and size == 0):
        raise ValueError(f"CompressedDataSize {size}; expected the bytes of its compressed voxels")
    skip = int(fields.get("HeaderSize", "0"))
    if skip < -1 or (skip > 0 and not file):
        raise UnsupportedError(f"HeaderSize = {skip} is not supported here; write it anew")
    big = _true(_either(fields, ORDER, "False"))
    ones = axes_of_one(shape, tuple(range(n)))
    return TextHeader(
        shape,
        ones,
        _affine(fields, n),
        (">" if big else "<") + kind,
        encoding,
        file,
        length,
        size,
        (0, skip),
        metadata,
    )


def _affine(fields: dict[str, str], n: int) -> NDArray[np.float64]:
    identity = " ".join(map(str, np.eye(n).ravel()))
    rows = np.reshape(finite_numbers(_either(fields, AXES, identity), n * n), (n, n))
    steps = np.array(finite_numbers(fields.get(STEPS[0], fields.get(STEPS[1], "1 " * n)), n))
    origin = np.array(finite_numbers(_either(fields, ORIGIN, "0 " * n), n))
    if rows[:3, 3:].any() or rows[3:, :3].any():
        raise UnsupportedError("axes that lead out of space are not supported; write one 3-D volume")
    if (steps[:3] <= 0).any():
        raise ValueError(f"spacing {steps.tolist()}; expected lengths above 0")
    check_axes(rows[:3, :3])
    unit = fields.get("DistanceUnits", "?")  # MetaIO's own word for units that nobody said
    (scale,) = mm_of("mm" if unit == "?" else unit)
    return lps_affine(rows[:3, :3].T * steps[:3] * scale, origin[:3] * scale)


def _either(fields: dict[str, str], names: tuple[str, ...], default: str) -> str:
    """The value of a field that has several names."""
    found = {fields[name] for name in names if name in fields}
    if len(found) > 1:
        raise ValueError(f"{' and '.join(name for name in names if name in fields)} differ: {', '.join(sorted(found))}")
    return found.pop() if found else default


def _true(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{text!r}; expected True or False")
    return text.lower() in ("true", "1")


def write(path: Path, array: NDArray[Any], affine: ArrayLike, metadata: dict[str, str]) -> None:
    """Write ``array``, of three axes or more, as one file; further axes have length 1.

    Raises:
        OSError, RuntimeError: it cannot be written.
    """
    import SimpleITK as sitk  # takes a while: only those who need it wait

    lps = LPS_RAS @ np.asarray(affine, np.float64)
    spacing = np.array(spacing_of(lps))
    image = sitk.GetImageFromArray(array.reshape(array.shape[:3], order="A").T)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    for _ in array.shape[3:]:
        image = sitk.JoinSeries(image)
    for key, value in metadata.items():
        image.SetMetaData(key, value)
    safe = path.with_name("image.mha")  # ITK takes a "%" in a name for a pattern, and knows small letters alone
    sitk.WriteImage(image, str(safe), useCompression=True)
    safe.rename(path)
