"""The main job in Python: a noisy label in, a clean one out, under the rules of the command."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from near_monai.anatomy import Structure, table_of
from near_monai.data.class_selection import AUTO, EMPTY, mask_of, parse_class
from near_monai.errors import NearError, NearWarning
from near_monai.formats.given_images import label_map
from near_monai.formats.label_maps import LabelMap
from near_monai.formats.voxel_values import Labels
from near_monai.geometry.components import Components
from near_monai.geometry.working_space import WorkingSpace
from near_monai.geometry.world_places import in_world
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.refinement.class_meaning import doubts_of
from near_monai.refinement.one_structure import RefinedPart, places_of, reasons
from near_monai.refinement.options import Options
from near_monai.refinement.subject import subject_in
from near_monai.repair.findings_to_check import set_aside
from near_monai.repair.out_of_distribution import remarks

#: Options of the command that are arguments here.
OPTIONS = re.compile(r"--(label|structure|table|weights|device)\b")


@dataclass(frozen=True, eq=False)
class RefinedLabel:
    """What :func:`refine` gives with ``return_details``; places are in mm as in ``run.json``.

    Attributes:
        label: the refined label map, in the shape of the given one.
        bridge_mask: bool, same shape: what joins pieces that were apart.
        bridges: one record per bridge: ``place``, ``gap_mm``, ``radius_mm``, ``probability``, ``volume_mm3``.
        findings: places ``added``, ``removed``, ``bridged``, ``uncertain``, ``proposed`` or ``open_end``: ``kind``,
            ``place``, ``volume_mm3``, ``probability``.
        warnings: what a person should know, as it was warned of.

    Example:
        A vessel with a gap of 2 mm:

        >>> import near_monai
        >>> found = near_monai.refine("case_1.nii.gz", return_details=True)
        >>> found.label.shape == found.bridge_mask.shape
        True
        >>> sorted(found.bridges[0])
        ['gap_mm', 'place', 'probability', 'radius_mm', 'volume_mm3']
        >>> {finding["kind"] for finding in found.findings}
        {'bridged'}
    """

    label: Labels
    bridge_mask: NDArray[np.bool_]
    bridges: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    warnings: list[str]


@overload
def refine(
    label: Any,
    spacing: ArrayLike | None = None,
    which: int | str = AUTO,
    weights: str | Path | None = None,
    device: str = "auto",
    clean: bool = True,
    structure: str | None = None,
    table: str | Path | None = None,
    *,
    return_details: Literal[False] = False,
) -> Labels: ...
@overload
def refine(
    label: Any,
    spacing: ArrayLike | None = None,
    which: int | str = AUTO,
    weights: str | Path | None = None,
    device: str = "auto",
    clean: bool = True,
    structure: str | None = None,
    table: str | Path | None = None,
    *,
    return_details: Literal[True],
) -> RefinedLabel: ...
def refine(
    label: Any,
    spacing: ArrayLike | None = None,
    which: int | str = AUTO,
    weights: str | Path | None = None,
    device: str = "auto",
    clean: bool = True,
    structure: str | None = None,
    table: str | Path | None = None,
    *,
    return_details: bool = False,
) -> Labels | RefinedLabel:
    """Refine one class of a label map.

    Args:
        label: ``(X, Y, Z)`` whole numbers in 0..65535, any axis order, as an array, tensor or list, see
            :func:`near_monai.formats.arrays_in_memory.label_array`; or an image of nibabel or SimpleITK; or the path of
            a file.
        spacing: ``(3,)`` voxel size in mm along the same axes; not needed for an image, a file or a MetaTensor.
        which: class to refine; ``"fg"`` for all above 0 as one tree; ``"auto"`` for the only class, else that of
            ``structure``, or coronary.
        weights: weights file; ``None`` for the shipped ones of the structure. Kept in memory between calls.
        device: ``"auto"``, ``"cpu"`` or a CUDA device.
        clean: also reconnect torn-off pieces and drop small ones that could not be joined.
        structure: what the class is, by its name in the anatomy table; ``None`` for
            :func:`near_monai.refinement.class_meaning.meaning_of`'s rule, which is that of the command.
        table: anatomy table; ``None`` for the heart's.
        return_details: also say what was done.

    Returns:
        ``label`` with the class refined and everything else untouched, as an array: uint8 (uint16 if it holds values
        above 255), in the shape of ``label``, of an image in that of its array (SimpleITK: ``GetArrayFromImage``).
        With ``return_details`` a :class:`RefinedLabel`.

    Raises:
        NearError: not a 3-D map of whole numbers in 0..65535, no such class, nothing says what it is, a spacing that
            cannot be in mm, unusable weights.

    Warns:
        NearWarning: the label is empty or unusual, or the weights are for something else: what ``near-monai refine``
            says.

    Example:
        >>> import nibabel as nib
        >>> import near_monai
        >>> image = nib.load("case_1.nii.gz")
        >>> clean = near_monai.refine(image)  # or a path; an array needs its spacing
        >>> nib.save(nib.Nifti1Image(clean, image.affine), "case_1_refined.nii.gz")
        >>> array = image.get_fdata()
        >>> details = near_monai.refine(array, spacing=image.header.get_zooms(), return_details=True)
        >>> bool((details.label == clean).all()), len(details.bridges)
        (True, 1)
    """
    with words_of_python():
        file = label_map(label, spacing)
        options = Options(
            parse_class(which),
            None if weights is None else str(weights),
            device,
            clean=clean,
            table=str(table) if table else None,
            structure=structure,
        )
        found = _refined(file, options, return_details)
    for text in found.warnings:
        warnings.warn(text, NearWarning, stacklevel=2)
    return found if return_details else found.label


def _refined(file: LabelMap, options: Options, with_places: bool) -> RefinedLabel:
    out = file.array
    if not out.any():
        empty = np.expand_dims(out, file.ones)
        return RefinedLabel(empty, empty > 0, [], [], [*file.warnings, EMPTY])
    anatomy = table_of(options.table)
    subject = subject_in(file, options, lambda weights: _network(weights, options.device), anatomy, "label map")
    parts = list(subject.refined_parts(file, options.clean, anatomy))
    beyond, bridge_mask = reasons(parts), np.zeros(out.shape, bool)
    aside = subject.evidence.aside([part.box for part in parts if part.box])
    gone = options.clean and not beyond
    if gone:
        out[tuple(aside.voxels.T)] = 0
    for part in parts:
        if part.box:
            out[part.box.slices()] = part.fused
            bridge_mask[part.box.slices()] |= part.repaired.bridge_mask
    row, near = subject.structure, subject.evidence
    pieces_mm3 = Components.of(mask_of(out, subject.label)).sizes * file.grid.voxel_volume
    seen = remarks([(part.refined.label, part.refined.grid) for part in parts], pieces_mm3, beyond, row, near)
    bridges, findings = _places(file, row, parts, aside if gone else None) if with_places else ([], [])
    said = [*file.warnings, *doubts_of(subject.network, row), *seen]
    whole, joined = (np.expand_dims(array, file.ones) for array in (out, bridge_mask))
    return RefinedLabel(whole, joined, bridges, findings, said)


def _places(
    file: LabelMap, row: Structure, parts: Sequence[RefinedPart], gone: Components | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Bridges and findings, in world mm."""
    found = places_of(row, parts)
    if gone is not None:
        found += set_aside(gone, file.grid, row.size)
    bridges = [bridge for part in parts for bridge in part.repaired.bridges]
    return in_world(bridges, file.grid, file.affine), in_world(found, file.grid, file.affine)


@contextmanager
def words_of_python() -> Iterator[None]:
    """Messages name the arguments of Python where they name options of the command."""
    try:
        yield
    except NearError as error:
        words = {"label": "which"}
        said = OPTIONS.sub(lambda found: f"{words.get(found[1], found[1])}=", str(error))
        raise type(error)(said) from error.__cause__


@lru_cache(maxsize=2)
def _network(weights: str | Path | None, device: str) -> tuple[NearNetwork, WorkingSpace]:
    return load_network(weights, device)
