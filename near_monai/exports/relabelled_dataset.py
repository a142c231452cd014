"""A data set with refined labels in the layout that it had (MSD, nnU-Net), to take the place of the old one."""

from __future__ import annotations

import glob
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from near_monai.data.case_lists import DESCRIPTION, Case, find_cases
from near_monai.data.failed_cases import Outcomes
from near_monai.data.fingerprints import voxel_file
from near_monai.data.folder_walk import LABEL_FOLDER
from near_monai.errors import NearError, printable, some
from near_monai.exports.undecided_places import Undecided
from near_monai.formats.atomic_writing import claim_empty, replacing, write_json
from near_monai.formats.label_maps import read_label, suffix_of, write_label
from near_monai.formats.voxel_values import values_in
from near_monai.version import __version__

IMAGE_FOLDER = "imagesTr"
#: What nnU-Net calls the label of voxels that no loss sees; its number must be the highest.
IGNORE = "ignore"
#: The largest label of a map of one byte per voxel.
LARGEST_BYTE = 255


def exchange_labels(refined: Path, source: Path, output: Path, sure: float | None = None) -> int:
    """Write the data set ``source`` anew with the labels of ``refined``.

    Labels are copied to where ``source`` has them, ``dataset.json`` keeps all that it says, with a note in its
    description, and everything else (images are gigabytes) is linked, or copied where there are no links. A case
    without a usable refined label is left out, with its images; images that ``source`` lists and lacks are named.

    Args:
        refined: folder of refined label maps, for the cases of ``source`` and of the same file names.
        source: folder with a ``dataset.json``.
        output: new folder.
        sure: voxels of which F is less sure than this, and others that are undecided (see
            :class:`near_monai.exports.undecided_places.Undecided`), get the label ``ignore``, which is the highest, as
            nnU-Net wants it. ``None``: no such label.

    Returns:
        Number of cases.

    Raises:
        NearError: there is no ``dataset.json``, ``output`` is not new or lies in ``source``, or a refined label is
            missing, damaged, on another grid than the old one or of other classes (the others are written then).
    """
    source = Path(os.path.normpath(source))  # as the paths of its cases are
    description = source / DESCRIPTION
    if not description.is_file():
        raise NearError(f"{source}: holds no {DESCRIPTION}; expected an MSD or nnU-Net data set")
    cases = find_cases(source)
    if output.resolve().is_relative_to(source.resolve()):
        raise NearError(f"{output}: lies in {source}, which it is to replace; give a folder beside it")
    claim_empty(output)
    content, outcomes = json.loads(description.read_text(encoding="utf-8-sig")), Outcomes()
    undecided = None if sure is None else Undecided(refined, sure)
    ignored = None if undecided is None else _ignore_label(content, description)
    for case in cases:
        with outcomes.of(case.name):
            new, target = _checked(refined / case.file, case.label, _classes(content)), case.label.relative_to(source)
            if undecided is None or ignored is None:
                _copy_label(new, output / target)
            else:
                _write_with_ignored(case.name, new, output / target, undecided, ignored, _classes(content))
            for image in sorted(_images_of(case, source, content)):
                if not image.is_file():
                    tqdm.write(printable(f"{case.name}: warning: its image {image} is not there"), file=sys.stderr)
    failed = [case for case in cases if case.name in outcomes.failed]
    if len(failed) < len(cases):
        images = {image for case in failed for image in _images_of(case, source, content)}
        _link_rest(source, output, {description, *images, *(path for case in cases for path in _files(case.label))})
        write_json(
            output / DESCRIPTION, _described(content, source, failed, len(cases)) | _with_ignored(content, ignored)
        )
    outcomes.check(len(cases))
    return len(cases)


def _checked(refined: Path, old: Path, classes: set[int]) -> Path:
    """A refined label that may take the place of the ``old`` one.

    Raises:
        NearError: it is not there or damaged, not on the grid of the old one, or holds what is none of ``classes`` nor
            a class of the old one.
    """
    if not refined.is_file():
        raise NearError(f"{refined}: no refined label there; the case is left out")
    new = read_label(refined)
    before = read_label(old)
    new.check_grid_of(before)
    found = values_in(new.array)
    if strangers := sorted(set(found) - {0} - classes - set(values_in(before.array))):
        raise NearError(
            f"{refined}: holds classes ({some([str(value) for value in strangers])}) that neither {old} nor the "
            f"{DESCRIPTION} has; give the label of this data set"
        )
    if found == [0]:
        tqdm.write(f"{refined}: warning: is empty", file=sys.stderr)
    return refined


def _classes(content: dict[str, Any]) -> set[int]:
    """The classes that a ``dataset.json`` names: as keys in MSD, as values, or regions of several, in nnU-Net."""
    named = content.get("labels")
    if not isinstance(named, dict):
        return set()
    values = [one for value in named.values() for one in (value if isinstance(value, list) else [value])]
    return {int(value) for value in [*named, *values] if str(value).isdecimal()}


def _ignore_label(content: dict[str, Any], where: Path) -> int:
    """The number of the label ``ignore``: the one that there is, or the next after all that are named.

    Raises:
        NearError: no class is named, or the label is not the highest, which nnU-Net refuses.
    """
    named, classes = content.get("labels"), _classes(content)
    if not isinstance(named, dict) or not classes - {0}:
        raise NearError(f"{where}: names no classes under 'labels'; expected them, for the number of the ignore label")
    known = named.get(IGNORE)
    if known is None:
        return max(classes) + 1
    if int(known) != max(classes):
        raise NearError(f"{where}: its label {IGNORE!r} is {known}; expected the highest number, {max(classes)}")
    return int(known)


def _with_ignored(content: dict[str, Any], ignored: int | None) -> dict[str, Any]:
    """``labels`` with the label ``ignore``, by name as in nnU-Net or by number as in MSD; nothing without one."""
    if ignored is None:
        return {}
    named = content["labels"]
    if "background" in named or IGNORE in named or not all(str(key).isdecimal() for key in named):
        return {"labels": named | {IGNORE: ignored}}
    return {"labels": named | {str(ignored): IGNORE}}


def _write_with_ignored(
    name: str, refined: Path, target: Path, undecided: Undecided, ignored: int, classes: set[int]
) -> None:
    """Write a refined label to its place, with the label ``ignored`` where it is undecided.

    Raises:
        NearError: see :meth:`near_monai.exports.undecided_places.Undecided.voxels`, or the number is in use.
    """
    label = read_label(refined)
    if unnamed := [value for value in values_in(label.array) if value >= ignored and value not in classes]:
        raise NearError(f"{refined}: holds class {unnamed[0]}, which the {DESCRIPTION} does not name; name it there")
    array = label.array.astype(np.uint16 if ignored > LARGEST_BYTE else label.array.dtype)
    array[undecided.voxels(name, label)] = ignored
    write_label(target, array, label)


def _copy_label(refined: Path, target: Path) -> None:
    """Copy a refined label to its place."""
    for path in _files(refined):
        with replacing(target.parent / (target.name if path == refined else path.name)) as part:
            shutil.copyfile(path, part)


def _files(path: Path) -> list[Path]:
    voxels = voxel_file(path)
    return [path, voxels] if voxels else [path]


def _link_rest(source: Path, output: Path, taken: set[Path]) -> None:
    """Link what is not ``taken``: whole folders, unless there is something in them that is."""
    for other in sorted(source.iterdir()):
        target = output / other.name
        if other.name.startswith(".") or other in taken:
            continue
        if other.is_dir() and any(path.is_relative_to(other) for path in taken):
            target.mkdir(exist_ok=True)
            _link_rest(other, target, taken)
        elif source.name != LABEL_FOLDER or not suffix_of(other):  # a label of no case would not be a refined one
            _link(target, other)


def _link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(os.path.relpath(target.resolve(), path.parent.resolve()))
    except (OSError, NotImplementedError, ValueError):  # a file system without links, or another drive
        try:
            (shutil.copytree if target.is_dir() else shutil.copyfile)(target, path)
        except OSError as error:
            raise NearError(f"{path}: cannot be a link to {target}, nor a copy ({error})") from error


def _entries(content: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every entry of the lists of cases, and which list it is in."""
    for name in ("training", "validation"):
        yield from ((name, entry) for entry in content.get(name) or [])


def _paths(entry: object, source: Path) -> set[Path]:
    """The files that an entry of a list names."""
    values = entry.values() if isinstance(entry, dict) else [entry]
    names = [name for value in values for name in (value if isinstance(value, list) else [value])]
    return {Path(os.path.normpath(source / name)) for name in names if isinstance(name, str)}


def _images_of(case: Case, source: Path, content: dict[str, Any]) -> set[Path]:
    """The images of a case: those that its entry names or, as in nnU-Net, those of its name in ``imagesTr``."""
    named = [paths for _, entry in _entries(content) if case.label in (paths := _paths(entry, source))]
    numbered = (source / IMAGE_FOLDER).glob(f"{glob.escape(case.name)}_[0-9][0-9][0-9][0-9].*")
    return {path for paths in named for path in paths} | set(numbered)


def _described(content: dict[str, Any], source: Path, failed: list[Case], total: int) -> dict[str, Any]:
    """``dataset.json`` without the cases that failed, of ``total``, and with a note of ours."""
    gone = {case.label for case in failed}
    lists: dict[str, list[Any]] = {name: [] for name, _ in _entries(content)}
    for name, entry in _entries(content):
        if not gone & _paths(entry, source):
            lists[name].append(entry)
    new: dict[str, Any] = dict(lists)
    if failed and "numTraining" in content:
        number = len(lists["training"]) if "training" in lists else total - len(failed)
        new["numTraining"] = type(content["numTraining"])(number)
    note = f"Labels refined by near_monai {__version__}."
    return content | new | {"description": f"{content.get('description', '')} {note}".strip()}
