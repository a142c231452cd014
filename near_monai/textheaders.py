"""NRRD and MetaImage, read here and not by ITK: its readers crash on damaged headers, or return memory as it was.

Both formats are lines of text, then the voxels: raw, compressed or as text, in the same file or in one beside it. What
is not understood is refused. Voxels are in file axis order, affines in LPS mm, as both formats have them.
"""

from __future__ import annotations

import bz2
import re
import zlib
from dataclasses import dataclass, field
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
#: Fields of MetaImage that say where the voxels lie; all others are handed on.
META_FIELDS = {"objecttype", "ndims", "binarydata", "binarydatabyteordermsb", "elementbyteordermsb", "compresseddata"}
META_FIELDS |= {"compresseddatasize", "transformmatrix", "rotation", "orientation", "offset", "position", "origin"}
META_FIELDS |= {"elementspacing", "elementsize", "dimsize", "elementtype", "elementnumberofchannels", "headersize"}
META_FIELDS |= {"elementdatafile", "centerofrotation", "anatomicalorientation"}
DIRECTIONS = {"left": 1, "right": -1, "posterior": 1, "anterior": -1, "superior": 1, "inferior": -1}
WORDS = {"l": "left", "r": "right", "p": "posterior", "a": "anterior", "s": "superior", "i": "inferior"}


@dataclass
class Header:
    """What a header says.

    Attributes:
        shape: Voxels along each axis, as many as there are.
        kind: numpy's name of the voxel type, with byte order.
        encoding: ``"raw"``, ``"gzip"`` (zlib, too), ``"bzip2"`` or ``"text"``.
        affine: 4 x 4, voxel to LPS mm.
        data: Name of the file that holds the voxels, beside this one; empty if they follow the header.
        metadata: What else it says.
        channels: Numbers per voxel.
    """

    shape: tuple[int, ...]
    kind: str
    encoding: str
    affine: NDArray[np.float64]
    data: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    channels: int = 1


def parse(content: bytes) -> tuple[Header, int]:
    """The header at the beginning of a NRRD or MetaImage file, and its length in bytes.

    Raises:
        ValueError: it is neither, or says what is not understood; the message says what.
        KeyError: a field is missing.
    """
    return _nrrd(content) if content.startswith(b"NRRD") else _meta(content)


def voxels(path: Path, header: Header, start: int) -> NDArray[Any]:
    """The ``(X, Y, Z)`` voxels of ``path``, which follow its header at byte ``start`` or lie in a file beside it.

    Raises:
        ValueError: there are fewer or more than the header says, or their file is in another folder.
        OSError, EOFError, zlib.error: the file cannot be read.
    """
    if header.data and (Path(header.data).name != header.data or "\\" in header.data):
        raise ValueError(f"its voxels are in {header.data}; expected the name of a file beside it")
    with (path.parent / header.data if header.data else path).open("rb") as file:
        file.seek(0 if header.data else start)
        packed = file.read()
    kind, count = np.dtype(header.kind), int(np.prod(header.shape, dtype=object))
    if header.encoding == "text":
        array = np.array(packed.split(), dtype=np.float64).astype(kind)
        plain = array.tobytes()
    else:
        plain = _unpacked(packed, header.encoding, count * kind.itemsize)
    if len(plain) != count * kind.itemsize:
        raise ValueError(f"{len(plain)} bytes of voxels; expected {count * kind.itemsize} for {header.shape}")
    return np.frombuffer(plain, kind).reshape(header.shape, order="F").astype(kind.newbyteorder("="))


def _unpacked(packed: bytes, encoding: str, size: int) -> bytes:
    """``size`` bytes and, if there are more, one of them: a header that claims too little costs no memory."""
    if encoding == "raw":
        return packed
    unpack = bz2.BZ2Decompressor() if encoding == "bzip2" else zlib.decompressobj(wbits=47)  # 47: gzip or zlib
    plain = unpack.decompress(packed, min(size + 1, len(packed) << 11))
    if not unpack.eof:
        raise ValueError("its compressed voxels are cut short, or more than the header says")
    return plain


def _nrrd(content: bytes) -> tuple[Header, int]:
    end = re.search(rb"\r?\n\r?\n", content[:HEADER_BYTES])
    lines = (content[: end.start()] if end else content).decode("utf-8", errors="replace").splitlines()
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    for line in lines[1:]:
        if line.startswith("#"):
            continue
        key, equals, value = line.partition(":=")
        if equals:
            metadata[key] = value
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
    order = ">" if fields.get("endian", "little").lower() == "big" else "<"
    affine = _nrrd_affine(fields) if len(shape) == 3 else np.eye(4)
    return Header(
        shape, order + kind, encoding, affine, fields.get("datafile", ""), metadata
    ), end.end() if end else len(content)


def _nrrd_affine(fields: dict[str, str]) -> NDArray[np.float64]:
    affine = np.eye(4)
    if "spacedirections" in fields:
        affine[:3, :3] = [_numbers(v, 3) for v in re.findall(r"\(([^)]*)\)", fields["spacedirections"])]
        affine[:3, :3] = affine[:3, :3].T.copy()
    elif "spacings" in fields:
        affine[:3, :3] = np.diag(_numbers(fields["spacings"], 3))
    if "spaceorigin" in fields:
        affine[:3, 3] = _numbers(fields["spaceorigin"].strip("()"), 3)
    space = fields.get("space", "left-posterior-superior").lower()
    words = [WORDS.get(letter, "") for letter in space] if len(space) == 3 else space.split("-")
    if len(words) != 3 or not all(word in DIRECTIONS for word in words):
        raise ValueError(f"space {space}; expected one like left-posterior-superior")
    return np.diag([*(DIRECTIONS[word] for word in words), 1]) @ affine


def _meta(content: bytes) -> tuple[Header, int]:
    fields: dict[str, str] = {}
    metadata: dict[str, str] = {}
    start = 0
    while "elementdatafile" not in fields:
        end = content.find(b"\n", start, HEADER_BYTES)
        line = content[start : end if end >= 0 else None].decode("utf-8", errors="replace")
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or key.lower() in fields:
            raise ValueError(f"{line[:40]!r} in its header; expected KEY = VALUE, each once, up to ElementDataFile")
        (fields if key.lower() in META_FIELDS else metadata)[key.lower() if key.lower() in META_FIELDS else key] = value
        if end < 0 and "elementdatafile" not in fields:
            raise ValueError("no ElementDataFile")
        start = end + 1 if end >= 0 else len(content)
    n = int(fields["ndims"])
    shape = tuple(int(v) for v in fields["dimsize"].split())
    kind = META_TYPES.get(fields["elementtype"].lower())
    if len(shape) != n or kind is None:
        raise ValueError(f"NDims {n}, DimSize {fields['dimsize']}, ElementType {fields['elementtype']}")
    if fields.get("headersize", "0") not in ("0", "-1"):
        raise ValueError("parts of its data are to be skipped")
    big = _true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False")))
    packed = _true(fields.get("compresseddata", "False"))
    encoding = ("gzip" if packed else "raw") if _true(fields.get("binarydata", "True")) else "text"
    affine = np.eye(4)
    if n == 3:
        matrix = _first(fields, ("transformmatrix", "rotation", "orientation"), "1 0 0 0 1 0 0 0 1")
        spacing = _numbers(_first(fields, ("elementspacing", "elementsize"), "1 1 1"), 3)
        affine[:3, :3] = np.reshape(_numbers(matrix, 9), (3, 3)).T * spacing
        affine[:3, 3] = _numbers(_first(fields, ("offset", "position", "origin"), "0 0 0"), 3)
    file = fields["elementdatafile"]
    data = "" if file.upper() == "LOCAL" else file
    channels = int(fields.get("elementnumberofchannels", "1"))
    return Header(shape, (">" if big else "<") + kind, encoding, affine, data, metadata, channels), start


def _first(fields: dict[str, str], names: tuple[str, ...], default: str) -> str:
    return next((fields[name] for name in names if name in fields), default)


def _true(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{text!r}; expected True or False")
    return text.lower() in ("true", "1")


def _numbers(text: str, count: int) -> list[float]:
    numbers = [float(word) for word in text.replace(",", " ").split()]
    if len(numbers) != count:
        raise ValueError(f"{text!r}; expected {count} numbers")
    return numbers
