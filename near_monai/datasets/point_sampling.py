"""Where points come from: shares from the boundary band and from the whole box, and what each point is worth.

Few points of a heart lie near a vessel. Points are therefore drawn from a mixture, ``share`` of them from the band
around the surface and the rest uniformly; each carries the weight (uniform density / mixture density), so that weighted
sums keep estimating the uniform ones and a change of the share (the curriculum) does not change the target.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from near_monai.geometry.coordinates import Grid, sample


def band_share(epoch: int, curriculum: Sequence[Sequence[float]]) -> float:
    """Band share in force at ``epoch`` (from 1).

    Args:
        epoch: the epoch, counted from 1.
        curriculum: pairs ``(first epoch, share)`` in rising order, such as ``[[1, 0.5], [101, 0.3], [201, 0.1]]``.
    """
    return [share for first, share in curriculum if epoch >= first][-1]


def draw_points(
    distance: torch.Tensor, count: int, share: float, band_mm: float, rng: np.random.RandomState, inner: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points, their occupancy and their weights from a signed distance.

    Args:
        distance: ``(C, D, H, W)`` signed distances in mm, negative inside; C structures.
        count: number of points.
        share: share drawn from the bands ``|distance| <= band_mm``, in [0, 1], as much from every structure that has
            one, however small it is; without a band all points are uniform.
        band_mm: half width of the band in mm.
        rng: source of randomness.
        inner: the points stay in this central part of the box, per axis, in (0, 1].

    Returns:
        Normalised points ``(N, 3)`` and targets ``(C + 1, N)``: occupancy (0 or 1) and weight (mean about 1).
    """
    shape = np.asarray(distance.shape[1:])
    low = np.ceil(shape * (1 - inner) / 2 - 1e-6).astype(int)
    size = shape - 2 * low
    near = distance.abs().le(band_mm).numpy()
    central = near[:, *(slice(a, a + n) for a, n in zip(low, size, strict=True))]
    bands = [(channel, np.flatnonzero(channel)) for channel in central if channel.any()]
    each = round(count * share) // len(bands) if bands else 0

    chosen = [rng.choice(band, each) for _, band in bands] if each else [np.empty(0, np.int64)]
    drawn = np.stack(np.unravel_index(np.concatenate(chosen), tuple(size)), -1)
    from_band = len(drawn)
    voxel = np.concatenate(
        [
            drawn + rng.uniform(-0.5, 0.5, (from_band, 3)),
            rng.uniform(-0.5, size - 0.5, (count - from_band, 3)),
        ]
    )
    nearest = tuple(np.clip(np.round(voxel).astype(int), 0, size - 1).T)
    density = np.full(count, 1 - from_band / count)
    for channel, band in bands:
        density += each / count * channel[nearest] * channel.size / len(band)
    points = torch.as_tensor(Grid.of(shape, (1.0,) * 3).normalise(voxel + low), dtype=torch.float32)
    inside = sample(distance[None].float(), points[None])[0] < 0
    return points, torch.cat([inside.float(), torch.as_tensor(1.0 / density, dtype=torch.float32)[None]])
