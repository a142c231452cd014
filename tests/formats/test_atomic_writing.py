"""What is written is whole, strict, and leaves nothing beside it."""

import errno
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest

from near_monai.errors import NearError
from near_monai.formats.atomic_writing import PART_AGE_S, locked, replacing, sweep, write_json, write_text


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(NearError, match=r"a\.txt: cannot be written \(disk full\)"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_is_strict(tmp_path: Path) -> None:
    content = {
        "nan": math.nan,
        "numpy": np.float32(0.5),
        "array": np.array([1.0, np.inf]),
        "count": np.int64(3),
        "pair": (True, None),
        "path": Path("a/b"),
        5: "ü",
    }
    write_json(tmp_path / "a.json", content)
    found = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    expected = {
        "nan": None,
        "numpy": 0.5,
        "array": [1.0, None],
        "count": 3,
        "pair": [True, None],
        "path": "a/b",
        "5": "ü",
    }
    assert found == expected | {"5": "ü"}


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("old")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").symlink_to(precious)
    write_text(tmp_path / "out" / "a.txt", "new")
    assert precious.read_text() == "old"
    assert (tmp_path / "out" / "a.txt").read_text() == "new"
    assert not (tmp_path / "out" / "a.txt").is_symlink()


@pytest.mark.parametrize("what", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, None])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: int | None) -> None:
    def flock(*_: object) -> None:
        raise NotImplementedError if what is None else OSError(what, os.strerror(what))

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(tmp_path / "a" / "lock"):
        (tmp_path / "a" / "x").write_text("1")
    monkeypatch.setattr("near_monai.formats.atomic_writing.PATIENCE_S", 0.1)
    (tmp_path / "a" / "lock.there").write_text("left by a killed process")
    with locked(tmp_path / "a" / "lock"):
        (tmp_path / "a" / "x").write_text("2")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "lock").mkdir()
    with pytest.raises(NearError, match="lock: cannot be locked"), locked(tmp_path / "lock"):
        pass


def test_only_old_parts_are_swept(tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    left = [tmp_path / ".near-a", tmp_path / "codes" / ".near-b"]
    for folder in left:
        folder.mkdir()
        (folder / "x.txt").write_text("half")
        os.utime(folder, (time.time() - PART_AGE_S - 5,) * 2)
    (tmp_path / ".near-mine.txt").write_text("a file of somebody else")
    os.utime(tmp_path / ".near-mine.txt", (1, 1))
    with replacing(tmp_path / "new.txt") as part:
        part.write_text("whole")
        sweep(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*")) == [".near-mine.txt", "codes", "new.txt"]
