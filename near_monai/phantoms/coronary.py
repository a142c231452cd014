"""Random coronary trees: the anatomy behind the training phantoms.

The two trees leave an imaginary aortic root, follow the grooves, and end up in a random pose, so that nothing
learned from them relies on left, right or the axes of the array.

Sources of the numbers: calibres of normal arteries, Dodge et al., Circulation 1992; lengths, segments and frequencies
of branches, measured on 1,600 annotated sides (docs: "Facts for realistic phantoms").
"""

from __future__ import annotations

from numpy.random import Generator
from scipy.spatial.transform import Rotation

from near_monai.anatomy import CORONARY
from near_monai.geometry.coordinates import FloatArray
from near_monai.phantoms.coronary_growth import CoronaryTree
from near_monai.phantoms.exact_shapes import NamedShape, Phantom
from near_monai.phantoms.vessel_courses import (
    random_heart,
)


def coronary_tree(rng: Generator, label: int = CORONARY, wall: float = 0.4) -> Phantom:
    """A random left and right coronary tree.

    Args:
        rng: source of all randomness; the same state gives the same tree.
        label: class index of the coronary arteries.
        wall: mean distance in mm by which annotations are drawn outside the lumen. Calibres are those of the lumen
            plus a distance that is uniform in [0, 2 wall] and the same over a case; the default spans what
            noisy public labels show (root mean square radius 1.1-1.6 mm in ASOCA network outputs and ImageCAS).

    Returns:
        A phantom with the single part "coronary arteries", whose shape is a :class:`RoundCones`. The two trees do
        not touch each other, and branches meet only where they fork.

    Example:
        >>> import numpy as np
        >>> import near_monai
        >>> tree = near_monai.coronary_tree(np.random.default_rng(0))
        >>> grid = tree.grid(spacing=(1.0, 1.0, 1.0), margin=3.0)
        >>> mask = tree.signed_distance(grid, truncate=3.0, label=9) < 0
        >>> mask.shape == grid.shape, bool(mask.any())
        (True, True)
    """
    tree = grow_tree(rng, wall)
    return Phantom((NamedShape("coronary arteries", label, tree.cones(random_pose(rng))),))


def grow_tree(rng: Generator, wall: float = 0.4) -> CoronaryTree:
    """A left and a right tree on a random heart, in the heart's own frame; arguments as for :func:`coronary_tree`."""
    heart = random_heart(rng)
    size = 0.91 if rng.random() < 0.5 else 1.0  # women's arteries are 9 % thinner
    tree = CoronaryTree(rng, heart, size, rng.uniform(0, 2 * wall))
    left_dominant = bool(rng.random() < 0.15)
    tree.grow_trunks(left_dominant)
    tree.grow_left()
    tree.grow_right()
    return tree


def random_pose(rng: Generator) -> FloatArray:
    """A random rotation, mirrored every other time: ``(3, 3)``."""
    pose: FloatArray = Rotation.from_quat(rng.normal(size=4)).as_matrix() * [rng.choice([-1.0, 1.0]), 1.0, 1.0]
    return pose
