"""Names and colours of a label map in the forms that viewers read."""

from __future__ import annotations

from pathlib import Path

from near_monai.anatomy import Anatomy
from near_monai.formats.atomic_writing import write_text
from near_monai.formats.slicer_segments import Segment

SLICER_FILE, ITKSNAP_FILE = "labels.ctbl", "labels.txt"


def write_tables(folder: Path, anatomy: Anatomy) -> None:
    """Write the table as a 3D Slicer colour table (``labels.ctbl``) and an ITK-SNAP label file (``labels.txt``)."""
    write_text(folder / SLICER_FILE, slicer_table(anatomy))
    write_text(folder / ITKSNAP_FILE, itksnap_table(anatomy))


def slicer_table(anatomy: Anatomy) -> str:
    """3D Slicer colour table: index, name, red, green, blue and opacity, 0..255; no blanks in names."""
    rows = ["# near_monai", "0 background 0 0 0 0"]
    rows += [f"{s.index} {s.name.replace(' ', '_')} {_rgb(s.colour)} 255" for s in anatomy.structures]
    return "\n".join(rows) + "\n"


def itksnap_table(anatomy: Anatomy) -> str:
    """ITK-SNAP label description file: index, red, green, blue, opacity, visibility, mesh visibility, name."""
    rows = ["# ITK-SnAP Label Description File", '    0     0    0    0        0  0  0    "Clear Label"']
    rows += [f'{s.index:5d} {_rgb(s.colour)}        1  1  1    "{s.name}"' for s in anatomy.structures]
    return "\n".join(rows) + "\n"


def segments_of(anatomy: Anatomy) -> list[Segment]:
    """The classes of the table as segments of a label map."""
    return [Segment(structure.index, structure.name, structure.colour) for structure in anatomy.structures]


def _rgb(colour: tuple[int, int, int]) -> str:
    return " ".join(str(value) for value in colour)
