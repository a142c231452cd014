"""The one error that near_monai raises for input it cannot use."""

from __future__ import annotations

from collections.abc import Sequence


class NearError(ValueError):
    """Input that cannot be used: the message says what, where, what was expected and what to do, in one line."""

    def __init__(self, message: str) -> None:
        # names in hostile lists hold line ends and the control codes of terminals
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


def some(names: Sequence[str], most: int = 10) -> str:
    """The first ``most`` of ``names``, for a message, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not last, in the words of Python, numpy, torch or ITK."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or ("alloc" in words and "memory" in words)


def in_one_line(error: BaseException) -> str:
    """What went wrong, for a user: the first line of the error that started it."""
    while error.__cause__ is not None:
        error = error.__cause__
    first = (str(error).strip().splitlines() or [""])[0]
    if out_of_memory(error):
        return f"out of memory ({first or type(error).__name__}); use fewer processes, or a machine with more"
    return f"{type(error).__name__}: {first}"
