"""Surfaces of label maps: closed triangle meshes in world mm (RAS), for viewers, printing and simulation."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes, mesh_surface_area
from tqdm import tqdm

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.case_lists import find_cases
from near_monai.data.class_selection import AUTO, OneClass, Wanted, choose_label, mask_of
from near_monai.data.failed_cases import Outcomes
from near_monai.errors import NearError, NearWarning, UsageError, printable
from near_monai.exports.flat_ends import ends_of
from near_monai.exports.smooth_surface import Ends, smooth_mesh
from near_monai.exports.surface_files import WRITERS, Surface, volume_of, world_mesh
from near_monai.formats.label_maps import LabelMap, read_label
from near_monai.formats.voxel_values import values_in
from near_monai.geometry.boxes import box_of
from near_monai.geometry.coordinates import spacing_of
from near_monai.geometry.distance import signed_distance
from near_monai.trees.one_map import trees_in

#: Standard deviation, in voxels, of the Gaussian that takes the staircase out of the distance.
SMOOTH = 0.7
#: Voxels of background around the mask: the surface closes where the label meets the border of the volume.
MARGIN = 3
#: Steps by which the level is moved until the surface encloses the volume of the voxels.
CORRECTIONS = 2
#: Thinner walls than this, in mm, no printer makes.
THINNEST_MM = 0.2


@dataclass(frozen=True)
class Kind:
    """How surfaces are made.

    Attributes:
        smooth: without staircase, see :mod:`near_monai.exports.smooth_surface`.
        caps: with flat ends of vessels.
        triangle: mean length of their edges in mm, at most; ``None`` for about two thirds of a voxel.
        extensions: diameters of an end by which it is prolonged, for simulations of flow; 0 for none.
        wall: mm of wall around vessels, which are hollow then, for printing; 0 for none.
    """

    smooth: bool = False
    caps: bool = False
    triangle: float | None = None
    extensions: float = 0.0
    wall: float = 0.0

    def __post_init__(self) -> None:
        if self.extensions and self.wall:
            raise UsageError("extensions are for simulations of flow, a wall for printing; give one of the two")
        for name, value, least in (("extensions", self.extensions, 0.0), ("wall", self.wall, THINNEST_MM)):
            if value and not least <= value < np.inf:
                raise UsageError(f"{name} is {value}; expected at least {least:g}")

    @property
    def plain(self) -> bool:
        """Whether it is none of what only smooth surfaces can be."""
        return not (self.smooth or self.caps or self.triangle or self.extensions or self.wall)

    @property
    def cut(self) -> bool:
        """Whether vessels end flat."""
        return bool(self.caps or self.extensions or self.wall)


#: As they have always been.
PLAIN = Kind()


def surface_of(mask: NDArray[np.bool_], affine: ArrayLike) -> Surface:
    """The surface of a mask: the level of its smoothed signed distance that encloses the volume of the mask's voxels.

    Smoothing alone would make thin vessels thinner. What is one voxel thin can still be lost.

    Args:
        mask: ``(X, Y, Z)``, at least one voxel set.
        affine: ``(4, 4)`` voxel to RAS world, mm.

    Raises:
        NearError: ``mask`` is empty.
    """
    if not mask.any():
        raise NearError("the mask is empty; expected at least one voxel")
    box = box_of(mask)
    inside = np.pad(mask[box.slices()], MARGIN)
    affine = np.asarray(affine, np.float64)
    spacing = spacing_of(affine)
    smooth = gaussian_filter(signed_distance(inside, spacing, MARGIN * max(spacing)), SMOOTH)
    count = np.count_nonzero(inside)
    order = np.partition(smooth, (count - 1, count), axis=None)
    level = float(order[count - 1 : count + 1].mean())  # as many voxels; then the flat faces between them count, too
    for _ in range(CORRECTIONS):
        mesh = marching_cubes(smooth, level, spacing=spacing)
        missing = count * float(np.prod(spacing)) - volume_of(mesh[0], mesh[1])
        level += float(np.clip(missing / mesh_surface_area(mesh[0], mesh[1]), -min(spacing) / 2, min(spacing) / 2))
    vertices, faces, _, _ = marching_cubes(smooth, level)
    return Surface(*world_mesh(vertices + np.asarray(box.start) - MARGIN, faces, affine))


def surface_in(file: LabelMap, label: OneClass, anatomy: Anatomy, kind: Kind) -> Surface:
    """The surface of class ``label`` of a map.

    Raises:
        NearError: there is none of it, or flat ends are wanted of what has no tree.
    """
    mask = mask_of(file.array, label)
    if kind.plain:
        return surface_of(mask, file.affine)
    where = str(file.path or "label map")
    ends = ends_of(trees_in(file, label, anatomy, where).trees) if kind.cut else []
    if kind.cut and not ends:
        raise NearError(f"{where}: has no vessel that is longer than wide, and no ends to cut flat; try --smooth alone")
    return smooth_mesh(mask, file.affine, Ends(ends, kind.extensions, kind.wall), kind.triangle)


def write_surfaces(
    source: Path,
    output: Path,
    label: Wanted,
    ending: str = "stl",
    quiet: bool = False,
    table: str | Path | None = None,
    kind: Kind = PLAIN,
) -> int:
    """Write the surface of every case of ``source`` as ``output``/NAME.``ending``; one bad case stops no other.

    Of a map of several classes each has its own surface, NAME_CLASS.``ending``, if none is chosen. An empty map has
    none: it is named, and nothing is written.

    Args:
        source: see :func:`near_monai.data.case_lists.find_cases`.
        output: folder to write to.
        label: the class; found out in every map, it is each that there is.
        ending: ``"stl"``, ``"ply"`` or ``"vtp"``.
        quiet: no progress bar.
        table: anatomy table that names the classes; ``None`` for the heart's.
        kind: how surfaces are made.

    Returns:
        Number of surfaces.

    Raises:
        NearError: there are no cases, or some of them failed.
    """
    cases, outcomes, count, anatomy = find_cases(source), Outcomes(), 0, table_of(table)
    for case in tqdm(cases, desc="surface", unit="case", disable=quiet):
        with outcomes.of(case.name):
            file = read_label(case.label)
            if not file.array.any():
                tqdm.write(printable(f"{case.name}: the label map is empty, and has no surface"), file=sys.stderr)
                continue
            for chosen, name in _classes(file, label, anatomy).items():
                path = output / f"{case.name}{name}.{ending}"
                if path.exists():
                    raise NearError(f"{path}: is there already; give a new folder, so that nothing is overwritten")
                WRITERS[ending](path, _told(case.name, file, chosen, anatomy, kind))
                count += 1
    outcomes.check(len(cases))
    return count


def _told(case: str, file: LabelMap, label: OneClass, anatomy: Anatomy, kind: Kind) -> Surface:
    """The surface, and on stderr what there is to warn of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NearWarning)
        found = surface_in(file, label, anatomy, kind)
    for warning in caught:
        tqdm.write(printable(f"{case}: warning: {warning.message}"), file=sys.stderr)
    return found


def _classes(file: LabelMap, label: Wanted, anatomy: Anatomy) -> dict[OneClass, str]:
    """The classes of a map whose surfaces are wanted, and what their files' names end in.

    Classes are named as in the table if it has all of them; else its names may be wrong, and their numbers stand there.
    """
    present = [value for value in values_in(file.array) if value]
    if label is not AUTO or len(present) == 1:
        return {choose_label(file.array, label, str(file.path)): ""}
    known = all(anatomy.by_index(value) for value in present)
    return {value: f"_{anatomy.name(value) if known else value}" for value in present}
