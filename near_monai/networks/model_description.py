"""What weights are, in one description that goes wherever they go: into every file of weights and of codes.

It is data, read strictly: other people's files come with it, and their networks are built from it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

from near_monai.anatomy import Structure, row_of, structure_of
from near_monai.errors import NearError, some
from near_monai.geometry.working_space import WorkingSpace

#: What MONAI would take for an expression, a reference or a macro once it stands in a configuration.
MARKS = ("$", "@", "%")


@dataclass(frozen=True)
class Description:
    """What weights are.

    Attributes:
        structures: what F was trained to draw, in the order of its heads if it has one for each; the index of a
            structure is its usual number in a label map.
        space: the working space that it was trained in.
        network: definition of the network, see :mod:`near_monai.networks.definitions`.
        version: version of near_monai that trained it.
        training: how, and on whose data: ``data`` in words, counts of cases, settings.
        judge: what decides about joints and pieces, if it was trained with the weights; see
            :class:`near_monai.repair.judge.Judge`. ``None``: the shipped one.
        fingerprint: SHA-256 of the numbers, see :func:`near_monai.formats.tensor_files.fingerprint_of`.
    """

    structures: tuple[Structure, ...]
    space: WorkingSpace
    network: dict[str, Any]
    version: str
    training: dict[str, Any]
    fingerprint: str
    judge: dict[str, Any] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the structures."""
        return tuple(structure.name for structure in self.structures)

    def structure(self, name: str) -> Structure | None:
        """The structure called ``name``, as the weights were trained for it; None if they were not."""
        return next((structure for structure in self.structures if structure.name == name), None)

    def doubts(self, structure: Structure) -> list[str]:
        """Why the weights may not suit ``structure``, a line each; nothing if they were trained for it as it is."""
        if not self.structures:
            return ["nothing says which structure the weights are for; give the .safetensors of their run"]
        known = self.structure(structure.name)
        if known is None:
            return [f"the weights are for {some(self.names, 3)}, not for {structure.name}: is it the right file?"]
        if known.scale != structure.scale:
            scales = f"{known.scale:g}, not {structure.scale:g}"
            return [f"the weights were trained on {structure.name} at scale {scales}: the table must say the same"]
        return []

    def to_json(self) -> str:
        """Strict JSON, the same for the same description."""
        content = {
            "structures": [row_of(structure) for structure in self.structures],
            "space": asdict(self.space),
            "network": self.network,
            "version": self.version,
            "training": self.training,
            "fingerprint": self.fingerprint,
        }
        if self.judge is not None:
            content["judge"] = self.judge
        return json.dumps(content, allow_nan=False, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: object) -> Description:
        """Read :meth:`to_json`'s text, found in the file ``where``.

        Raises:
            NearError: something is missing, unknown, of another type or out of its range, or no plain value.
        """
        content = read_strict(text, where)
        try:
            return cls._checked(content)
        except (TypeError, ValueError, OverflowError) as error:
            reason = str(error).splitlines()[0]
            raise NearError(f"{where}: its description cannot be used ({reason}); get the file anew") from error

    @classmethod
    def _checked(cls, content: dict[str, Any]) -> Description:
        content = {"judge": None, **content}
        expect_keys(content, [field.name for field in fields(cls)])
        if not isinstance(content["judge"], dict | None):
            raise ValueError(f"judge: {str(content['judge'])[:80]!r}; expected a dict")
        for key, kind in {"structures": list, "network": dict, "version": str, "training": dict}.items():
            if not isinstance(content[key], kind):
                raise ValueError(f"{key}: {str(content[key])[:80]!r}; expected a {kind.__name__}")
        structures = tuple(structure_of(row) for row in content["structures"])
        names = [structure.name for structure in structures]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"structures: {names}; expected at least one, each with its own name")
        if not re.fullmatch("[0-9a-f]{64}", str(content["fingerprint"])):
            raise ValueError("fingerprint: expected 64 hexadecimal digits")
        return cls(
            structures,
            space_of(content["space"]),
            content["network"],
            content["version"],
            content["training"],
            content["fingerprint"],
            content["judge"],
        )


def read_strict(text: str, where: object) -> dict[str, Any]:
    """A JSON object of plain values, see :func:`check_plain`.

    Raises:
        NearError: it is something else; the message begins with ``where``.
    """
    try:
        content = json.loads(text, parse_constant=_no_constant)
        check_plain(content, where)
    except NearError:
        raise
    except (ValueError, RecursionError) as error:
        raise NearError(f"{where}: its description is not strict JSON; get the file anew") from error
    if not isinstance(content, dict):
        raise NearError(f"{where}: its description is a {type(content).__name__}; expected a JSON object")
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def check_plain(value: object, where: object) -> None:
    """Refuse whatever MONAI could take for more than a value: descriptions become parts of configurations.

    Raises:
        NearError: there is an expression, a number that is not finite, or something that is not JSON.
    """
    if isinstance(value, str) and value.startswith(MARKS):
        raise NearError(f"{where}: holds the expression {value[:80]!r}; expected plain values, it is not run")
    if isinstance(value, float) and not math.isfinite(value):
        raise NearError(f"{where}: holds the number {value}; expected finite numbers")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            check_plain(key, where)
            check_plain(inner, where)
    elif isinstance(value, list | tuple):
        for inner in value:
            check_plain(inner, where)
    elif value is not None and not isinstance(value, str | int | float):
        raise NearError(f"{where}: holds a {type(value).__name__}; expected plain values")


def expect_keys(content: Mapping[str, Any], wanted: list[str]) -> None:
    """Refuse a mapping that has not just the keys ``wanted``.

    Raises:
        ValueError: a key is missing or unknown.
    """
    for key in [*wanted, *content]:
        if (key in wanted) != (key in content):
            raise ValueError(f"{key}: {'is missing' if key in wanted else 'is unknown'}")


def space_of(row: object) -> WorkingSpace:
    """A working space from its three lengths.

    Raises:
        ValueError: there are not just these, or they are no lengths above 0.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"space: {str(row)[:80]!r}; expected a mapping")
    expect_keys(row, [field.name for field in fields(WorkingSpace)])
    for key, value in row.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise ValueError(f"space: {key} is {str(value)[:80]!r}; expected mm above 0")
    return WorkingSpace(**{key: float(value) for key, value in row.items()})
