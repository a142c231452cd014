"""Repair quality: every method on the same cases, paired, with 95 % intervals; tables and plots.

    python -m benchmarks.repair -o OUT                                       # generated trees, every noise level
    python -m benchmarks.repair -o OUT --truth DIR                           # your true labels, noise put on them
    python -m benchmarks.repair -o OUT --noisy DIR --truth DIR               # your noisy labels and their truth
    python -m benchmarks.repair -o OUT --weights "U-Net=runs/unet/best.pt"   # a row for other weights

Random errors (torn vessels, specks, leaks, rough walls) and systematic ones (wrong calibre, staircase), which look like
anatomy, are reported apart and together.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.measure import OURS, Job, gaussian_dice, measure, network_of
from benchmarks.methods import LEAVE_ONE_OUT, METHODS, ORACLE, best_setting, leave_one_out
from benchmarks.report import SetResult, write_report
from benchmarks.sets import CaseSet, corrupted_sets, folder_set, phantom_sets
from near_monai.anatomy import CORONARY
from near_monai.corruption.corrupt_label import NOISE_LEVELS
from near_monai.data.class_selection import parse_class
from near_monai.errors import NearError
from near_monai.formats.atomic_writing import claim_empty
from near_monai.networks.code_table import CodeTable

#: ``map`` over cases, in this process or in several.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder for tables and plots")
    parser.add_argument("--phantoms", type=int, default=6, help="generated trees per set")
    parser.add_argument("--seed", type=int, default=777, help="seed of trees and noise")
    parser.add_argument("--levels", nargs="+", default=list(NOISE_LEVELS), help="noise levels: names, or 0 to 1.5")
    parser.add_argument("--errors", nargs="+", default=["all", "random", "systematic"], help="kinds of errors")
    parser.add_argument("--truth", help="true label maps")
    parser.add_argument("--noisy", help="noisy label maps of the same names; without it, noise is put on the truth")
    parser.add_argument("--label", default=str(CORONARY), help="class to score: a number, or fg")
    parser.add_argument("--weights", nargs="+", default=[], metavar="NAME=PATH", help="rows that refine with weights")
    parser.add_argument("--folder", nargs="+", default=[], metavar="NAME=DIR", help="rows of label maps made elsewhere")
    parser.add_argument("--workers", type=int, default=1, help="processes, one case each")
    return parser.parse_args(arguments)


def named(pairs: Iterable[str], taken: Iterable[str]) -> dict[str, str]:
    """``NAME=VALUE`` pairs; raises NearError where a pair is none, or its name is in use."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals and value):
            raise NearError(f"{pair!r}; expected NAME=PATH")
        if name in found or name in taken:
            raise NearError(f"{pair!r}: there is a row {name!r} already; choose another name")
        found[name] = value
    return found


def sets_of(options: argparse.Namespace, folders: dict[str, str]) -> list[CaseSet]:
    """The sets that the options ask for."""
    label = parse_class(options.label)
    if options.noisy and not options.truth:
        raise NearError("--noisy needs --truth: label maps of the same names")
    if folders and not options.noisy:
        raise NearError("--folder needs --noisy and --truth: label maps of the same names")
    if options.noisy:
        return [folder_set(options.noisy, options.truth, label, folders)]
    if options.truth:
        return corrupted_sets(options.truth, label, options.seed, options.levels, options.errors)
    return phantom_sets(options.phantoms, options.seed, options.levels, options.errors)


def check_weights(weights: dict[str, str | None]) -> None:
    """Refuse weights that cannot refine a new label, before anything is measured."""
    for name, path in weights.items():
        if isinstance(network_of(path)[0].source, CodeTable):
            raise NearError(f"{name}: {path} holds codes of its own cases and no encoder; give its results as --folder")


@contextmanager
def mapper(workers: int) -> Iterator[Map]:
    """``map`` in this process for one worker, else in ``workers`` processes of one thread each."""
    if workers < 2:
        yield lambda measured, cases: (measured(case) for case in cases)  # ``map`` would end at a StopIteration inside
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads in any state
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        yield pool.map


def run_set(of: CaseSet, weights: dict[str, str | None], apply: Map, out: Path) -> SetResult:
    """Choose the Gaussian's settings, then measure every case; the first one is drawn."""
    names = [case.name for case in of.cases]
    bar = {"desc": of.name, "total": len(names), "unit": "case"}
    dice = dict(zip(names, tqdm(apply(gaussian_dice, of.cases), **bar, postfix="Gaussians"), strict=True))
    others, oracle = leave_one_out(dice), best_setting(dice.values())
    picture = out / f"render_{of.name.replace(', ', '_')}.png"
    jobs = [Job(c, others[c.name], oracle, weights, None if k else picture) for k, c in enumerate(of.cases)]
    return SetResult(of, list(tqdm(apply(measure, jobs), **bar)), dice, others, oracle)


def run(options: argparse.Namespace) -> None:
    """Measure all sets; tables and plots are complete after each of them."""
    taken = [*METHODS, LEAVE_ONE_OUT, ORACLE, OURS, "truth"]
    folders = named(options.folder, taken)
    weights: dict[str, str | None] = {OURS: None, **named(options.weights, [*taken, *folders])}
    sets = sets_of(options, folders)
    check_weights(weights)
    claim_empty(options.output)
    options.output.mkdir(parents=True, exist_ok=True)
    from benchmarks.plots import draw_all

    results: list[SetResult] = []
    with mapper(options.workers) as apply:
        for of in sets:
            results.append(run_set(of, weights, apply, options.output))
            draw_all(write_report(results, vars(options), options.output), options.output)
    print((options.output / "table.md").read_text(encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    """0 success, 1 failure (one line on stderr), 2 wrong usage."""
    try:
        run(parse(arguments))
    except NearError as error:
        print(f"repair: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
