"""Networks from definitions: mappings with ``_target_``, as MONAI writes them, of classes that stand in one table.

Weights come from other people, and so do their definitions. What one may name is in the table below and nowhere else:
no module is looked up, imported or asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from near_monai.errors import NearError
from near_monai.names import public_name
from near_monai.networks.code_table import CodeTable
from near_monai.networks.encoder import CodeEncoder
from near_monai.networks.field import OccupancyField
from near_monai.networks.network import NearNetwork

TARGET = "_target_"


#: What a definition may name.
_CLASSES: dict[str, type[nn.Module]] = {
    public_name(kind): kind for kind in (NearNetwork, CodeEncoder, CodeTable, OccupancyField)
}


def register(*kinds: type[nn.Module]) -> None:
    """Let definitions name further classes, for the process that calls this: sources of z, and fields."""
    _CLASSES.update((public_name(kind), kind) for kind in kinds)


def build_network(definition: object, where: object) -> NearNetwork:
    """The network that ``definition`` describes, with random weights.

    Raises:
        NearError: it names something that is not in the table, or arguments that its classes do not take; the message
            begins with ``where``.
    """
    try:
        network = _build(definition, where)
    except NearError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, ArithmeticError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise NearError(f"{where}: does not describe a network ({reason[:160]})") from error
    except (RecursionError, MemoryError) as error:
        raise NearError(f"{where}: does not describe a network of a sensible size") from error
    if not isinstance(network, NearNetwork):
        raise NearError(f"{where}: describes a {type(network).__name__}; expected {public_name(NearNetwork)}")
    return network


def _build(value: object, where: object) -> Any:
    if isinstance(value, Mapping):
        built = {key: _build(inner, where) for key, inner in value.items() if key != TARGET}
        if TARGET not in value:
            return built
        target = value[TARGET]
        if not isinstance(target, str) or target not in _CLASSES:
            raise NearError(
                f"{where}: names {str(target)[:80]!r}, which no description may; it is not run. "
                f"Expected one of {', '.join(_CLASSES)}"
            )
        return _CLASSES[target](**built)
    return [_build(inner, where) for inner in value] if isinstance(value, list | tuple) else value
