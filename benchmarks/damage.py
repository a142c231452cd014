"""Damage: file contents with random changes, and names and values that a hostile list may hold."""

from __future__ import annotations

import json
import random
from typing import Any

NAMES = (
    "",
    " ",
    ".",
    "..",
    "/",
    "../../a.nii.gz",
    "/etc/passwd",
    "/etc/a.nii.gz",
    "b.nii.gz",
    "ü.nii.gz",
    "a.nii.gz\n",
)
NAMES += (
    "x" * 300 + ".nii.gz",
    "\0.nii.gz",
    "loop.nii.gz",
    "a.nii.gz/",
    ".nii.gz",
    "~/a.nii.gz",
    "C:\\a.nii.gz",
    "\ud800.nii",
)
DEEP = "deep"
VALUES: tuple[Any, ...] = (None, DEEP, True, 0, -1, 1e400, 10**30, [], {}, [[]], "x", *NAMES)


def bent(chance: random.Random, content: bytes) -> bytes:
    """Some bits flipped, bytes replaced, or a part cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(min(len(data), chance.choice((400, 10**9)))) if data else 0
        action = chance.randrange(5)
        if action < 2 and data:
            data[at] ^= 1 << chance.randrange(8)
        elif action == 2 and data:
            data[at] = chance.choice((0, 255, 10, chance.randrange(256)))
        elif action == 3:
            del data[at : at + chance.choice((1, 4, 100, len(data)))]
        else:
            data[at:at] = data[at : at + chance.choice((1, 4, 100))]
    return bytes(data)


def mutated(chance: random.Random, value: Any) -> Any:
    """A JSON value with one part replaced, removed, doubled or nested."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(list(value))
        out = dict(value)
        if chance.random() < 0.15:
            del out[key]
        else:
            out[key] = mutated(chance, value[key])
        return out
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        part = [] if chance.random() < 0.1 else [mutated(chance, value[at])] * chance.choice((1, 1, 1, 2))
        return value[:at] + part + value[at + 1 :]
    return chance.choice(VALUES)


def dumped(value: Any) -> str:
    """JSON, ``DEEP`` as lists in lists beyond what Python can nest."""
    return json.dumps(value).replace(f'"{DEEP}"', "[" * 5000 + "]" * 5000)
