"""A data set in which one bad file stops no run: it is named in the log, passed over, and in the end the run fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from near_monai.errors import NearError, known_error, some

logger = logging.getLogger("near_monai")


class TolerantDataset(IterableDataset[Any]):
    """The items that ``transform`` can use, in their order.

    Args:
        data: items with a `name`.
        transform: what is done to an item; one that raises :class:`~near_monai.errors.NearError` is refused.

    Attributes:
        refused: names of the items that were passed over.

    Raises:
        NearError: a loader with worker processes asks for items, whose refusals nobody would see.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable[[dict[str, Any]], Any]) -> None:
        self.data = data
        self.transform = transform
        self.refused: list[str] = []

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            raise NearError("the loader must do without worker processes here; leave num_workers at 0")
        self.refused.clear()
        for item in self.data:
            try:
                usable = self.transform(item)
            except (NearError, RuntimeError) as error:  # MONAI wraps what a transform raises
                known = known_error(error)
                if known is None:
                    raise
                logger.error("%s", known)
                self.refused.append(item["name"])
            else:
                yield usable

    def check(self) -> None:
        """Called at the end of a run, so that its exit code tells.

        Raises:
            NearError: items were refused.
        """
        if self.refused:
            raise NearError(f"{len(self.refused)} of {len(self.data)} cases could not be used: {some(self.refused)}")
