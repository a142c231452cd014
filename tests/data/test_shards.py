"""Which part of the cases a process takes, by whatever started it."""

from pathlib import Path

import pytest
import torch

from near_monai.cli import main
from near_monai.data.shards import LAUNCHERS, Shard, given_shard, launched_shard, local_rank
from near_monai.errors import UsageError
from near_monai.networks.weight_files import pick_device
from near_monai.refinement import many_files

PAIRS = [(launcher.rank, launcher.size) for launcher in LAUNCHERS]


@pytest.mark.parametrize(("rank", "size"), PAIRS)
def test_every_launcher_is_understood(rank: str, size: str) -> None:
    assert launched_shard({rank: "2", size: "5"})[:2] == (2, 5)
    assert list(launched_shard({rank: "2", size: "5"}).of(range(12))) == [2, 7]
    assert rank in launched_shard({rank: "2", size: "5"}).line(2, 12)


@pytest.mark.parametrize(("there", "missing"), [*PAIRS, *(pair[::-1] for pair in PAIRS)])
def test_one_variable_alone_is_refused(there: str, missing: str) -> None:
    with pytest.raises(UsageError, match=f"{there}=4 is set in the environment, {missing} is not"):
        launched_shard({there: "4"})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "5"}, (0, 1)),
        # a batch script of 4 tasks, and a shell of salloc: neither is one of srun's
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, (0, 1)),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, (0, 1)),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, (3, 4)),
        # srun starts torch.distributed.run on two machines, which starts two processes on each
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2", "RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, (1, 2)),
    ],
)
def test_the_last_launcher_counts(environment: dict[str, str], expected: tuple[int, int]) -> None:
    assert launched_shard(environment)[:2] == expected


def test_a_rank_without_a_number_of_processes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"PMIX_RANK=1 is set .* says no number of processes; .* --shard i/n"):
        launched_shard({"PMIX_RANK": "1"})
    slurm = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "PMIX_RANK": "3"}
    assert launched_shard(slurm)[:2] == (3, 4), "srun --mpi=pmix"


@pytest.mark.parametrize("text", ["4/4", "-1/4", "a/b", "3", "1/2/3", "/", "", "1/0"])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected i/n with i from 0 to n-1"):
        given_shard(text)
    index, _, count = text.partition("/")
    with pytest.raises(UsageError, match="RANK and WORLD_SIZE"):
        launched_shard({"RANK": index, "WORLD_SIZE": count})


@pytest.mark.parametrize("total", [1, 2, 3, 7])
def test_shards_share_all_cases(total: int) -> None:
    taken = [case for index in range(total) for case in Shard(index, total).of(range(5))]
    assert sorted(taken) == list(range(5))


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four cases that are done at once."""
    folder = tmp_path / "four"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.nii.gz").write_bytes(b"")

    def copy(case: many_files.Case, output: Path, *_: object) -> many_files.Row:
        (output / case.label.name).write_bytes(case.label.read_bytes())
        return {"warnings": [], "bridges": []}

    monkeypatch.setattr(many_files, "refine_one_class", copy)
    return folder


def refine(source: Path, *words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(["refine", str(source), "-o", str(source.parent / "out"), "--quiet", *words])
    return int(end.value.code or 0)


def test_a_part_is_said_and_a_left_over_variable_is_seen(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert refine(source) == 2
    assert "WORLD_SIZE=4 is set in the environment, RANK is not" in capsys.readouterr().err.strip("\n")
    assert refine(source, "--shard", "4/4") == 2
    assert capsys.readouterr().err == "near-monai: --shard '4/4'; expected i/n with i from 0 to n-1\n"
    assert not (source.parent / "out").exists()
    monkeypatch.setenv("RANK", "0")
    assert refine(source) == 0
    assert capsys.readouterr().err == "shard 0 of 4: 1 of 4 cases (RANK and WORLD_SIZE of the environment)\n"
    assert refine(source, "--shard", "1/2") == 0
    assert capsys.readouterr().err == "shard 1 of 2: 2 of 4 cases\n"
    assert refine(source, "--shard", "0/1") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("local", "count", "expected"), [("0", 4, "cuda:0"), ("3", 4, "cuda:3"), ("5", 4, "cuda:1")])
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.rank)
def test_every_process_takes_a_gpu_of_its_own(
    launcher: tuple[str, str, str], local: str, count: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert str(pick_device()) == "cuda", "nobody says that there are other processes"
    for name, value in zip(launcher, ("5", "8", local), strict=True):
        monkeypatch.setenv(name, value)
    assert local_rank() == int(local)
    assert str(pick_device()) == expected
    assert str(pick_device("cpu")) == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert str(pick_device()) == "cuda"
