"""The report of a run: a page that needs no network, the cases that need a look first."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from near_monai.anatomy import Anatomy, table_of
from near_monai.data.run_layout import REPORT_FILE
from near_monai.errors import NearError, in_one_line
from near_monai.formats.atomic_writing import digest
from near_monai.review.case_pages import Cell, Column, Entry, drop_others, kept_of, write_case, write_index
from near_monai.review.edit_decisions import Decision, read_decisions
from near_monai.review.reviewed_run import ReviewedCase, read_run
from near_monai.review.shown_case import Counts, shown_case
from near_monai.runs.process_pool import in_processes
from near_monai.runs.run_records import DONE, Row
from near_monai.runs.shared_run import KILLED, processes_for
from near_monai.version import __version__

logger = logging.getLogger("near_monai")

ABOUT = (
    "{cases} cases of {source}, near_monai {version}, {started}; {failed} failed. Cases with warnings come first, then "
    "those with the largest share edited or undecided. A research tool, not for clinical use.",
    "Places are world mm (right, anterior and superior are positive). The noise of a label is how far its wall lies "
    "from where it should, on average, as the refinement sees it: careful annotations of coronary arteries have 0.03 "
    "to 0.045 mm, and the noisier a label, the more of it is changed.",
)
COLUMNS = (
    Column("Pieces", "descending", "before and after; sorted by those after"),
    Column("Volume mm³", "descending", "before and after; sorted by the relative change"),
    Column("Noise mm", "descending", "how far the wall of the label lies from where it should, on average"),
    Column("Edits", "descending", "places that were added, bridged or removed"),
    Column("Changed %", "descending", "share of the label that was edited or left undecided"),
    Column("Undecided", "descending", "places that were left alone, but look odd"),
    Column("Warnings", "descending"),
)
#: What decides how soon a person should look at a case, the larger the sooner, and its row of the index.
Found = tuple[tuple[float, float], Entry]


def write_report(folder: Path, quiet: bool = False) -> Path:
    """Write ``report.html``, and beside it in ``report/`` a file per case, into the folder of a run of ``refine``.

    Per case: three views before and after, a 3-D view, figures, every edit with its place in world mm and a box to
    reject it with, and places where F could not decide.

    Args:
        folder: folder of the run.
        quiet: no progress bar.

    Returns:
        The page.

    Raises:
        NearError: no run there, or the page cannot be written. A case that cannot be read is listed with the reason.
    """
    run, decisions = read_run(folder), read_decisions(folder)
    rows, page = run["cases"], folder / REPORT_FILE
    work = partial(draw_case, folder=folder, anatomy=_table(run["options"]["table"]))
    workers, one_thread = processes_for("cpu", len(rows)), partial(torch.set_num_threads, 1)
    jobs = in_processes(rows, lambda row: decisions.get(row["name"]), work, workers, one_thread)
    done = tqdm(jobs, desc="report", unit="case", total=len(rows), disable=quiet)
    found = [pair or _failed(row, [KILLED]) for row, pair in done]
    entries = [entry for _, entry in sorted(found, key=lambda pair: ([-n for n in pair[0]], pair[1].name))]
    drop_others(page, {entry.name for entry in entries if entry.shown})
    failed = sum(not entry.shown for entry in entries)
    said = {"cases": len(rows), "source": run["source"], "version": run["versions"]["near_monai"]}
    about = [text.format(**said, started=run["started"], failed=failed) for text in ABOUT]
    write_index(page, "Refined labels", str(folder), about, COLUMNS, entries, str(folder))
    return page


def _table(path: str | None) -> Anatomy:
    """The table of the run, for names and colours; the heart's if it is not there any more."""
    try:
        return table_of(path)
    except NearError as error:
        logger.warning("%s; names and colours are those of the heart's table", error)
        return table_of(None)


def draw_case(row: Row, decided: Decision | None, folder: Path, anatomy: Anatomy) -> Found:
    """Write what the page shows of one case, unless an earlier report did from the same files and decisions.

    Args:
        row: of ``run.json``.
        decided: what a person decided of it.
        folder: of the run.
        anatomy: names and colours.
    """
    trouble = []
    if decided is not None and decided.result not in row["written"].values():
        trouble = ["reviewed/ holds this case as it was reviewed in an earlier result: near-monai apply makes it anew."]
    if row["status"] != DONE:
        message = row.get("message", "not finished: it is being refined, or its process was killed")
        return _failed(row, [*trouble, message])
    page, case = folder / REPORT_FILE, ReviewedCase(folder, row)
    key = digest([__version__, row, decided and asdict(decided), repr(anatomy)])
    try:
        case.check()
        kept = kept_of(page, row["name"])
        if not kept or kept["key"] != key:
            details, counts = shown_case(case, decided, anatomy)
            write_case(page, details, kept := {"key": key, "counts": counts})
    except Exception as error:  # whatever it is: one bad case does not stop the others
        return _failed(row, [*trouble, str(error) if isinstance(error, NearError) else in_one_line(error)])
    return _finished(row, Counts(*kept["counts"]), [*trouble, *row["warnings"]])


def _failed(row: Row, trouble: Sequence[str]) -> Found:
    """A case without a result comes before all others."""
    unknown = [Cell("", math.nan)] * (len(COLUMNS) - 1)
    return (math.inf, 0.0), Entry(row["name"], (*unknown, Cell("; ".join(trouble), math.inf, trouble=True)), False)


def _finished(row: Row, shown: Counts, trouble: Sequence[str]) -> Found:
    """A case by its warnings, then by how much was edited or left undecided."""
    parts = row.get("structures", [row])
    pieces, volumes = (
        [sum(part[figure.format(when)] for part in parts) for when in ("before", "after")]
        for figure in ("components_{}", "volume_{}_mm3")
    )
    share = shown.touched_mm3 / volumes[0] if volumes[0] else math.inf
    change = volumes[1] / volumes[0] - 1 if volumes[0] else 0.0
    cells = (
        Cell("{} → {}".format(*pieces), pieces[1]),
        Cell("{:.0f} → {:.0f}".format(*volumes), abs(change), f"{change:+.1%}"),
        _number(max((part["noise_mm"] for part in parts), default=0.0), "{:.3f}"),
        _number(shown.edits, "{}", f"{shown.rejected} rejected" if shown.rejected else ""),
        Cell(f"{100 * share:.1f}", share) if volumes[0] else Cell("", math.nan),
        _number(shown.odd, "{}"),
        Cell("; ".join(trouble), len(trouble), trouble=bool(trouble)),
    )
    return (len(trouble) + shown.broken, share), Entry(row["name"], cells, True)


def _number(value: float, form: str, note: str = "") -> Cell:
    return Cell(form.format(value), value, note)
