"""Figures and reasons of a vessel whose errors are known, at the places where they are."""

import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.audit.reasons import Reason, foreign_pieces, reasons_of
from near_monai.audit.seen_label import Seen
from near_monai.audit.shape_figures import shape_figures
from near_monai.geometry.components import Components
from near_monai.geometry.coordinates import Grid
from near_monai.repair.mask_repair import LEFT, PART_LEFT

GRID = Grid((80, 32, 32), (0.6, 0.5, 0.5))
Mask = NDArray[np.bool_]


def vessel(radius: float = 1.6) -> Mask:
    i, j, k = np.meshgrid(*GRID.axes_mm(), indexing="ij")
    return np.asarray((np.hypot(j - 4 - 0.2 * i, k - 8 - 3 * np.sin(i / 7)) < radius) & (i > 3) & (i < 44))


def seen(label: Mask, repaired: Mask, noise: float = 0.0, **more: object) -> Seen:
    p = np.where(repaired, 0.97, 0.02).astype(np.float32)
    arguments = {"bridged": np.zeros_like(label)} | more
    return Seen(label, repaired, p, GRID, noise, 0, (), **arguments)  # type: ignore[arg-type]


def reasons(found: Seen, row: dict[str, object] | None = None) -> dict[str, Reason]:
    plain: dict[str, object] = {"bridges": [], "findings": [], "noise_mm": found.noise_mm}
    given = reasons_of(found, shape_figures(found), plain | (row or {}), 1.0, lambda mm: mm.round(1).tolist())
    return {reason.kind: reason for reason in given}


def test_a_clean_vessel_has_no_reason() -> None:
    assert reasons(seen(vessel(), vessel())) == {}


def test_figures_of_a_label_that_is_left_as_it_is() -> None:
    figures = shape_figures(seen(vessel(), vessel()))
    assert figures["repaired"] == figures["one_mm"] == pytest.approx(np.log(1e-3))
    assert figures["excess"] == figures["specks"] == figures["pieces"] == 0
    assert figures["radius"] == pytest.approx(np.log(1.6), abs=0.2)


def test_islands_leaks_and_missing_parts_are_where_they_are() -> None:
    clean, label = vessel(), vessel()
    label[60:64, 4:8, 4:8] = True  # an island
    label[30:36, 17:29, 20:24] = True  # a leak
    label[45:49] = False
    found = reasons(seen(label, clean))
    assert {"islands", "leaks", "missing"} <= set(found)
    for kind, place in {"islands": (36.9, 2.8, 2.8), "missing": (27.9, 9.6, 5.8)}.items():
        assert np.linalg.norm(np.subtract(found[kind].places[0], place)) < 1.5
    assert np.linalg.norm(np.subtract(found["leaks"].places[0], (19.5, 11.2, 10.8))) < 2
    assert "mm" in found["islands"].text


def test_bridges_and_proposals_are_tears() -> None:
    bridge = {"gap_mm": 3.2, "place": [1.0, 2.0, 3.0]}
    proposed = {"kind": "proposed", "place": [4.0, 5.0, 6.0]}
    found = reasons_of(
        seen(vessel(), vessel()),
        shape_figures(seen(vessel(), vessel())),
        {"bridges": [bridge], "findings": [proposed], "noise_mm": 0.0},
        1.0,
        lambda mm: mm.tolist(),
    )
    assert [reason.text for reason in found] == [
        "torn: a gap of up to 3.2 mm at (1, 2, 3) mm",
        "perhaps torn: a gap at (4, 5, 6) mm",
    ]


def test_staircase_rough_wall_and_calibre() -> None:
    coarse = np.repeat(vessel()[::4], 4, axis=0)
    assert "staircase" in reasons(seen(coarse, coarse))
    assert reasons(seen(vessel(), vessel(), 0.1))["rough"].text == "rough wall: 0.10 mm off on average"
    jump = vessel(0.9)
    jump[32:48] |= vessel(3.2)[32:48]
    assert abs(reasons(seen(jump, jump))["calibre"].places[0][0] - 24) < 7


@pytest.mark.parametrize("left", [LEFT, PART_LEFT])
def test_beyond_what_was_learned_is_said(left: str) -> None:
    found = reasons(seen(vessel(), vessel(), beyond=f"noise 0.30 mm, more than F knows{left}"))
    assert found["beyond"].text == "noise 0.30 mm, more than F knows"


def test_a_piece_inside_another_class() -> None:
    array = np.zeros((30, 30, 30), np.uint8)
    array[2:20, 2:20, 2:20] = 2
    array[22:28] = 3
    array[8:11, 8:11, 8:11] = 3
    assert foreign_pieces(array, 3, Components.of(array == 3), lambda label: f"class {label}") == ["class 2"]
    assert foreign_pieces(array, 2, Components.of(array == 2), str) == []
