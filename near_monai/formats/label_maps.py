"""Label maps in and out on the same grid.

Whatever the format, arrays are in file axis order and affines in RAS world mm (the convention of nibabel): NRRD and
MetaImage count in LPS, which is undone where they are read and written.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.errors import NearError
from near_monai.formats import metaimage, nifti, nrrd
from near_monai.formats.atomic_writing import last_line, replacing
from near_monai.formats.compressed_stream import GZIP_MAGIC
from near_monai.formats.header_faults import HEADER_BYTES, disagreement, is_nifti
from near_monai.formats.opened_volume import Header, Stored, UnsupportedError
from near_monai.formats.slicer_segments import Segment, described, fields_of, without_segments
from near_monai.formats.text_headers import voxels_in
from near_monai.formats.voxel_values import labels_of, volume_of
from near_monai.geometry.coordinates import Grid, Placed, check_same_grid, same_grid, spacing_of, tilt

NIFTI_SUFFIXES = (".nii.gz", ".nii")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
META_SUFFIXES = (".mha", ".mhd")
SUFFIXES = NIFTI_SUFFIXES + NRRD_SUFFIXES + META_SUFFIXES

SPACING_RANGE_MM = (1e-3, 1e2)
#: Voxel axes further off right angles are warned of: lengths along them are wrong by a percent.
TILT_DEGREES = 0.5
READ_ERRORS = (
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
    OSError,
    EOFError,
    zlib.error,
    MemoryError,
)
HEADER_ERRORS = (KeyError, ValueError, OverflowError)  # what nibabel makes of absurd header fields


@dataclass(frozen=True, eq=False)
class LabelMap:
    """A label map (or, from :func:`read_volume`, an intensity image) and where it lies.

    Attributes:
        array: ``(X, Y, Z)`` in file axis order; uint8 for labels (uint16 if some are above 255), float32 for volumes.
        affine: ``(4, 4)`` float64, voxel to RAS world, mm.
        grid: The same voxels in the mm frame of the case: origin 0, spacing from the affine.
        path: The file it was read from, or None.
        header: What the file said beyond the grid, to be written back: a NIfTI header, or metadata of other formats.
        ones: Axes of length 1 that the file has beside these three.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    grid: Grid
    path: Path | None = None
    header: Header | None = None
    ones: tuple[int, ...] = ()

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any],
        affine: ArrayLike,
        path: Path | None = None,
        header: Header | None = None,
        ones: tuple[int, ...] = (),
    ) -> LabelMap:
        """A label map of an ``(X, Y, Z)`` array and its RAS ``affine`` in mm.

        Raises:
            NearError: If the affine is not finite or singular, or a spacing is not a plausible length in mm.
        """
        affine = np.array(affine, np.float64)
        where = path or "affine"
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise NearError(f"{where}: the affine holds NaN or infinite values; expected a finite 4 x 4 matrix")
        spacing = spacing_of(affine)
        low, high = SPACING_RANGE_MM
        if not all(low <= s <= high for s in spacing):
            raise NearError(f"{where}: voxel spacing {spacing} mm; expected {low:g} to {high:g} mm: check the units")
        if abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6:
            raise NearError(f"{where}: the affine is singular (voxel axes in one plane); expected an invertible one")
        return cls(array, affine, Grid.under(affine, array.shape), path, header, ones)

    @property
    def warnings(self) -> list[str]:
        """What a person should know of where it lies."""
        found = disagreement(self.header, self.array.shape)
        off = tilt(self.affine)
        if off > TILT_DEGREES:
            found.append(
                f"voxel axes are not at right angles ({off:.3g} degrees off): lengths in mm along them are "
                "approximate; volumes are exact"
            )
        return found

    @property
    def placed(self) -> Placed:
        """Where it lies in the world."""
        return Placed(self.array.shape, self.affine, str(self.path or "the label map"))

    def on_grid_of(self, other: LabelMap) -> bool:
        """Whether both lie on one grid, see :func:`near_monai.geometry.coordinates.same_grid`."""
        return same_grid(self.placed, other.placed)

    def check_grid_of(self, other: LabelMap) -> None:
        """Refuse a map on another grid than ``other``, see :func:`near_monai.geometry.coordinates.check_same_grid`."""
        check_same_grid(self.placed, other.placed)

    def unnamed(self) -> LabelMap:
        """The same, but for what its metadata say of segments: for other things that lie on its grid."""
        return replace(self, header=without_segments(self.header)) if isinstance(self.header, dict) else self


def suffix_of(path: str | Path) -> str:
    """The image suffix of a file name (``.nii.gz`` counts as one), or ``""`` if it is no supported image."""
    return next((s for s in SUFFIXES if Path(path).name.lower().endswith(s)), "")


def read_label(path: str | Path) -> LabelMap:
    """Read a 3-D label map: .nii, .nii.gz, .nrrd, .nhdr, .mha or .mhd.

    Whole numbers stored as floating point, or through a scale, are accepted; axes of length 1 beside the three too.

    Returns:
        The label map; its array is uint8, or uint16 if it holds values above 255.

    Raises:
        NearError: If the file is missing, damaged, of another format, not supported or not 3-D, if its values are not
            whole numbers in 0..65535, or so many that it must be an image, or if its affine is unusable.
    """
    return _read(Path(path), lambda stored: labels_of(stored.parts, path, stored.step))


def read_volume(path: str | Path) -> LabelMap:
    """Read a 3-D intensity image (CT, probability) as float32, otherwise as :func:`read_label` does."""
    return _read(Path(path), lambda stored: volume_of(stored.parts, path))


def write_label(
    path: str | Path,
    array: NDArray[Any],
    like: LabelMap,
    affine: ArrayLike | None = None,
    segments: Iterable[Segment] = (),
) -> None:
    """Write a label map as uint8 (uint16 if it holds values above 255), with grid and header of ``like``.

    Args:
        path: Target; its suffix sets the format. Missing folders are made.
        array: ``(X, Y, Z)``, whole numbers 0..65535.
        like: Where affine and header come from. From NIfTI to NIfTI qform, sform, their codes, units and description
            stay as they are; axes of length 1 beside the three come back.
        affine: RAS affine (mm) of ``array`` if it lies on another grid than ``like``.
        segments: Names of classes, for viewers: segments of NRRD files that have none of these values yet, fields of
            MetaImage files, one JSON comment in NIfTI.

    Raises:
        NearError: If the values do not fit, the shape is not that of ``like`` (and no affine is given), the target is
            the file that ``like`` came from, or it cannot be written.
    """
    array = np.asarray(array)
    if array.dtype not in (np.uint8, np.uint16):
        array = labels_of([array.ravel(order="F")], path).reshape(array.shape, order="F")
    _write(Path(path), array, like, affine, tuple(segments))


def write_volume(path: str | Path, array: NDArray[Any], like: LabelMap, affine: ArrayLike | None = None) -> None:
    """Write an intensity image (probability, CT) as float32, otherwise as :func:`write_label` does."""
    _write(Path(path), np.asarray(array, np.float32), like.unnamed(), affine, ())


def _read(path: Path, gathered: Callable[[Stored], NDArray[Any]]) -> LabelMap:
    if not path.is_file():
        raise NearError(f"{path}: no such file")
    suffix = suffix_of(path)
    if not suffix:
        raise NearError(f"{path}: unsupported file type; expected one of {', '.join(SUFFIXES)}")
    kind = "NIfTI" if suffix in NIFTI_SUFFIXES else "an image"
    try:
        with nifti.opened(path) if _is_nifti(path) else _opened_text(path) as stored:
            array = gathered(stored).reshape(stored.shape, order="F").squeeze(stored.ones)
    except NearError:
        raise
    except UnsupportedError as error:
        raise NearError(f"{path}: {error}") from error
    except READ_ERRORS + HEADER_ERRORS as error:
        raise NearError(f"{path}: damaged or not {kind} ({last_line(error)}); copy or export it again") from error
    return LabelMap.from_array(array, stored.affine, path, stored.header, stored.ones)


def _is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI by what it holds or, if that says nothing, by its name."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    if re.match(rb"NRRD|\w+[ \t]*=", start):
        return False
    return suffix_of(path) in NIFTI_SUFFIXES or start.startswith(GZIP_MAGIC) or is_nifti(start)


@contextmanager
def _opened_text(path: Path) -> Iterator[Stored]:
    """A NRRD or MetaImage file, by what it holds, as :func:`near_monai.formats.nifti.opened` opens NIfTI files."""
    with path.open("rb") as file:
        format_ = nrrd if file.read(4) == b"NRRD" else metaimage
    header = format_.read_header(path)
    with voxels_in(path, header) as parts:
        yield Stored(header.shape, header.ones, header.affine, header.metadata, parts)


def _write(
    path: Path, array: NDArray[Any], like: LabelMap, affine: ArrayLike | None, segments: tuple[Segment, ...]
) -> None:
    suffix = suffix_of(path)
    if not suffix:
        raise NearError(f"{path}: unsupported file type; expected one of {', '.join(SUFFIXES)}")
    if like.path is not None and path.exists() and like.path.exists() and path.samefile(like.path):
        raise NearError(f"{path}: is the input file itself; choose another output folder")
    if affine is None and array.shape != like.array.shape:
        raise NearError(f"{path}: array of shape {array.shape}; expected {like.array.shape} as in {like.path}")
    ones = like.ones if affine is None else ()
    place = like.affine if affine is None else affine
    metadata = like.header if isinstance(like.header, dict) else {}
    with replacing(path) as temporary:
        if suffix in NIFTI_SUFFIXES:
            known = like.header if isinstance(like.header, nib.Nifti1Header) else None
            usual = temporary.with_name(f"image{suffix}")
            whole = np.expand_dims(array, ones) if known else array
            nifti.write(usual, whole, known, affine if known else place, fields_of(segments))
            usual.rename(temporary)
        elif suffix in NRRD_SUFFIXES:
            if array.dtype.kind == "u":
                metadata = described(metadata, array, segments, affine is not None)
            nrrd.write(temporary, array, ones if isinstance(like.header, dict) else (), place, metadata)
        else:
            last = tuple(axis for axis in ones if axis > 2)
            metaimage.write(temporary, np.expand_dims(array, last), place, metadata | fields_of(segments))
