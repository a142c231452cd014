"""Labels beyond what F was trained on become no worse; the long run is ``python -m benchmarks.beyond``."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.beyond import attempt, jobs_of, lost, main
from benchmarks.beyond_inputs import KINDS, far_volume, make

SMALL = 64


@pytest.mark.parametrize(("kind", "seed"), jobs_of(12, 0))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_small_label_becomes_worse(kind: str, seed: int) -> None:
    row = attempt((kind, seed), side=SMALL)
    assert not lost(row), row


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_follow_from_kind_and_seed(kind: str) -> None:
    one, same, other = (make(kind, seed, SMALL) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.noisy, same.noisy)
    assert one.parameters == same.parameters and one.spacing == same.spacing
    assert max(one.noisy.shape) <= SMALL and one.noisy.any() and one.truth.any()
    assert one.noisy.shape != other.noisy.shape or (one.noisy != other.noisy).any()


def test_far_volume_counts_what_is_far_from_everything() -> None:
    mask = np.zeros((30, 10, 10), bool)
    mask[0] = True
    added = np.zeros_like(mask)
    added[[5, 20], 4, 4] = True
    assert far_volume(added, mask, (0.5, 1.0, 2.0), 3.0) == 1.0
    assert far_volume(np.zeros_like(mask), mask, (0.5, 1.0, 2.0), 3.0) == 0.0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_inputs_give_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    main(["-o", str(out), "-n", "2", "--only", "slices", "--seed", "1", "--side", str(SMALL), "--workers", "1"])
    found = json.loads((out / "scores.json").read_text())
    assert [row["kind"] for row in found["inputs"]] == ["slices"] * 2 and found["kinds"]["all"]["n"] == 2
    assert {row["seed"] for row in found["inputs"]} == {1, 2}
    assert (out / "table.md").read_text() in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_none_of_200_labels_becomes_worse(tmp_path: Path) -> None:
    out = tmp_path / "out"
    main(["-o", str(out), "-n", "200", "--workers", "2"])
    assert json.loads((out / "scores.json").read_text())["kinds"]["all"]["lost"] == 0
