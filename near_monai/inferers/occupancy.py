"""What F says of a label: encoded and decoded region by region, whatever way it is stored.

Every door to F goes through :func:`occupancy`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from near_monai.geometry.boxes import Box
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid, sample_axes
from near_monai.geometry.region_frames import Frame, poses_of, rounded
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.case_code import CaseCode
from near_monai.inferers.decoding import decode_all
from near_monai.inferers.encoding import distances, encode_distances
from near_monai.inferers.evidence import Evidence, averaged, cut_with_edges, regions_of, with_rim
from near_monai.networks.network import NearNetwork


@dataclass(frozen=True, eq=False)
class Occupancy:
    """What F says of a label.

    Attributes:
        codes: z of the case, one per region.
        probability: ``(heads, X, Y, Z)``, on the grid of the label; further from its wall than F can see it is 0 or 1.
    """

    codes: tuple[CaseCode, ...]
    probability: NDArray[np.floating]


def occupancy(
    masks: NDArray[np.bool_],
    native: Grid,
    network: NearNetwork,
    space: WorkingSpace,
    dtype: DTypeLike = np.float32,
    evidence: Evidence | None = None,
) -> Occupancy:
    """Ask F about a label, at the voxels of its own grid.

    Args:
        masks: ``(C, X, Y, Z)``, one per structure of the network; at least one voxel set.
        native: their grid.
        network: trained network with an encoder.
        space: the working space that it was trained in.
        dtype: of the probability.
        evidence: what counts of the only mask, if it is known.

    Returns:
        z and F's probability, which do not depend on how the array is stored, cropped or padded with background.
    """
    parts = (
        [evidence]
        if evidence is not None
        else [Evidence.of(Components.of(mask), native.spacing) for mask in masks if mask.any()]
    )
    present = iter(parts)
    shown = np.stack([next(present).shown(mask) if mask.any() else mask for mask in masks])
    regions, _ = regions_of([region for part in parts for region in part.regions], native.spacing)
    probability = np.zeros((network.field.heads, *native.shape), dtype)
    codes = []
    for region in regions:
        reach = space.truncate + max(native.spacing)
        inner, around = with_rim(region, [int(np.ceil(reach / rounded(s) - 1e-6)) for s in native.spacing])
        part, there = cut_with_edges(shown, around), around.overlap(Box((0, 0, 0), native.shape))
        poses = poses_of(np.asarray(shown[:, *region.slices()].any(0)), native.spacing)
        asked = [_ask(part, inner, Frame.of(around, native, pose), network, space, dtype) for pose in poses]
        codes.append(replace(asked[0][0], reference=native))
        seen = asked[0][1]
        if len(asked) > 1:  # in double precision the sum is exact, and the same in any order
            seen = np.stack([found for _, found in asked]).mean(0, np.float64).astype(dtype)
        probability[:, *there.slices()] = seen[:, *there.within(around).slices()]
    return Occupancy(tuple(codes), probability)


def _ask(
    masks: NDArray[np.bool_], box: Box, frame: Frame, network: NearNetwork, space: WorkingSpace, dtype: DTypeLike
) -> tuple[CaseCode, NDArray[np.floating]]:
    """z and F's probability of a region, of which ``masks`` ``(C, X, Y, Z)`` show the label, in ``box``, and a rim."""
    pose = frame.pose
    turned = Box(pose.picked(box.start), pose.picked(box.stop))
    code, distance, near = _encode(pose.turn(masks), turned, frame.grid, network, space)
    code = replace(code, frame=frame)
    near_wall = sample_axes(distance[None], frame.grid.axes_in(near))[0] if near != frame.grid else distance
    wall = pose.undo(near_wall.numpy())
    unsure = (wall < space.truncate) & (wall > -space.truncate)
    seen = decode_all(code, network.field, frame.place, dtype, np.asarray(unsure.any(0)))
    np.copyto(seen, wall < 0, where=~unsure)
    return code, seen


def _encode(
    masks: NDArray[np.bool_], box: Box, grid: Grid, network: NearNetwork, space: WorkingSpace
) -> tuple[CaseCode, torch.Tensor, Grid]:
    """z of a turned region, and its distances ``(C, X, Y, Z)`` with their grid."""
    seen, near = averaged(masks, grid)
    distance = distances(seen, near.spacing, space.truncate)
    code = encode_distances(distance, np.asarray(masks.any(0)), box, near, grid, network, space)
    return code, distance, near
