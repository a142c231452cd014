"""Segments of a label map as 3D Slicer keeps them in the metadata of a NRRD file: value, layer, name, colour, extent.

What follows from the voxels (extents) is computed anew when a map is written; what people chose is kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from near_monai.formats.voxel_values import values_in
from near_monai.geometry.boxes import box_where

FIELD = re.compile(r"Segment(\d+)_(\w+)")
OFFSET, CONVERSION = "Segmentation_ReferenceImageExtentOffset", "Segmentation_ConversionParameters"
#: Of a segment without voxels.
EMPTY = "0 -1 0 -1 0 -1"


class Segment(NamedTuple):
    """A class of a label map: its value, its name and its colour (red, green, blue, 0..255)."""

    value: int
    name: str
    colour: tuple[int, int, int]


def fields_of(segments: Iterable[Segment], first: int = 0) -> dict[str, str]:
    """Names, values and colours of ``segments`` in Slicer's fields, numbered from ``first``."""
    fields: dict[str, str] = {}
    for number, segment in enumerate(segments, first):
        colour = " ".join(f"{value / 255:.3f}" for value in segment.colour)
        values = {"ID": segment.name, "Name": segment.name, "LabelValue": str(segment.value), "Color": colour}
        fields |= {f"Segment{number}_{key}": value for key, value in (values | {"Layer": "0"}).items()}
    return fields


def described(
    metadata: Mapping[str, str], array: NDArray[np.integer], segments: Iterable[Segment], moved: bool
) -> dict[str, str]:
    """Metadata of a label map.

    Args:
        metadata: those of the file that it comes from. Segments in them stay as they are, but for their extents.
        array: ``(X, Y, Z)`` the map.
        segments: what else is known by name: those are added whose value is in the map and has no segment yet.
        moved: the map is on another grid than that file.
    """
    fields = dict(metadata)
    known = _by_number(fields)
    present = [value for value in values_in(array) if value]
    named = {segment["LabelValue"] for segment in known.values() if segment["Layer"] == "0"}
    added = [segment for segment in segments if segment.value in present and str(segment.value) not in named]
    taken = {segment.get("ID") for segment in known.values()}
    new = fields_of(added, max(known, default=-1) + 1)
    fields |= {
        key: f"{value}_{new[key.replace('_ID', '_LabelValue')]}" if key.endswith("_ID") and value in taken else value
        for key, value in new.items()
    }
    extents: dict[str, str] = {}
    for number, segment in sorted(_by_number(fields).items()):
        if segment["Layer"] == "0":
            value = segment["LabelValue"]
            if value not in extents:
                extents[value] = _extent(array, int(value)) if value in map(str, present) else EMPTY
            fields[f"Segment{number}_Extent"] = extents[value]
    if moved and OFFSET in fields:
        fields[OFFSET] = "0 0 0"
        fields.pop(CONVERSION, None)  # it holds the geometry of the other grid
    return fields


def without_segments(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata that say nothing of segments: for what lies on the grid of a label map and is none."""
    return {key: value for key, value in metadata.items() if not key.startswith("Segment")}


def layers_of(metadata: Mapping[str, str]) -> str:
    """Names of the segments in every layer, in words; empty if there are none."""
    layers: defaultdict[str, list[str]] = defaultdict(list)
    for segment in _by_number(metadata).values():
        layers[segment["Layer"]].append(segment.get("Name", "?"))
    return "; ".join(f"layer {layer}: {', '.join(names)}" for layer, names in sorted(layers.items()))


def _by_number(metadata: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """The fields of every segment; Slicer up to 4.10 writes neither value nor layer, which are 1 and 0 then."""
    found: defaultdict[int, dict[str, str]] = defaultdict(lambda: {"LabelValue": "1", "Layer": "0"})
    for key, value in metadata.items():
        if match := FIELD.fullmatch(key):
            found[int(match[1])][match[2]] = value.strip()
    return dict(found)


def _extent(array: NDArray[np.integer], value: int) -> str:
    box = box_where(array, lambda part: part == value)
    return " ".join(f"{low} {high - 1}" for low, high in zip(box.start, box.stop, strict=True))
