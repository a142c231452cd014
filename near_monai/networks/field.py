"""F(z, p): the occupancy field, one function for every case, every code layout and every resolution.

A code is a list of grids, coarse to fine, ``(B, C_s, D_s, H_s, W_s)``, that all span one box. The described recipe
is the special case of one 256-channel cell that spans the whole case; the refiner's codes are local, with a cell every
few millimetres. A shared convolutional decoder turns the code into feature maps ("levels"), each twice as fine as the
one before; F looks every level up at p and ends in a *pointwise* MLP: what F says at p does not depend on which
other points are asked (the group normalisation of the published NeAR network made it so).

Source: Yang et al., Neural Annotation Refinement, MICCAI 2022, arXiv 2206.15328.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from near_monai.geometry.coordinates import sample, sample_axes
from near_monai.networks.convolution import Norm, convolution

#: A list, because that is what TorchScript has for any number of grids.
Code = list[torch.Tensor]


class PointwiseMLP(nn.Module):
    """MLP on the channel axis alone, with the input fed in again before layer ``skip_at``.

    Args:
        in_channels: channels of the input.
        hidden: widths of the hidden layers.
        skip_at: index of the hidden layer that also sees the input again; ``None`` for no skip.
        output_bias: start value of the last bias; -4.6 starts at an occupancy of 1 %.
        heads: number of outputs.
    """

    def __init__(
        self, in_channels: int, hidden: Sequence[int], skip_at: int | None, output_bias: float, heads: int = 1
    ) -> None:
        super().__init__()
        self.skip_at = -1 if skip_at is None else skip_at
        self.layers = nn.ModuleList()
        width = in_channels
        for index, out in enumerate(hidden):
            self.layers.append(nn.Linear(width + (in_channels if index == self.skip_at else 0), out))
            width = out
        self.last = nn.Linear(width, heads)
        nn.init.constant_(self.last.bias, output_bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``(..., in_channels)`` to logits ``(..., heads)``."""
        hidden = x
        for index, layer in enumerate(self.layers):
            if index == self.skip_at:
                hidden = torch.cat([hidden, x], -1)
            hidden = torch.relu_(layer(hidden))
        return self.last(hidden)


class OccupancyField(nn.Module):
    """The function F(z, p) -> occupancy logit.

    Args:
        code_channels: channels of each code grid, coarse to fine; grid ``s`` joins the decoder at level ``s``.
        level_channels: channels of the feature maps, coarse to fine. Level 0 has ``stem`` times the cells of the
            coarsest code per side, every further level twice the cells of the one before.
        stem: enlargement from the coarsest code to level 0 (4 for a single global cell, 1 for a local code).
        hidden: widths of the pointwise MLP.
        skip_at: hidden layer that sees the MLP's input again, or ``None``.
        coordinates: append the normalised p to the features. Only for codes that span a whole case: with local codes
            it would tie the shape to the place of the window.
        norm: normalisation of the decoder's convolutions, as MONAI names it. ``"batch"`` keeps F local when it is
            evaluated (a window gives what the whole gives); ``("group", ...)`` suits a batch of one.
        output_bias: start value of the last bias.
        heads: structures that F knows, one logit each.
        chunk: points are evaluated in chunks of this many, recomputed in the backward pass, so that memory stays flat.

    Example:
        >>> import torch
        >>> import near_monai
        >>> field = near_monai.OccupancyField()
        >>> code = [torch.zeros(1, 16, 4, 4, 4), torch.zeros(1, 8, 8, 8, 8)]
        >>> field(code, torch.zeros(1, 100, 3)).shape
        torch.Size([1, 1, 100])

    Source:
        Yang et al., Neural Annotation Refinement, MICCAI 2022, arXiv 2206.15328, but for the norm, see above.
    """

    def __init__(
        self,
        code_channels: Sequence[int] = (16, 8),
        level_channels: Sequence[int] = (32, 16),
        stem: int = 1,
        hidden: Sequence[int] = (32, 32),
        skip_at: int | None = None,
        coordinates: bool = False,
        norm: Norm = "batch",
        output_bias: float = -4.6,
        heads: int = 1,
        chunk: int = 65536,
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        self.heads = heads
        self.chunk = chunk
        self.levels = nn.ModuleList()
        self.ups = nn.ModuleList()
        width = 0
        for index, out in enumerate(level_channels):
            factor = stem if index == 0 else 2
            source = code_channels[0] if index == 0 else width
            # kernel = stride: every output cell has one parent, so nothing is mixed between channels and space
            self.ups.append(nn.ConvTranspose3d(source, out, factor, factor) if factor > 1 else nn.Identity())
            joined = (out if factor > 1 else source) + (code_channels[index] if 0 < index < len(code_channels) else 0)
            self.levels.append(
                nn.Sequential(
                    convolution(joined, out, norm),
                    convolution(out, out, norm),
                )
            )
            width = out
        in_channels = sum(level_channels) + (3 if coordinates else 0)
        self.mlp = PointwiseMLP(in_channels, hidden, skip_at, output_bias, heads)

    @torch.jit.export
    def features(self, code: Code) -> Code:
        """Decode ``code`` once; the result answers any number of points."""
        return self.fine_features(self.base_features(code), code)

    @torch.jit.export
    def base_features(self, code: Code) -> torch.Tensor:
        """Level 0 of :meth:`features`."""
        return self.levels[0](self.ups[0](code[0]))

    @torch.jit.export
    def fine_features(self, base: torch.Tensor, code: Code) -> Code:
        """All levels of :meth:`features`, given level 0: a box of it is enough for the points in that box."""
        maps = [base]
        for index, (up, level) in enumerate(zip(self.ups, self.levels)):  # noqa: B905  TorchScript has no strict
            if index > 0:
                current = up(maps[-1])
                maps.append(level(torch.cat([current, code[index]], 1) if index < len(code) else current))
        return maps

    def at(self, features: Code, points: torch.Tensor) -> torch.Tensor:
        """Logits ``(B, heads, N)`` at normalised ``points`` ``(B, N, 3)`` from decoded ``features``."""
        found = [sample(level, points) for level in features]
        if self.coordinates:
            found.append(points.transpose(1, 2))
        return self.mlp(torch.cat(found, 1).transpose(1, 2)).transpose(1, 2)

    @torch.jit.export
    def on_axes(self, features: Code, axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Logits ``(B, heads, I, J, K)`` on the regular grid of normalised ``axes``: equals :meth:`at`, much faster."""
        found = [sample_axes(level, axes) for level in features]
        if self.coordinates:
            found.append(_coordinates(axes, found[0]))
        return self.mlp(torch.cat(found, 1).movedim(1, -1)).movedim(-1, 1)

    def on_voxels(self, features: Code, shape: list[int]) -> torch.Tensor:
        """:meth:`on_axes` at the voxel centres of a grid of ``shape`` over the whole box; this form can be traced."""
        found = [F.interpolate(level, shape, mode="trilinear", align_corners=False) for level in features]
        if self.coordinates:
            lines = found[0][0, 0]
            axes = (_centres(lines[:, 0, 0]), _centres(lines[0, :, 0]), _centres(lines[0, 0, :]))
            found.append(_coordinates(axes, found[0]))
        return self.mlp(torch.cat(found, 1).movedim(1, -1)).movedim(-1, 1)

    def forward(self, code: Code, points: torch.Tensor) -> torch.Tensor:
        """Occupancy logits.

        Args:
            code: list of code grids, coarse to fine.
            points: ``(B, N, 3)`` normalised positions in the box that the code spans.

        Returns:
            ``(B, heads, N)`` logits.
        """
        features = self.features(code)
        if torch.jit.is_scripting():
            return torch.cat([self.at(features, part) for part in points.split(self.chunk, 1)], -1)
        else:
            return self._in_chunks(features, points)

    @torch.jit.unused
    def _in_chunks(self, features: Code, points: torch.Tensor) -> torch.Tensor:
        if points.shape[1] <= self.chunk:
            return self.at(features, points)
        parts = points.split(self.chunk, 1)
        if not torch.is_grad_enabled():
            return torch.cat([self.at(features, part) for part in parts], -1)
        return torch.cat([checkpoint(self.at, features, part, use_reentrant=False) for part in parts], -1)


def _centres(line: torch.Tensor) -> torch.Tensor:
    """Normalised coordinates of the voxels of a ``line`` of an image; made from it, so that they are where it is."""
    ones = torch.ones_like(line)
    return (2 * ones.cumsum(0) - 1) / ones.sum() - 1


def _coordinates(axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """``(B, 3, I, J, K)`` coordinates of a regular grid, as many times as ``like`` has batches."""
    i, j, k = axes
    lines = torch.stack(torch.meshgrid([i, j, k], indexing="ij")).to(like)
    return lines[None].expand(like.shape[0], -1, -1, -1, -1)
