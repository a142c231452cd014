"""NIfTI headers: what may be wrong in them that nibabel corrects, or says in words of its own.

They say where a volume lies by their sform, else their qform, else their voxel sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import LogRecord
from pathlib import Path

import nibabel as nib
import numpy as np

from near_monai.errors import NearError

UNIT_MM = {"meter": 1e3, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
#: mm by which qform and sform may differ at a corner of the volume.
FORMS_MM = 1.0
#: Of NIfTI-2, the longer one.
HEADER_BYTES = 540


def kind_of(start: bytes) -> type[nib.Nifti1Image]:
    """NIfTI-1 or -2, from the first bytes: nibabel would ask the name, too, and knows few spellings of it.

    Raises:
        ValueError: it is neither.
    """
    for kind in (nib.Nifti1Image, nib.Nifti2Image):
        if kind.header_class.may_contain_header(start):
            return kind
    raise ValueError("its header is not that of NIfTI")


def is_nifti(start: bytes) -> bool:
    """Whether the first bytes of a file, unpacked, are a header of NIfTI."""
    return any(kind.header_class.may_contain_header(start) for kind in (nib.Nifti1Image, nib.Nifti2Image))


def check_forms(header: nib.Nifti1Header, path: Path) -> None:
    """Refuse what nibabel would correct in a header, unchecked so far, so that the volume would lie elsewhere.

    It drops a form whose code NIfTI does not have, and takes a voxel size of 0 for 1.

    Raises:
        NearError: a code is unknown, or a voxel size that counts (there is no sform) is 0.
    """
    codes = int(header["qform_code"]), int(header["sform_code"])
    if not all(0 <= code <= 5 for code in codes):
        raise NearError(f"{path}: qform and sform codes {codes}; expected 0 to 5: copy or export it again")
    sizes = header["pixdim"][1:4].tolist()
    if codes[1] == 0 and 0 in sizes:
        raise NearError(f"{path}: voxel spacing {sizes}; expected lengths above 0: export it again")


def disagreement(header: object, shape: tuple[int, ...]) -> list[str]:
    """A warning if the qform and sform of a NIfTI file put a corner of the volume more than 1 mm apart, else nothing.

    The sform counts, as in nibabel; other software may take the qform.

    Args:
        header: of any format; only NIfTI has two forms.
        shape: voxels of the volume.
    """
    if not isinstance(header, nib.Nifti1Header) or not (header["qform_code"] and header["sform_code"]):
        return []
    try:
        with unlogged():
            qform = header.get_qform()
    except (ValueError, nib.spatialimages.HeaderDataError):  # its quaternion is no rotation
        qform = np.full((4, 4), np.nan)
    if not np.isfinite(qform).all():
        return ["the qform is damaged; the sform was taken"]
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * (*shape, 1)
    unit = UNIT_MM[header.get_xyzt_units()[0]]
    gap = float(np.linalg.norm(corners @ (header.get_sform() - qform).T, axis=1).max()) * unit
    return [f"qform and sform differ by up to {gap:.3g} mm; the sform was taken"] if gap > FORMS_MM else []


@contextmanager
def unlogged() -> Iterator[None]:
    """Without the lines that come of absurd fields, from nibabel and numpy: they do not say of which file."""
    logger = nib.imageglobals.logger
    logger.addFilter(_nothing)
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            yield
    finally:
        logger.removeFilter(_nothing)


def _nothing(_: LogRecord) -> bool:
    return False
