"""What a case and a training step cost, as ratios within one run: to reading and writing the file, to MONAI's U-Net, to
the described recipe.

    python -m benchmarks.performance LABEL.nii.gz -o OUT [--label fg] [--hearts MAP ...] [--maps FOLDER] [--training]

Writes ``table.md`` and ``performance.json``. The U-Net and the recipe would take minutes to hours here: a part of their
work is timed and scaled by the number of windows, planes or points, as the table says.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data.utils import dense_patch_slices
from monai.inferers import SlidingWindowInferer

from benchmarks import whole_commands
from benchmarks.unet import Denoiser
from benchmarks.whole_commands import commands, measured
from near_monai.data.class_selection import Wanted, choose_label, mask_of, parse_class
from near_monai.datasets.coronary_cases import phantom_cases
from near_monai.datasets.point_dataset import PointDataset
from near_monai.formats.atomic_writing import claim_empty, write_json, write_text
from near_monai.formats.label_maps import read_label, write_label
from near_monai.geometry.boxes import crop_box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.distance import signed_distance
from near_monai.inferers.case_code import table_code
from near_monai.inferers.decoding import decode
from near_monai.inferers.encoding import encode
from near_monai.networks.weight_files import load_network
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.one_structure import CONTEXT_MM
from near_monai.refinement.options import Options
from near_monai.repair.findings_to_check import find
from near_monai.repair.mask_repair import repair
from near_monai.shipped_files import bundle_dir

#: Windows of the U-Net on the whole map, as MONAI's tutorials set them.
ROI, OVERLAP = 96, 0.25
#: Windows per case and epoch of our training: 400 of 96 cases.
WINDOWS_PER_CASE = 400 / 96
#: Points per step and voxels per side of a redrawn case in the described recipe.
RECIPE_POINTS, RECIPE_SIDE = 128**3, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", type=Path, help="label file, best .nii.gz of a whole scan")
    parser.add_argument("-o", "--output", type=Path, required=True, help="new folder")
    parser.add_argument("--label", default="auto", help="class, fg or auto")
    parser.add_argument("--hearts", type=Path, nargs="*", default=[], help="label maps to refine with --all-labels")
    parser.add_argument("--maps", type=Path, help="folder of label maps to refine in one command")
    parser.add_argument("--training", action="store_true", help="also the default training, without data")
    parser.add_argument("--repeats", type=int, default=5, help="the median of so many is given")
    options = parser.parse_args()
    claim_empty(options.output)
    label = parse_class(options.label)
    # first, while this process is small: the memory of a process counts from that of the one that started it
    wanted = list(commands(options.case, options.label, options.hearts, options.maps, options.training))
    costs = measured(wanted, options.repeats)
    rounds = [_round(options.case, label) for _ in range(options.repeats)]
    figures = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    figures |= _recipe() | _training()
    figures["unet_inference"] = _unet(options.case)
    whole = {name: asdict(cost) for name, cost in costs.items()}
    write_json(options.output / "performance.json", {"median": figures, "rounds": rounds, "commands": whole})
    text = f"{table(figures)}\n{whole_commands.table(costs)}"
    write_text(options.output / "table.md", text)
    print(text)


def _timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    start = clock()
    result = work()
    return clock() - start, result


def _round(path: Path, label: Wanted) -> dict[str, float]:
    """Seconds of every stage and of the whole, and of reading and writing the same file with nibabel."""
    network, space = load_network()
    found: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        busy = time.process_time()
        found["read and write with nibabel"] = _timed(lambda: copy_file(path, Path(folder) / "copy.nii.gz"))[0]
        found["read and write with nibabel, CPU"] = time.process_time() - busy
        busy = time.process_time()
        run = lambda: refine_files(path, Path(folder) / "out", Options(label=label), quiet=True)  # noqa: E731
        found["refine"] = _timed(run)[0]
        found["refine, CPU"] = time.process_time() - busy
        found["read"], file = _timed(lambda: read_label(path))
        mask = mask_of(file.array, choose_label(file.array, label))
        box = crop_box(mask, file.grid.spacing, CONTEXT_MM)
        grid, mask = box.grid(file.grid), np.ascontiguousarray(mask[box.slices()])
        found["distance"] = _timed(lambda: signed_distance(mask, grid.spacing, space.truncate))[0]
        busy = time.process_time()
        found["encode, distance included"], code = _timed(lambda: encode(mask, grid, network, space))
        found["decode"], probability = _timed(lambda: decode(code, network.field, grid))
        found["encode and decode, CPU"] = time.process_time() - busy
        found["clean"], repaired = _timed(lambda: repair(mask, probability, grid))
        found["findings"] = _timed(lambda: find(mask, repaired, probability, grid))[0]
        found["write"] = _timed(lambda: write_label(Path(folder) / path.name, file.array, file))[0]
    return found


def copy_file(source: Path, target: Path) -> None:
    """Read a NIfTI file with nibabel, and write it."""
    image = nib.nifti1.load(source)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header), target)


@torch.no_grad()
def _unet(path: Path) -> float:
    """Seconds of MONAI's U-Net through a SlidingWindowInferer on the whole map: some windows, times their number."""
    shape = nib.nifti1.load(path).shape
    interval = [int(ROI * (1 - OVERLAP))] * 3
    windows = len(dense_patch_slices([max(n, ROI) for n in shape], [ROI] * 3, interval))
    inferer, unet = SlidingWindowInferer([ROI] * 3, overlap=OVERLAP), Denoiser().eval().unet
    some = torch.zeros(1, 1, ROI, ROI, ROI + 2 * interval[0])
    inferer(some[..., :ROI], unet)
    return _timed(lambda: inferer(some, unet))[0] / 3 * windows


def _recipe() -> dict[str, float]:
    """CPU seconds of the described recipe: to redraw 256^3 voxels, and of a step on one case."""
    configs = bundle_dir() / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / "train.json"), str(configs / "recipe.json")])
    parser["network_def#source#cases"] = 1
    network = parser.get_parsed_content("network_def")
    cube = Grid((RECIPE_SIDE,) * 3, (0.5,) * 3)
    code = table_code(network, 0, cube)

    def planes(count: int) -> Callable[[], Any]:
        return lambda: decode(code, network.field, cube.crop((0, 0, 0), (count, RECIPE_SIDE, RECIPE_SIDE)))

    def step(points: int) -> Callable[[], Any]:
        where = torch.rand(1, points, 3) * 2 - 1
        return lambda: network(torch.tensor([0]), where).square().mean().backward()

    return {
        "recipe_inference": _slope(planes, 4, 12, RECIPE_SIDE),
        "recipe_step": _slope(step, 2**15, 2**17, RECIPE_POINTS),
    }


def _slope(work: Callable[[int], Callable[[], Any]], few: int, more: int, full: int) -> float:
    """CPU seconds of ``full`` units, from those of ``few`` and ``more``."""
    work(few)()
    low, high = (min(_timed(work(count), time.process_time)[0] for _ in range(2)) for count in (few, more))
    return low + (high - low) / (more - few) * (full - few)


def _training() -> dict[str, float]:
    """CPU seconds of our training per case and epoch, and the share of the loader."""
    network, space = load_network()
    network.train()
    cases = phantom_cases(4, 0, space)
    dataset = PointDataset(cases, space, length=16)
    optimizer = torch.optim.AdamW(network.parameters())

    def load() -> list[dict[str, Any]]:
        return [dataset[n] for n in range(16)]

    def steps(items: list[dict[str, Any]]) -> None:
        for n in range(0, 16, 4):
            image, points = (torch.stack([item[key] for item in items[n : n + 4]]) for key in ("image", "points"))
            optimizer.zero_grad()
            network(image, points).square().mean().backward()
            optimizer.step()

    loading, items = _timed(load, time.process_time)
    steps(items)
    stepping = _timed(lambda: steps(items), time.process_time)[0]
    per_case = (loading + stepping) / 16 * WINDOWS_PER_CASE
    return {"training per case and epoch": per_case, "loader": loading / (loading + stepping)}


def table(figures: dict[str, float]) -> str:
    """Markdown: seconds of every stage in units of reading and writing the file, then the comparisons."""
    unit = figures["read and write with nibabel"]
    stages = ["refine", "read", "distance", "encode, distance included", "decode", "clean", "findings", "write"]
    lines = ["| stage | s | x read and write |", "|---|---|---|", f"| read and write with nibabel | {unit:.2f} | 1 |"]
    lines += [f"| {name} | {figures[name]:.2f} | {figures[name] / unit:.1f} |" for name in stages]
    cpu = figures["encode and decode, CPU"]
    rows = {
        "refine, CPU": f"{figures['refine, CPU']:.2f} s, "
        f"{figures['refine, CPU'] / figures['read and write with nibabel, CPU']:.1f} x read and write",
        f"U-Net, windows of {ROI} on the whole map (scaled from 3)": f"{figures['unet_inference']:.0f} s, "
        f"{figures['unet_inference'] / figures['refine']:.0f} x refine",
        f"recipe, {RECIPE_SIDE}^3 voxels (scaled from 12 planes)": f"{figures['recipe_inference']:.0f} CPU s, "
        f"{figures['recipe_inference'] / cpu:.0f} x encode and decode",
        "recipe, training per case and epoch (scaled from 2^17 points)": f"{figures['recipe_step']:.0f} CPU s, "
        f"{figures['recipe_step'] / figures['training per case and epoch']:.0f} x ours "
        f"({figures['training per case and epoch']:.2f} CPU s, {figures['loader']:.0%} of it the loader)",
    }
    return "\n".join([*lines, "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows.items())]) + "\n"


if __name__ == "__main__":
    main()
