"""Threads: the cores are shared by pieces of the work, and every operation of torch runs on one thread.

An operation that several threads share makes them wait for each other, and threads that wait for a core that somebody
else uses burn the others. With one thread per operation a busy machine costs no more CPU seconds than a quiet one, and
results do not depend, to the last bit, on how many threads there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def shared_cores() -> Iterator[ThreadPoolExecutor]:
    """A pool of as many threads as torch may use; inside, its operations take one thread each and no gradients."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_grad_enabled, initargs=(False,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)
