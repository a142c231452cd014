"""NIfTI files through nibabel, by what they hold, not by what they are called; read in parts along the last axis."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.formats.compressed_stream import CHUNK, GZIP_MAGIC, Unpacked
from near_monai.formats.header_faults import HEADER_BYTES, UNIT_MM, check_forms, kind_of, unlogged
from near_monai.formats.opened_volume import Stored, axes_of_one
from near_monai.formats.voxel_values import VOXELS_AT_ONCE


@contextmanager
def opened(path: Path) -> Iterator[Stored]:
    """What a NIfTI file says, and its voxels while it is open.

    Raises:
        NearError: its forms cannot be used.
        UnsupportedError: it holds no 3-D volume.
        ValueError, OSError, EOFError, zlib.error, MemoryError and errors of nibabel: it is damaged or none.
    """
    with unlogged(), path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        stream: Any = io.BufferedReader(Unpacked(file), CHUNK) if packed else file
        kind = kind_of(stream.read(HEADER_BYTES))
        stream.seek(0)
        check_forms(kind.header_class.from_fileobj(stream, check=False), path)
        stream.seek(0)
        image = kind.from_stream(stream)
        ones = axes_of_one(image.shape, tuple(range(len(image.shape))))
        scale = UNIT_MM[image.header.get_xyzt_units()[0]]
        affine = np.diag([scale, scale, scale, 1.0]) @ image.header.get_best_affine()
        proxy: Any = image.dataobj
        scaled = image.header.get_data_dtype().kind in "iu" and (proxy.slope, proxy.inter) != (1, 0)
        step = abs(float(proxy.slope)) if scaled else 0.0
        yield Stored(image.shape, ones, affine, image.header, _parts(image, stream), step)


def _parts(image: nib.Nifti1Image, stream: BinaryIO) -> Iterator[NDArray[Any]]:
    i, j, k = image.shape[:3]
    at_once = max(VOXELS_AT_ONCE // (i * j), 1)
    others = (0,) * (len(image.shape) - 3)
    for start in range(0, k, at_once):
        part = np.asanyarray(image.dataobj[(slice(None), slice(None), slice(start, start + at_once), *others)])
        yield part.ravel(order="F")
    while stream.read(CHUNK):  # nibabel stops before the checksum
        pass


def write(
    path: Path,
    array: NDArray[Any],
    known: nib.Nifti1Header | None,
    affine: ArrayLike | None,
    comment: dict[str, str],
) -> None:
    """Write ``array``, of three axes or more, with the fields of a ``known`` header.

    Args:
        path: target, its suffix in small letters.
        array: its voxels.
        known: qform, sform, their codes, units and description stay as they are; ``None`` for a new header.
        affine: RAS affine (mm); ``None`` for that of ``known``.
        comment: for a comment in JSON, if there is anything in it.
    """
    if known is not None:
        header = known.copy()
    else:
        header = nib.Nifti1Header()
        header.set_xyzt_units("mm")
    header.set_data_dtype(array.dtype)
    if array.dtype.kind == "f":  # intent "label" and its display range say nothing about a volume
        header.set_intent("none")
        header["cal_min"] = header["cal_max"] = 0
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = kind(array, None, header)  # without an affine nibabel leaves both forms alone
    if affine is not None:
        scale = 1.0 / UNIT_MM[header.get_xyzt_units()[0]]
        affine = np.diag([scale, scale, scale, 1.0]) @ np.asarray(affine, np.float64)
        codes = int(header["qform_code"]), int(header["sform_code"])
        qform, sform = codes if any(codes) else (1, 1)  # both 0 would lose the affine
        image.set_qform(affine, qform)
        image.set_sform(affine, sform)
    extension = nib.nifti1.Nifti1Extension("comment", json.dumps(comment).encode())
    if comment and extension not in image.header.extensions:
        image.header.extensions.append(extension)
    image.to_filename(path)
