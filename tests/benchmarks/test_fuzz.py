"""Damaged and hostile input of every kind: refused in one line, or read right; more: ``python -m benchmarks.fuzz``."""

from pathlib import Path

import pytest

from benchmarks.fuzz import KINDS, attempt


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning", "ignore::ResourceWarning")
def test_damaged_input_is_refused_or_read_right(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    outcomes = {seed: attempt(kind, seed) for seed in range(12)}
    assert {seed: text for seed, text in outcomes.items() if text not in ("right", "refused")} == {}
    assert "refused" in outcomes.values() or kind == "records"
