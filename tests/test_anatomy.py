"""The table of the heart is the recipe's, and a table of another organ is checked."""

from pathlib import Path

import pytest

from near_monai import anatomy
from near_monai.errors import NearError

ROW = "- {index: 1, name: liver, components: 1, rank: 1, touches: []}\n"


def test_heart_is_the_recipe() -> None:
    assert [s.index for s in anatomy.HEART.structures] == list(range(1, 11))
    assert anatomy.priority(range(1, 11)) == [9, 8, 10, 2, 3, 1, 6, 4, 5, 7]
    pieces = {s.index: s.components for s in anatomy.HEART.structures}
    assert pieces == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 1, 8: 1, 9: 2, 10: 2}
    assert anatomy.by_name("coronary").index == anatomy.CORONARY == 9
    assert anatomy.by_name("coronary").touches == ("myocardium", "aorta")
    assert anatomy.by_name("left_atrial_appendage").touches == anatomy.by_name("pulmonary_veins").touches


def test_labels_outside_the_table_lose() -> None:
    assert anatomy.priority([30, 7, 20, 9]) == [9, 7, 30, 20]
    assert anatomy.rank(30) == 11
    assert anatomy.HEART.by_index(30) is None


def test_unknown_name() -> None:
    with pytest.raises(NearError, match="no structure called 'spleen'; expected one of myocardium"):
        anatomy.by_name("spleen")


def test_another_organ(tmp_path: Path) -> None:
    path = tmp_path / "liver.yaml"
    path.write_text(ROW + "- {index: 4, name: vein, components: 3, rank: 2, touches: [liver]}\n")
    assert anatomy.load(path).priority([4, 1]) == [1, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a YAML list"),
        ("index: 1", "expected a YAML list"),
        ("- [1, 2", "expected a YAML list"),
        ("- {index: 1, name: liver}", "with the keys index, name, components, rank and, if wanted, touches"),
        (ROW.replace("name", "size: 3, name"), "with the keys"),
        (ROW.replace("name", "colour: red, name"), "with the keys"),
        (ROW.replace("name", "colour: [0, 0, 256], name"), "three numbers 0..255"),
        (ROW.replace("name", "tubular: 3, name"), "expected true or false"),
        (ROW.replace("name", "scale: 0, name"), "scale above 0"),
        (ROW.replace("name", "trust: [0.1, 0.02, 0.5], name"), "rising, and a caution up to 0.5"),
        ("[]", "an empty table"),
        (ROW.replace("index: 1", "index: one"), "expected a YAML list"),
        (ROW + ROW, "every structure needs its own index"),
        (ROW + ROW.replace("index: 1", "index: 2").replace("liver", "vein"), "its own rank"),
        (ROW.replace("index: 1", "index: 0"), r"index 0 of liver; expected 1..65535"),
        (ROW.replace("[]", "[spleen]"), "liver touches spleen"),
    ],
)
def test_bad_tables_get_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "table.yaml"
    path.write_text(text)
    with pytest.raises(NearError, match=message) as caught:
        anatomy.load(path)
    assert "\n" not in str(caught.value)


def test_missing_table(tmp_path: Path) -> None:
    with pytest.raises(NearError, match="no anatomy table there"):
        anatomy.load(tmp_path / "nope.yaml")
