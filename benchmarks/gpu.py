"""What a GPU makes of training and of refining, and what limits it.

    python -m benchmarks.gpu -o OUT [--maps FOLDER] [--label fg] [--hearts MAP ...] [--full] [--compile]

Writes ``table.md`` and ``gpu.json``, anew after every part. Training and hearts are whole commands in processes of
their own. An epoch takes a window of every case; ``--full`` also makes the shipped coronary weights from nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.performance import copy_file
from benchmarks.whole_commands import cost_of
from near_monai.data.case_lists import find_cases
from near_monai.data.class_selection import parse_class
from near_monai.errors import NearError, in_one_line, some
from near_monai.formats.atomic_writing import claim_empty, write_json, write_text
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.runs.run_records import DONE, Row
from near_monai.shipped_files import bundle_dir
from near_monai.training.training_curves import History

#: Cases of ImageCAS in the paper that this follows, and windows per case and epoch of our training: 400 of 96.
CASES, WINDOWS_PER_CASE = 998, 400 / 96
#: How the shipped weights are made, see the model card.
FULL = ["--max-epochs", "110", "--val-interval", "55", "--windows-per-epoch", "400", "--phantoms", "192"]
#: Nothing but the steps of training.
BARE = {"training": ["@start", "$@train#trainer.run()"]}
#: Side of the matrices whose product says what the card can do.
SIDE = 8192
STEPS = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder; the cache of trees stays there")
    parser.add_argument("--maps", type=Path, help="folder of label maps to refine")
    parser.add_argument("--label", default="auto", help="class of these, fg or auto")
    parser.add_argument("--hearts", type=Path, nargs="*", default=[], help="label maps to refine with --all-labels")
    parser.add_argument("--full", action="store_true", help="also train to the shipped quality")
    parser.add_argument("--compile", action="store_true", help="also the steps by torch.compile")
    parser.add_argument("--cases", type=int, default=CASES)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("no GPU here: torch finds no CUDA device")
    claim_empty(options.output)
    card = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "cores": os.cpu_count()}
    found: dict[str, Any] = {"device": card}
    rows: list[tuple[str, str]] = []
    for name, part in parts(options):
        try:
            found[name], lines = part()
        except (Exception, SystemExit) as error:  # the others are worth their time
            traceback.print_exc()
            lines = [(name, f"failed: {in_one_line(error)}")]
        rows += lines
        write_json(options.output / "gpu.json", found)
        write_text(options.output / "table.md", table(card, rows))
    print(table(card, rows))


#: Figures, and rows of the table.
Part = tuple[Any, list[tuple[str, str]]]


def parts(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Part]]]:
    """What is wanted; long parts and what others need first."""
    yield "epoch", partial(epoch, options.output, options.cases)
    if options.full:
        yield "full", partial(full, options.output)
    if options.maps:
        yield "maps", partial(maps, options.maps, options.label)
    for heart in options.hearts:
        yield heart.name, partial(whole_heart, heart)
    yield "steps", partial(steps, compiled=False)
    if options.compile:
        yield "compiled steps", partial(steps, compiled=True)


def table(card: dict[str, Any], rows: Sequence[tuple[str, str]]) -> str:
    """Markdown."""
    head = f"{card['card']}, torch {card['torch']}, {card['cores']} cores"
    return "\n".join([f"| {head} | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]) + "\n"


def _seconds(work: Callable[[], Any], repeats: int = 1) -> float:
    """Median seconds of ``work``, with all that it left the card to do."""
    taken = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _peak(dtype: torch.dtype) -> float:
    """Operations per second of a large product of matrices."""
    matrix = torch.rand(SIDE, SIDE, device="cuda", dtype=dtype)
    _seconds(lambda: matrix @ matrix)
    return 2 * SIDE**3 / _seconds(lambda: matrix @ matrix, 10)


class Training:
    """The bundle's network, loss and optimiser, and one batch of its loader."""

    def __init__(self, amp: bool, compiled: bool) -> None:
        parser = ConfigParser()
        parser.read_config(str(bundle_dir() / "configs" / "train.json"))
        parser.update({"phantoms": 2, "cache": "", "num_workers": 0})
        torch.backends.cudnn.deterministic = True  # as MONAI sets it in training
        self.network = parser.get_parsed_content("network").train()
        self.batch = next(iter(parser.get_parsed_content("train#dataloader")))
        self.loss, self.optimizer = parser.get_parsed_content("loss"), parser.get_parsed_content("optimizer")
        self.call = torch.compile(self.network) if compiled else self.network
        self.amp = amp
        self.scaler = torch.amp.GradScaler("cuda", enabled=amp)
        self.move()

    def move(self) -> None:
        """Bring the batch to the card."""
        self.image, self.points, self.label = (self.batch[key].cuda() for key in ("image", "points", "label"))

    def learn(self) -> None:
        """Forward and backward."""
        self.optimizer.zero_grad()
        with torch.autocast("cuda", enabled=self.amp):
            loss = self.loss(self.call(self.image, self.points), self.label)
        self.scaler.scale(loss).backward()

    def step(self) -> None:
        """What the trainer does with a batch."""
        self.move()
        self.learn()
        self.scaler.step(self.optimizer)
        self.scaler.update()


def steps(compiled: bool) -> Part:
    """A training step with and without mixed precision: how long, how long the card is busy, share of its peak."""
    figures, rows = [], []
    for amp in (True, False):
        training = Training(amp, compiled)
        first = _seconds(training.step)
        _seconds(training.step, 10)
        taken = _seconds(training.step, STEPS)
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
            _seconds(training.step, 10)
        kernels = [event for event in found.key_averages() if event.device_type == DeviceType.CUDA]
        busy = sum(event.self_device_time_total for event in kernels) / 10 * 1e-6
        with FlopCounterMode(display=False) as counter:
            Training(amp, False).learn()
        peak = _peak(torch.float16 if amp else torch.float32)
        share = counter.get_total_flops() / taken / peak
        move = _seconds(training.move, STEPS)
        row = {"amp": amp, "compiled": compiled, "first_s": first, "step_s": taken, "busy_s": busy, "move_s": move}
        figures.append(row | {"flops": counter.get_total_flops(), "peak": peak, "share": share})
        text = f"{taken * 1e3:.1f} ms; kernels {busy * 1e3:.1f} ms, transfers {move * 1e3:.2f} ms; "
        text += f"{share:.2%} of {peak / 1e12:.0f} TFLOP/s; the first {first:.0f} s"
        how = f"AMP {'on' if amp else 'off'}{', torch.compile' if compiled else ''}"
        rows.append((f"step of {len(training.image)} windows, {how}", text))
    return figures, rows


def epoch(output: Path, cases: int) -> Part:
    """An epoch of one window per case, once the loader processes have started."""
    bare = output / "bare.json"
    write_json(bare, BARE)
    words = f"--phantoms {cases} --windows-per-epoch {cases} --max-epochs 3 --val-interval 9".split()
    cost = cost_of(["near_monai", "train", "-o", str(output / "epoch"), *_cache(output), "--config", str(bare), *words])
    taken = [row["seconds"] for row in History(output / "epoch").rows()]
    one = statistics.median(taken[1:])
    figures = {"cases": cases, "epochs_s": taken, "command_s": cost.wall, "command_cpu_s": cost.cpu}
    return figures, [
        (f"epoch of {cases} cases, a window of each", f"{one:.1f} s, {cases / one:.0f} windows/s"),
        (f"the same, {WINDOWS_PER_CASE:.2f} windows of each", f"{one * WINDOWS_PER_CASE:.1f} s (scaled)"),
        (f"that command: {cases} trees made, 3 epochs, validation", f"{cost.wall:.0f} s, {cost.cpu:.0f} CPU s"),
    ]


def full(output: Path) -> Part:
    """The shipped coronary weights from nothing."""
    cost = cost_of(["near_monai", "train", "-o", str(output / "full"), *_cache(output), *FULL])
    taken = [row["seconds"] for row in History(output / "full").rows()]
    figures = {"command_s": cost.wall, "command_cpu_s": cost.cpu, "epochs_s": taken}
    text = f"{cost.wall:.0f} s, {cost.cpu:.0f} CPU s; epochs of 400 windows {statistics.median(taken):.2f} s"
    return figures, [("coronary weights from nothing, held-out cases scored", text)]


def _cache(output: Path) -> list[str]:
    return ["--cache", str(output / "cache")]


def maps(folder: Path, label: str) -> Part:
    """Every map of a folder, beside reading and writing it; the first one before, so that the card is awake."""
    cases = find_cases(folder)
    with TemporaryDirectory() as temporary:
        work = Path(temporary)

        def copy() -> None:
            for case in cases:
                copy_file(case.label, work / case.label.name)

        def refine(source: Path, name: str, device: str) -> float:
            wanted = Options(label=parse_class(label), device=device)
            return _seconds(lambda: check(refine_files(source, work / name, wanted, quiet=True)))

        def check(run: Row) -> None:
            if failed := [row["name"] for row in run["cases"] if row["status"] != DONE]:
                raise NearError(f"{folder}: not refined: {some(failed)}")

        first = cases[0].label
        refine(first, "first", "cuda")
        one = {device: refine(first, f"again_{device}", device) for device in ("cuda", "cpu")}
        each, copied = refine(folder, "all", "cuda") / len(cases), _seconds(copy) / len(cases)
    return {"maps": len(cases), "refine_s": each, "copy_s": copied, "first_s": one}, [
        (f"{len(cases)} maps refined, per map", f"{each:.2f} s, {each - copied:.2f} s beyond reading and writing"),
        ("the first of them", f"{one['cuda']:.2f} s; on the cores {one['cpu']:.2f} s"),
    ]


def whole_heart(path: Path) -> Part:
    """A fused map, all classes."""
    with TemporaryDirectory() as folder:
        cost = cost_of(["near_monai", "refine", str(path), "-o", str(Path(folder) / "out"), "--all-labels", "--quiet"])
    return asdict(cost), [(f"{path.name} --all-labels, whole command", f"{cost.wall:.1f} s, {cost.cpu:.1f} CPU s")]


if __name__ == "__main__":
    main()
