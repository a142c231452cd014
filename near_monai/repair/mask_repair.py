"""From F's probability to a mask: how far F is trusted against the label, what is joined and what is dropped.

A network that repairs also smooths: at the wall of a vessel it cannot tell annotation from noise. How noisy a label is
can be measured, though, by how often F contradicts it with confidence. The less it does, the surer F must be to
change it (:class:`near_monai.anatomy.Trust`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from near_monai.anatomy import VESSEL, Structure
from near_monai.errors import NearError
from near_monai.geometry.boxes import box_of, voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.region_frames import rounded
from near_monai.geometry.specks import LONG_MM, drop_specks, small_volume
from near_monai.inferers.evidence import Evidence
from near_monai.repair.bridges import Bridge, between, find_bridges
from near_monai.repair.judge import Bounds, Judge
from near_monai.repair.reconnection import Proposal, reconnect_regions

#: F contradicts a label with confidence where it gives the label's value less than this probability.
CONFIDENT = 0.2
#: Every label is taken to have so many mm^2 of clean wall beside its own, 8 mm of a vessel of 2 mm diameter: a short
#: piece of vessel says little about how noisy it is, and is easily made worse.
CLEAN_WALL_MM2 = 50.0
#: Share of a label's volume that may be added, or removed: a third in the noisiest generated trees of F's training.
MOST_CHANGED = 0.5
#: Pieces whose voxels are so many steps apart, with one between them, are judged as one.
APART_VOXELS = 2.1
#: Share of a label that small pieces may be together: 0.025 in generated trees. More is a vessel in shreds.
MOST_DROPPED = 0.15
#: In a noisy label more small pieces are false than in a smooth one: there they go below this probability. On generated
#: noisy trees it parts nine of ten islands from nineteen of twenty bits of vessel. Half of the way to noisy is enough.
NOISY_DROP = 0.65
#: Longest side of a voxel in mm: F was trained on up to 0.8, does well to 2, and harms careful labels from 2.5 on.
COARSEST_SEEN_MM = 2.5
#: What every reason to leave a label ends with; and of a part of a label, of which the others were repaired.
LEFT, PART_LEFT = ": the label was left as it was", ": a part of the label was left as it was"


@dataclass(frozen=True)
class Noise:
    """Noise of a label.

    Attributes:
        mm: the noise, a length in mm.
        wall_mm2: area of the wall on which it was measured; infinite if it is known.
    """

    mm: float
    wall_mm2: float = math.inf

    @property
    def sure_mm(self) -> float:
        """What of it is sure: its mean on the label and on :data:`CLEAN_WALL_MM2` of clean wall."""
        return self.mm / (1 + CLEAN_WALL_MM2 / self.wall_mm2) if self.mm else 0.0


@dataclass(frozen=True)
class Repaired:
    """What :func:`repair` gives.

    Attributes:
        mask: ``(X, Y, Z)`` repaired mask.
        bridge_mask: same shape, the voxels of the bridges: taking them out takes the bridges back.
        bridges: one record per bridge.
        noise_mm: estimated noise of the label.
        caution: how much surer than 0.5 F had to be to change a voxel, 0 to 0.5.
        beyond: why the label was left as it was; empty if it was repaired.
        proposals: joints that are probable, and were not made.
    """

    mask: NDArray[np.bool_]
    bridge_mask: NDArray[np.bool_]
    bridges: list[Bridge]
    noise_mm: float
    caution: float
    beyond: str = ""
    proposals: tuple[Proposal, ...] = ()

    def scaled(self, factor: float) -> Repaired:
        """The same with every length multiplied by ``factor``."""
        bridges = [bridge.scaled(factor) for bridge in self.bridges]
        proposals = tuple(proposal.scaled(factor) for proposal in self.proposals)
        return replace(self, bridges=bridges, proposals=proposals, noise_mm=self.noise_mm * factor)

    def within(self, kept: NDArray[np.bool_], grid: Grid) -> Repaired:
        """What is left if only the voxels of ``kept``, on ``grid``, become the structure."""
        bridge_mask = self.bridge_mask & kept
        bridges = [left for bridge in self.bridges if (left := bridge.within(kept, grid)) is not None]
        return replace(self, mask=self.mask & kept, bridge_mask=bridge_mask, bridges=bridges)


def repair(
    mask: NDArray[np.bool_],
    probability: NDArray[np.float32],
    grid: Grid,
    noise: Noise | None = None,
    clean: bool | Bounds = True,
    structure: Structure = VESSEL,
    evidence: Evidence | None = None,
    judge: Judge | None = None,
) -> Repaired:
    """Decide, reconnect, drop what is small and could not be joined.

    A label that is noisier than anything F was trained on comes back as it is, and ``beyond`` says so.

    Args:
        mask: ``(X, Y, Z)`` the label.
        probability: F on the same grid, as :func:`near_monai.inferers.occupancy.occupancy` gives it.
        grid: their grid.
        noise: noise of the label if it is known; else :func:`noise_of` it. Infinite: F decides whatever it is.
        clean: also reconnect and drop small pieces; :class:`near_monai.repair.judge.Bounds` say what is done at which
            probability.
        structure: how far F is trusted, and whether it is a vessel, whose torn-off pieces are joined by tubes.
        evidence: what counts of ``mask``, if it is known.
        judge: decides what of a vessel is joined and dropped; ``None`` for the shipped one.

    Raises:
        NearError: F is not a number somewhere.
    """
    if not np.isfinite(probability).all():
        raise NearError("F is not a number somewhere: the weights are damaged, give others")
    evidence = Evidence.of(Components.of(mask), grid.spacing) if evidence is None else evidence
    shown = evidence.shown(mask)
    same = Grid.of(grid.shape, [rounded(s) for s in grid.spacing])  # no decision hangs on the last digit of a spacing
    decided = decide_by_noise(shown, probability, same, structure, evidence.found, noise)
    beyond = _beyond(evidence, shown, decided, same, structure)
    if beyond:
        return Repaired(mask.copy(), np.zeros(mask.shape, bool), [], decided.noise.mm, decided.caution, beyond)
    result, tree = decided.mask, None
    if clean and structure.tubular:
        bounds = _in_noise(clean if isinstance(clean, Bounds) else Bounds(), decided.noisy)
        tree = reconnect_regions(result, probability, same, shown, evidence.regions, judge, bounds)
        result = _without(result, tree.dropped, shown) | (tree.tubes > 0)
    elif clean:
        result = _without(result, _small(result, shown, same), shown)
    else:
        result = result | mask & ~shown
    bridges = find_bridges(evidence.found, result, probability, grid, tree.tubes if tree else None)
    bridge_mask = np.zeros(mask.shape, bool)  # pages that nobody touches cost nothing
    for bridge in bridges:
        bridge_mask[tuple(bridge.voxels.T)] = True
    proposals = tuple(proposal.moved(same, grid) for proposal in tree.proposals) if tree else ()
    return Repaired(result, bridge_mask, bridges, decided.noise.mm, decided.caution, proposals=proposals)


def _in_noise(bounds: Bounds, noisy: float) -> Bounds:
    """``bounds`` for a label that is ``noisy`` from 0 to 1: the noisier, the more of what is small goes."""
    return bounds._replace(drop=bounds.drop + max(NOISY_DROP - bounds.drop, 0) * min(2 * noisy, 1))


class Decided(NamedTuple):
    """What :func:`decide_by_noise` gives.

    Attributes:
        mask: ``(X, Y, Z)``.
        noise: that of the label.
        noisy: where it lies between a clean label (0) and one that F alone decides (1).
        caution: how much surer than 0.5 F had to be to change a voxel; it follows from ``noisy``.
    """

    mask: NDArray[np.bool_]
    noise: Noise
    noisy: float
    caution: float


def decide_by_noise(
    label: NDArray[np.bool_],
    probability: NDArray[np.float32],
    grid: Grid,
    structure: Structure = VESSEL,
    found: Components | None = None,
    noise: Noise | None = None,
) -> Decided:
    """:func:`decide` with the caution that follows from the noise of a label: none for a noisy one.

    Args:
        label: ``(X, Y, Z)`` what counts of it.
        probability: F on the same grid.
        grid: their grid.
        structure: how far F is trusted.
        found: components of the label, if they are known.
        noise: its noise, if it is known.
    """
    noise = noise_of(label, probability, grid, found) if noise is None else noise
    trust = structure.trust
    believed = float(np.clip((trust.noisy_mm - noise.sure_mm) / (trust.noisy_mm - trust.clean_mm), 0, 1))
    caution = trust.caution * believed
    return Decided(decide(label, probability, caution, structure.threshold), noise, 1 - believed, caution)


def _without(mask: NDArray[np.bool_], pieces: NDArray[np.bool_], label: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``mask`` without ``pieces``; itself if too much of the ``label`` is in them to be specks."""
    much = np.count_nonzero(pieces & label) > MOST_DROPPED * np.count_nonzero(label)
    return mask if much else mask & ~pieces


def _small(mask: NDArray[np.bool_], label: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """The small pieces of a ``mask``, judged by the ``label`` in them."""
    small = small_volume(float(np.count_nonzero(label)) * grid.voxel_volume)
    return mask & ~drop_specks(
        mask, grid.spacing, small, 0.0, long_mm=LONG_MM, counted=label, one_mm=APART_VOXELS * max(grid.spacing)
    )


def _beyond(
    evidence: Evidence,
    label: NDArray[np.bool_],
    decided: Decided,
    grid: Grid,
    structure: Structure,
) -> str:
    """Why a label is beyond what F was trained on; empty if it is not, or if nobody can say how noisy it is."""
    noise_mm, mask = decided.noise.mm, decided.mask
    if not len(evidence.found) or not math.isfinite(noise_mm):
        return ""
    if not evidence.is_enough:
        return f"little but specks{LEFT}"
    side, known_mm = max(grid.spacing), structure.trust.known_mm
    if side > COARSEST_SEEN_MM:
        side_mm, coarsest_mm = side * structure.scale, COARSEST_SEEN_MM * structure.scale
        return f"voxels of {side_mm:g} mm, more than F can see ({coarsest_mm:g} mm){LEFT}"
    if noise_mm > known_mm:
        return f"noise {noise_mm:.2f} mm, more than F was trained on ({known_mm:g} mm){LEFT}"
    volume = int(np.count_nonzero(label))
    for change, there in (("added", mask & ~label), ("removed", label & ~mask)):
        share = int(np.count_nonzero(there)) / volume
        if share > MOST_CHANGED:
            return f"F would have {change} {share:.0%} of its volume, more than a repair can{LEFT}"
    return ""


def noise_of(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], grid: Grid, found: Components | None = None
) -> Noise:
    """Volume in which F contradicts the label with confidence, per area of its wall: a length in mm.

    What fills a gap of a voxel between two components is no noise of the wall: one lost slice may split a long vessel.
    With the shipped network of the coronaries less than 0.01 for clean generated trees, 0.03 to 0.045 for careful
    annotations, 0.04 to 0.07 for mild noise and about 0.1 for moderate and severe noise.

    Args:
        mask: ``(X, Y, Z)`` the label.
        probability: F on the same grid.
        grid: their grid.
        found: components of the label, if they are known.
    """
    if not mask.any():
        return Noise(0.0)
    near = box_of(mask).grow(1, grid.shape).slices()  # all of it that a crop of the volume to the label has, too
    label, p = mask[near], probability[near]
    doubted = np.where(label, p < CONFIDENT, p > 1 - CONFIDENT)
    beyond = voxels_of(doubted & ~label) + [cut.start for cut in near]
    gaps = between(beyond, Components.of(mask) if found is None else found)
    wall = wall_area(mask, grid)
    return Noise(int(doubted.sum() - gaps.sum()) * grid.voxel_volume / wall, wall)


def wall_area(mask: NDArray[np.bool_], grid: Grid) -> float:
    """Surface area in mm^2: that of the voxel faces, two thirds of which a smooth wall has. ``mask`` is not empty."""
    inside = np.pad(mask[box_of(mask).slices()], 1)
    faces = [np.count_nonzero(np.diff(inside, axis=axis)) / step for axis, step in enumerate(grid.spacing)]
    return math.fsum(faces) * grid.voxel_volume * 2 / 3


def decide(
    mask: NDArray[np.bool_], probability: NDArray[np.float32], caution: float, threshold: float = 0.5
) -> NDArray[np.bool_]:
    """``mask``, changed where F contradicts it by more than ``caution``: with 0.5 nowhere, whatever the ``threshold``.

    It is the same everywhere: with caution at the wall alone, what F adds beyond the wall came out hollow.
    """
    lower, upper = threshold * (1 - 2 * caution), threshold + 2 * caution * (1 - threshold)
    return np.asarray(np.where(mask, probability >= lower, probability > upper))
