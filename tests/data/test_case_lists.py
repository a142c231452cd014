"""Every layout of a data set that people have gives the same cases, and a broken one gives one line."""

import json
from pathlib import Path

import pytest

from near_monai.data.case_lists import Case, case_name, find_cases, match_cases
from near_monai.errors import NearError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def describe(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def names(cases: list[Case]) -> list[str]:
    return [case.name for case in cases]


@pytest.mark.parametrize(
    ("file", "name"),
    [("90.img.nii.gz", "90.img"), ("a.b.NII.GZ", "a.b"), ("x.nrrd", "x"), ("x.mhd", "x"), ("x.nii", "x")],
)
def test_case_name(file: str, name: str) -> None:
    assert case_name(f"some/where/{file}") == name


def test_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b.nii.gz", "90.img.nii.gz", "c.nrrd", "d.mha", "._b.nii.gz", ".x.nii", "notes.txt", "sub/e.nii")
    assert names(find_cases(tmp_path)) == ["90.img", "b", "c", "d", "sub/e"]
    assert find_cases(tmp_path)[1] == Case("b", tmp_path / "b.nii.gz", None)


def test_single_file(tmp_path: Path) -> None:
    touch(tmp_path, "labelsTr/b.nii.gz", "truthTr/b.nii.gz", "alone.nii")
    assert find_cases(tmp_path / "alone.nii") == [Case("alone", tmp_path / "alone.nii")]


def test_labels_folder_with_truth(tmp_path: Path) -> None:
    touch(tmp_path, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "truthTr/b.nii.gz", "top.nii.gz")
    expected = [
        Case("a", tmp_path / "labelsTr/a.nii.gz"),
        Case("b", tmp_path / "labelsTr/b.nii.gz", tmp_path / "truthTr/b.nii.gz"),
    ]
    assert find_cases(tmp_path) == expected
    assert find_cases(tmp_path / "labelsTr") == expected


def test_msd(tmp_path: Path) -> None:
    touch(tmp_path, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "truthTr/a.nii.gz", "labelsTr/unlisted.nii.gz")
    entries = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in "ba"]
    description = describe(
        tmp_path / "dataset.json", {"numTraining": 2, "training": entries, "test": ["./imagesTs/c.nii.gz"]}
    )
    for source in (tmp_path, description):
        assert find_cases(source) == [
            Case("a", tmp_path / "labelsTr/a.nii.gz", tmp_path / "truthTr/a.nii.gz"),
            Case("b", tmp_path / "labelsTr/b.nii.gz"),
        ]


def test_relative_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "labelsTr/a.nii.gz")
    describe(tmp_path / "dataset.json", {"training": [{"label": "labelsTr/a.nii.gz"}]})
    monkeypatch.chdir(tmp_path)
    for source in (".", "dataset.json"):
        assert find_cases(source) == [Case("a", Path("labelsTr/a.nii.gz"))]


def test_nnunet(tmp_path: Path) -> None:
    touch(tmp_path, "labelsTr/a.mha", "labelsTr/b.mha", "labelsTr/c.nii.gz", "imagesTr/a_0000.mha")
    content = {"channel_names": {"0": "CT"}, "labels": {"background": 0}, "numTraining": 2, "file_ending": ".mha"}
    describe(tmp_path / "dataset.json", content)
    assert names(find_cases(tmp_path)) == ["a", "b"]
    describe(tmp_path / "dataset.json", content | {"numTraining": 3})
    with pytest.raises(NearError, match=r"numTraining is 3, but .* holds 2 files \.mha"):
        find_cases(tmp_path)
    describe(tmp_path / "dataset.json", content | {"file_ending": ".png"})
    with pytest.raises(NearError, match=r"file_ending '\.png'; expected one of"):
        find_cases(tmp_path)


def test_nnunet_predictions(tmp_path: Path) -> None:
    """nnUNetv2_predict copies the dataset.json of the training set beside its output."""
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    describe(tmp_path / "dataset.json", {"numTraining": 40, "file_ending": ".nii.gz"})
    assert names(find_cases(tmp_path)) == ["a", "b"]


def test_datalist(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.nii.gz", "data/t/a.nii.gz", "data/b.nii.gz", "elsewhere/c.nii.gz")
    content = {
        "training": [{"label": "a.nii.gz", "truth": "t/a.nii.gz", "noisy": "b.nii.gz"}],
        "validation": [
            {"label": "b.nii.gz", "noisy": "a.nii.gz"},
            {"label": str(tmp_path / "elsewhere/c.nii.gz"), "noisy": "../elsewhere/c.nii.gz"},
        ],
    }
    source = describe(tmp_path / "data/list.json", content)
    cases = find_cases(source)
    assert names(cases) == ["a", "b", "c"]
    assert [case.truth for case in cases] == [tmp_path / "data/t/a.nii.gz", None, None]
    assert cases[2].label == tmp_path / "elsewhere/c.nii.gz"
    assert [case.label.name for case in find_cases(source, key="noisy")] == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def test_links_inside_a_data_set_are_followed(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.nii.gz")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.nii.gz").symlink_to(tmp_path / "store" / "a.nii.gz")
    describe(tmp_path / "data/dataset.json", {"training": [{"label": "a.nii.gz"}]})
    assert names(find_cases(tmp_path / "data")) == ["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"training": [{"label": "../out.nii.gz"}]}, r"lists \.\./out\.nii\.gz, which is outside"),
        ({"training": [{"label": "labelsTr/../../out.nii.gz"}]}, "which is outside"),
        ({"training": [{"label": "/etc/passwd"}]}, "which is outside"),
        ({"training": [{"label": "x" * 300 + ".nii.gz"}]}, "there is no such file"),
        ({"training": [{"label": "gone.nii.gz"}]}, "lists gone.nii.gz, but there is no such file"),
        ({"training": [{"label": "in.nii.gz", "truth": "gone.nii.gz"}]}, "lists gone.nii.gz"),
        ({"training": [{"label": "in.txt"}]}, "lists in.txt; expected one of"),
        ({"training": [{"label": "in.nii.gz"}, {"label": "in.nii.gz"}]}, "case names must differ"),
        ({"training": [{"image": "in.nii.gz"}]}, "path of a label under 'label'"),
        ({"training": ["in.nii.gz"]}, "expected a mapping"),
        ({"training": []}, "expected a list 'training'"),
        ({"training": "all"}, "expected a list 'training'"),
        ({"files": []}, "expected a list 'training'"),
        ([1, 2], "expected a list 'training'"),
    ],
)
def test_bad_descriptions_get_one_line(tmp_path: Path, content: object, message: str) -> None:
    touch(tmp_path, "out.nii.gz", "data/in.nii.gz", "data/in.txt")
    describe(tmp_path / "data/dataset.json", content)
    with pytest.raises(NearError, match=message) as caught:
        find_cases(tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_bad_sources_get_one_line(tmp_path: Path) -> None:
    touch(tmp_path, "both/a.nii", "both/a.nii.gz", "notes.txt", "bad.json", "empty/.hidden.nii.gz", ".nii.gz")
    for source, message in {
        "both": r"these share one: .*a\.nii.*a\.nii",
        "notes.txt": r"expected a folder, a \.json",
        "bad.json": "not JSON",
        "empty": "no label maps",
        "gone": "no such file or folder",
        ".nii.gz": "has no name before its suffix",
    }.items():
        with pytest.raises(NearError, match=message) as caught:
            find_cases(tmp_path / source)
        assert "\n" not in str(caught.value)


def test_match_by_name_ignores_extra_predictions(tmp_path: Path) -> None:
    touch(tmp_path, "pred/a.nii.gz", "pred/b.nrrd", "pred/extra.nii.gz", "truth/a.nii.gz", "truth/b.nii.gz")
    assert match_cases(tmp_path / "pred", tmp_path / "truth") == [
        ("a", tmp_path / "pred/a.nii.gz", tmp_path / "truth/a.nii.gz"),
        ("b", tmp_path / "pred/b.nrrd", tmp_path / "truth/b.nii.gz"),
    ]


def test_match_names_what_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "pred/a.nii.gz", "truth/a.nii.gz", "truth/b.nii.gz", "truth/c.nii.gz")
    with pytest.raises(NearError, match=r"no prediction for 2 of 3 cases: b, c"):
        match_cases(tmp_path / "pred", tmp_path / "truth")


def test_match_single_files_and_own_truth(tmp_path: Path) -> None:
    touch(tmp_path, "x.nii", "y.nii", "labelsTr/a.nii.gz", "truthTr/a.nii.gz", "pred/a.nii.gz")
    assert match_cases(tmp_path / "x.nii", tmp_path / "y.nii") == [("y", tmp_path / "x.nii", tmp_path / "y.nii")]
    truth = tmp_path / "truthTr/a.nii.gz"
    assert match_cases(tmp_path / "pred", tmp_path) == [("a", tmp_path / "pred/a.nii.gz", truth)]
    assert match_cases(tmp_path, tmp_path) == [("a", tmp_path / "labelsTr/a.nii.gz", truth)]


LAYOUTS = {
    "patients": (["p1/seg.nii.gz", "p2/seg.nii.gz"], ["p1/seg", "p2/seg"]),
    "TotalSegmentator": (
        ["s0001/ct.nii.gz", "s0001/segmentations/aorta.nii.gz", "s0002/segmentations/aorta.nii.gz"],
        ["s0001/segmentations/aorta", "s0002/segmentations/aorta"],
    ),
    "BIDS": (
        ["sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/sub-01_dseg.nii.gz", "sub-02/anat/sub-02_dseg.nii.gz"],
        ["sub-01/anat/sub-01_dseg", "sub-02/anat/sub-02_dseg"],
    ),
    "test set": (["imagesTs/a_0000.nii.gz", "labelsTs/a.nii.gz"], ["a"]),
    "both sets": (
        ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "labelsTs/a.nii.gz", "top.nii.gz"],
        ["labelsTr/a", "labelsTs/a"],
    ),
    "patients in a set": (["labelsTr/p1/seg.nii.gz", "labelsTr/p2/seg.nii.gz"], ["p1/seg", "p2/seg"]),
    "hidden": ([".cache/a.nii.gz", "p1/.b.nii.gz", "p1/c.nii.gz"], ["p1/c"]),
    "a run inside": (["a.nii.gz", "out/a.nii.gz", "out/run.json", "out/bridges/a.nii.gz"], ["a"]),
    "a run": (
        ["run.json", "p1/a.nii.gz", "bridges/p1/a.nii.gz", "probability/p1/a.nii.gz", "reviewed/a.nii"],
        ["p1/a"],
    ),
    "fused inside": (["a.nii.gz", "both/a.nii.gz", "both/fuse.json"], ["a"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    files, expected = LAYOUTS[layout]
    touch(tmp_path, *files)
    assert names(find_cases(tmp_path)) == expected


def test_truth_of_a_case_in_a_folder_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "labelsTr/p1/a.nii.gz", "truthTr/p1/a.nii.gz", "labelsTr/p2/a.nii.gz")
    assert [case.truth for case in find_cases(tmp_path)] == [tmp_path / "truthTr/p1/a.nii.gz", None]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.nii.gz", "data/b.nii.gz")
    (tmp_path / "data" / "p1").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "again").symlink_to(tmp_path / "data")
    assert names(find_cases(tmp_path / "data")) == ["b", "p1/a"]


def test_results_keep_folder_and_suffix() -> None:
    assert Case("p1/a.b", Path("x/p1/a.b.NII.gz")).file == "p1/a.b.NII.gz"


def test_lists_of_one_name_in_several_folders(tmp_path: Path) -> None:
    touch(tmp_path, "p1/seg.nii.gz", "p2/seg.nii.gz")
    describe(tmp_path / "dataset.json", {"training": [{"label": f"./{p}/seg.nii.gz"} for p in ("p1", "p2")]})
    assert names(find_cases(tmp_path)) == ["p1/seg", "p2/seg"]


def test_descriptions_as_other_programs_write_them(tmp_path: Path) -> None:
    """A mark of byte order, numbers as text, lists of one."""
    touch(tmp_path, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz")
    text = json.dumps({"file_ending": ".nii.gz", "numTraining": "2"})
    (tmp_path / "dataset.json").write_text(text, encoding="utf-8-sig")
    assert names(find_cases(tmp_path)) == ["a", "b"]
    entries = [{"label": ["labelsTr/a.nii.gz"], "truth": ["labelsTr/b.nii.gz"]}]
    describe(tmp_path / "dataset.json", {"training": entries})
    assert find_cases(tmp_path) == [Case("a", tmp_path / "labelsTr/a.nii.gz", tmp_path / "labelsTr/b.nii.gz")]
    describe(tmp_path / "dataset.json", {"training": [{"label": ["labelsTr/a.nii.gz", "labelsTr/b.nii.gz"]}]})
    with pytest.raises(NearError, match="expected a mapping with the path of a label"):
        find_cases(tmp_path)


def test_match_whatever_spells_the_accents_and_whoever_wrote_the_file(tmp_path: Path) -> None:
    touch(tmp_path, "pred/arte\u0301re.nii.gz", "pred/b.seg.nrrd", "pred/p/c.nii.gz")
    touch(tmp_path, "truth/art\u00e9re.nii.gz", "truth/b.nii.gz", "truth/p/c.seg.nrrd")
    found = match_cases(tmp_path / "pred", tmp_path / "truth")
    assert [pred.name for _, pred, _ in found] == ["arte\u0301re.nii.gz", "b.seg.nrrd", "c.nii.gz"]


def test_match_that_is_not_clear_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "pred/\u00fc.nii.gz", "pred/u\u0308.seg.nrrd", "truth/\u00fc.seg.nrrd", "truth/u\u0308.nii")
    with pytest.raises(NearError, match=r"could be .*keep one of them"):
        match_cases(tmp_path / "pred", tmp_path / "truth")
