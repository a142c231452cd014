"""A data set in which one bad file stops no run: it is named in the log, passed over, and in the end the run fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from monai.data import list_data_collate
from torch.utils.data import IterableDataset, get_worker_info

from near_monai.errors import NearError, known_error, some
from near_monai.runs.inference_progress import Progress

logger = logging.getLogger("near_monai")


class TolerantDataset(IterableDataset[Any]):
    """The items that ``transform`` can use, in their order.

    Args:
        data: items with an `image`, and a `name` if that is no path.
        transform: what is done to an item; one that raises :class:`~near_monai.errors.NearError` is refused.
        progress: says which items are finished, and need not be done again.
        instead: makes the items that are taken where none of ``data`` can be used; ``None`` if there must be some.

    Attributes:
        refused: names of the items that were passed over.

    Raises:
        NearError: a loader with worker processes asks for items, whose refusals nobody would see.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable[[dict[str, Any]], Any],
        progress: Progress | None = None,
        instead: Callable[[], Sequence[dict[str, Any]]] | None = None,
    ) -> None:
        self.data = data
        self.transform = transform
        self.progress = progress
        self.instead = instead
        self.refused: list[str] = []

    def __iter__(self) -> Iterator[Any]:
        if get_worker_info() is not None:
            raise NearError("the loader must do without worker processes here; leave num_workers at 0")
        self.refused.clear()
        finished = self.progress.finished(self.data) if self.progress is not None else set()
        for item in self.data:
            if item.get("name") in finished:
                continue
            try:
                if self.progress is not None and isinstance(item["image"], str):
                    self.progress.check(item["name"], item["image"])
                usable = self.transform(item)
            except (NearError, RuntimeError) as error:  # MONAI wraps what a transform raises
                known = known_error(error)
                if known is None:
                    raise
                logger.error("%s", known)
                self.refused.append(_name(item))
            else:
                yield usable
        if len(self.refused) == len(self.data) and self.instead is not None:
            yield from map(self.transform, self.instead())

    def check(self, folder: str) -> None:
        """Called at the end of a run that wrote to ``folder``: says how many cases there are, and fails if not all.

        Raises:
            NearError: items were refused.
        """
        count = len(self.data) - len(self.refused)
        if self.refused:
            raise NearError(
                f"{len(self.refused)} of {len(self.data)} cases could not be used: {some(self.refused)}; "
                f"{count} are in {folder}"
            )
        logger.info("%d of %d cases, in %s", count, len(self.data), folder)


def one_shape(items: Sequence[dict[str, Any]]) -> Any:
    """MONAI's collate function for cases of one batch, which must have one shape.

    Raises:
        NearError: they do not.
    """
    shapes = {tuple(item["image"].shape[1:]) for item in items}
    if len(shapes) > 1:
        names = some([_name(item) for item in items])
        raise NearError(f"{names}: label maps of shapes {sorted(shapes)} are no batch; leave the batch_size at 1")
    return list_data_collate(items)


def _name(item: dict[str, Any]) -> str:
    return str(item.get("name", item["image"] if isinstance(item["image"], str) else "?"))
