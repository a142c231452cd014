"""Which part of the cases a process takes: said with ``--shard``, or by the launcher that started it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from near_monai.errors import UsageError

T = TypeVar("T")


class Shard(NamedTuple):
    """Every ``size``-th case, from case ``rank`` on; ``origin`` says in a message where the numbers come from."""

    rank: int = 0
    size: int = 1
    origin: str = ""

    def of(self, cases: Sequence[T]) -> Sequence[T]:
        """The cases of this process."""
        return cases[self.rank :: self.size]

    def line(self, own: int, total: int) -> str:
        """What a person is told of it."""
        return f"shard {self.rank} of {self.size}: {own} of {total} cases{self.origin}"


class Launcher(NamedTuple):
    """Environment variables in which a launcher tells a process its rank, how many there are, and its local rank."""

    rank: str
    size: str
    local: str


#: The one that was started last comes first: srun starts torch.distributed.run, not the other way round.
LAUNCHERS = (
    Launcher("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    Launcher("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    Launcher("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"),
    Launcher("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
    Launcher("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"),
)
#: What launchers of PMIx set, who tell the number of processes through a library only.
RANK_ALONE = "PMIX_RANK"


def launched_shard(environment: Mapping[str, str] = os.environ) -> Shard:
    """The part of this process by what torch.distributed.run, MPI or Slurm's srun say; all cases without them.

    Index and size of a job array are not looked at: arrays are numbered as their users like.

    Raises:
        UsageError: a launcher's variable is missing where its other one is set, or is no number that makes sense.
    """
    launcher = _launcher(environment)
    if launcher is None:
        return Shard()
    origin = f" ({launcher.rank} and {launcher.size} of the environment)"
    return _shard(environment[launcher.rank], environment[launcher.size], origin)


def given_shard(text: str) -> Shard:
    """The part that ``i/n`` names.

    Raises:
        UsageError: it is not of that form.
    """
    index, _, count = text.partition("/")
    return _shard(index, count, "", "--shard ")


def local_rank(environment: Mapping[str, str] = os.environ) -> int | None:
    """Which of the processes on this machine this is, if a launcher says so.

    Raises:
        UsageError: see :func:`launched_shard`.
    """
    launcher = _launcher(environment)
    text = environment.get(launcher.local, "") if launcher else ""
    return int(text) if text.isdecimal() else None


def _shard(index: str, count: str, origin: str, option: str = "") -> Shard:
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(f"{option}'{index}/{count}'{origin}; expected i/n with i from 0 to n-1")
    return Shard(int(index), int(count), origin)


def _launcher(environment: Mapping[str, str]) -> Launcher | None:
    """The launcher that started this process."""
    for launcher in LAUNCHERS:
        if launcher.rank.startswith("SLURM") and _outside_srun(environment):
            continue
        missing = [name for name in launcher[:2] if name not in environment]
        if len(missing) == 1:
            (there,) = set(launcher[:2]) - set(missing)
            raise UsageError(
                f"{there}={environment[there]} is set in the environment, {missing[0]} is not; set both, unset it, "
                "or say with --shard i/n which cases to take (0/1: all)"
            )
        if not missing:
            return launcher
    if RANK_ALONE in environment:
        raise UsageError(
            f"{RANK_ALONE}={environment[RANK_ALONE]} is set in the environment, and its launcher says no number of "
            "processes; set RANK and WORLD_SIZE, or say with --shard i/n which cases to take (0/1: all)"
        )
    return None


def _outside_srun(environment: Mapping[str, str]) -> bool:
    """Whether this is a batch script or shell of Slurm itself: it has the variables of a task, and is none."""
    return "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment
