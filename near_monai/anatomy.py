"""What a heart labelling holds: names, expected pieces, fusion priority, neighbours. The only place that knows numbers.

The table is data (``anatomy.yaml``); another organ's table is a file of the same form, read with :func:`load`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from near_monai.errors import NearError
from near_monai.geometry.scale import Scale

#: Label maps hold at most 16 bits per voxel.
LARGEST = 65535


class Trust(NamedTuple):
    """How far F is trusted against a label, by the label's estimated noise.

    See :func:`near_monai.repair.mask_repair.noise_of`.

    Attributes:
        clean_mm: a label with no more noise than this is clean ...
        noisy_mm: ... and from this on F alone decides. Both in the scale of the structure.
        caution: to change a voxel of a clean label F must be this much surer than 0.5 (0.5: it never is).
        known_mm: a noisier label is beyond what F was trained on, and stays as it is.
    """

    clean_mm: float
    noisy_mm: float
    caution: float
    known_mm: float = float("inf")


#: For the shipped function of everything but coronaries, see ``anatomy.yaml``.
ORGAN_TRUST = Trust(0.015, 0.03, 0.25, 0.2)


@dataclass(frozen=True)
class Structure:
    """One foreground class.

    Attributes:
        index: Its value in a label map, 1..65535.
        name: Its name, unique in the table.
        components: At most so many connected pieces are expected.
        rank: Place in the fusion priority; 1 wins over all others.
        touches: Names of structures of which it has to touch at least one (empty: no rule).
        near: "Touching" is up to so many mm, at least a voxel.
        scale: It is refined as if it were this many times smaller: every length in mm of the working space, of the
            corruption and of the repair is for coronaries, and times this for the structure.
        tubular: A vessel: it can be torn, and torn-off pieces are joined by tubes.
        weights: File of the weights that refine it, in the bundle's ``models``.
        trust: How far its function is trusted against a label.
        threshold: F's probability from which a point belongs to it.
        colour: Red, green and blue, 0..255, for viewers.
    """

    index: int
    name: str
    components: int
    rank: int
    touches: tuple[str, ...] = ()
    near: float = 0.0
    scale: float = 2.0
    tubular: bool = False
    weights: str = "organs.safetensors"
    trust: Trust = ORGAN_TRUST
    threshold: float = 0.5
    colour: tuple[int, int, int] = (128, 128, 128)

    @property
    def size(self) -> Scale:
        """The way into its scale, and back to mm."""
        return Scale(self.scale)


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

    def knows(self, array: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which voxels of a label map belong to a class of the table."""
        known = np.zeros_like(array, bool)  # in the same order of memory
        for structure in self.structures:  # a lookup would need eight bytes per voxel
            known |= array == structure.index
        return known

    def name(self, label: int) -> str:
        """Name of class ``label``, or its number if the table does not have it."""
        structure = self.by_index(label)
        return structure.name if structure else f"class {label}"

    def rank(self, label: int) -> int:
        """Place of ``label`` in the fusion priority, 1 = wins over all; labels outside the table share the last."""
        structure = self.by_index(label)
        return structure.rank if structure else max(s.rank for s in self.structures) + 1

    def priority(self, labels: Iterable[int]) -> list[int]:
        """``labels`` sorted by fusion priority, winner first; labels outside the table come last, in their order."""
        return sorted(labels, key=self.rank)


def load(path: str | Path) -> Anatomy:
    """Read a table: a YAML list of mappings with the keys of :class:`Structure`; the first four are needed.

    Raises:
        NearError: If the file is missing or malformed, an index, name or rank occurs twice, an index is not in
            1..65535, or a neighbour is not in the table.
    """
    path = Path(path)
    try:
        structures = tuple(_structure(row) for row in _rows(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise NearError(f"{path}: no anatomy table there ({error.strerror})") from error
    except (TypeError, ValueError, OverflowError, AttributeError, RecursionError) as error:
        keys = [field.name for field in fields(Structure)]
        raise NearError(
            f"{path}: expected a YAML list of mappings with the keys {', '.join(keys[:4])} and, if wanted, "
            f"{', '.join(keys[4:])} ({str(error).splitlines()[0]})"
        ) from error
    for key in ("index", "name", "rank"):
        values = [getattr(s, key) for s in structures]
        if len(set(values)) < len(values):
            raise NearError(f"{path}: every structure needs its own {key}; got {values}")
    names = {s.name for s in structures}
    for s in structures:
        if not 1 <= s.index <= LARGEST:
            raise NearError(f"{path}: index {s.index} of {s.name}; expected 1..{LARGEST}")
        if not names.issuperset(s.touches):
            raise NearError(f"{path}: {s.name} touches {', '.join(s.touches)}; expected names from the same table")
    if not structures:
        raise NearError(f"{path}: an empty table; expected at least one structure")
    return Anatomy(structures)


def _rows(text: str) -> Any:
    """What a table says. Every JSON is YAML; a packed bundle's table is JSON, which needs no library."""
    try:
        return json.loads(text)
    except ValueError:
        import yaml
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def structure_of(row: Mapping[str, Any], where: str = "structure") -> Structure:
    """One row of a table, as :func:`row_of` gives it or a person writes it.

    Raises:
        NearError: a key is missing or unknown, or a value is of another type or out of its range.
    """
    try:
        return _structure(row)
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise NearError(f"{where}: {str(error).splitlines()[0]}; expected the keys of an anatomy table") from error


def row_of(structure: Structure) -> dict[str, Any]:
    """A structure as plain values: what :func:`structure_of` reads. Where its weights lie is not a part of it."""
    row: dict[str, Any] = json.loads(json.dumps(asdict(structure)))
    row["trust"] = [value for value in structure.trust if math.isfinite(value)]  # that all is known goes without saying
    del row["weights"]
    return row


def _structure(row: Mapping[str, Any]) -> Structure:
    """One row, its values checked and turned into the types of :class:`Structure`."""
    for key in row:
        if key not in _TURN:
            raise ValueError(f"no structure has the key {key!r}")
    structure = Structure(**{key: _TURN[key](key, value) for key, value in row.items()})
    if structure.components < 1 or structure.near < 0 or structure.scale <= 0:
        raise ValueError(f"{structure.name}: components at least 1, near at least 0 and scale above 0")
    if not 0 < structure.threshold < 1:
        raise ValueError(f"{structure.name}: threshold {structure.threshold}; expected a number between 0 and 1")
    return structure


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key}: {value!r}; expected a whole number")
    return value


def _number(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key}: {value!r}; expected a number")
    return float(value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key}: {value!r}; expected a word")
    return value


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{key}: {value!r}; expected true or false")
    return value


def _names(key: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise ValueError(f"{key}: {value!r}; expected a list of names")
    return tuple(_text(key, name) for name in value)


def _trust(key: str, value: Any) -> Trust:
    trust = Trust(*(_number(key, v) for v in value))
    if not 0 <= trust.clean_mm < trust.noisy_mm <= trust.known_mm or not 0 <= trust.caution <= 0.5:
        raise ValueError(
            f"{key}: {value!r}; expected noise of clean and of noisy labels, rising, and a caution up to 0.5; if "
            "wanted also the most noise that is known"
        )
    return trust


def _colour(key: str, value: Any) -> tuple[int, int, int]:
    red, green, blue = (_whole(key, v) for v in value)
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise ValueError(f"{key}: {value!r}; expected three numbers 0..255")
    return red, green, blue


_TURN: dict[str, Callable[[str, Any], Any]] = {
    "index": _whole,
    "name": _text,
    "components": _whole,
    "rank": _whole,
    "touches": _names,
    "near": _number,
    "scale": _number,
    "threshold": _number,
    "tubular": _flag,
    "weights": _text,
    "trust": _trust,
    "colour": _colour,
}

HEART = load(Path(__file__).with_name("anatomy.yaml"))


def table_of(path: str | Path | None) -> Anatomy:
    """The table in a file, see :func:`load`; the heart's if none is named."""
    return load(path) if path else HEART


by_name = HEART.by_name
rank = HEART.rank
priority = HEART.priority
#: What a label is taken for where nothing says what it is: a coronary tree.
VESSEL = by_name("coronary")
CORONARY = VESSEL.index
