"""Edits found from files, shown in a report, and taken back one by one."""

import base64
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from PIL import Image

from near_monai.anatomy import HEART
from near_monai.cli import main
from near_monai.errors import NearError
from near_monai.formats.label_maps import read_label
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.world_places import world_mm
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.repair.judge import Bounds
from near_monai.review import html_report, shown_case
from near_monai.review.class_looks import looks_of
from near_monai.review.html_report import write_report
from near_monai.review.projections import COLOURS, Drawn, three_views
from near_monai.review.reviewed_run import ReviewedCase, apply_review, finished_cases, read_run
from near_monai.review.shown_case import _unchanged
from near_monai.review.surface_scene import changes_in, classes_in, packed
from near_monai.review.undoable_edits import Edit, find_edits, take_back

#: Whatever is small and alone goes.
DROPPING = Options(clean=Bounds(drop=0.99))
#: A name that HTML, a shell and a URL would all trip over, in a folder of such a name.
NASTY = "p#1?/<b>it's 100% & ü"
AFFINE = np.array([[-0.5, 0, 0, 30], [0, 0, 0.7, -5], [0, 0.55, 0, 12], [0, 0, 0, 1.0]])
GRID = Grid((40, 30, 20), (0.5, 0.5, 0.5))
WORLD = (GRID, AFFINE)


def box(*sides: tuple[int, int]) -> NDArray[np.uint8]:
    array = np.zeros(GRID.shape, np.uint8)
    array[tuple(slice(*side) for side in sides)] = 3
    return array


TUBE = box((2, 36), (10, 16), (6, 12))
SPECK = box((20, 24), (24, 28), (6, 10))
LUMP = box((30, 34), (16, 22), (6, 10))
SKIN = box((2, 10), (16, 17), (6, 12))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, noisy_vessel: NDArray[np.bool_]) -> Path:
    """A run over two noisy vessels and one empty map, of which an empty one is made."""
    source = tmp_path_factory.mktemp("in")
    noisy_vessel = noisy_vessel.copy()
    noisy_vessel[29:33, 39:43, 33:37] = True  # the speck is large enough to be listed
    for name, mask in (("one", noisy_vessel), (NASTY, np.roll(noisy_vessel, 2, 0)), ("empty", noisy_vessel & False)):
        path = source / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), AFFINE), path)
    output = tmp_path_factory.mktemp("out")
    refine_files(source, output, DROPPING, quiet=True, workers=1)
    return output


def case(run: Path, name: str) -> ReviewedCase:
    return next(c for c in finished_cases(run, read_run(run)) if c.row["name"] == name)


def kinds(edits: list[Edit]) -> list[str]:
    """Class and letter of every edit: what is left of its name without the digits of its voxels."""
    return [edit.name.partition("-")[0] for edit in edits]


def named(run: Path, name: str, kind: str) -> str:
    """The name of the only edit of a case whose name begins like this."""
    (found,) = (edit.name for edit in case(run, name).edits if edit.name.startswith(kind))
    return found


def test_every_change_is_in_exactly_one_edit() -> None:
    before, after = TUBE | SPECK, TUBE | LUMP | SKIN
    edits = find_edits(before, after, None, GRID, {3: 1.0})
    assert kinds(edits) == ["3/A", "3/R", "3/W"]
    voxels = np.concatenate([edit.voxels for edit in edits])
    assert len(voxels) == len(np.unique(voxels, axis=0)) == np.count_nonzero(before != after)
    assert edits[1].volume_mm3 == pytest.approx(4**3 / 8)
    assert np.allclose(edits[1].place, [10.75, 12.75, 3.75])


def test_small_changes_of_a_large_structure_are_its_wall() -> None:
    before, after = TUBE | SPECK, TUBE | LUMP | SKIN
    assert kinds(find_edits(before, after, None, GRID, {3: 1.3})) == ["3/A", "3/R", "3/W"]
    assert kinds(find_edits(before, after, None, GRID, {3: 5.0})) == ["3/W"]


def test_each_edit_can_be_taken_back_alone() -> None:
    before, after = TUBE | SPECK, TUBE | LUMP | SKIN
    added, removed, wall = find_edits(before, after, None, GRID, {3: 1.0})
    assert np.array_equal(take_back(before, after, [removed]), TUBE | LUMP | SKIN | SPECK)
    assert np.array_equal(take_back(before, after, [added]), TUBE | SKIN)
    assert np.array_equal(take_back(before, after, [wall]), TUBE | LUMP)
    assert np.array_equal(take_back(before, after, [added, removed, wall]), before)


def test_bridges_are_edits_of_their_own() -> None:
    before = TUBE * (np.arange(40) // 3 != 5)[:, None, None].astype(np.uint8)
    bridge = TUBE - before
    (edit,) = find_edits(before, TUBE, bridge, GRID, {3: 1.0})
    assert edit.name.startswith("3/B-")
    assert len(edit.voxels) == np.count_nonzero(bridge)


def test_thin_bridges_are_edits_too_and_share_no_voxel() -> None:
    before = TUBE - box((8, 12), (10, 16), (6, 12)) - box((20, 24), (10, 16), (6, 12))
    bridge = box((8, 12), (12, 13), (8, 9)) | box((20, 24), (12, 13), (8, 9))
    bridge |= box((20, 24), (14, 15), (8, 9))  # a second bit in the same gap
    edits = find_edits(before, before | bridge, bridge, Grid(GRID.shape, (0.25, 0.25, 0.25)), {3: 1.0})
    voxels = np.concatenate([edit.voxels for edit in edits])
    assert kinds(edits) == ["3/B", "3/B"]
    assert len(voxels) == len(np.unique(voxels, axis=0)) == np.count_nonzero(bridge)


def test_voxels_of_other_classes_come_back() -> None:
    before = TUBE + box((30, 34), (16, 22), (6, 10)) // 3 * 2
    after = TUBE | LUMP  # class 3 has taken the voxels of class 2
    edits = find_edits(before, after, None, GRID, {2: 1.0, 3: 1.0})
    assert np.array_equal(take_back(before, after, [e for e in edits if e.kind == "added"]), before)


def test_surfaces_lie_around_what_they_show() -> None:
    before, after = TUBE | SPECK, TUBE | LUMP
    edits = find_edits(before, after, None, GRID, {3: 1.0})
    looks = looks_of([3], HEART)
    classes = [
        part for name, a in (("before", before), ("after", after)) for part in classes_in(a, name, looks, *WORLD)
    ]
    scene = packed([*changes_in(edits, before.shape, *WORLD), *classes])
    payload, shown = zlib.decompress(base64.b64decode(scene["data"])), {"added": LUMP, "removed": SPECK, "after": after}
    for part in scene["surfaces"]:
        size = part["vertices"] * 6
        steps = np.frombuffer(payload[:size], "<i2").reshape(-1, 3).cumsum(0, dtype=np.int16)
        faces = np.frombuffer(payload[size : size + part["faces"] * 12], "<i4").reshape(-1, 3).cumsum(0, dtype=np.int32)
        payload = payload[size + part["faces"] * 12 :]
        assert sorted(np.unique(faces)) == list(range(part["vertices"]))
        vertices = steps * scene["unit"] + scene["origin"]
        label = shown.get(part["name"], before)
        world = apply_affine(AFFINE, np.argwhere(label))
        assert np.abs(vertices.min(0) - world.min(0)).max() < 1.2 and np.abs(vertices.max(0) - world.max(0)).max() < 1.2
    assert [part["name"] for part in scene["surfaces"]] == ["added", "removed", "before", "after"]
    assert not payload


@pytest.mark.parametrize("side", [1, 20])
def test_a_map_without_background_has_the_surface_of_its_volume(side: int) -> None:
    full = np.full((side,) * 3, 3, np.uint8)
    (part,) = classes_in(full, "label", looks_of([3], HEART), Grid(full.shape, GRID.spacing), AFFINE)
    corners = apply_affine(AFFINE, np.array([[-0.5] * 3, [side - 0.5] * 3]))
    assert np.abs(part.vertices.min(0) - corners.min(0)).max() < 1.2
    assert np.abs(part.vertices.max(0) - corners.max(0)).max() < 1.2


def test_pictures_show_sides_classes_and_bridges_in_colour() -> None:
    bridge = SPECK & ~TUBE
    edits = find_edits(TUBE, TUBE | bridge, bridge, GRID, {3: 1.0})
    moments = {
        when: [Drawn(mask > 0, (200, 100, 100)), Drawn(TUBE > 9, (1, 2, 3))]
        for when, mask in (("before", TUBE), ("after", TUBE | bridge))
    }
    views = {view.name: view for view in three_views(moments, edits, {"here": edits[0].place}, GRID, AFFINE)}
    sides = {name: "".join(view.sides) for name, view in views.items()}
    assert sides == {
        "front": "RLSI",
        "left": "APSI",
        "feet": "RLAP",
    }
    for view in views.values():
        before, after = (
            {tuple(c) for c in np.asarray(Image.open(BytesIO(png)).convert("RGB")).reshape(-1, 3).tolist()}
            for png in (view.pictures["before"], view.pictures["after"])
        )
        assert all(0 < share < 100 for share in view.marks["here"])
        assert COLOURS["bridged"] in after and COLOURS["bridged"] not in before
        assert any(red > 1.5 * green for red, green, _ in before)


def test_review_takes_back_what_is_named_and_remembers_it(run: Path) -> None:
    original = case(run, "one")
    speck, wall = named(run, "one", "1/R"), named(run, "one", "1/W")
    refined = original.after.array.copy()
    assert apply_review(run, [f"one/{speck}"]) == {"one": [speck]}
    reviewed = read_label(run / "reviewed" / "one.nii.gz")
    (edit,) = (edit for edit in original.edits if edit.name == speck)
    different = np.argwhere(reviewed.array != refined)
    assert np.array_equal(different[np.lexsort(different.T)], edit.voxels[np.lexsort(edit.voxels.T)])
    assert len(different) * original.before.grid.voxel_volume == pytest.approx(edit.volume_mm3)
    assert np.allclose(reviewed.affine, AFFINE, atol=1e-5)
    assert np.array_equal(case(run, "one").after.array, refined), "the run itself stays"
    assert apply_review(run, [f"one/{wall}"], []) == {"one": [speck, wall]}
    assert apply_review(run, [], [f"one/{speck}", f"one/{wall}"]) == {}
    assert np.array_equal(read_label(run / "reviewed" / "one.nii.gz").array, refined)


@pytest.mark.parametrize(
    "name", ["two/1/R-3f2c07", "one/1/R-3f2c07", "one/1/R1", "one", "", "empty/1/W", "../one/1/R-3f2c07"]
)
def test_unknown_edits_are_refused_in_one_line(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["apply", str(run), "--reject", name])
    assert error.value.code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_row_is_about_the_bytes_that_were_written(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    speck = named(run, NASTY, "1/R")
    apply_review(copy, [f"one/{named(run, 'one', '1/R')}", f"{NASTY}/{speck}"])
    nib.save(nib.Nifti1Image(np.ones_like(read_label(copy / "one.nii.gz").array), AFFINE), copy / "one.nii.gz")
    with pytest.raises(NearError, match="1 of 3 cases could not be written, the others were: one"):
        apply_review(copy, [])
    assert "one.nii.gz: was changed since it was written; refine again" in caplog.text
    assert "was changed since it was written" in write_report(copy, quiet=True).read_text(encoding="utf-8")
    recorded = {row["name"]: row for row in json.loads((copy / "reviewed" / "review.json").read_text())["cases"]}
    (rejected,) = recorded[NASTY]["rejected"]
    assert rejected["name"] == speck and rejected["kind"] == "removed"
    assert len(recorded["one"]["rejected"]) == 1, "what was decided of it stays"


def test_a_rejected_edit_never_takes_back_another_place(
    noisy_vessel: NDArray[np.bool_], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two specks; the input loses the one that was rejected, and with it the order of the others."""
    array = noisy_vessel.copy()
    array[29:32, 39:42, 33:35] = True
    other = array.copy()
    other[10:13, 44:47, 4:7] = True
    source, run = tmp_path / "a.nii.gz", tmp_path / "run"
    nib.save(nib.Nifti1Image(other.astype(np.uint8), AFFINE), source)
    refine_files(source, run, DROPPING, quiet=True)
    large, small = (edit for edit in case(run, "a").edits if edit.kind == "removed")
    assert large.volume_mm3 > small.volume_mm3
    apply_review(run, [f"a/{large.name}", f"a/{small.name}"])
    nib.save(nib.Nifti1Image(array.astype(np.uint8), AFFINE), source)
    refine_files(source, run, DROPPING, quiet=True)
    assert "reviewed in an earlier result" in write_report(run, quiet=True).read_text(encoding="utf-8")
    there = [edit.name for edit in case(run, "a").edits]
    assert small.name in there and large.name not in there
    with caplog.at_level("WARNING", "near_monai"):
        assert apply_review(run, []) == {"a": [small.name]}
    assert f"a was refined again since: {large.name} (removed, " in caplog.text
    with pytest.raises(NearError, match=f"a/{large.name}: no such edit in this result"):
        apply_review(run, [f"a/{large.name}"])
    assert "reviewed in an earlier result" not in write_report(run, quiet=True).read_text(encoding="utf-8")


def test_review_of_one_case_does_not_depend_on_the_others(
    noisy_vessel: NDArray[np.bool_], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noisy_vessel = noisy_vessel.copy()
    noisy_vessel[29:33, 39:43, 33:37] = True
    source, run = tmp_path / "in", tmp_path / "run"
    source.mkdir()
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), AFFINE), source / f"{name}.nii.gz")
    refine_files(source, run, DROPPING, quiet=True, workers=1)
    speck = named(run, "a", "1/R")
    assert speck == named(run, "b", "1/R"), "the same voxels"
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), 2 * AFFINE), source / "b.nii.gz")
    with pytest.raises(NearError, match="1 of 2 cases could not be written, the others were: b"):
        apply_review(run, [f"a/{speck}"])
    assert "b.nii.gz: was changed since it was refined; refine it again" in caplog.text
    reviewed = read_label(run / "reviewed" / "a.nii.gz").array
    assert (reviewed != case(run, "a").after.array).any()
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), AFFINE), source / "b.nii.gz")
    refine_files(source / "b.nii.gz", run, DROPPING, quiet=True)  # a is no case of the run any more
    assert apply_review(run, [f"b/{speck}"]) == {"b": [speck]}
    refine_files(source, run, DROPPING, quiet=True)
    assert apply_review(run, []) == {"a": [speck], "b": [speck]}
    np.testing.assert_array_equal(read_label(run / "reviewed" / "a.nii.gz").array, reviewed)


@pytest.mark.parametrize("moved", [("in", "out"), ("out",), ("in",)])
def test_moved_runs_are_reviewed_as_long_as_the_input_is_found(
    noisy_vessel: NDArray[np.bool_], tmp_path: Path, moved: tuple[str, ...]
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "in").mkdir(parents=True)
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), AFFINE), here / "in" / "a.nii.gz")
    refine_files(here / "in", here / "out", DROPPING, quiet=True)
    there.mkdir()
    for name in moved:
        shutil.copytree(here / name, there / name)
        shutil.rmtree(here / name)
    run = there / "out" if "out" in moved else here / "out"
    if "out" in moved:
        assert apply_review(run, []) == {}
        assert "was changed" not in write_report(run, quiet=True).read_text(encoding="utf-8")
        return
    with pytest.raises(NearError, match="1 of 1 cases could not be written"):
        apply_review(run, [])
    page = write_report(run, quiet=True).read_text(encoding="utf-8")
    assert f"{here}/in/a.nii.gz: is gone, and was refined to {run}/a.nii.gz" in page


def test_a_run_without_a_finished_case_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.nii.gz").write_bytes(b"")
    refine_files(tmp_path / "in", tmp_path / "out", DROPPING, quiet=True)
    page = write_report(tmp_path / "out", quiet=True)
    assert "damaged or not NIfTI" in page.read_text(encoding="utf-8")
    assert apply_review(tmp_path / "out", []) == {}
    run = read_run(tmp_path / "out")
    (tmp_path / "out" / "run.json").write_text(json.dumps(run | {"cases": []}))
    assert "0 cases" in write_report(tmp_path / "out", quiet=True).read_text(encoding="utf-8")


def test_a_case_that_cannot_be_drawn_stops_no_other(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run, copy := tmp_path / "run", ignore=shutil.ignore_patterns("report*"))
    shown = html_report.shown_case

    def fails_once(case: ReviewedCase, *rest: Any) -> Any:
        if case.row["name"] == "one":
            raise ValueError("cannot be drawn")
        return shown(case, *rest)

    monkeypatch.setattr(html_report, "shown_case", fails_once)
    text = write_report(copy, quiet=True).read_text(encoding="utf-8")
    assert "ValueError: cannot be drawn" in text and "1 failed" in text
    assert len(list((copy / "report" / "cases").rglob("*.js"))) == 2


def test_what_is_an_edit_is_no_place_that_was_left(run: Path) -> None:
    reviewed = case(run, "one")
    (speck,) = (edit for edit in reviewed.edits if edit.kind == "removed")
    where = world_mm(speck.place, reviewed.before.grid, reviewed.before.affine)
    far = [x + 15 for x in where]
    places = [{"place": where, "volume_mm3": speck.volume_mm3}, {"place": far, "volume_mm3": 20.0}]
    assert _unchanged(places, reviewed) == places[1:]


def test_a_cube_of_the_shape_of_its_input_is_not_reviewed(noisy_vessel: NDArray[np.bool_], tmp_path: Path) -> None:
    cube = np.zeros((64, 64, 64), np.uint8)
    cube[:, :52, :40] = noisy_vessel
    nib.save(nib.Nifti1Image(cube, AFFINE), tmp_path / "cube.nii.gz")
    refine_files(tmp_path / "cube.nii.gz", tmp_path / "run", Options(resolution=64), quiet=True)
    with pytest.raises(NearError, match="on a grid of its own"):
        _ = case(tmp_path / "run", "cube").after


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cases": [1]}', '{"cases": [{"name": "a", "status": "done"}]}'])
def test_damaged_run_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(NearError, match=r"run\.json"):
        write_report(tmp_path, quiet=True)


class Page(HTMLParser):
    """What a test wants to know of a page, or of what it shows of a case."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def values(self, name: str) -> list[str]:
        """The values of an attribute, of all elements that have it."""
        return [attrs[name] or "" for _, attrs in self.tags if name in attrs]


def shown(report: Path) -> dict[str, Page]:
    """What the cases beside a report show."""
    found = {}
    for path in (report.parent / "report" / "cases").rglob("*.js"):
        name, details = json.loads(f"[{path.read_text().partition('nearCase(')[2].removesuffix(');' + chr(10))}]")
        found[name] = Page(details["html"])
    return found


def test_the_report_holds_everything_and_needs_no_network(run: Path) -> None:
    path = write_report(run, quiet=True)
    index, cases = Page(path.read_text(encoding="utf-8")), shown(path)
    assert set(cases) == {"one", NASTY, "empty"}
    assert not index.values("src"), "style and script are in it"
    assert (run / "report" / "plotly.js").stat().st_size > 1e6
    pictures = {name: page.values("src") for name, page in cases.items()}
    assert {name: len(found) for name, found in pictures.items()} == {"one": 6, NASTY: 6, "empty": 0}
    assert all(source.startswith("data:") for found in pictures.values() for source in found)
    for name in ("one", NASTY):
        assert cases[name].values("data-id") == [f"{name}/{edit.name}" for edit in case(run, name).edits]
    tags = {tag for page in (index, *cases.values()) for tag, _ in page.tags}
    assert not {"link", "iframe"} & tags
    assert "b" not in tags, "names are escaped"
    assert "one.nii.gz" in cases["one"].values("href")


def test_what_is_drawn_already_is_not_drawn_again(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, copy = [], tmp_path / "run"

    def counted(case: ReviewedCase, *arguments: Any) -> Any:
        drawn.append(case.row["name"])
        return shown_case.shown_case(case, *arguments)

    monkeypatch.setattr(html_report, "shown_case", counted)
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("report*"))
    first = write_report(copy, quiet=True).read_text(encoding="utf-8")
    assert drawn == [row["name"] for row in read_run(copy)["cases"]]
    drawn.clear()
    assert write_report(copy, quiet=True).read_text(encoding="utf-8") == first
    assert drawn == []
    apply_review(copy, [f"one/{named(copy, 'one', '1/R')}"])
    write_report(copy, quiet=True)
    assert "one" in drawn and shown(copy / "report.html")["one"].values("checked")


def test_a_report_keeps_nothing_of_cases_that_the_run_has_not(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    report = write_report(copy, quiet=True)
    state = read_run(copy)
    rows = [row | {"status": "failed"} if row["name"] == "one" else row for row in state["cases"]]
    (copy / "run.json").write_text(json.dumps(state | {"cases": [row for row in rows if row["name"] != "empty"]}))
    write_report(copy, quiet=True)
    assert set(shown(report)) == {NASTY}


def test_the_wall_is_on_the_page_however_many_places_there_are(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_case, "MOST_EDITS", 0)
    copy = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("report*"))
    ids = {i for page in shown(write_report(copy, quiet=True)).values() for i in page.values("data-id")}
    edits = {f"{n}/{edit.name}": edit.kind for n in ("one", NASTY) for edit in case(run, n).edits}
    assert ids == {name for name, kind in edits.items() if kind == "wall"} != set(edits)


def test_the_command_on_the_page_does_what_it_says(run: Path, page: Any) -> None:
    """In a browser, with real clicks and keys."""
    report, speck = write_report(run, quiet=True), named(run, NASTY, "1/R")
    page.goto(report.as_uri())
    page.get_by_role("link", name=NASTY).click()
    boxes = page.locator("[data-id]")
    boxes.first.wait_for()
    ids = boxes.evaluate_all("all => all.map(box => box.dataset.id)")
    boxes.nth(ids.index(f"{NASTY}/{speck}")).press(" ")
    page.keyboard.press("Escape")
    page.get_by_role("link", name="one").wait_for()
    page.go_back()
    assert boxes.nth(ids.index(f"{NASTY}/{speck}")).is_checked(), "what was marked stays marked"
    command = page.input_value("#command")
    page.click("#show-scene")
    page.wait_for_function("open && open.div.data")
    assert {"before", "after"} <= set(page.evaluate("open.div.data.map(t => t.kind)"))
    page.locator("[data-go]").first.click()
    page.wait_for_function("open.distance < 1")
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    assert words.stdout.splitlines() == ["near-monai", "apply", str(run), "--reject", f"{NASTY}/{speck}"]
    with pytest.raises(SystemExit) as end:
        main(words.stdout.splitlines()[1:])
    assert end.value.code == 0
    state = json.loads((run / "reviewed" / "review.json").read_text())
    assert [row["name"] for row in state["cases"] if row["rejected"]] == [NASTY]
    page.goto(write_report(run, quiet=True).as_uri())
    page.get_by_role("link", name=NASTY).click()
    boxes.nth(ids.index(f"{NASTY}/{speck}")).uncheck()
    assert page.input_value("#command").endswith(command.replace("--reject", "--accept"))


def test_branches_show_their_radius(run: Path, page: Any) -> None:
    """By the keyboard from the table, and by a click on the surface."""
    page.goto(write_report(run, quiet=True).as_uri())
    page.get_by_role("link", name="one").click()
    page.locator("[data-branch]").first.press("Enter")
    page.wait_for_function("open && document.activeElement.id === 'curve'")
    said = page.get_by_role("img", name="Radius of").get_attribute("aria-label")
    assert re.fullmatch(r"Radius of tree 1 branch 0; narrowest: radius \d\.\d\d mm at \d+\.\d mm.*", said)
    assert page.locator("#curve .least").count() == 1 and page.locator("#curve .spot").count() == 0
    assert page.evaluate("open.div.data.at(-1).line.color") == page.evaluate("CHOSEN")
    box = page.locator("#in-3d").bounding_box()
    for share in np.linspace(0.3, 0.7, 21).tolist():  # down the middle, until the vessel is met
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * share, steps=3)
        page.wait_for_timeout(150)
        page.mouse.down()
        page.wait_for_timeout(50)
        page.mouse.up()
        page.wait_for_timeout(100)
        if page.locator("#curve .spot").count():
            break
    assert page.locator("#curve .spot").count() == 1, "the place of the click is marked"
    page.get_by_text("go to the narrowest place").click()
    page.wait_for_function("open.distance < 1")
