"""NRRD and MetaImage files are checked here before ITK reads them.

ITK's readers crash on damaged headers, or return memory as it was where voxels are missing. Both formats are lines of
text, then the voxels: raw, compressed or as text, in the same file or in one beside it. What is not understood is
refused.
"""

from __future__ import annotations

import bz2
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 1 << 20
NRRD_TYPES = {
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
#: A field that is none of these may be a misspelt one that says where the voxels lie.
NRRD_FIELDS = {"type", "dimension", "encoding", "endian", "sizes", "spacings", "space", "spaceorigin"}
NRRD_FIELDS |= {"spacedirections", "spacedimension", "spaceunits", "measurementframe", "kinds", "labels", "units"}
NRRD_FIELDS |= {"centers", "centerings", "thicknesses", "content", "min", "max", "oldmin", "oldmax", "sampleunits"}
NRRD_FIELDS |= {"datafile", "number", "blocksize"}
META_TYPES = {
    "met_char": "i1",
    "met_uchar": "u1",
    "met_short": "i2",
    "met_ushort": "u2",
    "met_int": "i4",
    "met_uint": "u4",
    "met_long_long": "i8",
    "met_ulong_long": "u8",
    "met_float": "f4",
    "met_double": "f8",
}
#: How many numbers the fields of MetaImage hold that say where a volume lies.
META_GEOMETRY = dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 9)
META_GEOMETRY |= dict.fromkeys(("ElementSpacing", "ElementSize", "Offset", "Position", "Origin"), 3)
#: Fields of MetaImage that say what a file holds; all others are metadata.
META_FIELDS = {"ObjectType", "NDims", "DimSize", "ElementType", "ElementNumberOfChannels", "ElementDataFile"}
META_FIELDS |= {"BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize"}
META_FIELDS |= {"HeaderSize", "CenterOfRotation", "AnatomicalOrientation", *META_GEOMETRY}
#: What ITK would take for metadata, and the volume would lie elsewhere: it knows one spelling of each field.
META_MISSPELT = {name.lower() for name in META_FIELDS}


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        shape: voxels along each axis, as many as there are.
        channels: numbers per voxel.
        kind: numpy's name of the voxel type.
        encoding: ``"raw"``, ``"gzip"``, ``"zlib"`` (or gzip), ``"bzip2"`` or ``"text"``.
        data: name of the file that holds the voxels, beside this one; empty if they follow the header.
        length: bytes of the header.
        packed: bytes of the compressed voxels; 0 for all there are.
    """

    shape: tuple[int, ...]
    channels: int
    kind: str
    encoding: str
    data: str
    length: int
    packed: int = 0


def read_header(path: Path) -> Header:
    """The header of a NRRD or MetaImage file.

    Raises:
        ValueError: it is neither, or says what is not understood; the message says what.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(HEADER_BYTES)
    try:
        return _nrrd(content) if content.startswith(b"NRRD") else _meta(content)
    except KeyError as error:
        raise ValueError(f"its header lacks {error}") from error


def check_voxels(path: Path, header: Header) -> None:
    """Read the voxels of ``path`` to their end.

    Raises:
        ValueError: there are fewer or more than ``header`` says, or their file is in another folder.
        OSError, EOFError, zlib.error: their file cannot be read.
    """
    if header.data and (Path(header.data).name != header.data or "\\" in header.data):
        raise ValueError(f"its voxels are in {header.data}; expected the name of a file beside it")
    with (path.parent / header.data if header.data else path).open("rb") as file:
        file.seek(0 if header.data else header.length)
        packed = file.read()
    if len(packed) < header.packed:
        raise ValueError(f"{len(packed)} bytes of compressed voxels; expected {header.packed}")
    packed = packed[: header.packed or None]
    size = int(np.prod(header.shape, dtype=object)) * np.dtype(header.kind).itemsize
    if header.encoding == "text":
        found = _numbers_of(packed, np.dtype(header.kind)).size * np.dtype(header.kind).itemsize
    else:
        found = len(_unpacked(packed, header.encoding, size))
    if found != size:
        raise ValueError(f"{found} bytes of voxels; expected {size} for {header.shape}")


def _numbers_of(text: bytes, kind: np.dtype[Any]) -> NDArray[np.float64]:
    numbers = np.array(text.split(), dtype=np.float64)
    if kind.kind != "f":
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        if not np.array_equal(numbers, np.clip(np.rint(numbers), low, high)):  # ITK would let them wrap around
            raise ValueError(f"numbers that are no {kind.name}")
    return numbers


def _unpacked(packed: bytes, encoding: str, size: int) -> bytes:
    """``size`` bytes and, if there are more, one of them: a header that claims too little costs no memory."""
    if encoding == "raw":
        return packed
    wbits = 31 if encoding == "gzip" else 47  # 47: gzip or zlib; ITK takes zlib in NRRD for the voxels themselves
    unpack = bz2.BZ2Decompressor() if encoding == "bzip2" else zlib.decompressobj(wbits)
    plain = unpack.decompress(packed, min(size + 1, len(packed) << 11))
    if not unpack.eof:
        raise ValueError("its compressed voxels are cut short, or more than the header says")
    return plain


def _nrrd(content: bytes) -> Header:
    end = re.search(rb"\r?\n\r?\n", content[:HEADER_BYTES])
    lines = (content[: end.start()] if end else content).decode("utf-8", errors="replace").splitlines()
    fields: dict[str, str] = {}
    for line in lines[1:]:
        if line.startswith("#") or ":=" in line:  # comments and metadata
            continue
        key, colon, value = line.partition(":")
        key = key.lower().replace(" ", "")
        if not colon or key not in NRRD_FIELDS or key in fields:
            raise ValueError(f"{line[:40]!r} in its header; expected fields of NRRD, each once")
        fields[key] = value.strip()
    shape = tuple(int(n) for n in fields["sizes"].split())
    if len(shape) != int(fields["dimension"]):
        raise ValueError(f"dimension {fields['dimension']}, but sizes {fields['sizes']}")
    kind = next((k for k, names in NRRD_TYPES.items() if fields["type"].lower() in names), None)
    names = {"gz": "gzip", "bz2": "bzip2", "ascii": "text", "txt": "text"}
    encoding = names.get(fields["encoding"].lower(), fields["encoding"].lower())
    if kind is None or encoding not in ("raw", "gzip", "bzip2", "text"):
        raise ValueError(f"type {fields['type']} in encoding {fields['encoding']}")
    if len(shape) == 3:
        _check_nrrd_geometry(fields)
    return Header(shape, 1, kind, encoding, fields.get("datafile", ""), end.end() if end else len(content))


def _check_nrrd_geometry(fields: dict[str, str]) -> None:
    vectors = re.findall(r"\(([^)]*)\)", fields.get("spacedirections", ""))
    _check_axes([number for vector in vectors for number in _numbers(vector, 3)])
    for name in ("spacings", "spaceorigin"):
        if name in fields:
            _numbers(fields[name].strip("()"), 3)


def _meta_fields(content: bytes) -> tuple[dict[str, str], int]:
    """What is known of a header's fields, and its length in bytes."""
    fields: dict[str, str] = {}
    start = 0
    while "ElementDataFile" not in fields:
        end = content.find(b"\n", start, HEADER_BYTES)
        line = content[start : end if end >= 0 else None].decode("utf-8", errors="replace")
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or key in fields or (key not in META_FIELDS and key.lower() in META_MISSPELT):
            raise ValueError(f"{line[:40]!r} in its header; expected KEY = VALUE, each once, up to ElementDataFile")
        if key in META_FIELDS:
            fields[key] = value
        if end < 0 and "ElementDataFile" not in fields:
            raise ValueError("no ElementDataFile")
        start = end + 1 if end >= 0 else len(content)
    return fields, start


def _meta(content: bytes) -> Header:
    fields, start = _meta_fields(content)
    n = int(fields["NDims"])
    shape = tuple(int(v) for v in fields["DimSize"].split())
    kind = META_TYPES.get(fields["ElementType"].lower())
    if len(shape) != n or kind is None:
        raise ValueError(f"NDims {n}, DimSize {fields['DimSize']}, ElementType {fields['ElementType']}")
    if fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise ValueError("parts of its data are to be skipped")
    for order in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"):
        _true(fields.get(order, "False"))
    packed = _true(fields.get("CompressedData", "False"))
    encoding = ("zlib" if packed else "raw") if _true(fields.get("BinaryData", "True")) else "text"
    if n == 3:
        for name in META_GEOMETRY.keys() & fields.keys():
            _check_axes(_numbers(fields[name], META_GEOMETRY[name]))
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    file = "" if fields["ElementDataFile"].upper() == "LOCAL" else fields["ElementDataFile"]
    size = int(fields.get("CompressedDataSize", "0")) if packed else 0
    if size < 0 or (packed and not file and size == 0):  # ITK would return memory as it was
        raise ValueError(f"CompressedDataSize {size}; expected the bytes of its compressed voxels")
    return Header(shape, channels, kind, encoding, file, start, size)


def _true(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{text!r}; expected True or False")
    return text.lower() in ("true", "1")


def _numbers(text: str, count: int) -> list[float]:
    numbers = [float(word) for word in text.replace(",", " ").split()]
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{text!r}; expected {count} finite numbers")
    return numbers


def _check_axes(numbers: list[float]) -> None:
    """Refuse the nine numbers of a matrix that cannot be inverted; other counts say nothing of directions."""
    if len(numbers) == 9 and np.linalg.matrix_rank(np.reshape(numbers, (3, 3))) < 3:
        raise ValueError(f"its voxel axes lie in one plane: {numbers}")
