"""The one error that near_monai raises for input it cannot use."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType


class NearError(ValueError):
    """Input that cannot be used: the message says what, where, what was expected and what to do, in one line.

    Example:
        >>> import near_monai
        >>> near_monai.refine([[1, 2]], spacing=(1, 1, 1))
        Traceback (most recent call last):
        near_monai.errors.NearError: label has shape (1, 2); expected three axes (X, Y, Z)
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class UsageError(NearError):
    """A command that was started in a way that makes no sense: exit code 2."""


class NearWarning(UserWarning):
    """Something about a label or its weights that a person should look at.

    Example:
        >>> import warnings
        >>> import numpy as np
        >>> import near_monai
        >>> with warnings.catch_warnings(record=True, action="always") as caught:
        ...     clean = near_monai.refine(np.zeros((8, 8, 8)), spacing=(1, 1, 1))
        >>> print(caught[0].message)
        the label map is empty, and so is the result
    """


def printable(text: str) -> str:
    """``text`` in one line: names in hostile lists hold line ends and the control codes of terminals."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def some(names: Sequence[str], most: int = 10) -> str:
    """The first ``most`` of ``names``, for a message, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not last, in the words of Python, numpy, torch or ITK."""
    words = str(error).lower()
    said = ("out of memory", "bad_alloc", "failed to map segment")  # the last by the loader of a library
    return isinstance(error, MemoryError) or any(s in words for s in said) or ("alloc" in words and "memory" in words)


def in_one_line(error: BaseException) -> str:
    """What went wrong, for a user: the first line of the error that started it."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = (str(error).strip().splitlines() or [""])[0]
    if out_of_memory(error):
        return f"out of memory ({first or type(error).__name__}); use fewer processes, or a machine with more"
    return f"{type(error).__name__}: {first}"


def known_error(error: BaseException) -> NearError | None:
    """The domain error that MONAI wrapped in its own, if there is one: it says in one line what is wrong."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, NearError):  # one of a loader's process holds its traceback, the message last
            return NearError(str(seen).rpartition("NearError: ")[2].removesuffix("\\n"))
        if isinstance(seen, TypeError) and "unexpected keyword argument" in str(seen):
            return NearError(f"the configuration gives {seen}")
        seen = seen.__cause__ or seen.__context__
    return None


def show_one_line() -> None:
    """From here on what :func:`known_error` knows ends Python with its one line instead of a traceback.

    For commands of others that run ours; ``python -X dev`` shows the traceback all the same.
    """
    usual = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        known = None if sys.flags.dev_mode else known_error(error)
        if known is None:
            usual(kind, error, trace)
        else:
            print(f"near_monai: {known}", file=sys.stderr)

    sys.excepthook = show
