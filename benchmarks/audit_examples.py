"""Labels whose truth is known, for the audit to learn from and to be measured on: every error alone, and all together.

A case is a small recipe that gives the same masks every time. Truths are generated trees, some of them as rough as a
careful person draws, or true label maps; the latter only score.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.sets import CORRUPTION_MARGIN_MM
from near_monai.anatomy import CORONARY
from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.corruption.local_errors import FalseIsland, Gap, Leakage
from near_monai.corruption.lost_tips import LostTip
from near_monai.corruption.surface_errors import (
    BoundaryJitter,
    CalibreBias,
    Corruption,
    HoleAndSpeck,
    SliceShift,
    Staircase,
    vessel_length,
)
from near_monai.corruption.torn_trees import tear
from near_monai.data.class_selection import mask_of
from near_monai.datasets.coronary_cases import phantom_pair
from near_monai.formats.label_maps import read_label
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import signed_distance

Mask = NDArray[np.bool_]
#: Noisy mask, true mask, and their grid.
Example = tuple[Mask, Mask, Grid]

#: Kinds of errors that :class:`near_monai.CorruptLabel` puts together itself.
TOGETHER = ("all", "random", "systematic")
#: mm of roughness, at most, of a truth that a careful person drew; half of the generated ones are of this kind.
CAREFUL_MM = 0.25
#: Voxel sizes in mm of the trees to learn from, in-plane and between slices.
IN_PLANE, SLICES = (0.4, 0.8), (0.4, 0.7)

#: One error alone, by its strength (about 1 is severe), the vessels' length in cm and a source of numbers.
ALONE: dict[str, Callable[[float, float, np.random.Generator], Corruption]] = {
    "calibre": lambda s, cm, rng: CalibreBias(0.14 * s, share=0.25),
    "tips": lambda s, cm, rng: LostTip(count=int(rng.poisson(0.07 * cm * s))),
    "gaps": lambda s, cm, rng: Gap((1.5, 7.0), count=int(rng.poisson(0.18 * cm * s))),
    "leaks": lambda s, cm, rng: Leakage(count=int(rng.poisson(0.16 * cm * s))),
    "islands": lambda s, cm, rng: FalseIsland((4.0, 100.0), count=int(rng.poisson(0.16 * cm * s))),
    "jitter": lambda s, cm, rng: BoundaryJitter(0.4 * s, kept=float(rng.uniform(0, 1))),
    "shifts": lambda s, cm, rng: SliceShift(0.2 * s, axis=None),
    "staircase": lambda s, cm, rng: Staircase((0.6, 0.6 + 0.7 * s)),
    "specks": lambda s, cm, rng: HoleAndSpeck(0.06 * s),
}
KINDS = (*TOGETHER, *ALONE, "torn")
#: How often an example to learn from is of each of these kinds.
SHARES = np.array([8, 1, 1, *[0.7] * len(ALONE), 1.5])


@dataclass(frozen=True)
class Generated:
    """Generated tree ``number`` of ``seed`` with one kind of errors at a level; what is ``None`` is drawn."""

    seed: int
    number: int
    kind: str | None = None
    level: float | None = None
    spacing: tuple[float, float, float] | None = None

    @property
    def name(self) -> str:
        return f"phantom_{self.seed}_{self.number:04d}"

    def drawn(self) -> Generated:
        """The recipe in full."""
        rng = np.random.default_rng((self.seed, self.number, 3))
        level = 0.0 if rng.random() < 0.04 else float(rng.uniform(0, 1.5))
        kind = str(rng.choice(KINDS, p=SHARES / SHARES.sum()))
        plane, slices = float(rng.uniform(*IN_PLANE)), float(rng.uniform(*SLICES))
        return Generated(
            self.seed,
            self.number,
            self.kind or kind,
            level if self.level is None else self.level,
            self.spacing or (plane, plane, slices),
        )

    @property
    def careful_mm(self) -> float:
        """Roughness of the truth; 0 for an exact one."""
        return self._roughness()[0]

    def _roughness(self) -> tuple[float, np.random.Generator]:
        """Roughness of the truth, and the source of all that is drawn after it."""
        rng = np.random.default_rng((self.seed, self.number, 4))
        return (float(rng.uniform(0, CAREFUL_MM)) if rng.random() < 0.5 else 0.0), rng

    def load(self) -> Example:
        """Its masks, cropped."""
        recipe = self.drawn()
        careful_mm, rng = self._roughness()
        _, truth, grid = phantom_pair(self.seed, self.number, "none", recipe.spacing)
        if careful_mm:
            rough = BoundaryJitter(careful_mm)
            rough.set_random_state(seed=_seed(rng))
            truth = rough(signed_distance(truth, grid.spacing), grid.spacing) < 0
        return cropped(corrupted(truth, grid, recipe.kind or "all", recipe.level or 0.0, rng), truth, grid)


@dataclass(frozen=True)
class Drawn:
    """A true label map with errors on it: the coronary arteries of ``path``."""

    path: Path
    kind: str
    level: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.path.name.split('.')[0]}_{self.kind}_{self.level:.2f}"

    def load(self) -> Example:
        """Its masks, cropped."""
        file = read_label(self.path)
        truth = mask_of(file.array, CORONARY)
        box = crop_box(truth, file.grid.spacing, CORRUPTION_MARGIN_MM)
        truth, grid = np.ascontiguousarray(truth[box.slices()]), box.grid(file.grid)
        rng = np.random.default_rng(zlib.crc32(f"{self.seed} {self.name}".encode()))
        return cropped(corrupted(truth, grid, self.kind, self.level, rng), truth, grid)


def corrupted(truth: Mask, grid: Grid, kind: str, level: float, rng: np.random.Generator) -> Mask:
    """``truth`` with errors of a ``kind`` at a ``level`` from 0 to 1.5; some voxels always stay."""
    if level == 0:
        return truth
    field = signed_distance(truth, grid.spacing)
    if kind in TOGETHER:
        corrupt = CorruptLabel(level, kind)
        corrupt.set_random_state(seed=_seed(rng))
        noisy = corrupt(field, grid.spacing)
    elif kind == "torn":
        noisy = tear(truth, Grid.of(grid.shape, grid.spacing), rng)
        jitter = BoundaryJitter(0.2 * level)
        jitter.set_random_state(seed=_seed(rng))
        noisy = jitter(signed_distance(noisy, grid.spacing), grid.spacing) < 0
    else:
        strength = level * float(rng.uniform(0.5, 1.5))
        step = ALONE[kind](strength, vessel_length(field, grid.spacing) / 10, rng)
        step.set_random_state(seed=_seed(rng))
        noisy = step(field, grid.spacing) < 0
    return noisy if noisy.any() else truth


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def cropped(noisy: Mask, truth: Mask, grid: Grid) -> Example:
    """Only the part around the masks, and all that refinement looks at."""
    box = crop_box(noisy | truth, grid.spacing, 6.0)
    part = box.slices()
    return np.ascontiguousarray(noisy[part]), np.ascontiguousarray(truth[part]), box.grid(grid)
