"""Damaged and hostile input by the thousand: one clear line, or a right result; no other error, no hang.

    python -m benchmarks.fuzz -n 2000 [--seed 0]

Every kind of file that near_monai reads is made, changed at random (bits, fields, lengths, types) and read. What is
accepted has to equal an independent reading of the same bytes. Prints a table; what breaks the rule is listed with its
seed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import pickle
import random
import re
import resource
import signal
import struct
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
import yaml

from benchmarks.damage import VALUES, bent, dumped, mutated
from benchmarks.readings import check_cases, check_itk, check_nifti
from near_monai.anatomy import HEART, load
from near_monai.data.case_lists import find_cases
from near_monai.errors import NearError
from near_monai.formats.label_maps import LabelMap, write_label
from near_monai.formats.tensor_files import read_tensors, write_tensors
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.case_code import CaseCode
from near_monai.inferers.saved_codes import SavedCode, load_code, save_code
from near_monai.networks.model_description import Description
from near_monai.networks.weight_files import load_network, read_state
from near_monai.runs.run_records import RECORD_FOLDER, Records

LIMIT_S, LIMIT_BYTES = 3, 6 << 30
SHAPE = (6, 5, 4)
#: NIfTI-1 fields: offset, format, absurd values.
NUMBERS = (0, -1, 1, 2, 3, 5, 7, 255, 30000, 32767, -32768)
REALS = (0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 0.5, 100.5, 352.0, 1e6, 3.4e38)
FIELDS = [(40 + 2 * n, "<h", NUMBERS) for n in range(8)] + [(70, "<h", (*NUMBERS, 4, 16, 64, 256, 512))]
FIELDS += [(72, "<h", NUMBERS), (252, "<h", NUMBERS), (254, "<h", NUMBERS), (0, "<i", (0, 540, 1, -1))]
FIELDS += [(at, "<f", REALS) for at in (*range(76, 108, 4), 108, 112, 116, *range(256, 328, 4))]
FIELDS += [
    (123, "B", (0, 1, 2, 3, 5, 7, 10, 255)),
    (344, "4s", (b"ni1\0", b"n+2\0", b"\0\0\0\0")),
    (348, "4s", (b"\1\0\0\0",)),
]


def fuzz_nifti(chance: random.Random, folder: Path) -> bool:
    rng = np.random.default_rng(chance.randrange(2**32))
    kind = chance.choice(("u1", "<i2", "<f4", "<f8", "<u2"))
    image = nib.Nifti1Image(
        rng.integers(0, 11, SHAPE).astype(kind), np.diag([0.5, 0.6, 0.7, 1.0]), dtype=np.dtype(kind)
    )
    data = bytearray(image.to_bytes())
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
        at, form, values = chance.choice(FIELDS)
        struct.pack_into(form, data, at, chance.choice(values))
    content = bytes(data) if chance.random() < 0.6 else bent(chance, bytes(data))
    path = folder / chance.choice(("a.nii", "a.nii.gz"))
    packed = gzip.compress(content) if path.suffix == ".gz" else content
    if path.suffix == ".gz" and chance.random() < 0.3:
        packed = bent(chance, packed)
    path.write_bytes(packed)
    check_nifti(path)
    return True


def fuzz_itk(chance: random.Random, folder: Path) -> bool:
    rng = np.random.default_rng(chance.randrange(2**32))
    array = rng.integers(0, 11, SHAPE).astype(np.uint8)
    path = folder / f"a{chance.choice(('.nrrd', '.mha', '.mhd'))}"
    if chance.random() < 0.5:
        write_label(path, array, LabelMap.from_array(array, np.diag([0.5, 0.6, 0.7, 1.0])))
    else:
        sitk.WriteImage(
            sitk.GetImageFromArray(array.astype(chance.choice(("u1", "i2", "f4"))).T), str(path), useCompression=False
        )
    victim = chance.choice([p for p in folder.iterdir() if p.is_file()])
    content = victim.read_bytes()
    if chance.random() < 0.7 and victim == path:
        content = (
            re.sub(
                rb"(?<![\w.])-?\d+(\.\d+)?(?![\w.])",
                lambda m: m[0] if chance.random() < 0.9 else str(chance.choice((*NUMBERS, *REALS, 10**12))).encode(),
                content[:600],
            )
            + content[600:]
        )
    else:
        content = bent(chance, content)
    victim.write_bytes(content)
    check_itk(path)
    return True


def fuzz_list(chance: random.Random, folder: Path) -> bool:
    inside = folder / "set"
    for name in ("labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "a.nii.gz", "ü.nii.gz"):
        (inside / name).parent.mkdir(parents=True, exist_ok=True)
        (inside / name).write_bytes(b"")
    (inside / "loop.nii.gz").symlink_to("loop.nii.gz")
    (folder / "a.nii.gz").write_bytes(b"")
    (inside / "up").symlink_to(inside)
    msd = {"training": [{"label": f"./labelsTr/{n}.nii.gz", "image": "x"} for n in "ab"], "labels": {"0": "x"}}
    nnunet = {"file_ending": ".nii.gz", "numTraining": 2, "labels": {"x": 1}}
    content: Any = chance.choice((msd, nnunet))
    for _ in range(chance.choice((1, 1, 2, 4))):
        content = mutated(chance, content)
    text = dumped(content).encode()
    (inside / "dataset.json").write_bytes(text if chance.random() < 0.85 else bent(chance, text))
    check_cases(inside)
    return True


class Attack:
    """A pickle that runs code."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("attacked"),)


STATE: dict[str, torch.Tensor] = {}


def fuzz_weights(chance: random.Random, folder: Path) -> bool:
    path = folder / "best.pt"
    if not STATE:
        STATE.update(read_state("bundle/models/model.pt"))
    if chance.random() < 0.5:
        return fuzz_described(chance, folder / "best.safetensors")
    state: dict[Any, Any] = dict(STATE)
    name = chance.choice(list(state))
    action = chance.randrange(8)
    changes: list[Any] = [
        state | {name: state[name].reshape(-1)[:-1]},
        state | {"other": state[name]},
        state | {5: state[name]},
    ]
    changes += [{k: v for k, v in state.items() if k != name}, state | {name: chance.choice(VALUES)}, list(state), {}]
    if action == 7:
        path.write_bytes(
            pickle.dumps(Attack())
            if chance.random() < 0.5
            else bent(chance, Path("bundle/models/model.pt").read_bytes()[:200_000])
        )
    else:
        torch.save(
            changes[action] | {"x": Attack()}
            if isinstance(changes[action], dict) and chance.random() < 0.2
            else changes[action],
            path,
        )
    try:
        network, _ = load_network(path, "cpu")
    finally:
        if Path("attacked").exists():
            Path("attacked").unlink()
            raise AssertionError("code was run")
    raise AssertionError(f"weights that do not fit were accepted: {action}, {name}, {type(network)}")


def fuzz_described(chance: random.Random, path: Path) -> bool:
    """A file of weights, bent, or with another description."""
    shipped = Path("bundle/models/coronary.safetensors")
    whole = shipped.read_bytes()
    if chance.random() < 0.5:
        path.write_bytes(bent(chance, whole))
    else:
        tensors, text = read_tensors(shipped, "")
        write_tensors(path, tensors, dumped(mutated(chance, json.loads(text))))
    network, _ = load_network(path, "cpu")
    return isinstance(network.description, Description) and len(network.description.structures) > 0


def fuzz_code(chance: random.Random, folder: Path) -> bool:
    grid = Grid((4, 4, 4), (0.5, 0.5, 0.5))
    path = folder / "a.safetensors"
    code = torch.arange(64.0).reshape(1, 4, 4, 4)
    weights = Description(HEART.structures[:1], WorkingSpace(), {}, "0", {}, "0" * 64)
    save_code(path, SavedCode((CaseCode((code,), grid, None, grid),), np.eye(4), weights, HEART.structures[:1]))
    if chance.random() < 0.5:
        tensors, text = read_tensors(path, "")
        write_tensors(path, tensors, dumped(mutated(chance, json.loads(text))))
    else:
        path.write_bytes(bent(chance, path.read_bytes()))
    found = load_code(path)
    if not np.isfinite(found.affine).all() or found.affine.shape != (4, 4) or not found.codes:
        raise AssertionError(f"affine {found.affine}")
    return True


def fuzz_records(chance: random.Random, folder: Path) -> bool:
    row = {"name": "a", "status": "done", "key": "0" * 16, "order": 1, "seconds": 1.0, "warnings": []}
    row |= {"input_state": "0" * 16, "written": {"a.nii.gz": "0" * 16}, "settings": None}
    (folder / RECORD_FOLDER).mkdir()
    lines = [json.dumps(row), dumped(mutated(chance, row)), dumped(mutated(chance, [row]))]
    text = "\n".join(lines).encode(errors="surrogatepass")
    (folder / RECORD_FOLDER / "shard-0-of-1.jsonl").write_bytes(text if chance.random() < 0.6 else bent(chance, text))
    (folder / "in").mkdir()
    (folder / "in" / "a.nii.gz").write_bytes(b"")
    cases = find_cases(folder / "in")
    records = Records(folder, "shard-0-of-1", None)
    if records.finished(cases):
        raise AssertionError("a result that is not there counts as finished")
    records.merge({}, cases)
    json.loads((folder / "run.json").read_text())
    return True


def fuzz_table(chance: random.Random, folder: Path) -> bool:
    text = Path("near_monai/anatomy.yaml").read_text(encoding="utf-8")
    rows = yaml.safe_load(text)
    path = folder / "table.yaml"
    if chance.random() < 0.7:
        for _ in range(chance.choice((1, 2))):
            rows = mutated(chance, rows)
        path.write_text(dumped(rows), encoding="utf-8", errors="surrogatepass")
    else:
        path.write_bytes(bent(chance, text.encode()))
    anatomy = load(path)
    indices = [s.index for s in anatomy.structures]
    if len(set(indices)) != len(indices) or not all(1 <= i <= 65535 for i in indices):
        raise AssertionError(f"indices {indices}")
    return True


KINDS: dict[str, Callable[[random.Random, Path], bool]] = {
    "NIfTI": fuzz_nifti,
    "NRRD MetaImage": fuzz_itk,
    "dataset.json": fuzz_list,
    "weights": fuzz_weights,
    "codes": fuzz_code,
    "records": fuzz_records,
    "anatomy table": fuzz_table,
}


def attempt(kind: str, seed: int) -> str:
    """``"right"``, ``"refused"``, or what went wrong."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {LIMIT_S} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT_S)
    try:
        with TemporaryDirectory() as folder:
            KINDS[kind](random.Random(f"{kind} {seed}"), Path(folder))
    except NearError as error:
        return "refused" if len(str(error).splitlines()) == 1 else f"more than one line: {error}"
    except Exception:
        return traceback.format_exc(limit=-4)
    finally:
        signal.alarm(0)
    return "right"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=2000, help="inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))  # a lie about the size must not cost memory
    found: Counter[tuple[str, str]] = Counter()
    for number in range(options.n):
        kind = list(KINDS)[number % len(KINDS)]
        outcome = attempt(kind, options.seed + number)
        if outcome not in ("right", "refused"):
            print(f"{kind}, seed {options.seed + number}:\n{outcome}")
            outcome = "wrong"
        found[kind, outcome] += 1
    print(f"{'kind':16} {'refused':>8} {'right':>8} {'wrong':>8}")
    for kind in KINDS:
        print(f"{kind:16} " + " ".join(f"{found[kind, outcome]:8}" for outcome in ("refused", "right", "wrong")))
    if any(outcome == "wrong" for _, outcome in found):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
