"""The benchmark of trees: what a perfect tree scores, and that each fault is counted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.surface_bodies import bodies, is_closed, measured
from benchmarks.tree_scores import Lines, Truth, scores
from benchmarks.trees import main
from near_monai.phantoms.coronary import grow_tree
from near_monai.phantoms.vessel_courses import Branch


def line(start: tuple[float, float, float], end: tuple[float, float, float], radius: float, side: int) -> Branch:
    points = np.linspace(start, end, 60)
    return Branch(points, np.full(60, radius), side)


@pytest.fixture(scope="module")
def truth() -> Truth:
    branches = {
        "a": line((0, 0, 0), (40, 0, 0), 2, 0),
        "b": line((20, 0, 0), (20, 25, 0), 1, 0),
        "c": line((20, 15, 0), (38, 15, 0), 1, 0),
        "r": line((0, 0, 60), (40, 0, 60), 2, 1),
    }
    return Truth.posed(branches, {"a": None, "b": "a", "c": "b", "r": None}, np.eye(3))


def perfect(truth: Truth) -> Lines:
    tips = np.array([truth.points[truth.branch == b][-1] for b in range(4)])
    return Lines(truth.points, truth.radius, tips, truth.roots, truth.branch, truth.parent)


def test_a_perfect_tree(truth: Truth) -> None:
    row = scores(truth, perfect(truth))
    assert row["centreline distance, mm"] == row["points off the axes"] == 0
    assert row["radius error"] < 0.01, "where two axes meet there are two radii"
    assert row["length found"] == row["roots right"] == 1
    assert (row["long branches"], row["long branches found"], row["false ends"]) == (4, 4, 0)
    assert (row["parents"], row["wrong parents"]) == (2, 0)


def test_faults_are_counted(truth: Truth) -> None:
    good = perfect(truth)
    assert scores(truth, replace(good, radius=1.1 * good.radius))["radius bias"] == pytest.approx(0.1, abs=0.01)
    kept = good.part != 3
    lost = replace(good, points=good.points[kept], radius=good.radius[kept], part=good.part[kept], roots=good.roots[:1])
    row = scores(truth, lost)
    assert (row["long branches found"], row["roots right"]) == (3, 0.5)
    assert scores(truth, replace(good, parents=np.array([-1, 0, 0, -1])))["wrong parents"] == 1
    ends = np.concatenate([good.ends, [[10.0, 0, 0], [10, 9, 0]]])  # the vessel goes on; off all axes
    assert scores(truth, replace(good, ends=ends))["false ends"] == 2
    moved = scores(truth, replace(good, points=good.points + np.array([0, 0, 0.3])))
    assert moved["centreline distance, mm"] == pytest.approx(0.3, abs=0.02)


def test_the_generator_tells_parents() -> None:
    tree = grow_tree(np.random.default_rng(3))
    assert set(tree.parents) == set(tree.branches)
    assert [name for name, parent in tree.parents.items() if parent is None] == ["LM", "RCA"]
    for name, parent in tree.parents.items():
        if parent is not None and parent != "LM":  # the left main's own end wanders a little
            away = np.linalg.norm(tree.branches[parent].points - tree.branches[name].points[0], axis=1)
            assert away.min() < 1e-6


def test_bodies() -> None:
    rows = measured(bodies()["Y of cones"], 480.0, (0.7, 0.7, 0.7), np.eye(3))
    assert rows["smooth"]["closed"] == rows["capped"]["closed"] == 1
    assert rows["smooth"]["distance, voxels"] < rows["plain"]["distance, voxels"]
    assert rows["capped"]["ends"] == 3 and rows["capped"]["uneven, mm"] < 1e-9
    assert not is_closed(np.array([[0, 1, 2]]))


@pytest.mark.slow
def test_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["-o", str(tmp_path / "out"), "--trees", "1", "--posed", "1", "--levels", "none"])
    assert "skeletonize" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "trees.json").read_text())
    assert found["generated trees"]["none, noisy, near_monai"]["wrong parents"] == 0
