"""A data set with refined labels in the layout that it had (MSD, nnU-Net), to take the place of the old one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from near_monai.cases import DESCRIPTION, find_cases
from near_monai.errors import NearError
from near_monai.storage import claim_empty, replacing, write_json
from near_monai.version import __version__


def exchange_labels(refined: Path, source: Path, output: Path) -> int:
    """Write the data set ``source`` anew with the labels of ``refined``.

    Labels are copied to where ``source`` has them, ``dataset.json`` keeps all that it says, with a note in its
    description, and everything else (images are gigabytes) is linked.

    Args:
        refined: folder of refined label maps, one for every case of ``source`` and of the same file name.
        source: folder with a ``dataset.json``.
        output: new folder.

    Returns:
        Number of cases.

    Raises:
        NearError: there is no ``dataset.json``, a case has no refined label, or ``output`` is not new
            or lies in ``source``.
    """
    source = Path(os.path.normpath(source))  # as the paths of its cases are
    description = source / DESCRIPTION
    if not description.is_file():
        raise NearError(f"{source}: holds no {DESCRIPTION}; expected an MSD or nnU-Net data set")
    cases = find_cases(source)
    missing = [case.file for case in cases if not (refined / case.file).is_file()]
    if missing:
        raise NearError(f"{refined}: no refined label for {len(missing)} of {len(cases)} cases: {', '.join(missing)}")
    if output.resolve().is_relative_to(source.resolve()):
        raise NearError(f"{output}: lies in {source}, which it is to replace; give a folder beside it")
    claim_empty(output)
    places = {case.file: case.label.relative_to(source) for case in cases}
    for file, place in places.items():
        with replacing(output / place) as part:
            shutil.copyfile(refined / file, part)
    own = {DESCRIPTION, *(place.parts[0] for place in places.values())}
    for other in source.iterdir():
        if other.name not in own and not other.name.startswith("."):
            _link(output / other.name, other)
    content = json.loads(description.read_text(encoding="utf-8-sig"))
    note = f"Labels refined by near_monai {__version__}."
    write_json(output / DESCRIPTION, content | {"description": f"{content.get('description', '')} {note}".strip()})
    return len(cases)


def _link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(os.path.relpath(target.resolve(), path.parent.resolve()))
    except OSError as error:
        raise NearError(f"{path}: cannot be made a link to {target} ({error.strerror}); copy it") from error
