"""How the judge learns: joints, pieces and ends of torn trees, and what is true of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from near_monai.corruption.corrupt_label import CorruptLabel
from near_monai.corruption.torn_trees import tear
from near_monai.geometry.boxes import voxels_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.geometry.distance import signed_distance
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.evidence import Evidence
from near_monai.inferers.occupancy import occupancy
from near_monai.networks.network import NearNetwork
from near_monai.repair.joints import FEATURES as JOINT_FEATURES
from near_monai.repair.joints import Joint, Pieces, find_joints
from near_monai.repair.judge import Classifier, Judge
from near_monai.repair.mask_repair import VESSEL, decide_by_noise
from near_monai.repair.open_ends import FEATURES as END_FEATURES
from near_monai.repair.open_ends import Ends, end_features
from near_monai.repair.piece_features import FEATURES as PIECE_FEATURES
from near_monai.repair.piece_features import piece_features

#: A piece is vessel if half of it lies in the true tree; a joint is right if both pieces are, and this share of its
#: course lies within :data:`BESIDE_MM` of the tree.
ON_COURSE = 0.9
BESIDE_MM = 2.0
#: A vessel goes on at an end if so many mm^3 of it lie within so many mm of the tip, further than so many mm from the
#: label, and ahead: the cosine of the angle is larger than this.
ON_MM3, ON_MM, LOST_MM, AHEAD = 1.5, 5.0, 1.0, 0.5
#: Share of the examples that are torn, and share that have other errors, too.
TORN, ROUGH = 0.85, 0.4
#: Parts that the torn trees are split into: pieces are judged by joints that were judged by the other parts.
FOLDS = 4


@dataclass(frozen=True, eq=False)
class Example:
    """A torn tree and what is true of it.

    Attributes:
        pieces: its pieces, slim.
        joints: possible joints between them.
        right: ``(J,)`` which are right.
        vessel: ``(P,)`` which pieces are vessel.
        ends: where vessels end.
        goes_on: ``(E,)`` at which the true vessel goes on.
    """

    pieces: Pieces
    joints: list[Joint]
    right: NDArray[np.bool_]
    vessel: NDArray[np.bool_]
    ends: Ends
    goes_on: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: NDArray[np.bool_], likely: NDArray[np.floating], truth: NDArray[np.bool_], grid: Grid) -> Example:
        """From a refined ``mask`` of a torn tree, F there, and the whole tree, all ``(X, Y, Z)`` on ``grid``."""
        pieces = Pieces.of(Components.of(mask), likely, grid)
        joints = find_joints(pieces)
        away = signed_distance(truth, grid.spacing, 2 * BESIDE_MM)
        inside = away[tuple(pieces.found.voxels.T)] < max(grid.spacing)
        vessel = np.bincount(pieces.found.owner, inside, len(pieces.found)) >= pieces.found.sizes / 2
        right = [bool(vessel[list(joint.pieces)].all()) and _on_course(joint, pieces, away) for joint in joints]
        ends = Ends.of(pieces)
        return cls(pieces.slim(), joints, np.array(right, bool), vessel, ends, _goes_on(pieces, ends, truth))

    @property
    def features(self) -> FloatArray:
        """``(J, F)`` of the joints."""
        return np.array([joint.features for joint in self.joints]).reshape(-1, len(JOINT_FEATURES))


def _on_course(joint: Joint, pieces: Pieces, away: NDArray[np.floating]) -> bool:
    voxels = tuple(joint.course.voxels(pieces.grid).T)
    gap = pieces.index[voxels] == 0
    return bool((away[voxels][gap] < BESIDE_MM).mean() >= ON_COURSE) if gap.any() else True


def _goes_on(pieces: Pieces, ends: Ends, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """At which ``ends`` something of the true tree lies ahead that the label lacks, by more than the wall."""
    grid = pieces.grid
    lost = voxels_of(truth & (signed_distance(pieces.index > 0, grid.spacing, 2 * LOST_MM) > LOST_MM))
    if not len(lost):
        return np.zeros(len(ends.points), bool)
    lost_mm, found = grid.to_mm(lost), []
    for tip, leaving, near in zip(
        ends.tips, ends.ways, cKDTree(lost_mm).query_ball_point(ends.tips, ON_MM), strict=True
    ):
        way = lost_mm[near] - tip
        ahead = way @ leaving > AHEAD * np.linalg.norm(way, axis=1)
        found.append(np.count_nonzero(ahead) * grid.voxel_volume >= ON_MM3)
    return np.array(found, bool)


def torn_example(
    truth: NDArray[np.bool_], grid: Grid, network: NearNetwork, space: WorkingSpace, rng: Generator
) -> Example:
    """``truth`` ``(X, Y, Z)`` of a whole tree on ``grid``, torn, roughened now and then, and seen by F."""
    label = tear(truth, grid, rng) if rng.random() < TORN else truth
    if rng.random() < ROUGH:
        corrupt = CorruptLabel(str(rng.choice(["mild", "moderate", "severe"])))
        corrupt.set_random_state(seed=int(rng.integers(2**31)))
        label = corrupt(signed_distance(label, grid.spacing), grid.spacing)
    if not label.any():
        label = truth
    evidence = Evidence.of(Components.of(label), grid.spacing)
    likely = occupancy(label[None], grid, network, space, evidence=evidence).probability[0].astype(np.float32)
    decided = decide_by_noise(evidence.shown(label), likely, grid, VESSEL, evidence.found)
    return Example.of(decided.mask, likely, truth, grid)


def folds(examples: Sequence[Example]) -> Iterator[tuple[list[Example], Sequence[Example]]]:
    """:data:`FOLDS` times: most of the ``examples``, to learn from, and the rest, to be judged."""
    for fold in range(FOLDS):
        yield [e for number, e in enumerate(examples) if number % FOLDS != fold], examples[fold::FOLDS]


def learn(examples: Sequence[Example]) -> Judge:
    """A judge that has seen ``examples``."""
    pieces, ends = [], []
    for others, part in folds(examples):
        judged = _learn_joints(others)
        pieces += [piece_features(e.pieces, e.joints, judged(e.features)) for e in part]
        ends += [end_features(e.pieces, e.ends, e.joints, judged(e.features)) for e in part]
    in_order = [example for _, part in folds(examples) for example in part]
    vessel, goes_on = (np.concatenate([getattr(e, name) for e in in_order]) for name in ("vessel", "goes_on"))
    return Judge(
        _learn_joints(examples),
        Classifier.fit(PIECE_FEATURES, np.concatenate(pieces), vessel),
        Classifier.fit(END_FEATURES, np.concatenate(ends), goes_on),
    )


def _learn_joints(examples: Sequence[Example]) -> Classifier:
    features = np.concatenate([example.features for example in examples])
    return Classifier.fit(JOINT_FEATURES, features, np.concatenate([example.right for example in examples]))
