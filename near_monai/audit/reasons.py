"""Why a label is probably wrong, in plain words, and where to look."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from near_monai.audit.seen_label import Seen
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import FloatArray
from near_monai.repair.findings_to_check import Piece, beyond_wall, listed_pieces
from near_monai.repair.mask_repair import LEFT, PART_LEFT

#: Places that are named per reason.
MOST_PLACES = 3
#: A wall is called rough from this noise in mm on; careful annotations have 0.03 to 0.045.
ROUGH_MM = 0.07
#: Slices equal to their neighbours, as a share of the label; generated trees have none.
EQUAL = 0.25
#: A calibre jumps where it is this much (natural logarithm) off its mean over 10 mm.
JUMP = 0.6
#: An end is blunt if it is as thick as this share of the vessel behind it, and has at least this radius in mm.
BLUNT, BLUNT_MM = 0.95, 1.1

#: From mm in the scale of the structure to world mm.
ToWorld = Callable[[FloatArray], Sequence[float]]


@dataclass(frozen=True)
class Reason:
    """One reason.

    Attributes:
        kind: ``"empty"``, ``"beyond"``, ``"torn"``, ``"islands"``, ``"leaks"``, ``"missing"``, ``"rough"``,
            ``"staircase"``, ``"tips"``, ``"calibre"`` or ``"foreign"``.
        what: in words.
        places: ``[x, y, z]`` each, in world mm.
        more: whether there are more places than these.
    """

    kind: str
    what: str
    places: tuple[tuple[float, ...], ...] = ()
    more: bool = False

    @property
    def text(self) -> str:
        """In words, with places."""
        words = "; ".join("({:g}, {:g}, {:g})".format(*place) for place in self.places)
        return f"{self.what}{', such as' if self.more else ''} at {words} mm" if words else self.what

    def to_row(self) -> dict[str, Any]:
        """As plain values."""
        return {"kind": self.kind, "what": self.what, "text": self.text, "places": self.places}


def reasons_of(
    seen: Seen, figures: Mapping[str, float], row: Mapping[str, Any], scale: float, to_world: ToWorld
) -> list[Reason]:
    """Reasons for one structure, the gravest first.

    Args:
        seen: the label and its refined result.
        figures: what :func:`near_monai.audit.shape_figures.shape_figures` gives of it.
        row: what ``run.json`` would say of the refinement: ``bridges`` and ``findings`` in world mm, ``noise_mm``.
        scale: that of the structure.
        to_world: see :data:`ToWorld`.
    """
    found: list[Reason] = []
    if seen.beyond:
        found.append(Reason("beyond", seen.beyond.replace(LEFT, "").replace(PART_LEFT, "")))  # here nothing is changed
    found += _torn(row)
    found += _changed(seen, scale, to_world)
    found += _lines(seen, to_world)
    if figures["equal"] >= EQUAL:
        found.append(
            Reason("staircase", f"staircase: {figures['equal']:.0%} of it are slices equal to their neighbours")
        )
    if seen.noise_mm >= ROUGH_MM:
        found.append(Reason("rough", f"rough wall: {row['noise_mm']:.2f} mm off on average"))
    return found


def _reason(kind: str, text: str, places: Sequence[Sequence[float]]) -> Reason:
    kept = tuple(tuple(float(x) for x in place) for place in places[:MOST_PLACES])
    return Reason(kind, text, kept, len(places) > len(kept))


def _counted(count: int, one: str, many: str) -> str:
    return one if count == 1 else f"{count} {many}"


def _torn(row: Mapping[str, Any]) -> Iterator[Reason]:
    """Gaps that the repair closes, and joints that it proposes."""
    if bridges := sorted(row["bridges"], key=lambda bridge: -bridge["gap_mm"]):
        text = f"torn: {_counted(len(bridges), 'a gap', 'gaps')} of up to {bridges[0]['gap_mm']:.1f} mm"
        yield _reason("torn", text, [bridge["place"] for bridge in bridges])
    if open_ := [finding["place"] for finding in row["findings"] if finding["kind"] == "proposed"]:
        yield _reason("torn", f"perhaps torn: {_counted(len(open_), 'a gap', 'gaps')}", open_)


def _changed(seen: Seen, scale: float, to_world: ToWorld) -> Iterator[Reason]:
    """What the repair takes away, as whole pieces or from the wall, and what it adds beyond the wall."""
    labelled, mm3 = Components.of(seen.label), scale**3
    kept = labelled.sums(seen.repaired) > 0
    gone = labelled.only(~kept)
    sizes = (gone.sizes * seen.grid.voxel_volume).tolist() if len(gone) else []
    if volumes := [*sizes, *seen.aside]:
        order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
        places = [to_world(seen.grid.to_mm(gone.parts[number].mean(0))) for number in order]
        text = f"{_counted(len(volumes), 'an island', 'specks or islands')} of up to {max(volumes) * mm3:.1f} mm3"
        yield _reason("islands", text, places)
    attached = seen.label.copy()
    labelled.put(attached, ~kept, False)
    leaks = listed_pieces("removed", beyond_wall(attached, seen.repaired, seen.grid), seen.grid)
    holes = listed_pieces("added", beyond_wall(seen.repaired & ~seen.bridged, seen.label, seen.grid), seen.grid)
    yield from _pieces("leaks", _counted(len(leaks), "a leak", "leaks"), leaks, mm3, to_world)
    yield from _pieces("missing", _counted(len(holes), "a part missing", "parts missing"), holes, mm3, to_world)


def _pieces(kind: str, text: str, pieces: Sequence[Piece], mm3: float, to_world: ToWorld) -> Iterator[Reason]:
    if pieces:
        total = sum(piece.volume_mm3 for piece in pieces) * mm3
        yield _reason(kind, f"{text} ({total:.0f} mm3)", [to_world(np.array(piece.place)) for piece in pieces])


def _lines(seen: Seen, to_world: ToWorld) -> Iterator[Reason]:
    """Calibres that jump and ends that are cut off, on the centreline of the label."""
    line, near = seen.line, seen.line.near
    off = np.abs(near - line.far)
    jumps = _apart(line.mm, off, off >= JUMP)
    blunt = line.end & (near >= line.far + math.log(BLUNT)) & (np.exp(near) >= BLUNT_MM)
    ends = _apart(line.mm, near, blunt)[2:]  # each of the two trees begins with a thick end
    for kind, points, one, many in (
        ("calibre", jumps, "a jump of the calibre", "jumps of the calibre"),
        ("tips", ends, "an end that looks cut off", "ends that look cut off"),
    ):
        if points:
            yield _reason(kind, _counted(len(points), one, many), [to_world(line.mm[number]) for number in points])


def _apart(points: FloatArray, size: FloatArray, chosen: NDArray[np.bool_], apart_mm: float = 10.0) -> list[int]:
    """The ``chosen`` points, those of the largest ``size`` first, none within ``apart_mm`` of another."""
    kept: list[int] = []
    for number in sorted(np.flatnonzero(chosen).tolist(), key=lambda n: -float(size[n])):
        if all(np.linalg.norm(points[number] - points[other]) > apart_mm for other in kept):
            kept.append(number)
    return kept


def foreign_pieces(array: NDArray[Any], label: int, found: Components, name_of: Callable[[int], str]) -> list[str]:
    """Classes that pieces of a class lie inside of, by name, the largest piece first.

    A piece that is not the largest of its class, and most of whose neighbours are of one other class, is probably of
    that one.

    Args:
        array: the label map.
        label: the class.
        found: its components.
        name_of: what a class is called.
    """
    inside = []
    for number in np.argsort(-found.sizes, kind="stable").tolist()[1:]:
        box = found.boxes[number].grow(1, found.shape)
        own = found.mask(number, box)
        beside = array[box.slices()][ndimage.binary_dilation(own, np.ones((3, 3, 3))) & ~own]
        counts = np.bincount(beside, minlength=1)
        other = int(counts.argmax())
        if other not in (0, label) and counts[other] > len(beside) / 2:
            inside.append(name_of(other))
    return inside
