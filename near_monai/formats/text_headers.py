"""What NRRD and MetaImage have in common: lines of text that say what is what, then the voxels.

The voxels are raw, compressed or text, in the same file or in one beside it. They are read here: libraries for these
formats crash on damaged headers and on odd file names, return memory as it was where voxels are missing, or lose what
is not ASCII. What is not understood is refused.
"""

from __future__ import annotations

import bz2
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from near_monai.formats.compressed_stream import EITHER, GZIP, Unpacked
from near_monai.formats.opened_volume import UnsupportedError

HEADER_BYTES = 1 << 20
#: Bytes of voxels that are read at once: a whole number of voxels of every type.
PART_BYTES = 1 << 23
LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
UNITS_MM = {"mm": 1.0, "millimeter": 1.0, "millimeters": 1.0, "cm": 10.0, "m": 1e3, "um": 1e-3, "µm": 1e-3, "": 1.0}


@dataclass(frozen=True)
class TextHeader:
    """What a header says.

    Attributes:
        shape: voxels along each axis, as many as there are.
        ones: axes of length 1 that are none of space.
        affine: voxel to RAS world, mm.
        kind: numpy's name of the voxel type, with its order of bytes.
        encoding: ``"raw"``, ``"gzip"``, ``"zlib"`` (or gzip), ``"bzip2"`` or ``"text"``.
        data: name of the file that holds the voxels, relative to this one; empty if they follow the header.
        length: bytes of the header.
        packed: bytes of the compressed voxels; 0 for all there are.
        skip: bytes before the voxels, -1 if these are the last of the file; lines before that.
        metadata: keys and values that say nothing of the voxels.
    """

    shape: tuple[int, ...]
    ones: tuple[int, ...]
    affine: NDArray[np.float64]
    kind: str
    encoding: str
    data: str
    length: int
    packed: int = 0
    skip: tuple[int, int] = (0, 0)
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the voxels."""
        return int(np.prod(self.shape, dtype=object)) * np.dtype(self.kind).itemsize


@contextmanager
def voxels_in(path: Path, header: TextHeader) -> Iterator[Iterator[NDArray[Any]]]:
    """The numbers of the voxels, in parts ``(N,)``, while their file is open; the last part comes if all is well.

    Raises:
        UnsupportedError: their file is in a place where nothing is read.
        ValueError: there are fewer or more than ``header`` says.
        OSError, EOFError, zlib.error: their file cannot be read.
    """
    with (path.parent / _beside(path, header.data) if header.data else path).open("rb") as file:
        _go_to(file, header)
        yield _text(file, header) if header.encoding == "text" else _binary(file, header)


def _beside(path: Path, name: str) -> str:
    """The name of the file of voxels, refused if it leads out of the folder or stands for several."""
    if not (path.parent / name).is_file() and re.search(r"%\d*d", name):
        raise UnsupportedError(f"voxels in many files ({name}) are not supported; write them as one file")
    if Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name or re.match("[A-Za-z]:", name):
        raise UnsupportedError(f"voxels elsewhere ({name}) are not supported; put their file beside it and name it so")
    return name


def _go_to(file: BinaryIO, header: TextHeader) -> None:
    """Go to the first byte of the voxels."""
    lines, count = header.skip
    if (lines or count) and header.encoding != "raw":
        raise UnsupportedError("parts to be skipped before compressed voxels are not supported; write it anew")
    file.seek(0 if header.data else header.length)
    for _ in range(lines):
        file.readline()
    there = os.fstat(file.fileno()).st_size - file.tell()
    if header.packed > there:
        raise ValueError(f"{there} bytes of compressed voxels; expected {header.packed}")
    if count < 0 and there < header.size:
        raise ValueError(f"{there} bytes of voxels; expected {header.size} for {header.shape}")
    file.seek(there - header.size if count < 0 else count, os.SEEK_CUR)


def _binary(file: BinaryIO, header: TextHeader) -> Iterator[NDArray[Any]]:
    kind, wanted, found = np.dtype(header.kind), header.size, 0
    there = os.fstat(file.fileno()).st_size - file.tell()
    if header.encoding == "raw" and there != wanted:
        raise ValueError(f"{there} bytes of voxels; expected {wanted} for {header.shape}")
    stream: Any = io.BytesIO(file.read(header.packed)) if header.packed else file
    if header.encoding == "bzip2":
        stream = bz2.BZ2File(stream)
    elif header.encoding != "raw":
        stream = Unpacked(stream, GZIP if header.encoding == "gzip" else EITHER)
    while found < wanted:
        part = _full(stream, min(PART_BYTES, wanted - found))
        found += len(part)
        if len(part) % kind.itemsize or not part:
            break
        yield np.frombuffer(part, kind)
    more = len(stream.read(1))
    if found != wanted or more:
        raise ValueError(f"{found}{' and more' * more} bytes of voxels; expected {wanted} for {header.shape}")


def _full(stream: Any, size: int) -> bytes:
    """``size`` bytes, fewer only at the end: a stream may give fewer at a time."""
    pieces, missing = [], size
    while missing and (piece := stream.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _text(file: BinaryIO, header: TextHeader) -> Iterator[NDArray[np.float64]]:
    kind, wanted, found, rest = np.dtype(header.kind), int(np.prod(header.shape, dtype=object)), 0, b""
    while found <= wanted:
        piece = file.read(PART_BYTES)
        text = rest + piece
        words = text.split()
        rest = words.pop() if piece and not text[-1:].isspace() else b""
        numbers = np.array(words, dtype=np.float64)
        if kind.kind != "f":
            low, high = np.iinfo(kind).min, np.iinfo(kind).max
            if not np.array_equal(numbers, np.clip(np.rint(numbers), low, high)):
                raise ValueError(f"numbers that are no {kind.name}")
        found += len(numbers)
        yield numbers
        if not piece:
            break
    if found != wanted:
        raise ValueError(f"{found} voxels; expected {wanted} for {header.shape}")


def lps_affine(directions: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS affine of the columns ``directions`` ``(3, 3)`` and the ``origin`` ``(3,)`` in LPS."""
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = directions, origin
    return LPS_RAS @ lps


def mm_of(*units: str) -> list[float]:
    """mm in each of the units of length.

    Raises:
        UnsupportedError: one is not known.
    """
    if not all(unit.lower() in UNITS_MM for unit in units):
        raise UnsupportedError(f"lengths in {', '.join(units)} are not supported; write it in mm")
    return [UNITS_MM[unit.lower()] for unit in units]


def finite_numbers(text: str, count: int) -> list[float]:
    """``count`` finite numbers, with blanks or commas between them."""
    numbers = [float(word) for word in text.replace(",", " ").split()]
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{text!r}; expected {count} finite numbers")
    return numbers


def check_axes(axes: NDArray[np.float64]) -> None:
    """Refuse a matrix ``(3, 3)`` that cannot be inverted."""
    if np.linalg.matrix_rank(axes) < 3:
        raise ValueError(f"its voxel axes lie in one plane: {axes.ravel().tolist()}")
