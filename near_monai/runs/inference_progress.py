"""How far the bundle's inference has come: what is finished is passed over, and nothing of others is replaced."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from near_monai.data.case_lists import Case
from near_monai.data.fingerprints import fingerprint
from near_monai.data.shards import launched_shard
from near_monai.errors import NearError
from near_monai.networks.weight_files import CONFIG_NAME
from near_monai.runs.configuration import FREE_KEYS
from near_monai.runs.run_records import DONE, Records
from near_monai.version import __version__

logger = logging.getLogger("near_monai")


class Progress:
    """The records of a folder of results, for the configuration in force there and the weights.

    Args:
        folder: where results go; :func:`near_monai.claim_folder` has written its configuration.
        weights: file of the weights.
    """

    def __init__(self, folder: str | Path, weights: str | Path) -> None:
        self.folder = Path(folder)
        self.weights = Path(weights)
        self._records: Records | None = None

    @property
    def records(self) -> Records:
        """Rows of these settings; the files that decide them are read when they are first needed."""
        if self._records is None:
            config = json.loads((self.folder / CONFIG_NAME).read_text(encoding="utf-8"))
            used = {key: value for key, value in config.items() if key not in (*FREE_KEYS, "dataset_dir")}
            part = launched_shard()
            name = f"bundle-{part.rank}-of-{part.size}"
            self._records = Records(self.folder, name, [__version__, used, fingerprint(self.weights)])
        return self._records

    def finished(self, items: Sequence[dict[str, Any]]) -> set[str]:
        """Names of the items whose result is there as it was written, made of the same bytes with these settings."""
        cases = [_case(item["name"], item["image"]) for item in items if isinstance(item["image"], str)]
        found = self.records.finished(cases)
        if found:
            logger.info("%d cases are finished already", len(found))
        return found

    def check(self, name: str, image: str | Path) -> None:
        """Refuse a case whose place is taken.

        Raises:
            NearError: a file of another run, or one that somebody changed, is there.
        """
        case = _case(name, image)
        target, before = self.folder / case.file, self.records.left_by_last(case)
        if before is not None and target.exists() and before.get(case.file) != fingerprint(target):
            raise NearError(f"{target}: is there already, and is not of this run; move it, or give another output_dir")

    def begin(self, name: str, image: str | Path) -> None:
        """Say that a case is being written.

        Raises:
            NearError: see :meth:`check`.
        """
        self.check(name, image)  # before anything is said of it: a case that is refused has not begun
        self.records.start(_case(name, image))

    def done(self, name: str, image: str | Path) -> None:
        """Say that the result of a case is complete."""
        case = _case(name, image)
        written = {case.file: fingerprint(self.folder / case.file)}
        self.records.add(
            case, {"name": name, "status": DONE, "input_state": fingerprint(case.label), "written": written}
        )


def _case(name: str, image: str | Path) -> Case:
    return Case(name, Path(image))
