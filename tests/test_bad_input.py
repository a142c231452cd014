"""The command on one folder in which good cases and everything that is bad lie side by side.

Each bad case gets one line, the others are refined as if it were not there. What single readers refuse is in
``test_io`` and ``test_textheaders``.
"""

import gzip
import json
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from near_monai.anatomy import CORONARY
from near_monai.cli import main
from near_monai.data.case_lists import case_name
from near_monai.formats.label_maps import read_label

SHAPE = (36, 18, 18)
AFFINE = np.diag([0.5, 0.5, 0.5, 1.0])
NRRD = """NRRD0004
type: uint8
dimension: 3
space: right-anterior-superior
sizes: 36 18 18
space directions: (0.5,0,0) (0,0.5,0) {third}
kinds: domain domain domain
encoding: raw
space origin: (0,0,0)

"""
META = """NDims = 3
DimSize = 36 18 18
ElementType = MET_UCHAR
ElementSpacing = 0.5 0.5 0.5
TransformMatrix = -1 0 0 0 -1 0 0 0 1
ElementDataFile = {}
"""


def vessel(margin: int = 4) -> NDArray[np.uint8]:
    """A bent tube with a rough wall, ``margin`` voxels short of both ends, and a speck beside it."""
    i, j, k = np.indices(SHAPE)
    rough = np.random.default_rng(0).normal(0, 0.5, SHAPE)
    inside = np.hypot(j - 8 - 2 * np.sin(i / 6), k - 9) + rough < 3
    inside[:margin] = inside[SHAPE[0] - margin :] = False
    inside[18, 15, 15] = True
    return inside.astype(np.uint8) * np.uint8(CORONARY)


def nifti(array: NDArray[Any], *fields: tuple[int, str, tuple[Any, ...]]) -> bytes:
    """A NIfTI file with other header ``fields``: offset, format and numbers."""
    content = bytearray(nib.Nifti1Image(array, AFFINE, dtype=array.dtype).to_bytes())
    for at, form, numbers in fields:
        struct.pack_into(form, content, at, *numbers)
    return bytes(content)


def flipped(content: bytes, at: int) -> bytes:
    """One bit of every fourth byte of 20 bytes is another."""
    changed = bytearray(content)
    for place in range(at, at + 20, 4):
        changed[place] ^= 16
    return bytes(changed)


LABEL = vessel()
BODY = LABEL.tobytes(order="F")
PACKED = gzip.compress(nifti(LABEL), mtime=0)
QFORM, SFORM, PIXDIM, SROW_X, SROW_Y = (252, "<2h", (1, 0)), (252, "<2h", (0, 1)), 80, 280, 296
#: Content and what is said of it.
BAD: dict[str, tuple[bytes, str]] = {
    "truncated.nii.gz": (PACKED[: len(PACKED) // 2], "damaged or not NIfTI"),
    "flipped.nii.gz": (flipped(PACKED, len(PACKED) // 2), "damaged or not NIfTI"),
    "checksum.nii.gz": (flipped(PACKED, len(PACKED) - 24), "damaged or not NIfTI"),
    "nothing.nii.gz": (b"", "damaged or not NIfTI"),
    "magic.nii": (nifti(LABEL, (344, "4s", (b"ni9\0",))), "damaged or not NIfTI"),
    "long.nii": (nifti(LABEL, (42, "<3h", (30000,) * 3)), "damaged or not NIfTI"),
    "four.nii": (nifti(np.stack([LABEL, LABEL], -1)), "4-D image of shape (36, 18, 18, 2)"),
    "two.nii": (nifti(LABEL[10]), "2-D image of shape (18, 18)"),
    "fraction.nii": (nifti(LABEL / np.float32(9) * np.float32(0.37)), "holds 0.37, not a whole number"),
    "slope.nii": (nifti(LABEL, (112, "<2f", (0.5, 0))), "holds 4.5, not a whole number"),
    "negative.nii": (nifti(LABEL.astype(np.int16) - 1), "labels from -1 to 8; expected 0..65535"),
    "large.nii": (nifti(LABEL.astype(np.int32) * 30000), "labels from 0 to 270000; expected 0..65535"),
    "many.nii": (nifti(np.arange(LABEL.size, dtype=np.int16).reshape(SHAPE) % 300), "holds 300 different values"),
    "nan affine.nii": (nifti(LABEL, SFORM, (SROW_X, "<f", (float("nan"),))), "affine holds NaN"),
    "singular.nii": (nifti(LABEL, SFORM, (SROW_X, "<8f", (1, 1, 0, 0, 1, 1, 0, 0))), "affine is singular"),
    "zero sform.nii": (nifti(LABEL, SFORM, (SROW_X, "<f", (0,))), "voxel spacing (0.0, 0.5, 0.5) mm; expected"),
    "zero qform.nii": (nifti(LABEL, QFORM, (PIXDIM, "<f", (0,))), "voxel spacing [0.0, 0.5, 0.5]; expected"),
    "tiny.nii": (nifti(LABEL, QFORM, (PIXDIM, "<3f", (1e-6,) * 3)), "mm; expected 0.001 to 100 mm: check the units"),
    "huge.nii": (nifti(LABEL, QFORM, (PIXDIM, "<3f", (1e6,) * 3)), "mm; expected 0.001 to 100 mm: check the units"),
    "absent.nii": (nifti(LABEL // 9 + np.eye(18, dtype=np.uint8)), "no voxel has label 9; labels present: 1, 2"),
    "cut.nrrd": ((NRRD.format(third="(0,0,0.5)").encode() + BODY)[:-9], "bytes of voxels; expected 11664"),
    "flat.nrrd": (NRRD.format(third="(0.5,0,0)").encode() + BODY, "axes lie in one plane"),
    "short.mha": (META.format("LOCAL").encode() + BODY[:-9], "bytes of voxels; expected 11664"),
    "alone.mhd": (META.format("nowhere.raw").encode(), "No such file"),
}
#: The same voxels at the same place.
SAME = {
    "plain.nii.gz": PACKED,
    "plain 2.nii": nifti(LABEL),
    "slicer.nrrd": NRRD.format(third="(0,0,0.5)").encode() + BODY,
    "meta.mha": META.format("LOCAL").encode() + BODY,
    "pair.mhd": META.format("voxels.raw").encode(),
    "float.nii": nifti(LABEL.astype(np.float32)),
    "wide.nii": nifti(LABEL.astype(np.int16) * 30),
    "nothing around.nii": nifti(LABEL[..., None, None]),
    "quantised.nii": nifti(LABEL * np.uint8(5), (112, "<2f", (0.19984, 0))),
    "by another name.nii.gz": nifti(LABEL),
    "by another name 2.nii": PACKED,
    "with a tail.nii.gz": PACKED + b"appended by a web server",
    "in two.nii.gz": gzip.compress(nifti(LABEL)[:999]) + gzip.compress(nifti(LABEL)[999:]),
    "list.nrrd": NRRD.replace("dimension: 3", "dimension: 4")
    .replace("sizes: ", "sizes: 1 ")
    .replace("directions: ", "directions: none ")
    .replace("kinds: ", "kinds: list ")
    .format(third="(0,0,0.5)")
    .encode()
    + BODY,
    "met long.mha": META.replace("MET_UCHAR", "MET_LONG").format("LOCAL").encode()
    + LABEL.astype("<i4").tobytes(order="F"),
    " a %.mhd": META.format("a %.raw").encode(),
    " %d %s.mha": META.format("LOCAL").encode() + BODY,
    "detached.nhdr": NRRD.replace("encoding", "data file: voxels.raw\nencoding").format(third="(0,0,0.5)").encode(),
    '"quo\'ted" & <b>.nrrd': NRRD.format(third="(0,0,0.5)").encode() + BODY,
    "line\nend.nii": nifti(LABEL),
    "-leading.nrrd": NRRD.format(third="(0,0,0.5)").encode() + BODY,
    f"{'n' * 200}.mha": META.format("LOCAL").encode() + BODY,
    "twice.nii": nifti(LABEL.astype(np.int16) // 9 * 4, (112, "<2f", (2, 0))),
    "forms.nii": nifti(LABEL, (252, "<2h", (1, 1)), (268, "<f", (20,))),
    "qform.nii": nifti(LABEL, (252, "<2h", (1, 1)), (256, "<f", (3,))),
    "arteria \u00f1 \u8840\u7ba1.nii.gz": PACKED,
    " .nii.gz": PACKED,
    "CAPITALS.NII": nifti(LABEL),
}
#: What is legal, but so little that a refusal would do.
ODD = {
    "border.nii": vessel(0),
    "one.nii": np.pad(np.full((1, 1, 1), CORONARY, np.uint8), 9),
    "thin.nii": np.ascontiguousarray(LABEL[12:13]),
    "full.nii": np.full((9, 8, 7), CORONARY, np.uint8),
    "empty.nii": LABEL * 0,
}
LINKS = {"link.nii.gz": "plain.nii.gz", "a.nii.gz": "b.nii.gz", "b.nii.gz": "a.nii.gz", "gone.nii.gz": "no.nii.gz"}
LOST = ("a", "b", "gone")


@dataclass(frozen=True)
class Run:
    """What was there before the command ran, and what it said and wrote."""

    source: Path
    output: Path
    before: dict[str, bytes]
    code: int
    lines: list[str]

    def row(self, name: str) -> dict[str, Any]:
        rows = json.loads((self.output / "run.json").read_text())["cases"]
        return next(row for row in rows if row["name"] == case_name(name))

    def said(self, name: str) -> list[str]:
        return [line for line in self.lines if line.startswith(f"{case_name(name)}: ")]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """In a process of its own, so that every line on stderr counts, whichever library it is from."""
    folder = tmp_path_factory.mktemp("bad")
    source, output = folder / "in", folder / "out"
    source.mkdir()
    files = {name: content for name, (content, _) in BAD.items()} | SAME
    files |= {name: nifti(array) for name, array in ODD.items()} | {
        "voxels.raw": BODY,
        "a %.raw": BODY,
        "notes.txt": b"no image",
    }
    for name, content in files.items():
        (source / name).write_bytes(content)
    for name, target in LINKS.items():
        (source / name).symlink_to(target)
    (source / "itself").symlink_to(source, target_is_directory=True)
    before = bytes_of(source)
    command = [sys.executable, "-m", "near_monai", "refine", str(source), "-o", str(output), "--quiet", "--workers=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout == ""
    return Run(source, output, before, done.returncode, done.stderr.splitlines())


@pytest.mark.parametrize("name", BAD)
def test_bad_cases_are_reported_in_one_line(run: Run, name: str) -> None:
    (line,) = run.said(name)
    assert line == f"{case_name(name)}: {run.row(name)['message']}"
    assert BAD[name][1] in line and str(run.source / name) in line
    assert run.row(name)["status"] == "failed" and not (run.output / name).exists()


@pytest.mark.parametrize("name", LOST)
def test_links_that_lead_nowhere_are_reported_in_one_line(run: Run, name: str) -> None:
    (line,) = run.said(name)
    assert "no such file" in line


@pytest.mark.parametrize("name", [*SAME, "link.nii.gz"])
def test_good_cases_are_refined_whatever_lies_beside_them(run: Run, name: str) -> None:
    assert run.row(name)["status"] == "done" and run.said(name) == []
    before, plain, after = (
        read_label(path) for path in (run.source / name, run.output / "plain.nii.gz", run.output / name)
    )
    np.testing.assert_array_equal(before.array > 0, LABEL > 0)
    np.testing.assert_array_equal(after.array > 0, plain.array > 0)
    np.testing.assert_allclose(after.affine, AFFINE, atol=1e-6)
    assert after.array.any() and (after.array != before.array).any()
    assert set(np.unique(after.array)) == set(np.unique(before.array))


def test_slopes_count(run: Run) -> None:
    assert read_label(run.output / "twice.nii").array.max() == 8


@pytest.mark.parametrize(("name", "text"), [("forms.nii", "differ by up to 20 mm"), ("qform.nii", "qform is damaged")])
def test_forms_that_disagree_are_a_warning_in_the_record(run: Run, name: str, text: str) -> None:
    assert any(text in warning for warning in run.row(name)["warnings"])
    assert not any("form" in warning for warning in run.row("plain.nii.gz")["warnings"])


@pytest.mark.parametrize("name", ODD)
def test_odd_cases_give_a_label_map_or_one_line(run: Run, name: str) -> None:
    row = run.row(name)
    assert len(run.said(name)) == (row["status"] == "failed")
    if row["status"] == "done":
        after = read_label(run.output / name).array
        nothing = ("nothing is left of the label", "the label map is empty, and so is the result")
        assert after.shape == ODD[name].shape and (after.any() or {*nothing}.intersection(row["warnings"]))


def test_vessel_that_touches_the_border_still_does(run: Run) -> None:
    after = read_label(run.output / "border.nii").array
    assert after[0].any() and after[-1].any()


def test_command_as_a_whole(run: Run) -> None:
    assert run.code == 1
    failed = [*map(case_name, BAD), *LOST]
    assert run.lines[-1].startswith(
        f"near-monai: {len(failed)} of {len(failed) + len(SAME) + len(ODD) + 1} cases failed"
    )
    assert len(run.lines) == len(failed) + 1, "\n".join(run.lines)
    assert bytes_of(run.source) == run.before
    expected = {*SAME, *ODD, "link.nii.gz", "run.json", ".records"}
    assert {path.name for path in run.output.iterdir()} == expected


def refused(source: Path, output: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that the command says before it does anything."""
    with pytest.raises(SystemExit) as end:
        main(["refine", str(source), "-o", str(output)])
    text = capsys.readouterr().err
    assert end.value.code == 1 and text.startswith("near-monai: ") and text.count("\n") == 1 and len(text) < 1500
    assert not output.exists()
    return text


@pytest.mark.parametrize("name", ["labelsTr/../../plain.nii.gz", "{folder}/plain.nii.gz"])
def test_lists_may_not_point_outside(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "plain.nii.gz").write_bytes(PACKED)
    entries = [{"label": "./good.nii.gz"}, {"label": name.format(folder=tmp_path)}]
    (tmp_path / "in" / "good.nii.gz").write_bytes(PACKED)
    (tmp_path / "in" / "dataset.json").write_text(json.dumps({"training": entries}))
    assert "which is outside" in refused(tmp_path / "in", tmp_path / "out", capsys)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("name", "text"), [("plain", "case names must differ"), ("{}", "no such file")])
def test_lists_of_any_length_are_refused_in_seconds(
    tmp_path: Path, name: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "plain.nii.gz").write_bytes(PACKED)
    entries = [{"label": "plain.nii.gz"}, *({"label": f"{name.format(n)}.nii.gz"} for n in range(100_000))]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": entries}))
    assert text in refused(tmp_path, tmp_path / "out", capsys)


@pytest.mark.parametrize("names", [("a.nii.gz", "a.nrrd"), ("\u00fc .nii", "\u00fc .NII.GZ")])
def test_cases_of_one_name_are_refused(
    tmp_path: Path, names: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in (*names, "good.nii.gz"):
        (tmp_path / "in" / name).write_bytes(PACKED)
    line = refused(tmp_path / "in", tmp_path / "out", capsys)
    assert "case names must differ" in line and all(name in line for name in names) and "good" not in line


@pytest.mark.parametrize("name", ["a.nii.gz", "a.json", "itself"])
def test_links_in_a_circle_are_no_source_and_no_target(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).symlink_to(name)
    (tmp_path / "good.nii.gz").write_bytes(PACKED)
    assert "no such file" in refused(tmp_path / name, tmp_path / "out", capsys)
