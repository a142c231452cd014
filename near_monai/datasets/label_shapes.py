"""The user's label maps as training shapes: signed distances on the working grid, kept in a cache."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch

from near_monai.anatomy import HEART, VESSEL, Anatomy, Structure, table_of
from near_monai.data.case_lists import case_name
from near_monai.data.class_selection import AUTO, Wanted, parse_class
from near_monai.data.fingerprints import fingerprint
from near_monai.datasets.point_dataset import Item
from near_monai.datasets.training_case import PADDING_MM, Distances, TrainingCase, cached_case
from near_monai.errors import NearError, some
from near_monai.geometry.boxes import box_of, crop_box
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.units import check_units
from near_monai.geometry.working_space import WorkingSpace
from near_monai.transforms.preprocessing import (
    CheckUnitsd,
    CropToLabeld,
    PickLabeld,
    ReadLabeld,
    Shrinkd,
    SignedDistanced,
    WorkingGridd,
)
from near_monai.version import __version__

logger = logging.getLogger("near_monai")


class LabelShapes:
    """Makes training cases of one class of label maps.

    Args:
        label: class, ``"fg"`` for all above 0, or ``"auto"`` for the only class of a map, else that of ``structure``.
        space: the working space.
        structure: what the class is; the shapes are made as many times smaller as its scale says.
        cache: folder in which their distances are kept, so that memory does not grow with their number and the next run
            starts at once; ``None`` to keep them in memory.
    """

    def __init__(
        self,
        label: int | str,
        space: WorkingSpace,
        structure: Structure = VESSEL,
        cache: str | Path | None = None,
    ) -> None:
        self.space = space
        self.structure = structure
        self.cache = cache
        which = parse_class(label)
        self.settings = [__version__, which, structure.scale, *astuple(space)]
        self.steps = (
            ReadLabeld("label"),
            PickLabeld("label", which, structure.name if which is AUTO or _is_another(which, structure) else None),
            CheckUnitsd("label", structure.scale),
            Shrinkd("label", structure.scale),
            CropToLabeld("label", PADDING_MM),
            SignedDistanced("label", space.truncate),
            WorkingGridd("label", space.spacing),
        )

    def __call__(self, items: Iterable[Item]) -> list[TrainingCase]:
        """See :func:`usable_cases`."""
        return usable_cases(items, self._case)

    def _case(self, item: Item) -> TrainingCase:
        return _own_case(item, self.settings, lambda: self._make(item), self.space, self.cache, (self.structure,))

    def _make(self, item: Item) -> Distances:
        for step in self.steps:  # MONAI's Compose would hide the one line that says what is wrong
            item = step(item)
        distance = item["label"]
        return distance.as_tensor(), distance.affine.numpy()


def _is_another(label: Wanted, structure: Structure) -> bool:
    """Whether the heart's table has another structure than this one of its own under a number."""
    named = HEART.by_index(label) if isinstance(label, int) else None
    return named not in (None, structure) and structure in HEART.structures


class OrganShapes:
    """:class:`LabelShapes` of a class of the anatomy table, in the scale that the table gives it.

    Args:
        label: class of the table.
        space: the working space.
        cache: as for :class:`LabelShapes`.
        table: file of the anatomy table of the maps; empty for the heart's.
    """

    def __init__(self, label: int | str, space: WorkingSpace, cache: str | Path | None = None, table: str = "") -> None:
        self.label = parse_class(label)
        self.space = space
        self.cache = cache
        self.table = table

    def __call__(self, items: Iterable[Item]) -> list[TrainingCase]:
        """See :func:`usable_cases`.

        Raises:
            NearError: the table does not have the class, too.
        """
        anatomy = table_of(self.table)
        structure = anatomy.by_index(self.label) if isinstance(self.label, int) else None
        if structure is None:
            known = ", ".join(f"{s.index} {s.name}" for s in anatomy.structures)
            raise NearError(f"label '{self.label}': say with --label which class to train on; the table has {known}")
        return LabelShapes(self.label, self.space, structure, self.cache)(items)


class MapShapes:
    """Makes training cases of fused label maps, with one channel per structure.

    Args:
        space: the working space.
        anatomy: the table.
        cache: as for :class:`LabelShapes`.
    """

    def __init__(self, space: WorkingSpace, anatomy: Anatomy = HEART, cache: str | Path | None = None) -> None:
        self.space = space
        self.anatomy = anatomy
        self.cache = cache
        self.settings = [__version__, [s.index for s in anatomy.structures], *astuple(space)]

    def __call__(self, items: Iterable[Item]) -> list[TrainingCase]:
        """See :func:`usable_cases`."""
        return usable_cases(items, self._case)

    def _case(self, item: Item) -> TrainingCase:
        rows = self.anatomy.structures
        return _own_case(item, self.settings, lambda: self._make(item), self.space, self.cache, rows)

    def _make(self, item: Item) -> Distances:
        image = ReadLabeld("label")(item)["label"]
        whole = image[0].numpy()
        known = self.anatomy.knows(whole)
        if not known.any():
            raise NearError(f"{name_of(item)}: no class of the anatomy table is in it; expected a fused label map")
        file_grid = Grid.under(image.affine, whole.shape)
        scale = max(s.scale for s in self.anatomy.structures if (whole == s.index).any())
        check_units(box_of(known), file_grid.spacing, scale, name_of(item))
        box = crop_box(known, file_grid.spacing, PADDING_MM)
        array, native = whole[box.slices()], box.grid(file_grid)
        fields = [
            signed_distance(array == s.index, native.spacing, self.space.truncate) for s in self.anatomy.structures
        ]
        grid = native.isotropic(self.space.spacing)
        distance = sample_axes(torch.as_tensor(np.stack(fields))[None], grid.axes_in(native))[0]
        return distance, grid.affine_from(image.affine.numpy(), file_grid)


def usable_cases(items: Iterable[Item], make: Callable[[Item], TrainingCase]) -> list[TrainingCase]:
    """The training cases of ``items``. One that cannot be used is named in the log and passed over.

    Raises:
        NearError: none can be used.
    """
    cases, refused, last = [], [], None
    for item in items:
        try:
            cases.append(make(item))
        except NearError as error:
            logger.warning("not trained on: %s", error)
            refused.append(name_of(item))
            last = error
    if last is not None and not cases:
        raise last if len(refused) == 1 else NearError(f"no label map can be used to train on: {some(refused)}")
    if refused:
        logger.warning(
            "%d of %d label maps are not trained on: %s", len(refused), len(refused) + len(cases), some(refused)
        )
    return cases


def name_of(item: Item) -> str:
    """Name of the case that an item stands for."""
    return str(item["name"]) if "name" in item else case_name(item["label"])


def _own_case(
    item: Item,
    settings: object,
    make: Callable[[], Distances],
    space: WorkingSpace,
    cache: str | Path | None,
    structures: tuple[Structure, ...],
) -> TrainingCase:
    """The case of an item; what is made of an image in memory is kept in memory, too."""
    label = item["label"]
    in_file = isinstance(label, str | Path)
    state = fingerprint(Path(label), settings) if in_file else ""
    return cached_case(name_of(item), state, make, space, cache if in_file else None, structures, own=True)
