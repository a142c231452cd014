"""Reconnection: the pieces of a torn tree become one tree again, where the judge is sure.

All joints are decided together: of all forests on the pieces, in which the left and the right tree never meet, the one
that is best as a whole is made. Which joints connected what the label had apart is found afterwards
(:mod:`near_monai.repair.bridges`): F joins pieces, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.hierarchy import DisjointSet

from near_monai.geometry.boxes import Box
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray, Grid
from near_monai.geometry.region_frames import Frame, poses_of
from near_monai.inferers.evidence import SPECK_MM3, SPECK_VOXELS
from near_monai.repair.joints import Joint, Pieces, find_joints
from near_monai.repair.judge import Bounds, Judge, shipped_judge
from near_monai.repair.open_ends import Ends, end_features
from near_monai.repair.piece_features import piece_features

#: Pieces of more than this share of the volume can be the left and the right tree, whose thin tips may meet ...
TREE = 0.1
#: ... and are joined only at the thick end of one of them: the radius there over the piece's largest.
THICK_END = 0.8
#: A wrong joint that adds this share of the whole costs half of it, 0.01, in Dice: what adds more must be so probable.
MUCH, MUCH_SURE = 0.02, 0.9
#: An end that goes on with at least this probability is listed.
OPEN_END = 0.5
#: A piece of this volume in mm^3, or of this share of the whole, is never dropped, whatever it looks like.
LARGEST_DROPPED_MM3, LARGEST_DROPPED = 100.0, 0.05


@dataclass(frozen=True, eq=False)
class Proposal:
    """Where a vessel probably goes on, and was not made to.

    Attributes:
        kind: ``"proposed"`` of a joint that was not made, ``"open_end"`` of an end that nothing continues.
        place: ``(x, y, z)`` in mm: the middle of the joint, or the end.
        probability: the judge's.
    """

    kind: Literal["proposed", "open_end"]
    place: tuple[float, float, float]
    probability: float

    def placed(self, frame: Frame) -> Proposal:
        """The same in the frame of the case, given that of the turned region."""
        pose, grid = frame.pose, frame.grid
        voxel = grid.to_voxel(self.place)
        voxel = np.where(pose.flipped, np.subtract(grid.shape, 1) - voxel, voxel)
        x, y, z = frame.place.to_mm(voxel[np.argsort(pose.order)]).tolist()
        return replace(self, place=(x, y, z))

    def moved(self, source: Grid, target: Grid) -> Proposal:
        """The same at the same voxel of ``target``, given in mm of ``source``."""
        x, y, z = target.to_mm(source.to_voxel(self.place)).tolist()
        return replace(self, place=(x, y, z))

    def scaled(self, factor: float) -> Proposal:
        """The same with every length multiplied by ``factor``."""
        x, y, z = (v * factor for v in self.place)
        return replace(self, place=(x, y, z))


@dataclass(frozen=True, eq=False)
class Reconnected:
    """What :func:`reconnect` gives.

    Attributes:
        tubes: per voxel the number from 1 of the tube that adds it, or 0.
        dropped: voxels of pieces that are probably no vessel.
        proposals: joints for a person to decide, the most probable first, and ends that probably go on.
    """

    tubes: NDArray[np.int32]
    dropped: NDArray[np.bool_]
    proposals: list[Proposal]


def reconnect_regions(
    mask: NDArray[np.bool_],
    likely: NDArray[np.float32],
    grid: Grid,
    label: NDArray[np.bool_],
    regions: Sequence[Box],
    judge: Judge | None,
    bounds: Bounds | None,
) -> Reconnected:
    """:func:`reconnect`, region by region of the ``label`` that F saw, and turned as F saw it.

    Which voxels are a centreline depends on the order of the axes. Only what lies within a voxel of the box of the
    label is looked at, so that a volume that is cropped to it gives the same.
    """
    tubes, dropped = np.zeros(mask.shape, np.int32), np.zeros(mask.shape, bool)
    proposals = []
    for region in regions:
        cut = region.grow(1, mask.shape)
        there, turned = cut.slices(), []
        for pose in poses_of(label[region.slices()], grid.spacing):
            frame = Frame.of(cut, grid, pose)
            inside, seen = pose.turn(mask[there]), pose.turn(label[there])
            found = reconnect(inside, pose.turn(likely[there]), frame.grid, seen, judge, bounds)
            if found.tubes.any():
                added = pose.undo(found.tubes)
                tubes[there] = np.where(added > 0, added + tubes.max(), tubes[there])
            turned.append(pose.undo(found.dropped))
        dropped[there] |= np.logical_and.reduce(turned)
        proposals += [proposal.placed(frame) for proposal in found.proposals]
    return Reconnected(tubes, dropped & (tubes == 0), proposals)


def reconnect(
    mask: NDArray[np.bool_],
    likely: NDArray[np.float32],
    grid: Grid,
    label: NDArray[np.bool_] | None = None,
    judge: Judge | None = None,
    bounds: Bounds | None = None,
) -> Reconnected:
    """Join the components of ``mask``, and say which are no vessel; each tube joins two and touches no third.

    Args:
        mask: ``(X, Y, Z)`` refined mask.
        likely: F on the same grid.
        grid: their grid.
        label: same shape, what the mask was made of; ``None`` for the mask itself.
        judge: gives the probabilities; ``None`` for the shipped one.
        bounds: what is done at which; ``None`` for the default.
    """
    judge, bounds = judge or shipped_judge(), bounds or Bounds()
    found, imagined = Components.of(mask), np.zeros_like(mask)
    if label is not None:  # what holds nothing of it F imagined
        own = found.sums(label) > 0
        found.put(imagined, ~own, True)
        found = found.only(own)
    if not len(found) or mask.all():  # what fills its volume has no wall, and so no centreline
        return Reconnected(np.zeros(mask.shape, np.int32), imagined, [])
    pieces = Pieces.of(found, likely, grid)
    work = _Work.of(pieces)
    joints = find_joints(pieces)
    sure = judge.joints([joint.features for joint in joints])
    proposals = []
    for number in np.argsort(-sure, kind="stable").tolist():
        joint, chance = joints[number], float(sure[number])
        if chance < bounds.propose or not work.allows(joint) or (drawn := work.drawn(joint)) is None:
            continue
        work.enter(joint)
        much = work.share(drawn) > MUCH
        if chance >= (max(bounds.join, MUCH_SURE) if much else bounds.join):
            work.make(joint, drawn)
        else:
            proposals.append(Proposal("proposed", _xyz(pieces.line.mm[list(joint.points)].mean(0)), chance))
    vessel = judge.pieces(piece_features(pieces, joints, sure))
    dropped = imagined | work.dropped(vessel, bounds.drop)
    goes_on = judge.ends(end_features(pieces, ends := Ends.of(pieces), joints, sure))
    return Reconnected(work.tubes, dropped, proposals + work.open_ends(ends, goes_on, dropped))


def _xyz(point: FloatArray) -> tuple[float, float, float]:
    x, y, z = point.tolist()
    return x, y, z


class _Tube(NamedTuple):
    """What a joint adds: voxels in a box."""

    box: Box
    added: NDArray[np.bool_]


@dataclass(eq=False)
class _Work:
    """A tree while it is put together.

    Attributes:
        pieces: what it is made of.
        index: per voxel the number of its piece from 1, or 0; tubes belong to the piece whose end they leave.
        tubes: see :class:`Reconnected`.
        large: pieces that can be a tree.
        made: pieces that joints have connected.
        listed: the same, with what was proposed.
        taken: centreline voxels that joints, made or proposed, begin or end at.
    """

    pieces: Pieces
    index: NDArray[np.int32]
    tubes: NDArray[np.int32]
    large: NDArray[np.bool_]
    made: DisjointSet
    listed: DisjointSet
    taken: set[int]

    @classmethod
    def of(cls, pieces: Pieces) -> _Work:
        count = len(pieces.found)
        large = pieces.volume > TREE * pieces.volume.sum()
        sets = (DisjointSet(range(count)), DisjointSet(range(count)))
        return cls(pieces, pieces.index.copy(), np.zeros_like(pieces.index), large, *sets, set())

    def allows(self, joint: Joint) -> bool:
        """Whether it closes no ring and connects no two trees; a large piece that hangs by its thick end is no tree."""
        own, other = joint.pieces
        if self.listed.connected(own, other):
            return False
        trees = [any(self.large[list(self.listed.subset(piece))]) for piece in joint.pieces]
        return not all(trees) or any(self._hangs(joint, side) for side in (0, 1))

    def _hangs(self, joint: Joint, side: int) -> bool:
        """Whether a joint holds the piece on one ``side`` by the thick end of its centreline."""
        line, piece, point = self.pieces.line, joint.pieces[side], joint.points[side]
        thick = joint.radii[side] >= THICK_END * line.thickest[piece]
        return bool(self.large[piece] and thick and line.end[point])

    def drawn(self, joint: Joint) -> _Tube | None:
        """The tube of a joint; ``None`` if it would touch a third piece."""
        radii = (joint.radii[0], min(joint.radii))
        box, tube = joint.course.tube(radii, self.pieces.grid)
        there = self.index[box.slices()]
        met = np.unique(there[ndimage.maximum_filter(tube, 3)])
        if not set(met.tolist()) <= {0, *(piece + 1 for piece in joint.pieces)}:
            return None
        return _Tube(box, tube & (there == 0))

    def enter(self, joint: Joint) -> None:
        """A joint is made or proposed: its pieces count as one from now on, and its ends as continued."""
        self.listed.merge(*joint.pieces)
        self.taken.update(joint.points)

    def share(self, drawn: _Tube) -> float:
        """Volume of a tube over that of all pieces."""
        return float(np.count_nonzero(drawn.added) * self.pieces.grid.voxel_volume / self.pieces.volume.sum())

    def make(self, joint: Joint, drawn: _Tube) -> None:
        """Make a joint, of which the tube was drawn."""
        self.made.merge(*joint.pieces)
        there = drawn.box.slices()
        self.index[there][drawn.added] = joint.pieces[0] + 1
        self.tubes[there][drawn.added] = self.tubes.max() + 1

    def open_ends(self, ends: Ends, goes_on: FloatArray, dropped: NDArray[np.bool_]) -> list[Proposal]:
        """Of the ``ends`` that nothing continues and that stay, those that probably go on."""
        voxel = np.round(self.pieces.grid.to_voxel(self.pieces.line.mm[ends.points])).astype(int)
        free = ~np.isin(ends.points, list(self.taken)) & ~dropped[tuple(voxel.T)]
        chosen = np.flatnonzero(free & (goes_on >= OPEN_END)).tolist()
        return [Proposal("open_end", _xyz(ends.tips[number]), float(goes_on[number])) for number in chosen]

    def dropped(self, vessel: FloatArray, least: float) -> NDArray[np.bool_]:
        """Voxels of the pieces to drop: small, joined to nothing that stays, and vessel with less than ``least``."""
        found, doomed = self.pieces.found, np.zeros(self.index.shape, bool)
        speck = (found.sizes < SPECK_VOXELS) & (self.pieces.volume < SPECK_MM3)
        small = self.pieces.volume < min(LARGEST_DROPPED_MM3, LARGEST_DROPPED * self.pieces.volume.sum())
        goes = speck | small & (vessel < least)
        for group in self.made.subsets():
            members = list(group)
            if goes[members].all():
                for piece in members:
                    doomed[tuple(found.parts[piece].T)] = True
        return doomed
