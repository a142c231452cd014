"""What a heart labelling holds: names, expected pieces, fusion priority, neighbours. The only place that knows numbers.

The table is data (``anatomy.yaml``); another organ's table is a file of the same form, read with :func:`load`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from near_monai.errors import NearError


@dataclass(frozen=True)
class Structure:
    """One foreground class.

    Attributes:
        index: Its value in a label map, 1..255.
        name: Its name, unique in the table.
        components: At most so many connected pieces are expected.
        rank: Place in the fusion priority; 1 wins over all others.
        touches: Names of structures of which it has to touch at least one (empty: no rule).
    """

    index: int
    name: str
    components: int
    rank: int
    touches: tuple[str, ...]


@dataclass(frozen=True)
class Anatomy:
    """A table of structures."""

    structures: tuple[Structure, ...]

    def by_name(self, name: str) -> Structure:
        """The structure called ``name``.

        Raises:
            NearError: If there is none.
        """
        for structure in self.structures:
            if structure.name == name:
                return structure
        raise NearError(f"no structure called {name!r}; expected one of {', '.join(s.name for s in self.structures)}")

    def by_index(self, index: int) -> Structure | None:
        """The structure that label ``index`` stands for, or None if the table does not have it."""
        return next((s for s in self.structures if s.index == index), None)

    def rank(self, label: int) -> int:
        """Place of ``label`` in the fusion priority, 1 = wins over all; labels outside the table share the last."""
        structure = self.by_index(label)
        return structure.rank if structure else max(s.rank for s in self.structures) + 1

    def priority(self, labels: Iterable[int]) -> list[int]:
        """``labels`` sorted by fusion priority, winner first; labels outside the table come last, in their order."""
        return sorted(labels, key=self.rank)


def load(path: str | Path) -> Anatomy:
    """Read a table: a YAML list of mappings with the keys of :class:`Structure`.

    Raises:
        NearError: If the file is missing or malformed, an index, name or rank occurs twice, an index is not in 1..255,
            or a neighbour is not in the table.
    """
    path = Path(path)
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
        structures = tuple(_structure(row) for row in rows)
    except OSError as error:
        raise NearError(f"{path}: no anatomy table there ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, ValueError, KeyError) as error:
        keys = ", ".join(field.name for field in fields(Structure))
        raise NearError(f"{path}: expected a YAML list of mappings with exactly the keys {keys}") from error
    for key in ("index", "name", "rank"):
        values = [getattr(s, key) for s in structures]
        if len(set(values)) < len(values):
            raise NearError(f"{path}: every structure needs its own {key}; got {values}")
    names = {s.name for s in structures}
    for s in structures:
        if not 1 <= s.index <= 255:
            raise NearError(f"{path}: index {s.index} of {s.name}; expected 1..255")
        if not names.issuperset(s.touches):
            raise NearError(f"{path}: {s.name} touches {', '.join(s.touches)}; expected names from the same table")
    return Anatomy(structures)


def _structure(row: dict[str, Any]) -> Structure:
    numbers = {key: int(row[key]) for key in ("index", "components", "rank")}
    return Structure(**{**row, **numbers, "name": str(row["name"]), "touches": tuple(row["touches"])})


HEART = load(Path(__file__).with_name("anatomy.yaml"))
by_name = HEART.by_name
rank = HEART.rank
priority = HEART.priority
CORONARY = by_name("coronary").index
