"""The scale of a structure: F, and every limit in mm, is made for a structure as large as a coronary artery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, TypeVar


class Scalable(Protocol):
    """What has lengths."""

    def scaled(self, factor: float) -> Self:
        """The same with every length multiplied by ``factor``."""


T = TypeVar("T", bound=Scalable)


@dataclass(frozen=True)
class Scale:
    """How many times larger than a coronary artery a structure is: the way into its scale, and back to mm.

    Attributes:
        factor: so many times.
    """

    factor: float = 1.0

    def shrunk(self, thing: T) -> T:
        """A grid, or a record with lengths, of mm in the scale: as if the structure were a coronary artery."""
        return thing.scaled(1 / self.factor)

    def grown(self, thing: T) -> T:
        """What was found in the scale, in mm."""
        return thing.scaled(self.factor)

    def mm(self, length: float) -> float:
        """A length that is given in the scale, in mm."""
        return length * self.factor

    def mm3(self, volume: float) -> float:
        """A volume that is given in the scale, in mm^3."""
        return volume * self.factor**3


UNSCALED = Scale()
