"""Gross errors planted in a clean set of 200 generated trees of one pose: does the audit find them?

Trees are drawn on voxels of 1 mm, so that it is quick. No network is asked: what is measured are the checks of the set.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.stats import rankdata

from near_monai.anatomy import CORONARY
from near_monai.audit.case_geometry import geometry_of
from near_monai.audit.set_checks import set_remarks, set_weight
from near_monai.formats.label_maps import LabelMap
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.components import count_components
from near_monai.phantoms.coronary import grow_tree
from near_monai.phantoms.exact_shapes import NamedShape, Phantom

Mask = NDArray[np.bool_]
Volume = tuple[Mask, NDArray[np.float64]]

#: Cases of a set, and planted errors of every kind.
CASES, PLANTED = 200, 4
#: Standard deviation of the pose of a patient, radians.
POSE = 0.12
#: mm between slices and in-plane.
STEP_MM = 1.0


def tree(seed: int, number: int) -> Volume:
    """Tree ``number``, in the pose in which all lie, and its world affine."""
    rng = np.random.default_rng((seed, number))
    shape = grow_tree(rng).cones(Rotation.from_rotvec(rng.normal(0, POSE, 3)).as_matrix())
    phantom = Phantom((NamedShape("coronary arteries", CORONARY, shape),))
    grid = phantom.grid((STEP_MM,) * 3, 6.0)
    affine = np.diag([*grid.spacing, 1.0])
    affine[:3, 3] = grid.origin
    return phantom.signed_distance(grid, 3.0, CORONARY) < 0, affine


def flipped(axis: int) -> Callable[[Volume, int], Volume]:
    """The array mirrored along an axis."""
    return lambda volume, number: (np.flip(volume[0], axis), volume[1])


def swapped(volume: Volume, number: int) -> Volume:
    """The axes of the array in another order."""
    order = [(1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0)][number % 4]
    return np.transpose(volume[0], order), volume[1]


def stretched(volume: Volume, number: int) -> Volume:
    """A wrong voxel size."""
    factor = [(2.0, 2.0, 2.0), (0.5, 0.5, 0.5), (1.0, 1.0, 2.0), (1.0, 1.0, 0.6)][number % 4]
    return volume[0], volume[1] @ np.diag([*factor, 1.0])


def halved(volume: Volume, number: int) -> Volume:
    """Half of the vessel missing."""
    mask, axis = volume[0].copy(), number % 3
    middle = int(np.median(voxels_of(mask)[:, axis]))
    cut = [slice(None)] * 3
    cut[axis] = slice(middle) if number % 2 else slice(middle, None)
    mask[tuple(cut)] = False
    return mask, volume[1]


def organ(volume: Volume, number: int) -> Volume:
    """Another organ: a chamber, or a large vessel."""
    i, j, k = np.indices(volume[0].shape) * STEP_MM
    x, y, z = np.array(volume[0].shape) * STEP_MM / 2
    size = 20.0 + number
    chamber = ((i - x) / size) ** 2 + ((j - y) / (size - 5)) ** 2 + ((k - z) / (size + 15)) ** 2 < 1
    return (chamber if number % 2 else np.hypot(i - x - 10 * np.sin(k / 20), j - y) < size / 2), volume[1]


ERRORS: dict[str, Callable[[Volume, int], Volume]] = {
    "flip left-right": flipped(0),
    "flip head-foot": flipped(2),
    "axes swapped": swapped,
    "wrong spacing": stretched,
    "half missing": halved,
    "other organ": organ,
}
DUPLICATE = "duplicate"


def planted_set(seed: int) -> tuple[dict[str, str], dict[str, float]]:
    """A set with errors: per case its error, or nothing, and its weight by the audit."""
    volumes = [tree(seed, number) for number in range(CASES)]
    order = np.random.default_rng(seed).permutation(CASES).tolist()
    wrong = {str(number): "" for number in range(CASES)}
    for kind, error in ERRORS.items():
        for number in [order.pop() for _ in range(PLANTED)]:
            volumes[number], wrong[str(number)] = error(volumes[number], number), kind
    for one, other in [(order.pop(), order.pop()) for _ in range(PLANTED)]:
        volumes[one] = volumes[other]
        wrong[str(one)] = wrong[str(other)] = DUPLICATE
    cases = {}
    for name, (mask, affine) in zip(wrong, volumes, strict=True):
        cases[name] = geometry_of(LabelMap.from_array(mask * np.uint8(CORONARY), affine), {CORONARY: voxels_of(mask)})
        cases[name]["classes"][str(CORONARY)]["components"] = count_components(mask)
    return wrong, {name: set_weight(remarks) for name, remarks in set_remarks(cases).items()}


def auroc(positive: list[float], negative: list[float]) -> float:
    """Probability that one of ``positive`` is larger than one of ``negative``; ties count half."""
    ranks = rankdata([*positive, *negative])[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def planted_table(seeds: tuple[int, ...] = (555, 556, 557)) -> str:
    """Markdown: how well the planted errors of several sets are told from clean cases."""
    kinds = [*ERRORS, DUPLICATE]
    lines = [
        f"Gross errors planted in {len(seeds)} sets of {CASES} generated trees (AUROC against the clean cases):",
        "",
        "| seed | all | said of clean cases | " + " | ".join(kinds) + " |",
        "|---" * (3 + len(kinds)) + "|",
    ]
    for seed in seeds:
        wrong, weights = planted_set(seed)
        clean = [weight for name, weight in weights.items() if not wrong[name]]
        of = {kind: [weights[name] for name, own in wrong.items() if own == kind] for kind in kinds}
        every = auroc([weight for weights in of.values() for weight in weights], clean)
        cells = [str(seed), f"{every:.4f}", f"{sum(w >= 1 for w in clean)} of {len(clean)}"]
        lines.append("| " + " | ".join([*cells, *(f"{auroc(found, clean):.3f}" for found in of.values())]) + " |")
    return "\n".join(lines) + "\n"
