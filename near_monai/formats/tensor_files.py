"""Named tensors in a file (safetensors), with a text that says what they are. Reading runs no code.

The format has no checksum: the text is kept with one, and holds that of the tensors wherever they matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from near_monai.errors import NearError
from near_monai.formats.atomic_writing import replacing

State = Mapping[str, torch.Tensor]

SUFFIX = ".safetensors"
#: Key of the text, after its SHA-256 and a blank, in the metadata of the file. One key: of several the order is random.
KEY = "near_monai"
#: What safetensors and torch raise on damaged files.
READ_ERRORS = (SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError)


def fingerprint_of(state: State) -> str:
    """SHA-256 of the names, types, shapes and bytes of all tensors: of the numbers, not of the file."""
    found = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def tensor_bytes(tensors: State, text: str) -> bytes:
    """The file: the same tensors and text make the same bytes."""
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    return bytes(save(plain, {KEY: f"{_check(text)} {text}"}))


def write_tensors(path: str | Path, tensors: State, text: str) -> None:
    """Write :func:`tensor_bytes`, complete or not at all."""
    with replacing(Path(path)) as part:
        part.write_bytes(tensor_bytes(tensors, text))


def read_tensors(path: str | Path, expected: str) -> tuple[dict[str, torch.Tensor], str]:
    """Tensors and text of a file.

    Raises:
        NearError: it is missing, damaged, or not one of ours; the message says what was ``expected``.
    """
    text = read_text(path, expected)
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, text  # noqa: SIM118  # no mapping
    except READ_ERRORS as error:
        raise _unreadable(path, expected) from error


def read_text(path: str | Path, expected: str) -> str:
    """The text of a file alone; errors are those of :func:`read_tensors`."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except READ_ERRORS as error:
        raise _unreadable(path, expected) from error
    check, _, text = str(metadata.get(KEY, "")).partition(" ")
    if check != _check(text):
        raise _unreadable(path, expected)
    return text


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _unreadable(path: str | Path, expected: str) -> NearError:
    return NearError(f"{path}: missing, damaged, or not what near_monai writes; expected {expected}")


def is_tensor_file(path: str | Path) -> bool:
    """Whether a file is of this format by its content: the length of a JSON header, and the header."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return False
