"""What persons decided of the edits of a run: ``reviewed/review.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from near_monai.data.run_layout import REVIEW_FOLDER
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import write_json
from near_monai.review.undoable_edits import Edit

REVIEW_FILE = "review.json"


@dataclass(frozen=True)
class Rejected:
    """An edit that was taken back: what names it, and what it was.

    Attributes:
        identity: that of the edit, see :class:`near_monai.review.undoable_edits.Edit`.
        name: its name.
        kind: its kind.
        place: its centre in world mm.
        volume_mm3: its volume.
    """

    identity: str
    name: str
    kind: str
    place: list[float]
    volume_mm3: float

    @classmethod
    def of(cls, edit: Edit, place: list[float]) -> Rejected:
        """The record of an edit, whose centre is ``place`` in world mm."""
        return cls(edit.identity, edit.name, edit.kind, place, round(edit.volume_mm3, 3))

    def __str__(self) -> str:
        at = ", ".join(f"{x:g}" for x in self.place)
        return f"{self.name} ({self.kind}, {self.volume_mm3:g} mm3 at {at})"


@dataclass(frozen=True)
class Decision:
    """What was decided of a case, and of which result.

    Attributes:
        name: the case.
        result: fingerprint of the refined map that the reviewed one was made of.
        rejected: the edits that were taken back.
    """

    name: str
    result: str
    rejected: tuple[Rejected, ...]


def read_decisions(folder: Path) -> dict[str, Decision]:
    """By case what earlier reviews of the run in ``folder`` decided.

    Raises:
        NearError: the file that holds them is damaged.
    """
    path = folder / REVIEW_FOLDER / REVIEW_FILE
    if not path.is_file():
        return {}
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["cases"]
        found = [Decision(row["name"], row["result"], tuple(Rejected(**r) for r in row["rejected"])) for row in rows]
        return {str(decision.name): decision for decision in found}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NearError(f"{path}: is damaged; delete it to review anew") from error


def write_decisions(folder: Path, decisions: Iterable[Decision]) -> None:
    """Write what :func:`read_decisions` reads."""
    cases = sorted((asdict(decision) for decision in decisions), key=lambda row: str(row["name"]))
    write_json(folder / REVIEW_FOLDER / REVIEW_FILE, {"cases": cases})
