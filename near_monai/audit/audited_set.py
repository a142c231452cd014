"""The audit of a set: every case by itself, all cases against each other, the worst first. No label map is changed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from near_monai.anatomy import table_of
from near_monai.audit.audit_page import write_audited, write_page
from near_monai.audit.audited_case import audit_case
from near_monai.audit.expected_score import SCORES
from near_monai.audit.set_checks import Remark, said, set_remarks, set_weight
from near_monai.data.case_lists import Case, find_cases, find_pairs
from near_monai.data.fingerprints import fingerprint
from near_monai.data.run_layout import RUN_FILE
from near_monai.data.shards import Shard
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import digest, write_text
from near_monai.formats.label_maps import read_label
from near_monai.formats.text_tables import as_csv
from near_monai.networks.weight_files import identity, load_network, pick_device
from near_monai.refinement.many_files import head_of
from near_monai.refinement.options import Options
from near_monai.review.case_pages import case_file
from near_monai.runs.case_results import clear, written
from near_monai.runs.run_records import DONE, Kept, Row
from near_monai.runs.shared_run import KILLED, Task, attempted, run_cases, unfinished
from near_monai.version import __version__

AUDIT_FILE, TABLE_FILE, PAGE_FILE = "audit.json", "audit.csv", "audit.html"
#: What is wrong, in words: for the table, with places, and for the index of the page.
WORDS = ("reasons", "why")
#: What no audit can see; said wherever its figures are.
BLIND = (
    "An error that all maps share, such as a calibre that is always too large, cannot be seen: shape alone does not "
    "know it."
)


def audit_files(
    source: str | Path,
    output: str | Path,
    options: Options,
    truth: str | Path | None = None,
    quiet: bool = False,
    shard: tuple[int, int] | Shard = (0, 1),
    workers: int | None = None,
) -> Row:
    """Audit every label map of ``source``; one bad case does not stop the others.

    Cases that an earlier audit finished with the same options, from files of the same bytes, are not computed again.

    Args:
        source: see :func:`near_monai.data.case_lists.find_cases`.
        output: folder for ``audit.csv``, ``audit.json`` and ``audit.html``.
        options: which class, table and device.
        truth: true label maps, whose scores are given beside the expected ones.
        quiet: no progress bar.
        shard: see :func:`near_monai.refinement.many_files.refine_files`.
        workers: likewise.

    Returns:
        What ``audit.json`` holds: versions, options, ``cases`` (see :func:`near_monai.audit.audited_case.audit_case`),
        and under ``worst_first`` the names of the cases with ``fit``, what does not fit the rest of the set.

    Raises:
        NearError: no cases, an unusable table or device, no truth for any case, or ``output`` holds a refinement.
    """
    cases, output, part = find_cases(source), Path(output), Shard(*shard)
    if (output / RUN_FILE).exists():
        raise NearError(f"{output}: holds results of near-monai refine; give another folder for the audit")
    for kept in (_network, _anatomy):
        kept.cache_clear()  # the files may have changed since an earlier run
    true = _truths(source, truth)
    device = str(pick_device(options.device))
    settings = {
        "version": __version__,
        "audit": [options.label, options.structure],
        "weights_and_table": identity(None, _anatomy(options.table)),
        "truth": digest([[name, fingerprint(path)] for name, path in sorted(true.items())]),
    }
    work = partial(_audit, output=output, options=options, device=device, truth=true)
    head = head_of(source, options, device) | {"note": BLIND}
    kept_here = Kept(AUDIT_FILE, PAGE_FILE, _results, _completed)
    task = Task("audit", head, settings, device, work, partial(_killed, output=output), kept_here)
    return run_cases(task, cases, output, part, workers, quiet)


def _truths(source: str | Path, truth: str | Path | None) -> dict[str, Path]:
    """True maps by the names of the cases."""
    if truth is None:
        return {}
    pairs, _ = find_pairs(source, truth)
    by_path = {str(path): true for _, path, true in pairs}
    return {case.name: by_path[str(case.label)] for case in find_cases(source) if str(case.label) in by_path}


def _audit(
    case: Case, known: dict[str, str] | None, output: Path, options: Options, device: str, truth: Mapping[str, Path]
) -> Row:
    """The row of one case."""

    def make() -> Row:
        clear(case, output, None, _results)
        networks, anatomy = partial(_network, device=device), _anatomy(options.table)
        file = read_label(case.label)
        row = audit_case(file, options, networks, anatomy, truth.get(case.name))
        write_audited(output / PAGE_FILE, case.name, row, file, anatomy)
        return row | {"written": written(case, output, _results)}

    return attempted(case, output, "audited; audit it again", make, partial(clear, case, output, None, _results))


def _results(case: Case) -> tuple[str, ...]:
    """The one file of a case, relative to the folder of the audit."""
    return (case_file(PAGE_FILE, case.name),)


def _killed(case: Case, output: Path) -> Row:
    clear(case, output, None, _results)
    return unfinished(case, output) | {"message": KILLED}


_network = cache(load_network)
_anatomy = cache(table_of)


def _completed(folder: Path, run: Row) -> Row:
    """``run`` with what its cases say together; its table and page are written."""
    done = {row["name"]: row["geometry"] for row in run["cases"] if row["status"] == DONE and row["geometry"]}
    remarks = set_remarks(done) if done else {}
    order = sorted(run["cases"], key=lambda row: badness(row, remarks.get(row["name"], [])), reverse=True)
    run |= {
        "worst_first": [row["name"] for row in order],
        "fit": {name: [asdict(remark) for remark in said(found)] for name, found in remarks.items() if said(found)},
    }
    lines = [line for row in order for line in table_rows(row, remarks.get(row["name"], []))]
    table = [{key: value for key, value in line.items() if key != "why"} for line in lines]
    columns = [*dict.fromkeys(key for line in table for key in line if key != "reasons"), "reasons"]  # the longest last
    write_text(folder / TABLE_FILE, as_csv(table, columns))
    write_page(folder / PAGE_FILE, run, lines)
    return run


def badness(row: Row, remarks: Sequence[Remark]) -> tuple[float, float]:
    """The larger, the sooner a person should look: cannot be read, does not fit the set, low expected Dice."""
    if row["status"] != DONE or not row["structures"]:
        return (math.inf, 0.0)
    weight = set_weight(remarks)
    worst = min(part["expected"]["dice"][0] for part in row["structures"])
    return (weight if weight >= 1 else 0.0, 1 - worst)


def table_rows(row: Row, remarks: Sequence[Remark]) -> list[Row]:
    """The lines of a case in the table and on the page, one per structure."""
    unfit = [remark.text for remark in said(remarks)]
    empty: Row = {"case": row["name"], "structure": "", "unfit": round(set_weight(remarks), 2)}
    if row["status"] != DONE:
        message = row.get("message", "not finished: it is being audited, or its process was killed")
        return [empty | dict.fromkeys(WORDS, message)]
    if not row["structures"]:
        return [empty | dict.fromkeys(WORDS, "; ".join(row["warnings"]))]
    return [empty | _line(part, unfit) for part in row["structures"]]


def _line(part: Row, unfit: Sequence[str]) -> Row:
    """One structure's columns."""
    line: Row = {"structure": part["structure"]}
    for score in SCORES:
        expected, low, high = part["expected"][score]
        line |= {f"{score}_expected": expected, f"{score}_low": low, f"{score}_high": high}
        if "true" in part:
            line[f"{score}_true"] = part["true"][score]
    line |= {key: part[key] for key in ("volume_mm3", "noise_mm")} | {"pieces": part["components"]}
    line["calibrated"] = "yes" if part["calibrated"] else "no"
    for words, key in zip(WORDS, ("text", "what"), strict=True):
        line[words] = "; ".join([*unfit, *(reason[key] for reason in part["reasons"])])
    return line


def summary_of(run: Row, output: Path) -> str:
    """What came of an audit, and where to look."""
    done: list[Any] = [row for row in run["cases"] if row["status"] == DONE]
    line = f"{len(done)} of {run['of']} cases audited, {len(run['fit'])} do not fit the set; nothing was changed"
    worst = ", ".join(run["worst_first"][:3])
    return f"{line}\nworst: {worst}; look at {output / PAGE_FILE}" if done else line
