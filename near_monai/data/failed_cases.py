"""What became of the cases of a command that does not stop at a bad one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from near_monai.errors import NearError, in_one_line, printable, some


class Outcomes:
    """Cases that failed, by name, and why.

    Attributes:
        failed: names and messages.
    """

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """What is done to one case: whatever it raises is said in one line on stderr, and the next one has its turn."""
        try:
            yield
        except Exception as error:  # whatever it is: one bad case does not stop the others
            self.fail(name, str(error) if isinstance(error, NearError) else in_one_line(error))

    def fail(self, name: str, message: str) -> None:
        """Case ``name`` failed, for this reason."""
        self.failed[name] = message
        tqdm.write(printable(f"{name}: {message}"), file=sys.stderr)

    def check(self, total: int, where: str = "") -> None:
        """Say at the end that some of ``total`` cases failed, and ``where`` more is said of them.

        Raises:
            NearError: some did.
        """
        if self.failed:
            reason = f" ({next(iter(self.failed.values()))})" if len(self.failed) == 1 else ""
            more = f"; see {where}" if where else ""
            raise NearError(f"{len(self.failed)} of {total} cases failed: {some(list(self.failed))}{reason}{more}")
