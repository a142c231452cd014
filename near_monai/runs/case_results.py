"""What refinement leaves of a case, and where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from near_monai.data.case_lists import Case
from near_monai.data.fingerprints import fingerprint, voxel_file
from near_monai.data.run_layout import BRIDGE_FOLDER, CODE_FOLDER, PROBABILITY_FOLDER, REPLACED_FOLDER
from near_monai.formats.tensor_files import SUFFIX


def folders(output: Path) -> tuple[Path, ...]:
    """Every folder that refinement into ``output`` writes to."""
    return output, *(output / name for name in (CODE_FOLDER, PROBABILITY_FOLDER, BRIDGE_FOLDER))


def results_of(case: Case) -> tuple[str, ...]:
    """Every file that refinement may write of a case, relative to the folder of the run, the label map first."""
    return (
        case.file,
        f"{CODE_FOLDER}/{case.name}{SUFFIX}",
        f"{PROBABILITY_FOLDER}/{case.file}",
        f"{BRIDGE_FOLDER}/{case.file}",
    )


def written(case: Case, output: Path, results: Callable[[Case], tuple[str, ...]] = results_of) -> dict[str, str]:
    """Fingerprints of those of its ``results`` that are there of a case."""
    return {name: fingerprint(output / name) for name in results(case) if (output / name).is_file()}


def clear(
    case: Case,
    output: Path,
    known: dict[str, str] | None,
    results: Callable[[Case], tuple[str, ...]] = results_of,
) -> list[Path]:
    """Take away what is there of a case: nothing may pass for the result of the run that begins.

    Args:
        case: the case.
        output: folder of the run.
        known: fingerprints of the files as the last run wrote them. Those are removed; what is not so any more, because
            somebody has changed it, is moved to ``replaced/``. ``None``: remove all, a killed run wrote them.
        results: its files, relative to ``output``.

    Returns:
        Where files were moved to.

    Raises:
        OSError: something cannot be moved or removed.
    """
    moved = []
    for name in results(case):
        path = output / name
        if not path.is_file():
            continue
        state = fingerprint(path)
        voxels = voxel_file(path)
        own = [voxels] if voxels and voxels.with_suffix("") == path.with_suffix("") else []
        for part in (path, *own):
            if known is None or known.get(name) == state:
                part.unlink()
                continue
            target = output / REPLACED_FOLDER / state[:8] / part.relative_to(output)
            target.parent.mkdir(parents=True, exist_ok=True)
            moved.append(part.replace(target))
    return moved
