"""What is read from a damaged file, against an independent reading of the same bytes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from near_monai.data.case_lists import find_cases
from near_monai.formats.label_maps import read_label

#: numpy's names of the types of NIfTI.
TYPES = {2: "u1", 4: "<i2", 8: "<i4", 16: "<f4", 64: "<f8", 256: "i1", 512: "<u2", 768: "<u4", 1024: "<i8", 1280: "<u8"}


def reading(data: bytes) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Array and, where sform or qform say it, affine of NIfTI-1 bytes, as the standard has it."""
    dims = struct.unpack_from("<8h", data, 40)
    shape = dims[1:4]
    kind = np.dtype(TYPES[struct.unpack_from("<h", data, 70)[0]])
    offset, slope, intercept = struct.unpack_from("<3f", data, 108)
    array = np.frombuffer(data, kind, int(np.prod(shape)), int(offset)).reshape(shape, order="F").astype(np.float64)
    if slope not in (0, 1) or intercept:
        array = array * slope + intercept if np.isfinite([slope, intercept]).all() and slope else array
    qform, sform = struct.unpack_from("<2h", data, 252)
    if sform > 0:
        rows = np.array(struct.unpack_from("<12f", data, 280)).reshape(3, 4)
    elif qform > 0:
        b, c, d, *offsets = struct.unpack_from("<6f", data, 256)
        sign, *sizes = struct.unpack_from("<4f", data, 76)
        turn = Rotation.from_quat([b, c, d, np.sqrt(max(1 - b * b - c * c - d * d, 0))]).as_matrix()
        rows = np.c_[turn * np.abs(sizes) * (1, 1, -1 if sign == -1 else 1), offsets]
    else:
        return array, None
    unit = {1: 1e3, 3: 1e-3}.get(data[123] & 7, 1.0)
    return array, np.vstack([rows * unit, [0, 0, 0, 1]])


def gunzipped(content: bytes) -> bytes:
    """The first gzip member; bytes behind it are no part of it, as for ``gzip -d``, unlike for :mod:`gzip`."""
    return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(content)


def check_nifti(path: Path) -> None:
    """What is read from ``path`` is what the standard says."""
    found = read_label(path)
    content = path.read_bytes()
    with np.errstate(all="ignore"):
        array, affine = reading(gunzipped(content) if path.suffix == ".gz" else content)
    np.testing.assert_allclose(found.array, array, atol=1e-3)
    if affine is not None:
        np.testing.assert_allclose(found.affine, affine, rtol=1e-5, atol=1e-5)


def check_itk(path: Path) -> None:
    """What is read from ``path`` is what SimpleITK reads."""
    found = read_label(path)
    try:
        image = sitk.ReadImage(str(path))  # crashes on files that were refused above
    except RuntimeError:  # it is strict about fields that say nothing of the voxels
        return
    np.testing.assert_allclose(found.array, sitk.GetArrayFromImage(image).T, atol=1e-3)
    for corner in ((0, 0, 0), (5, 4, 3)):
        expected = np.array(image.TransformIndexToPhysicalPoint(corner)) * (-1, -1, 1)
        np.testing.assert_allclose((found.affine @ (*corner, 1))[:3], expected, rtol=1e-4, atol=1e-3)


def check_cases(folder: Path) -> None:
    """What is found in ``folder`` are files in it, of different names."""
    cases = find_cases(folder)
    for case in cases:
        if not case.label.is_file() or not case.label.resolve().is_relative_to(folder.resolve()):
            raise AssertionError(f"lists {case.label}")
    names = {case.name for case in cases}
    if "" in names or len(names) < len(cases):
        raise AssertionError(f"names {names}")
