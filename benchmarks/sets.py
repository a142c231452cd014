"""Which cases are measured: generated trees, a user's truth with noise put on it, or noisy and true label maps.

A case is a small picklable recipe with a name; ``load`` makes its masks, so that a worker holds one case at a time.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.data.case_lists import match_cases
from near_monai.data.class_selection import Wanted, choose_label, mask_of
from near_monai.datasets.coronary_cases import parse_level, phantom_pair
from near_monai.errors import NearError
from near_monai.formats.label_maps import read_label
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import signed_distance

Mask = NDArray[np.bool_]

#: mm kept around label and truth: more than any method looks around.
PADDING_MM = 6.0
#: mm kept around a true label before it is corrupted: islands appear up to there.
CORRUPTION_MARGIN_MM = 15.0


@dataclass(frozen=True)
class Masks:
    """Masks ``(X, Y, Z)`` of one case on ``grid``; ``others`` are results that were made elsewhere, by row name."""

    noisy: Mask
    truth: Mask
    grid: Grid
    others: Mapping[str, Mask] = field(default_factory=dict)

    def crop(self) -> Masks:
        """Only the part around the masks, plus :data:`PADDING_MM`."""
        either = self.noisy | self.truth
        for mask in self.others.values():
            either = either | mask
        box = crop_box(either, self.grid.spacing, PADDING_MM)
        part = box.slices()
        others = {name: mask[part] for name, mask in self.others.items()}
        return Masks(self.noisy[part], self.truth[part], box.grid(self.grid), others)


class Case(Protocol):
    """What the benchmark needs of a case."""

    @property
    def name(self) -> str: ...

    def load(self) -> Masks: ...


@dataclass(frozen=True)
class Phantom:
    """Generated tree ``number`` of ``seed``."""

    seed: int
    number: int
    level: float | str
    errors: str

    @property
    def name(self) -> str:
        return f"phantom_{self.seed}_{self.number:04d}"

    def load(self) -> Masks:
        return Masks(*phantom_pair(self.seed, self.number, self.level, errors=self.errors)).crop()


@dataclass(frozen=True)
class Corrupted:
    """A true label map, corrupted; the noise follows from seed and case name."""

    name: str
    truth: Path
    label: Wanted
    seed: int
    level: float | str
    errors: str

    def load(self) -> Masks:
        file = read_label(self.truth)
        truth = mask_of(file.array, choose_label(file.array, self.label, str(self.truth)))
        box = crop_box(truth, file.grid.spacing, CORRUPTION_MARGIN_MM)
        truth = truth[box.slices()]
        corrupt = CorruptLabel(self.level, self.errors)
        corrupt.set_random_state(seed=zlib.crc32(f"{self.seed} {self.name}".encode()))
        noisy = corrupt(signed_distance(truth, file.grid.spacing), file.grid.spacing)
        return Masks(noisy, truth, box.grid(file.grid)).crop()


@dataclass(frozen=True)
class FromFolders:
    """A noisy and a true label map, and results of the same case from other folders."""

    name: str
    noisy: Path
    truth: Path
    label: Wanted
    others: Mapping[str, Path]

    def load(self) -> Masks:
        truth = read_label(self.truth)
        label = choose_label(truth.array, self.label, str(self.truth))
        found = {}
        for row, path in {"": self.noisy, **self.others}.items():
            file = read_label(path)
            file.check_grid_of(truth)
            found[row] = mask_of(file.array, label)
        noisy = found.pop("")
        if not noisy.any():
            raise NearError(f"{self.noisy}: no voxel has label {label}; expected a noisy label to repair")
        return Masks(noisy, mask_of(truth.array, label), truth.grid, found).crop()


@dataclass(frozen=True)
class CaseSet:
    """Cases that share a row of the tables.

    Attributes:
        name: unique.
        cases: at least one.
        level: noise level, 0 for none; NaN where it is not known.
        errors: ``all``, ``random`` or ``systematic``.
    """

    name: str
    cases: Sequence[Case]
    level: float
    errors: str


def _noises(levels: Sequence[str], errors: Sequence[str]) -> Iterator[tuple[str, float, str]]:
    """Name, level and kind of errors of every set; without noise there are no kinds."""
    for text in dict.fromkeys(levels):
        for kind in dict.fromkeys(errors):
            level = CorruptLabel(parse_level(text), kind).level
            if level == 0:
                yield text, level, "all"
                break
            yield text if kind == "all" else f"{text}, {kind}", level, kind


def phantom_sets(count: int, seed: int, levels: Sequence[str], errors: Sequence[str]) -> list[CaseSet]:
    """``count`` generated trees, the same ones at every level and for every kind of errors."""
    if count < 1:
        raise NearError(f"phantoms is {count}; expected at least 1")
    return [
        CaseSet(name, [Phantom(seed, number, level, kind) for number in range(count)], level, kind)
        for name, level, kind in _noises(levels, errors)
    ]


def corrupted_sets(truth: str, label: Wanted, seed: int, levels: Sequence[str], errors: Sequence[str]) -> list[CaseSet]:
    """The true label maps of a folder, corrupted."""
    files = [(name, path) for name, _, path in match_cases(truth, truth)]
    return [
        CaseSet(name, [Corrupted(case, path, label, seed, level, kind) for case, path in files], level, kind)
        for name, level, kind in _noises(levels, errors)
    ]


def folder_set(noisy: str, truth: str, label: Wanted, others: Mapping[str, str]) -> CaseSet:
    """Noisy and true label maps of the same names, called after the noisy folder."""
    paths = {row: {name: path for name, path, _ in match_cases(folder, truth)} for row, folder in others.items()}
    cases = [
        FromFolders(name, path, target, label, {row: found[name] for row, found in paths.items()})
        for name, path, target in match_cases(noisy, truth)
    ]
    return CaseSet(Path(noisy).resolve().name, cases, float("nan"), "all")
