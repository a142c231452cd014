"""One job at a time per process; a process that dies takes the job with it that it was at, and no other."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from types import ModuleType
from typing import TypeVar

Job = TypeVar("Job")
Argument = TypeVar("Argument")
Result = TypeVar("Result")


def in_processes(
    jobs: Iterable[Job],
    begin: Callable[[Job], Argument],
    work: Callable[[Job, Argument], Result],
    workers: int,
    set_up: Callable[[], object],
) -> Generator[tuple[Job, Result | None], None, None]:
    """Every job and what ``work`` gives for it, as they are finished.

    Args:
        jobs: they are taken as processes get free. One whose process dies is tried once more, alone, at the end.
        begin: is called here right before ``work`` is, and gives what ``work`` needs to know besides.
        work: is called in a process.
        workers: processes; below 2 all is done in this one.
        set_up: is called in every process before all else.

    Yields:
        Job and result; ``None`` if its process died again.
    """
    if workers < 2:
        yield from ((job, work(job, begin(job))) for job in jobs)
        return
    again = []
    for job, result in _shared(jobs, begin, work, workers, set_up):
        if result is None:
            again.append(job)
        else:
            yield job, result
    for job in again:
        yield from _shared([job], begin, work, 1, set_up)


def _shared(
    jobs: Iterable[Job],
    begin: Callable[[Job], Argument],
    work: Callable[[Job, Argument], Result],
    workers: int,
    set_up: Callable[[], object],
) -> Generator[tuple[Job, Result | None], None, None]:
    """Every job and its result, ``None`` if its process died; a new one takes the place of that."""
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    # with one executor per process it is known which job a process was at
    start = partial(ProcessPoolExecutor, 1, context, _join_parent, (theirs, set_up))
    free, waiting = [start() for _ in range(workers)], iter(jobs)
    busy: dict[Future[Result], tuple[Job, ProcessPoolExecutor]] = {}
    try:
        while True:
            while free and (job := next(waiting, None)) is not None:
                process = free.pop()
                argument = begin(job)
                with _without_main():
                    busy[process.submit(work, job, argument)] = job, process
            if not busy:
                return
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                job, process = busy.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    process.shutdown()
                    process, result = start(), None
                free.append(process)
                yield job, result
    finally:
        for process in [*free, *(process for _, process in busy.values())]:
            process.shutdown()  # before the line is closed: processes that it ends leave their semaphores
        ours.close()
        theirs.close()


@contextmanager
def _without_main() -> Iterator[None]:
    """A process that is started here does not run the user's script again, which may have no main guard, or no file."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _join_parent(line: Connection, set_up: Callable[[], object]) -> None:
    """Set up a process, which ends as soon as the parent is killed or stops to listen."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    set_up()
    Thread(target=_end_with, args=(line,), daemon=True).start()


def _end_with(line: Connection) -> None:
    try:
        line.recv()
    except EOFError:
        os._exit(1)
