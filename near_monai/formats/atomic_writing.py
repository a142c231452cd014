"""Folders, text and JSON on disk; every file appears complete or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from filelock import FileLock, SoftFileLock, Timeout

from near_monai.errors import NearError

PART_PREFIX = ".near-"
#: A file is written in seconds: what has been half-written for so long was left by a killed process.
PART_AGE_S = 3600
#: What file systems say that have no locks.
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
#: Seconds to wait for a lock that is a file: one that a killed process left is passed by.
PATIENCE_S = 10.0


def claim_empty(folder: Path) -> None:
    """Refuse a target folder that holds anything.

    Raises:
        NearError: ``folder`` is a file, or not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NearError(f"{folder}: is not an empty folder; give a new one, so that nothing is overwritten")


def digest(settings: object) -> str:
    """16 hexadecimal digits that change with ``settings`` (as JSON)."""
    return hashlib.sha256(json.dumps(to_json(settings)).encode()).hexdigest()[:16]


def make_folder(folder: Path) -> None:
    """Make ``folder`` and those above it, if they are not there.

    Raises:
        NearError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NearError(f"{folder}: cannot be made ({error.strerror})") from error


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; the file appears complete or not at all (then a NearError says why)."""
    with replacing(Path(path)) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, obj: object) -> None:
    """Write :func:`to_json` of ``obj`` as :func:`write_text` does."""
    write_text(path, json.dumps(to_json(obj), indent=2, allow_nan=False) + "\n")


def to_json(obj: object) -> object:
    """``obj`` in types that strict JSON has: NaN and infinity become null; numpy values and paths convert."""
    if isinstance(obj, dict):
        return {str(key): to_json(value) for key, value in obj.items()}
    if isinstance(obj, np.ndarray | np.generic):
        return to_json(obj.tolist())
    if isinstance(obj, list | tuple):
        return [to_json(value) for value in obj]
    if isinstance(obj, Path):
        return str(obj)
    return None if isinstance(obj, float) and not np.isfinite(obj) else obj


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside ``path``; what is written there is moved into place.

    A link at ``path`` is replaced, not followed. The content is on disk before the name is: a power cut leaves no empty
    file.

    Raises:
        NearError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=PART_PREFIX, dir=path.parent) as folder:
            yield Path(folder) / path.name
            for part in sorted(Path(folder).iterdir(), key=lambda p: p.name == path.name):  # .raw before its .mhd
                with part.open("rb") as file:
                    os.fsync(file.fileno())
                part.replace(path.parent / part.name)
    except (OSError, RuntimeError) as error:  # ITK and torch raise RuntimeError
        raise NearError(f"{path}: cannot be written ({last_line(error)})") from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; where the file system has no locks, a file that is there or not stands for one.

    Raises:
        NearError: ``path`` cannot be written.
    """
    make_folder(path.parent)
    with ExitStack() as stack:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # newer versions of filelock fall back themselves, and say so
                stack.enter_context(FileLock(path))
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise NearError(f"{path}: cannot be locked ({error.strerror})") from error
            with suppress(Timeout):
                stack.enter_context(SoftFileLock(f"{path}.there", timeout=PATIENCE_S))
        yield


def sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in ``folder`` and below it, see :data:`PART_AGE_S`."""
    for part in folder.rglob(f"{PART_PREFIX}*/"):
        try:
            if time.time() - part.stat().st_mtime > PART_AGE_S:
                shutil.rmtree(part, ignore_errors=True)
        except FileNotFoundError:  # its process has just finished
            continue


def last_line(error: BaseException) -> str:
    """The last line of a message, which says what happened; the type of ``error`` if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
