"""Label files in a folder and in those below it, however people arrange them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from near_monai.data.run_layout import RESULT_FILES, RESULT_FOLDERS
from near_monai.errors import NearError
from near_monai.formats.label_maps import SUFFIXES, suffix_of

LABEL_FOLDER, TEST_FOLDER = "labelsTr", "labelsTs"
#: Folders of nnU-Net, MSD and TotalSegmentator, and the ending of BIDS, that say: this is a label map, not a scan.
MARKED_FOLDERS, MARKED_ENDING = (LABEL_FOLDER, TEST_FOLDER, "segmentations"), "_dseg"


def label_files(root: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """The label files in ``root`` and in the folders below it.

    Where some lie in folders that say so, or end in ``_dseg``, the others are scans and left out. Hidden files and
    folders are left out, and what near_monai wrote: folders with its records, and the by-products of a run. A link that
    leads nowhere is a file that cannot be read; links in a circle are followed once.

    Raises:
        NearError: a folder cannot be read.
    """
    found = [path for path in _files(root) if suffix_of(path) in suffixes]
    marked = [path for path in found if _is_marked(path.relative_to(root))]
    return sorted(marked or found)


def _is_marked(path: Path) -> bool:
    stem = path.name[: len(path.name) - len(suffix_of(path))]
    return stem.endswith(MARKED_ENDING) or any(part in MARKED_FOLDERS for part in path.parts[:-1])


def _files(root: Path) -> Iterator[Path]:
    waiting, seen = [root], {os.path.realpath(root)}
    while waiting:
        folder = waiting.pop()
        for path in _entries(folder):
            if not path.is_dir():
                if path.is_file() or path.is_symlink():
                    yield path
            elif (place := os.path.realpath(path)) not in seen and not _is_ours(path):
                seen.add(place)
                waiting.append(path)


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise NearError(f"{folder}: cannot be read ({error.strerror}); allow it, or move it away") from error


def _is_ours(folder: Path) -> bool:
    """Whether near_monai wrote a folder, or it holds the by-products of a run that wrote to the one above."""
    places = (folder, folder.parent) if folder.name in RESULT_FOLDERS else (folder,)
    return any((place / name).is_file() for place in places for name in RESULT_FILES)
