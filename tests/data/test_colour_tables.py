"""Tables for viewers, checked against the forms that 3D Slicer and ITK-SNAP read."""

import re
from pathlib import Path

from near_monai.anatomy import HEART
from near_monai.data.colour_tables import itksnap_table, segments_of, slicer_table, write_tables
from near_monai.formats.slicer_segments import fields_of


def test_slicer_rows_are_index_name_and_four_numbers() -> None:
    rows = [row.split() for row in slicer_table(HEART).splitlines() if not row.startswith("#")]
    assert [int(row[0]) for row in rows] == list(range(11))
    assert all(len(row) == 6 and all(0 <= int(v) <= 255 for v in row[2:]) for row in rows)


def test_itksnap_rows_have_seven_numbers_and_a_quoted_name() -> None:
    rows = [row for row in itksnap_table(HEART).splitlines() if not row.startswith("#")]
    assert all(re.fullmatch(r'\s*(\d+\s+){7}"[^"]+"', row) for row in rows)
    assert len(rows) == 11


def test_every_structure_has_its_own_colour() -> None:
    assert len({s.colour for s in HEART.structures}) == len(HEART.structures)


def test_segments_name_every_class() -> None:
    fields = fields_of(segments_of(HEART))
    assert fields["Segment8_Name"] == "coronary"
    assert fields["Segment8_LabelValue"] == "9"
    assert len(fields) == 5 * len(HEART.structures)


def test_tables_are_written(tmp_path: Path) -> None:
    write_tables(tmp_path, HEART)
    assert {path.name for path in tmp_path.iterdir()} == {"labels.ctbl", "labels.txt"}
