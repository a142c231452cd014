"""Several masks of one structure to one: evidence of every map, weighted by how noisy it is and how it agrees nearby.

Every map has two things to say of a voxel: whether it is drawn there, and what F makes of the whole map there. F knows
shape, so that a gap, a speck or a rough wall of one map weighs little; what is drawn knows the voxel. Both are added up
as log odds. The less noisy the maps are, the more counts what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.anatomy import Structure
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.evidence import Evidence
from near_monai.inferers.occupancy import occupancy
from near_monai.networks.network import NearNetwork
from near_monai.repair.findings_to_check import Finding, beyond_wall, listed_pieces
from near_monai.repair.judge import Bounds, Judge, judge_of
from near_monai.repair.mask_repair import Noise, Repaired, noise_of, repair

#: F is taken to be this sure at most, that nothing is there and that something is. It says 0 of all that is far from a
#: map, which is no evidence that the map is right there.
SUREST = (0.05, 0.98)
#: mm added to the noise of a map before its weight, one over it, is taken: no map is without noise.
LEAST_NOISE_MM = 0.02
#: What is drawn counts as log odds of this many mm over the noise, for every map, and of no more than the second.
#: Both were chosen on generated trees of seed 9300, as were the bounds below.
DRAWN_MM, MOST_DRAWN = 0.07, 1.5
#: mm around a voxel in which a map is compared with the others.
NEARBY_MM = 3.0
#: What some map draws between two pieces joins them if the log odds are above this: a gap in one map that another fills
#: is no gap.
FILLED_ABOVE = -1.5
#: Log odds of what was filled in so.
BARELY = 0.1
#: A joint that no map drew needs to be this probable.
JOIN_UNDRAWN = 0.6


@dataclass(frozen=True, eq=False)
class Agreed:
    """What several masks of one structure agree on.

    Attributes:
        repaired: the mask, and the bridges that no map drew.
        probability: float32 ``(X, Y, Z)``, fused from all maps.
        share: float32, same shape: the share of the maps in which a voxel is drawn.
        noise_mm: estimated noise of every map.
        findings: places where maps disagree, see :func:`disputes`, and joints that are only proposed.
    """

    repaired: Repaired
    probability: NDArray[np.float32]
    share: NDArray[np.float32]
    noise_mm: tuple[float, ...]
    findings: tuple[Finding, ...]


def agree(
    masks: Sequence[NDArray[np.bool_]],
    native: Grid,
    network: NearNetwork,
    space: WorkingSpace,
    structure: Structure,
) -> Agreed:
    """One mask of several.

    Args:
        masks: ``(X, Y, Z)`` each, of the same structure; at least one voxel set in at least one of them.
        native: their grid.
        network: trained network with an encoder.
        space: the working space that it was trained in.
        structure: what they are.
    """
    small = structure.size.shrunk(native)
    return agreed_of(
        masks, [seen_in(mask, small, network, space) for mask in masks], small, structure, judge_of(network)
    )


@dataclass(frozen=True, eq=False)
class Seen:
    """What F says of one map: its probability ``(X, Y, Z)``, and the noise of the map."""

    probability: NDArray[np.float32]
    noise: Noise


def seen_in(mask: NDArray[np.bool_], grid: Grid, network: NearNetwork, space: WorkingSpace) -> Seen:
    """What F says of a map on ``grid``, in the scale of its structure.

    An empty map says no everywhere, and is taken for very noisy.
    """
    if not mask.any():
        return Seen(np.zeros(mask.shape, np.float32), Noise(1.0))
    evidence = Evidence.of(Components.of(mask), grid.spacing)
    probability = np.asarray(occupancy(mask[None], grid, network, space, evidence=evidence).probability[0], np.float32)
    return Seen(probability, noise_of(evidence.shown(mask), probability, grid, evidence.found))


def agreed_of(
    masks: Sequence[NDArray[np.bool_]],
    seen: Sequence[Seen],
    grid: Grid,
    structure: Structure,
    judge: Judge | None = None,
) -> Agreed:
    """One mask of several, given what F says of each.

    Args:
        masks: ``(X, Y, Z)`` each.
        seen: of every mask.
        grid: their grid, in the scale of the structure.
        structure: what they are.
        judge: decides what is joined and dropped; ``None`` for the shipped one.
    """
    odds = fused_odds(masks, [one.probability for one in seen], [one.noise.sure_mm for one in seen], grid)
    drawn = _filled(odds > 0, odds, masks)
    if not drawn.any():  # all maps are doubtful everywhere
        drawn = np.logical_or.reduce(masks)
    odds[drawn & (odds <= 0)] = BARELY
    probability = np.asarray(1 / (1 + np.exp(-odds)), np.float32)
    surely = Noise(math.inf)  # the evidence is in the odds already
    result = repair(drawn, probability, grid, surely, Bounds(join=JOIN_UNDRAWN), structure, judge=judge)
    share = np.asarray(np.mean(masks, axis=0), np.float32)
    size = structure.size
    found = [size.grown(place) for place in disputes(share, result.mask, probability, grid)]
    repaired = size.grown(result)
    found += [Finding("proposed", joint.place, 0.0, joint.probability) for joint in repaired.proposals]
    noise = tuple(size.mm(one.noise.mm) for one in seen)
    return Agreed(repaired, probability, share, noise, tuple(found))


def fused_odds(
    masks: Sequence[NDArray[np.bool_]],
    probabilities: Sequence[NDArray[np.float32]],
    noise_mm: Sequence[float],
    grid: Grid,
) -> NDArray[np.float32]:
    """Log odds ``(X, Y, Z)`` that a voxel is inside, from all maps.

    Args:
        masks: what is drawn.
        probabilities: F of every map.
        noise_mm: noise of every map.
        grid: their grid.
    """
    total = np.asarray(np.sum(masks, axis=0), np.float32)
    weight, squares, odds, drawn = (np.zeros(total.shape, np.float32) for _ in range(4))
    for mask, p, noise in zip(masks, probabilities, noise_mm, strict=True):
        trusted = agreement_of(mask, total, len(masks)) ** 2 / (noise + LEAST_NOISE_MM)
        own = agreement_nearby(mask, total, len(masks), grid) * np.float32(trusted)
        clipped = np.clip(p, *SUREST)
        weight += own
        squares += own * own
        odds += own * np.log(clipped / (1 - clipped))
        drawn += own * (2 * mask.astype(np.float32) - 1)
    mean = len(noise_mm) / sum(1 / (noise + LEAST_NOISE_MM) for noise in noise_mm)
    # as many votes as maps of equal weight would have
    votes = np.float32(min(DRAWN_MM / mean, MOST_DRAWN)) * weight**2 / squares
    return np.asarray((odds + votes * drawn) / weight)


def agreement_of(mask: NDArray[np.bool_], total: NDArray[np.float32], count: int) -> float:
    """Dice of a map and the mean of the others, of ``count`` in ``total``; at least a tenth."""
    others = (total - mask) / max(count - 1, 1)
    either = float(mask.sum()) + float(others.sum(dtype=np.float64))
    return max(2 * float(others[mask].sum(dtype=np.float64)) / either, 0.1) if either else 1.0


def agreement_nearby(
    mask: NDArray[np.bool_], total: NDArray[np.float32], count: int, grid: Grid
) -> NDArray[np.float32]:
    """Dice of a map and the mean of the others, of ``count`` in ``total``, in the cube around every voxel."""
    size = [max(3, int(2 * NEARBY_MM / step) | 1) for step in grid.spacing]
    own = mask.astype(np.float32)
    others = (total - own) / max(count - 1, 1)
    both, either = (np.maximum(ndimage.uniform_filter(part, size), 0) for part in (own * others, own + others))
    return np.maximum((2 * both + 1e-3) / (either + 2e-3), np.float32(0.02))


def _filled(
    drawn: NDArray[np.bool_], odds: NDArray[np.float32], masks: Sequence[NDArray[np.bool_]]
) -> NDArray[np.bool_]:
    """``drawn`` and what some map draws between two of its pieces."""
    between = Components.of(np.logical_or.reduce(masks) & ~drawn & (odds > FILLED_ABOVE))
    index, out = Components.of(drawn).index(), drawn.copy()
    for number, part in enumerate(between.parts):
        around = between.boxes[number].grow(1, odds.shape)
        near = ndimage.binary_dilation(between.mask(number, around), np.ones((3, 3, 3)))
        met = np.unique(index[around.slices()][near])
        if np.count_nonzero(met) > 1:
            out[tuple(part.T)] = True
    return out


def disputes(
    share: NDArray[np.float32], result: NDArray[np.bool_], probability: NDArray[np.float32], grid: Grid
) -> list[Finding]:
    """Places that some maps have and others lack, beyond shifts of the wall; the largest first.

    Their ``kind`` is ``"kept"`` if most of a place is in the ``result``, else ``"left out"``.
    """
    some, all_ = share > 0, share >= 1
    places = []
    for piece in listed_pieces("disputed", beyond_wall(some, all_, grid), grid):
        there = piece.box.slices()
        kept = result[there][piece.mask].mean() > 0.5
        sure = float(probability[there][piece.mask].mean())
        places.append(Finding("kept" if kept else "left out", piece.place, piece.volume_mm3, sure))
    return places
