"""The benchmark of the audit on a few coarse trees: it learns, measures, and goes on where it was stopped."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import audit, audit_hearts, audit_sets
from benchmarks.audit_examples import KINDS, Generated, corrupted
from near_monai.audit.expected_score import Auditor
from near_monai.audit.set_checks import said, set_remarks
from near_monai.datasets.coronary_cases import phantom_pair

COARSE = (1.2, 1.2, 1.2)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_alone_and_none_at_level_0(kind: str) -> None:
    _, truth, grid = phantom_pair(3, 1, "none", COARSE)
    rng = np.random.default_rng(0)
    assert (corrupted(truth, grid, kind, 0.0, rng) == truth).all()
    noisy = corrupted(truth, grid, kind, 1.5, rng)
    assert noisy.shape == truth.shape and noisy.any()


def test_a_recipe_gives_the_same_masks_every_time() -> None:
    recipe = Generated(1, 2, spacing=COARSE).drawn()
    one, two = recipe.load(), recipe.load()
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()
    assert 0 <= recipe.careful_mm <= 0.25


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes: list[audit.Recipe] = [Generated(5, n, "all", 0.2 + 0.2 * n, COARSE).drawn() for n in range(4)]
    rows = audit.rows_of(recipes[:3], tmp_path / "examples.jsonl", 1)
    measured: list[audit.Recipe] = []
    again = audit.measured

    def counted(recipe: audit.Recipe) -> audit.Row:
        measured.append(recipe)
        return again(recipe)

    monkeypatch.setattr(audit, "measured", counted)
    whole = audit.rows_of(recipes, tmp_path / "examples.jsonl", 1)
    assert measured == recipes[3:]
    assert whole[:3] == json.loads(json.dumps(rows))
    auditor = audit.learn(whole * 8)
    assert Auditor.of(auditor.to_row())(whole[0]["figures"])["dice"].expected > 0
    assert "| trees | dice | 4 |" in audit.table({"trees": audit.figures(whole, auditor)})


def test_planted_errors_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_sets, "CASES", 40)
    monkeypatch.setattr(audit_sets, "PLANTED", 1)
    monkeypatch.setattr(audit_sets, "STEP_MM", 2.0)
    wrong, weights = audit_sets.planted_set(1)
    clean = [weights[name] for name, kind in wrong.items() if not kind]
    assert audit_sets.auroc([weights[name] for name, kind in wrong.items() if kind], clean) > 0.9
    assert weights[next(name for name, kind in wrong.items() if kind == audit_sets.DUPLICATE)] > max(clean)
    assert said(set_remarks({}).get("", [])) == []


def test_hearts_are_measured_by_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_hearts, "SPACING", (2.4, 2.5))
    rows = audit_hearts.rows_of(1, 1, tmp_path / "hearts.jsonl")
    assert len(rows) > 6 and "coronary" not in {row["structure"] for row in rows}
    assert audit_hearts.rows_of(1, 1, tmp_path / "hearts.jsonl") == json.loads(json.dumps(rows))
    many = [json.loads(json.dumps(row)) | {"number": number} for number in range(16) for row in rows]
    for place, row in enumerate(many):
        for figure in ("hard", "repaired"):
            row["figures"][figure] += 0.01 * place
        row["scores"]["dice"] -= 0.001 * place
    assert audit_hearts.table(many, audit_hearts.learn(many)).count("| aorta | 16 |") == 1
