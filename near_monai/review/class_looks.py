"""How classes look in pictures and scenes: a single one grey, several in pale colours of the anatomy table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from near_monai.anatomy import Anatomy
from near_monai.data.class_selection import OneClass, structure_in

#: Light grey.
PALE = 205


@dataclass(frozen=True)
class Look:
    """How a class looks.

    Attributes:
        label: the class.
        name: what it is; empty if it is the only one.
        colour: red, green, blue 0..255; ``None`` for grey.
        scale: how many times larger than a coronary artery it is, 1 if it is the only one.
    """

    label: OneClass
    name: str = ""
    colour: tuple[int, ...] | None = None
    scale: float = 1.0

    @property
    def css(self) -> str:
        """Its colour."""
        return f"rgb({', '.join(map(str, self.colour or ()))})"


def looks_of(labels: Sequence[OneClass], anatomy: Anatomy) -> list[Look]:
    """The looks of the classes of a map; changes of them are drawn in strong colours, and the classes in pale ones."""
    if len(labels) < 2:
        return [Look(label) for label in labels]
    return [_of_several(label, anatomy) for label in labels]


def _of_several(label: OneClass, anatomy: Anatomy) -> Look:
    structure = structure_in(label, anatomy)
    if structure is None:
        return Look(label, f"class {label}")
    pale = tuple((c + 2 * PALE) // 3 for c in structure.colour)
    return Look(label, structure.name, pale, structure.scale)
