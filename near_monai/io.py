"""Label maps in and out on the same grid.

NIfTI goes through nibabel, NRRD and MetaImage through ITK, after :mod:`near_monai.textheaders` has checked them.
Whatever the format, arrays are in file axis order and affines in RAS world mm (the convention of nibabel): ITK counts
in LPS and its arrays come reversed, which is undone here and nowhere else.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.coords import Grid, Placed, check_same_grid, same_grid, spacing_of, tilt
from near_monai.errors import NearError
from near_monai.niftiheaders import HEADER_BYTES, UNIT_MM, check_forms, disagreement, kind_of, unlogged
from near_monai.storage import last_line, replacing
from near_monai.textheaders import check_voxels, read_header

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".mha", ".mhd")
SUFFIXES = NIFTI_SUFFIXES + ITK_SUFFIXES

LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SPACING_RANGE_MM = (1e-3, 1e2)
#: Voxel axes further off right angles are warned of: lengths along them are wrong by a percent.
TILT_DEGREES = 0.5
WHOLE_NUMBER_TOLERANCE = 1e-3  # a label stored through scl_slope comes back as 8.9999...
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
        array: ``(X, Y, Z)`` in file axis order; uint8 for labels, float32 for volumes.
        affine: ``(4, 4)`` float64, voxel to RAS world, mm.
        grid: The same voxels in the mm frame of the case: origin 0, spacing from the affine.
        path: The file it was read from, or None.
        header: What the file said beyond the grid, to be written back: a NIfTI header or the ITK metadata.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    grid: Grid
    path: Path | None = None
    header: nib.Nifti1Header | dict[str, str] | None = None

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any],
        affine: ArrayLike,
        path: Path | None = None,
        header: nib.Nifti1Header | dict[str, str] | None = None,
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
        return cls(array, affine, Grid.under(affine, array.shape), path, header)

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
        """Whether both lie on one grid, see :func:`near_monai.coords.same_grid`."""
        return same_grid(self.placed, other.placed)

    def check_grid_of(self, other: LabelMap) -> None:
        """Refuse a map that is on another grid than ``other``, see :func:`near_monai.coords.check_same_grid`."""
        check_same_grid(self.placed, other.placed)


def suffix_of(path: str | Path) -> str:
    """The image suffix of a file name (``.nii.gz`` counts as one), or ``""`` if it is no supported image."""
    return next((s for s in SUFFIXES if Path(path).name.lower().endswith(s)), "")


def read_label(path: str | Path) -> LabelMap:
    """Read a 3-D label map: .nii, .nii.gz, .nrrd, .mha or .mhd.

    Whole numbers stored as floating point are accepted.

    Returns:
        The label map; its array is uint8.

    Raises:
        NearError: If the file is missing, damaged, of another format or not 3-D, if its values are not whole numbers
            in 0..255, or if its affine is unusable.
    """
    array, affine, header = _read(Path(path))
    return LabelMap.from_array(_as_label(array, path), affine, Path(path), header)


def read_volume(path: str | Path) -> LabelMap:
    """Read a 3-D intensity image (CT, probability) as float32, otherwise as :func:`read_label` does."""
    array, affine, header = _read(Path(path))
    if array.dtype.kind not in "buif":
        raise NearError(f"{path}: pixel type {array.dtype}; expected one number per voxel")
    return LabelMap.from_array(array.astype(np.float32, copy=False), affine, Path(path), header)


def write_label(
    path: str | Path,
    array: NDArray[Any],
    like: LabelMap,
    affine: ArrayLike | None = None,
    names: dict[str, str] | None = None,
) -> None:
    """Write a label map as uint8, with grid and header of ``like``.

    Args:
        path: Target; its suffix sets the format. Missing folders are made.
        array: ``(X, Y, Z)``, whole numbers 0..255.
        like: Where affine and header come from. From NIfTI to NIfTI qform, sform, their codes, units and description
            stay as they are.
        affine: RAS affine (mm) of ``array`` if it lies on another grid than ``like``.
        names: What else the metadata should say: fields of NRRD and MetaImage files, one JSON comment in NIfTI.

    Raises:
        NearError: If the values do not fit uint8, the shape is not that of ``like`` (and no affine is given), the
            target is the file that ``like`` came from, or it cannot be written.
    """
    _write(Path(path), _as_label(array, path), like, affine, names or {})


def write_volume(path: str | Path, array: NDArray[Any], like: LabelMap, affine: ArrayLike | None = None) -> None:
    """Write an intensity image (probability, CT) as float32, otherwise as :func:`write_label` does."""
    _write(Path(path), np.asarray(array, np.float32), like, affine, {})


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], nib.Nifti1Header | dict[str, str]]:
    if not path.is_file():
        raise NearError(f"{path}: no such file")
    suffix = suffix_of(path)
    if not suffix:
        raise NearError(f"{path}: unsupported file type; expected one of {', '.join(SUFFIXES)}")
    return _read_nifti(path) if suffix in NIFTI_SUFFIXES else _read_itk(path)


def _check_dimensions(shape: tuple[int, ...], path: Path) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise NearError(f"{path}: {len(shape)}-D image of shape {shape}; expected one 3-D volume (X, Y, Z)")


def _read_nifti(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], nib.Nifti1Header]:
    try:
        with unlogged(), (gzip.open if suffix_of(path) == ".nii.gz" else open)(path, "rb") as stream:
            kind = kind_of(stream.read(HEADER_BYTES))
            stream.seek(0)
            check_forms(kind.header_class.from_fileobj(stream, check=False), path)
            stream.seek(0)
            image = kind.from_stream(stream)
            _check_dimensions(image.shape, path)
            array = np.asanyarray(image.dataobj)
            while stream.read(1 << 24):  # nibabel stops before the checksum
                pass
            scale = UNIT_MM[image.header.get_xyzt_units()[0]]
            affine = np.diag([scale, scale, scale, 1.0]) @ image.header.get_best_affine()
    except NearError:
        raise
    except READ_ERRORS + HEADER_ERRORS as error:
        raise NearError(f"{path}: damaged or not NIfTI ({last_line(error)}); copy or export it again") from error
    return array, affine, image.header


def _read_itk(path: Path) -> tuple[NDArray[Any], NDArray[np.float64], dict[str, str]]:
    try:
        header = read_header(path)
        _check_dimensions(header.shape, path)
        if header.channels != 1:
            raise NearError(f"{path}: {header.channels} numbers per voxel; expected one")
        check_voxels(path, header)
        import itk  # takes seconds: only those who need it wait

        kind = itk.NrrdImageIO if suffix_of(path) == ".nrrd" else itk.MetaImageIO
        # not every integer type is wrapped, and 0..255 are exact in float32
        reader = itk.ImageFileReader[itk.Image[itk.F, 3]].New(FileName=str(path), ImageIO=kind.New())
        reader.Update()
    except NearError:
        raise
    except (*READ_ERRORS, *HEADER_ERRORS, RuntimeError) as error:  # ITK raises RuntimeError
        raise NearError(f"{path}: damaged or not an image ({last_line(error)}); copy or export it again") from error
    image = reader.GetOutput()
    lps = np.eye(4)
    lps[:3, :3] = itk.array_from_matrix(image.GetDirection()) * np.asarray(image.GetSpacing())
    lps[:3, 3] = image.GetOrigin()
    known = image.GetMetaDataDictionary()
    metadata = {key: known[key] for key in known.GetKeys() if _is_text(key) and _is_text(known[key])}
    return itk.array_from_image(image).T, LPS_RAS @ lps, metadata


def _is_text(value: object) -> bool:
    """Whether metadata are text in UTF-8: other bytes arrive as lone surrogates, and ITK does not take these back."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def _as_label(array: NDArray[Any], path: str | Path) -> NDArray[np.uint8]:
    array = np.asarray(array)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "buif":
        raise NearError(f"{path}: pixel type {array.dtype}; expected one whole number per voxel")
    low, high = array.min(), array.max()  # both NaN if any voxel is
    if not np.isfinite([low, high]).all():
        raise NearError(f"{path}: holds NaN or infinite values; expected whole numbers 0..255")
    if array.dtype.kind == "f":
        whole = np.rint(array)
        off = np.abs(array - whole)
        if off.max() > WHOLE_NUMBER_TOLERANCE:
            value = array.flat[int(np.argmax(off > WHOLE_NUMBER_TOLERANCE))]
            raise NearError(f"{path}: holds {value:g}, not a whole number; expected a label map (0..255)")
        array = whole
    if low < -WHOLE_NUMBER_TOLERANCE or high > 255 + WHOLE_NUMBER_TOLERANCE:
        raise NearError(f"{path}: labels from {low:g} to {high:g}; uint8 cannot hold them: expected 0..255")
    return array.astype(np.uint8, copy=False)  # in the file's order: to turn a scan costs as much as to read it


def _write(path: Path, array: NDArray[Any], like: LabelMap, affine: ArrayLike | None, names: dict[str, str]) -> None:
    suffix = suffix_of(path)
    if not suffix:
        raise NearError(f"{path}: unsupported file type; expected one of {', '.join(SUFFIXES)}")
    if like.path is not None and path.exists() and like.path.exists() and path.samefile(like.path):
        raise NearError(f"{path}: is the input file itself; choose another output folder")
    if affine is None and array.shape != like.array.shape:
        raise NearError(f"{path}: array of shape {array.shape}; expected {like.array.shape} as in {like.path}")
    with replacing(path) as temporary:
        usual = temporary.with_name(path.name[: -len(suffix)] + suffix)  # for .MHA ITK would write a .mhd
        if suffix in NIFTI_SUFFIXES:
            _write_nifti(usual, array, like, affine, names)
        else:
            _write_itk(usual, array, like, like.affine if affine is None else affine, names)
        usual.rename(temporary)


def _write_nifti(
    path: Path, array: NDArray[Any], like: LabelMap, affine: ArrayLike | None, names: dict[str, str]
) -> None:
    if isinstance(like.header, nib.Nifti1Header):
        header = like.header.copy()
    else:
        header = nib.Nifti1Header()
        header.set_xyzt_units("mm")
        affine = like.affine if affine is None else affine
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
    comment = nib.nifti1.Nifti1Extension("comment", json.dumps(names).encode())
    if names and comment not in image.header.extensions:
        image.header.extensions.append(comment)
    image.to_filename(path)


def _write_itk(path: Path, array: NDArray[Any], like: LabelMap, affine: ArrayLike, names: dict[str, str]) -> None:
    import itk  # takes seconds: only those who need it wait

    lps = LPS_RAS @ np.asarray(affine, np.float64)
    spacing = np.array(spacing_of(lps))
    image = itk.image_from_array(np.ascontiguousarray(array.T))
    image.SetRegions(array.shape)  # itk takes a single line of voxels, in both orders at once, for one along x
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / spacing)))
    for key, value in ((like.header if isinstance(like.header, dict) else {}) | names).items():
        image[key] = value
    itk.imwrite(image, str(path), compression=True)
