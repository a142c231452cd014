"""Realistic noise for coronary labels: all errors together, at one of a few named levels.

Used on the fly on training windows and for whole noisy phantoms. The error types and their sizes are those seen in real
labels and network outputs; the volume is kept on average (to a few per cent; single cases vary more), level 0 changes
nothing, and every call draws its own strength for every error type, so that a training set covers a range.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from numpy.typing import ArrayLike, NDArray

from near_monai.corruption.local_errors import FalseIsland, Gap, Leakage
from near_monai.corruption.lost_tips import LostTip
from near_monai.corruption.surface_errors import (
    BoundaryJitter,
    CalibreBias,
    Corruption,
    Field,
    HoleAndSpeck,
    SliceShift,
    Staircase,
    vessel_length,
)
from near_monai.errors import NearError
from near_monai.geometry.distance import signed_distance

__all__ = [
    "NOISE_LEVELS",
    "BoundaryJitter",
    "CalibreBias",
    "CorruptLabel",
    "CorruptLabeld",
    "Corruption",
    "FalseIsland",
    "Gap",
    "HoleAndSpeck",
    "Leakage",
    "LostTip",
    "SliceShift",
    "Staircase",
]

#: Errors that a whole label has in the same way; they look like anatomy.
SYSTEMATIC = (CalibreBias, Staircase)
NOISE_LEVELS = {"none": 0.0, "mild": 1 / 3, "moderate": 2 / 3, "severe": 1.0}


class CorruptLabel(Randomizable):
    """Noisy label of a clean field.

    Args:
        level: 0 (unchanged) to 1.5, or a name from :data:`NOISE_LEVELS`.
        errors: ``"all"``, or only ``"systematic"`` ones (wrong calibre, staircases: the whole label is wrong in one
            way) or only ``"random"`` ones (everything else).
        tubular: the structure is a vessel; others are not torn and lose no tips.

    Raises:
        NearError: unknown name, or a level outside [0, 1.5].

    Example:
        >>> import numpy as np
        >>> import near_monai
        >>> i, j, k = np.indices((24, 24, 80)) * 0.5
        >>> vessel = (np.hypot(i - 6, j - 6) - 1.5).astype(np.float32)
        >>> corrupt = near_monai.CorruptLabel("moderate").set_random_state(seed=0)
        >>> noisy = corrupt(vessel, spacing=(0.5, 0.5, 0.5))
        >>> noisy.shape, bool((noisy != (vessel < 0)).any())
        ((24, 24, 80), True)
    """

    def __init__(self, level: float | str = "moderate", errors: str = "all", tubular: bool = True) -> None:
        if errors not in ("all", "random", "systematic"):
            raise NearError(f"errors {errors!r} are unknown: use all, random or systematic")
        self.errors = errors
        self.tubular = tubular
        if isinstance(level, str) and level not in NOISE_LEVELS:
            raise NearError(f"noise level {level!r} is unknown: use one of {', '.join(NOISE_LEVELS)} or a number")
        self.level = NOISE_LEVELS[level] if isinstance(level, str) else float(level)
        if not 0.0 <= self.level <= 1.5:
            raise NearError(f"noise level must be within [0, 1.5], got {level}")

    def __call__(self, field: Field, spacing: ArrayLike) -> NDArray[np.bool_]:
        """Binary noisy label.

        Args:
            field: ``(X, Y, Z)`` float32 in mm, negative inside, truncated at 3 mm or more.
            spacing: ``(3,)`` voxel size in mm.

        Returns:
            ``(X, Y, Z)`` bool; ``field < 0`` at level 0 or without a vessel.
        """
        if self.level == 0.0 or not np.any(field < 0):
            return np.asarray(field < 0)
        for step in self._draw(vessel_length(field, spacing) / 10.0):
            step.set_random_state(state=self.R)
            field = step(field, spacing)
        return np.asarray(field < 0)

    def _draw(self, centimetres: float) -> list[Corruption]:
        """This call's errors. Places come before the jitter, so that cuts and islands get rough walls as well."""

        def strength() -> float:
            return self.level * float(self.R.uniform(0.5, 1.5))

        def count(per_centimetre: float) -> int:
            return int(self.R.poisson(per_centimetre * centimetres * strength()))

        steps: list[Corruption] = [
            CalibreBias(0.14 * strength(), share=0.25),
            LostTip(count=count(0.035)),
            Gap((1.5, 7.0), count=count(0.18)),
            Leakage(count=count(0.08)),
            FalseIsland((4.0, 100.0), count=count(0.08)),
            BoundaryJitter(0.4 * strength(), kept=self.R.uniform(0, 1)),
            SliceShift(0.1 * strength(), axis=None),
        ]
        if self.R.random_sample() < 0.15 * self.level:
            steps.append(Staircase())
        if self.R.random_sample() < 0.3 * self.level:
            steps.append(HoleAndSpeck(0.03 * strength()))
        if not self.tubular:
            steps = [step for step in steps if not isinstance(step, LostTip | Gap)]
        if self.errors == "all":
            return steps
        return [step for step in steps if isinstance(step, SYSTEMATIC) == (self.errors == "systematic")]


class CorruptLabeld(MapTransform, Randomizable):
    """Dictionary version of :class:`CorruptLabel` for label masks.

    Args:
        keys: masks ``(1, X, Y, Z)``, non-zero = vessel.
        level: see :class:`CorruptLabel`.
        spacing_key: key of the voxel size ``(3,)`` in mm; None reads it from the ``pixdim`` of a ``MetaTensor``.
        allow_missing_keys: see ``monai.transforms.MapTransform``.
    """

    def __init__(
        self,
        keys: KeysCollection,
        level: float | str = "moderate",
        spacing_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.corrupt = CorruptLabel(level)
        self.spacing_key = spacing_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Corrupt every mask; type, dtype and metadata stay.

        Raises:
            NearError: a mask is not ``(1, X, Y, Z)``, or its voxel size is unknown.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            mask = out[key]
            if mask.ndim != 4 or mask.shape[0] != 1:
                raise NearError(f"{key}: expected one channel (1, X, Y, Z), got shape {tuple(mask.shape)}")
            if self.spacing_key is None and not isinstance(mask, MetaTensor):
                raise NearError(f"{key}: a plain array has no voxel size; pass spacing_key or load it as a MetaTensor")
            spacing = np.asarray(mask.pixdim if self.spacing_key is None else out[self.spacing_key], np.float64)
            self.corrupt.set_random_state(state=self.R)
            noisy = self.corrupt(signed_distance(np.asarray(mask[0]), spacing), spacing)[None]
            if isinstance(mask, torch.Tensor):
                out[key] = torch.zeros_like(mask).copy_(torch.from_numpy(noisy))
            else:
                out[key] = noisy.astype(mask.dtype)
        return out
