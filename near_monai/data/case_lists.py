"""Which label maps a folder, data set description or file stands for."""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from near_monai.data.folder_walk import LABEL_FOLDER, TEST_FOLDER, label_files
from near_monai.data.shards import launched_shard
from near_monai.errors import NearError, some
from near_monai.formats.atomic_writing import last_line
from near_monai.formats.label_maps import SUFFIXES, suffix_of

logger = logging.getLogger("near_monai")

TRUTH_FOLDER, DESCRIPTION = "truthTr", "dataset.json"


@dataclass(frozen=True)
class Case:
    """One label map of a data set.

    Attributes:
        name: File name without the image suffix, with the folders below the data set's that it lies in
            (``"p1/seg"``); unique in the data set.
        label: Path of the label map.
        truth: Path of the true label map where the data set has one.
    """

    name: str
    label: Path
    truth: Path | None = None

    @property
    def file(self) -> str:
        """What a result of it is called, below the folder of results: see :func:`file_of`."""
        return file_of(self.name, self.label)


def file_of(name: str, label: Path) -> str:
    """File of case ``name``, with the suffix of its ``label`` as that is spelled."""
    return name + label.name[len(case_name(label)) :]


def case_name(path: str | Path) -> str:
    """File name without its image suffix: ``90.img.nii.gz`` becomes ``90.img``."""
    name = Path(path).name
    return name[: len(name) - len(suffix_of(path))]


def find_cases(source: str | Path, key: str = "label") -> list[Case]:
    """The label maps of ``source``, sorted by name.

    Args:
        source: One label file; a folder of them, with folders in it (see
            :func:`near_monai.data.folder_walk.label_files`); a folder with ``dataset.json``, ``labelsTr`` or
            ``labelsTs``; an MSD or nnU-Net ``dataset.json``; or a MONAI datalist (JSON with lists ``training`` and
            ``validation``). A folder ``truthTr`` beside ``labelsTr``, or the key ``truth`` in a datalist, gives the
            truth.
        key: Key of the label in the entries of a datalist.

    Raises:
        NearError: If nothing is found, a listed file is missing or (in a ``dataset.json``) outside the data set, two
            files have the same case name, or one has none, or one that is not UTF-8.
    """
    source = Path(source)
    if source.is_dir():
        cases = _from_folder(source, key)
    elif not source.exists():
        raise NearError(f"{source}: no such file or folder")
    elif source.suffix == ".json":
        cases = _from_json(source, key)
    elif suffix_of(source):
        cases = [Case(case_name(source), source)]
    else:
        raise NearError(f"{source}: expected a folder, a .json or one of {', '.join(SUFFIXES)}")
    if not cases:
        raise NearError(f"{source}: no label maps; expected files ending in {', '.join(SUFFIXES)}")
    nameless = [str(case.label) for case in cases if not case_name(case.label)]
    if nameless:
        raise NearError(f"{source}: {nameless[0]} has no name before its suffix; rename it")
    foreign = [case.name for case in cases if not _is_text(case.name)]
    if foreign:
        raise NearError(f"{source}: {foreign[0]!a} is no name in UTF-8, which other programs could read; rename it")
    counts = Counter(case.name for case in cases)
    double = [str(case.label) for case in cases if counts[case.name] > 1]
    if double:
        raise NearError(f"{source}: case names must differ, but these share one: {some(double)}")
    return sorted(cases, key=lambda case: case.name)


def _is_text(name: str) -> bool:
    """Whether a name of a file can be written down: bytes that are no UTF-8 cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def inference_items(dataset_dir: str) -> list[dict[str, str]]:
    """Items to refine: `image` (path of a label map) and `name`, for every case of ``dataset_dir``.

    Of several processes that a launcher started each takes its part, see :func:`near_monai.data.shards.launched_shard`.

    Raises:
        NearError: ``dataset_dir`` is empty or holds no label maps.
    """
    if not dataset_dir:
        raise NearError("no labels to refine: give --dataset_dir (a folder, a dataset.json, a datalist or one file)")
    cases, part = find_cases(dataset_dir), launched_shard()
    own = part.of(cases)
    if part.size > 1:
        logger.info(part.line(len(own), len(cases)))
    return [{"image": str(case.label), "name": case.name} for case in own]


def match_cases(pred: str | Path, truth: str | Path) -> list[tuple[str, Path, Path]]:
    """Pairs as :func:`find_pairs` finds them.

    Raises:
        NearError: If a truth has no prediction.
    """
    pairs, missing = find_pairs(pred, truth)
    if missing:
        count = len(pairs) + len(missing)
        raise NearError(f"{pred}: no prediction for {len(missing)} of {count} cases: {some(missing)}")
    return pairs


def find_pairs(pred: str | Path, truth: str | Path) -> tuple[list[tuple[str, Path, Path]], list[str]]:
    """Pair predictions with truth by case name; two single files pair whatever they are called.

    Args:
        pred: Predicted label maps, as for :func:`find_cases`; those without a truth are ignored.
        truth: True label maps, likewise; of a data set that has its own truth, that is taken.

    Returns:
        ``(name, prediction, truth)`` for every true label map, and the names of those that have no prediction.

    Raises:
        NearError: If there is nothing to pair.
    """
    listed = find_cases(truth)
    known = [(case.name, case.truth) for case in listed if case.truth is not None]
    targets = known or [(case.name, case.label) for case in listed]
    if suffix_of(pred) and suffix_of(truth) and Path(pred).is_file() and Path(truth).is_file():
        return [(name, Path(pred), path) for name, path in targets], []
    found = paired([name for name, _ in targets], find_cases(pred))
    missing = [name for name, _ in targets if name not in found]
    if not found:
        raise NearError(f"{pred}: no prediction for any of {len(targets)} cases, such as {some(missing, 3)}")
    return [(name, found[name].label, path) for name, path in targets if name in found], missing


def paired(names: Iterable[str], cases: Iterable[Case]) -> dict[str, Case]:
    """The case that belongs to each of ``names``, as far as there is one.

    That of the very name, or else the only one whose name differs in nothing but the spelling of its accents (macOS
    takes letters apart) and the ``.seg`` of 3D Slicer's files.

    Raises:
        NearError: several could be meant.
    """
    exact: dict[str, Case] = {}
    alike: defaultdict[str, list[Case]] = defaultdict(list)
    for case in cases:
        exact[case.name] = case
        alike[plain_name(case.name)].append(case)
    found: dict[str, Case] = {}
    for name in names:
        close = [exact[name]] if name in exact else alike[plain_name(name)]
        if len(close) > 1:
            raise NearError(f"case {name}: could be {some([str(case.label) for case in close])}; keep one of them")
        found.update((name, case) for case in close)
    return found


def plain_name(name: str) -> str:
    """A name of a case whatever spells its accents, and without the ``.seg`` of 3D Slicer's files."""
    return unicodedata.normalize("NFC", name).removesuffix(".seg")


def _from_folder(folder: Path, key: str) -> list[Case]:
    if (folder / DESCRIPTION).is_file():
        return _from_json(folder / DESCRIPTION, key)
    inner = [folder / name for name in (LABEL_FOLDER, TEST_FOLDER) if (folder / name).is_dir()]
    return _label_files(inner[0] if len(inner) == 1 else folder)


def _label_files(folder: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Case]:
    return [_below(folder, Case("", path, _truth_of(path))) for path in label_files(folder, suffixes)]


def _below(folder: Path, case: Case) -> Case:
    """``case`` named after where it lies below ``folder``."""
    return replace(case, name=(case.label.parent.relative_to(folder) / case_name(case.label)).as_posix())


def _truth_of(label: Path) -> Path | None:
    """The file at the same place in ``truthTr``, if ``label`` lies in ``labelsTr`` and it is there."""
    folder = next((folder for folder in label.parents if folder.name == LABEL_FOLDER), None)
    truth = folder.parent / TRUTH_FOLDER / label.relative_to(folder) if folder else None
    return truth if truth and truth.is_file() else None


def _from_json(path: Path, key: str) -> list[Case]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise NearError(f"{path}: not JSON ({last_line(error)})") from error
    if isinstance(content, dict) and "file_ending" in content and "training" not in content:
        return _from_nnunet(path, content)
    lists = [content.get(k, []) for k in ("training", "validation")] if isinstance(content, dict) else []
    if not any(lists) or not all(isinstance(entries, list) for entries in lists):
        raise NearError(f"{path}: expected a list 'training' (MSD, MONAI datalist) or 'file_ending' (nnU-Net)")
    cases = [_from_entry(path, entry, key) for entries in lists for entry in entries]
    if len({case.name for case in cases}) < len(cases) and all(c.label.is_relative_to(path.parent) for c in cases):
        return [_below(path.parent, case) for case in cases]  # p1/seg and p2/seg
    return cases


def _from_nnunet(path: Path, content: dict[str, Any]) -> list[Case]:
    ending = content["file_ending"]
    if ending not in SUFFIXES:
        raise NearError(f"{path}: file_ending {ending!r}; expected one of {', '.join(SUFFIXES)}")
    folder = path.parent / LABEL_FOLDER
    if not folder.is_dir():  # nnU-Net also leaves a dataset.json beside its predictions
        return _label_files(path.parent, (ending,))
    cases = _label_files(folder, (ending,))
    expected = content.get("numTraining", len(cases))
    if str(expected) != str(len(cases)):  # some write it as a text
        raise NearError(f"{path}: numTraining is {expected}, but {folder} holds {len(cases)} files {ending}")
    return cases


def _from_entry(path: Path, entry: object, key: str) -> Case:
    name = _only(entry.get(key)) if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(name, str):
        raise NearError(f"{path}: entry {str(entry)[:80]}; expected a mapping with the path of a label under {key!r}")
    label, true = _listed(path, name), _only(entry.get("truth"))
    truth = _listed(path, true) if isinstance(true, str) else _truth_of(label)
    return Case(case_name(label), label, truth)


def _only(value: object) -> object:
    """The item of a list of one: MONAI takes several files for the channels of one image."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _listed(description: Path, name: str) -> Path:
    """A file that ``description`` lists, relative to its folder; a dataset.json may not point outside (links may)."""
    folder = description.parent
    path = Path(os.path.normpath(folder / name))
    if description.name == DESCRIPTION and not path.is_relative_to(os.path.normpath(folder)):
        raise NearError(f"{description}: lists {name}, which is outside {folder}; use paths inside the data set")
    if not suffix_of(path):
        raise NearError(f"{description}: lists {name}; expected one of {', '.join(SUFFIXES)}")
    try:
        there = path.is_file()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise NearError(f"{description}: lists {name[:200]}, but there is no such file under {folder}")
    return path
