"""Open ends: a thick end is one and a thin tip is none; the border of the volume, a joint and a turned volume."""

import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.geometry.boxes import box_of
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.repair import reconnection
from near_monai.repair.joints import Pieces
from near_monai.repair.mask_repair import Noise, repair
from near_monai.repair.open_ends import AHEAD_MM, ALONE_MM, FEATURES, Ends, end_features
from near_monai.repair.reconnection import Proposal, reconnect, reconnect_regions

GRID = Grid((100, 50, 40), (0.5, 0.5, 0.5))
X, Y, Z = np.indices(GRID.shape) * 0.5
NONE = np.zeros(0)


def vessel(start: float, stop: float, y: float = 10.0) -> NDArray[np.bool_]:
    """A straight vessel along x that gets thinner towards larger x."""
    return np.asarray((np.hypot(Y - y, Z - 10) < 2.2 - 0.03 * X) & (start <= X) & (stop >= X))


def pieces_of(mask: NDArray[np.bool_], likely: float = 0.1) -> Pieces:
    return Pieces.of(Components.of(mask), np.full(mask.shape, likely, np.float32), GRID)


def test_ends_have_tips_and_directions() -> None:
    ends = Ends.of(pieces_of(vessel(10, 40)))
    assert len(ends.points) == 2
    order = ends.tips[:, 0].argsort()
    np.testing.assert_allclose(ends.tips[order, 0], [10, 40], atol=1.5)
    np.testing.assert_allclose(ends.ways[order, 0], [-1, 1], atol=0.05)
    np.testing.assert_allclose(ends.ahead, np.log(0.1))


def test_f_is_asked_ahead_of_the_tip() -> None:
    mask, likely = vessel(10, 40), np.full(GRID.shape, 0.01, np.float32)
    likely[X > 40] = 0.5
    ends = Ends.of(Pieces.of(Components.of(mask), likely, GRID))
    beyond = ends.tips[:, 0] + AHEAD_MM * ends.ways[:, 0] > 40.25
    assert beyond.sum() == 1 and ends.ahead[beyond] == pytest.approx(np.log(0.5))
    assert ends.ahead[~beyond] == pytest.approx(np.log(0.01))


def test_the_border_of_the_volume_is_no_end() -> None:
    ends = Ends.of(pieces_of(vessel(0, 40)))
    assert len(ends.points) == 1 and ends.ways[0, 0] > 0


def test_features_are_numbers_and_know_what_is_near() -> None:
    alone = pieces_of(vessel(10, 40))
    rows = end_features(alone, Ends.of(alone), [], NONE)
    assert rows.shape == (2, len(FEATURES)) and np.isfinite(rows).all()
    far = rows[:, FEATURES.index("gap to the rest")]
    near = pieces_of(vessel(10, 20) | vessel(23, 40))
    gaps = end_features(near, Ends.of(near), [], NONE)[:, FEATURES.index("gap to the rest")]
    assert gaps.min() < far.min() < gaps.min() + 4 < ALONE_MM
    nothing = pieces_of(np.zeros(GRID.shape, bool))
    assert end_features(nothing, Ends.of(nothing), [], NONE).shape == (0, len(FEATURES))


def open_ends(mask: NDArray[np.bool_]) -> list[Proposal]:
    likely = np.full(mask.shape, 0.01, np.float32)
    found = reconnect_regions(mask, likely, GRID, mask, [box_of(mask)], None, None)
    return [proposal for proposal in found.proposals if proposal.kind == "open_end"]


@pytest.fixture
def every_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnection, "OPEN_END", 0.0)


def test_an_end_that_was_joined_is_not_open(every_end: None) -> None:
    torn = vessel(5, 20) | vessel(23, 45)
    assert reconnect(torn, np.full(torn.shape, 0.2, np.float32), GRID).tubes.any()
    places = sorted(end.place[0] for end in open_ends(torn))
    assert places == pytest.approx([5, 45], abs=2)


@pytest.mark.filterwarnings("error")
def test_what_fills_its_volume_has_no_ends() -> None:
    found = reconnect(np.ones((9, 9, 9), bool), np.ones((9, 9, 9), np.float32), Grid.of((9, 9, 9), (0.5, 0.5, 0.5)))
    assert not found.proposals and not found.tubes.any() and not found.dropped.any()


def test_places_turn_with_the_volume(every_end: None) -> None:
    mask = vessel(5, 25) | vessel(34, 45, 20.0)
    ends = {(tuple(np.round(end.place, 3)), round(end.probability, 6)) for end in open_ends(mask)}
    assert len(ends) >= 3
    extent = (np.array(GRID.shape) - 1) * GRID.spacing
    turned = {
        (tuple(np.round(extent - end.place, 3)), round(end.probability, 6))
        for end in open_ends(mask[::-1, ::-1, ::-1].copy())
    }
    assert turned == ends


def test_a_place_is_in_the_frame_of_its_grid(every_end: None) -> None:
    """A part of a case has an origin of its own, and what is repaired in it lies in the case."""
    mask, likely = vessel(5, 45), np.full(GRID.shape, 0.6, np.float32)
    likely[~mask] = 0.01
    here, there = (
        sorted(end.place for end in repair(mask, likely, grid, Noise(0.0)).proposals)
        for grid in (GRID, Grid.of(GRID.shape, GRID.spacing, (10, 20, 30)))
    )
    assert len(here) == 2
    np.testing.assert_allclose(np.array(there) - here, [[10, 20, 30]] * 2)
