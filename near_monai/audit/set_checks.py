"""Cases that do not fit the rest of their set: outliers, missing and swapped classes, flips, copies, other grids.

No case is judged alone here. What most of the cases have is taken for right, by medians, so that a few wrong ones do
not hide each other; a set of fewer than :data:`FEWEST` cases says nothing.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from near_monai.audit.case_geometry import unpacked
from near_monai.errors import some
from near_monai.geometry.coordinates import FloatArray

#: Fewer cases are no set.
FEWEST = 8
#: From so many robust standard deviations on a figure is an outlier, and is said.
OUTLIER = 5.0
#: A class is expected, and an order of the axes usual, if so many of the cases have it.
MOST = 0.8
#: A class is foreign if no more of the cases have it.
FEW = 0.05
#: What one robust standard deviation is at least: of logarithms, of those of voxel sizes and counts, of mm, of a fit.
LEAST_LOG, LEAST_SIZE, LEAST_COUNT, LEAST_MM, LEAST_FIT = 0.03, 0.1, 0.3, 3.0, 0.005
#: A picture is compared with so many others that are most like it: sets have several kinds of anatomy.
LIKE = 10
#: How much nearer two classes must be to each other's usual places and sizes than to their own.
SWAPPED = 0.5
#: What is beyond doubt weighs so many robust standard deviations.
CERTAIN = 50.0

AXES = ("left-right", "front-back", "head-foot")


#: What is known of every case, by name.
Cases = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Remark:
    """Why a case does not fit its set: how far in robust standard deviations, and in words."""

    weight: float
    text: str


Found = list[tuple[str, Remark]]


def set_remarks(cases: Cases) -> dict[str, list[Remark]]:
    """What is unusual about every case, by name; the largest weight first. Few of it is worth to be :func:`said`.

    Args:
        cases: per name what :func:`near_monai.audit.case_geometry.geometry_of` gives, and per class its ``components``.
    """
    found: dict[str, list[Remark]] = {name: [] for name in cases}
    checks = [_copies]
    if len(cases) >= FEWEST:
        checks += [_numbers, _classes, _axes, _turned, _swapped]
    for check in checks:
        for name, remark in check(cases):
            found[name].append(remark)
    return {name: sorted(remarks, key=lambda remark: -remark.weight) for name, remarks in found.items()}


def said(remarks: Sequence[Remark]) -> list[Remark]:
    """Those that a person is told."""
    return [remark for remark in remarks if remark.weight >= OUTLIER]


def set_weight(remarks: Sequence[Remark]) -> float:
    """How little a case fits its set: from 1 on something is probably wrong."""
    return max((remark.weight for remark in remarks), default=0.0) / OUTLIER


def robust(values: FloatArray, least: float) -> FloatArray:
    """How far ``values`` are from their median in robust standard deviations, which are ``least`` or more.

    One is 1.48 times the median deviation.
    """
    middle = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - middle))
    return np.asarray((values - middle) / max(float(spread), least))


def _copies(cases: Cases) -> Found:
    """Same content under two names."""
    same: defaultdict[str, list[str]] = defaultdict(list)
    for name, case in cases.items():
        same[case["content"]].append(name)
    groups = [names for names in same.values() if len(names) > 1]
    return [
        (name, Remark(CERTAIN, f"same content as {some([other for other in names if other != name])}"))
        for names in groups
        for name in names
    ]


def _numbers(cases: Cases) -> Found:
    """Volume, extent, pieces, position and voxel size, far from what the set has."""
    found: Found = []
    labels = _labels(cases)
    for label in labels:
        rows = {name: case["classes"][label] for name, case in cases.items() if label in case["classes"]}
        if len(rows) < FEWEST:
            continue
        of = f" of class {label}" if len(labels) > 1 else ""
        found += _outliers(rows, "volume_mm3", LEAST_LOG, f"volume{of}", "mm3")
        found += _outliers(rows, "components", LEAST_COUNT, f"number of pieces{of}")
        for axis, way in enumerate(AXES):
            extent, centre = ({n: row[key][axis] for n, row in rows.items()} for key in ("extent_mm", "centre_mm"))
            found += _far(extent, np.log(np.maximum(list(extent.values()), 1.0)), LEAST_LOG, f"{way} extent{of}", "mm")
            found += _far(centre, np.array(list(centre.values())), LEAST_MM, f"{way} position{of}", "mm")
    for axis in range(3):
        sizes = {name: case["spacing"][axis] for name, case in cases.items()}
        found += _far(sizes, np.log(list(sizes.values())), LEAST_SIZE, f"voxel size along axis {axis}", "mm")
    return found


def _labels(cases: Cases) -> list[str]:
    """All classes of a set."""
    return sorted(
        {label for case in cases.values() for label in case["classes"]}, key=lambda label: (len(label), label)
    )


def _outliers(rows: Cases, key: str, least: float, what: str, unit: str = "") -> Found:
    """Outliers of the logarithm of a figure."""
    values = {name: row[key] for name, row in rows.items()}
    return _far(values, np.log(list(values.values())), least, what, unit)


def _far(values: Mapping[str, float], compared: FloatArray, least: float, what: str, unit: str) -> Found:
    usual = float(np.median(list(values.values())))
    return [
        (name, Remark(abs(float(far)), f"{what}: {value:.4g} {unit}".rstrip() + f", in the set {usual:.4g}"))
        for (name, value), far in zip(values.items(), robust(compared, least), strict=True)
    ]


def _classes(cases: Cases) -> Found:
    """Classes that a case lacks, or has alone."""
    count = Counter(label for case in cases.values() for label in case["classes"])
    usual = {label for label, n in count.items() if n >= MOST * len(cases)}
    rare = {label for label, n in count.items() if n <= FEW * len(cases)}
    found: Found = []
    for name, case in cases.items():
        own = set(case["classes"])
        if missing := sorted(usual - own):
            found.append((name, Remark(CERTAIN, f"lacks class {', '.join(missing)}, which the set has")))
        if extra := sorted(own & rare):
            found.append(
                (name, Remark(2 * OUTLIER, f"holds class {', '.join(extra)}, which hardly any other case has"))
            )
    return found


def _axes(cases: Cases) -> Found:
    """Another order or direction of the array's axes than the set has."""
    count = Counter(case["axes"] for case in cases.values())
    (usual, n), *_ = count.most_common(1)
    if n < MOST * len(cases):
        return []
    return [
        (name, Remark(OUTLIER, f"axes are {case['axes']}, those of the set {usual}"))
        for name, case in cases.items()
        if case["axes"] != usual
    ]


def turns() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """All orders and flips of three axes, as they are first."""
    orders, flips = itertools.permutations(range(3)), list(itertools.product((1, -1), repeat=3))
    return [(order, flip) for order in orders for flip in flips]


def turned(picture: FloatArray, order: Sequence[int], flip: Sequence[int]) -> FloatArray:
    """A picture with its axes in another order and direction."""
    return np.transpose(picture, order)[tuple(slice(None, None, step) for step in flip)]


def _turned(cases: Cases) -> Found:
    """Cases that are spread like no other, or more like the others if turned or mirrored.

    Nothing if the set has no common pose.
    """
    pictures = np.stack([unpacked(case["picture"]) for case in cases.values()])
    flat = pictures.reshape(len(pictures), -1)
    copies = flat @ flat.T > 1 - 1e-4  # of a copy nothing is learned
    fits = []
    for turn in turns():
        like = np.stack([turned(picture, *turn) for picture in pictures]).reshape(len(pictures), -1) @ flat.T
        like[copies] = -1
        fits.append(np.sort(like, axis=1)[:, -LIKE:].mean(1))
    fit = np.array(fits).T
    gain = fit[:, 1:].max(1) - fit[:, 0]
    if (gain > 0).mean() > 1 - MOST:
        return []
    better, alone = robust(gain, LEAST_FIT), -robust(fit[:, 0], LEAST_FIT)
    best = fit[:, 1:].argmax(1) + 1
    found: Found = []
    for number, name in enumerate(cases):
        way = f"more like the others {_way(*turns()[best[number]])}"
        found.append((name, Remark(float(better[number]), way)))
        unlike = "spread like no other: something is missing or too much, or it is another organ"
        found.append((name, Remark(float(alone[number]), unlike)))
    return found


def _way(order: Sequence[int], flip: Sequence[int]) -> str:
    """A turn in words."""
    mirrored = [AXES[axis] for axis in range(3) if flip[axis] < 0]
    moved = list(order) != [0, 1, 2]
    return " and ".join(["with its axes in another order"] * moved + [f"mirrored {axis}" for axis in mirrored])


def _swapped(cases: Cases) -> Found:
    """Pairs of classes that are at each other's usual place and of each other's usual size."""
    labels = _labels(cases)
    if len(labels) < 2:
        return []
    rows = np.full((len(cases), len(labels), 4), np.nan)
    for case, row in zip(cases.values(), rows, strict=True):
        known = [(labels.index(label), values) for label, values in case["classes"].items()]
        centre = np.mean([values["centre_mm"] for _, values in known], 0)
        apart = np.array([values["centre_mm"] for _, values in known]) - centre
        size = float(np.sqrt((apart**2).sum(1).mean())) or 1.0
        for (at, values), offset in zip(known, apart / size, strict=True):
            row[at] = [*offset, np.log(values["volume_mm3"])]
    usual = np.nanmedian(rows, axis=0)
    found: Found = []
    for name, row in zip(cases, rows, strict=True):
        for one, other in itertools.combinations(range(len(labels)), 2):
            as_is = np.abs(row[[one, other]] - usual[[one, other]]).sum()
            other_way = np.abs(row[[one, other]] - usual[[other, one]]).sum()
            weight = OUTLIER * float(as_is - other_way) / SWAPPED
            if weight > 0:
                found.append((name, Remark(weight, f"classes {labels[one]} and {labels[other]} look swapped")))
    return found
