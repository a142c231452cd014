"""Files known by what is in them, wherever they lie and whenever they were touched."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from near_monai.formats.atomic_writing import digest

#: Formats whose header may name another file that holds the voxels, and how it does.
DETACHED = (".mhd", ".nrrd", ".nhdr")
NAMES_DATA = re.compile(rb"^(?:ElementDataFile[ \t]*=|data ?file[ \t]*:)[ \t]*(.*)$", re.IGNORECASE | re.MULTILINE)
HEADER_BYTES = 1 << 20


def fingerprint(path: Path, settings: object = None) -> str:
    """16 hexadecimal digits that change with the bytes of a file and of its :func:`voxel_file`, or with ``settings``.

    Neither its name nor its times count; that it is gone is a state like any other.
    """
    voxels = voxel_file(path)
    return digest([settings, _hash(path), _hash(voxels) if voxels else None])


def voxel_file(path: Path) -> Path | None:
    """The file that holds the voxels of ``path`` by what its header says, if that is another one."""
    if path.suffix.lower() not in DETACHED:
        return None
    try:
        with path.open("rb") as file:
            header = re.split(rb"\r?\n\r?\n", file.read(HEADER_BYTES), maxsplit=1)[0]
        found = NAMES_DATA.search(header)
        named = path.parent / found[1].strip().decode() if found else path
        return named if named != path and named.is_file() else None
    except (OSError, ValueError):  # it is gone, or that is no name of a file
        return None


def _hash(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()
    except OSError:
        return None
