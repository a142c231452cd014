"""What has to hold for any input: hypothesis looks for one for which it does not, and shrinks it."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks.damage import NAMES, dumped
from benchmarks.readings import check_cases, check_itk, check_nifti
from near_monai import refine
from near_monai.anatomy import CORONARY, HEART, by_name
from near_monai.data.class_selection import choose_label, parse_class
from near_monai.errors import NearError
from near_monai.formats.label_maps import SUFFIXES, LabelMap, read_label, write_label
from near_monai.geometry.distance import signed_distance

SPACING = st.tuples(*(st.sampled_from((0.3, 0.5, 0.55, 0.7, 1.0, 2.5)),) * 3)


def examples(count: int) -> settings:
    """``count`` examples, the same in every run."""
    slow = (HealthCheck.too_slow, HealthCheck.data_too_large)
    return settings(max_examples=count, derandomize=True, deadline=None, database=None, suppress_health_check=slow)


def refusal(check: Callable[[], object]) -> str:
    """What ``check`` says of input that it cannot use; nothing of input that it can."""
    try:
        check()
    except NearError as error:
        return str(error)
    return ""


@st.composite
def affines(draw: st.DrawFn) -> NDArray[np.float64]:
    """Turned, flipped and a little sheared axes of plausible voxels, somewhere in the world."""
    turn = np.linalg.qr(np.eye(3) * 3 + draw(hnp.arrays(np.float64, (3, 3), elements=st.floats(-1, 1))))[0]
    shear = np.eye(3) + np.triu(draw(hnp.arrays(np.float64, (3, 3), elements=st.floats(-0.3, 0.3))), 1)
    flips = draw(st.tuples(*(st.sampled_from((-1.0, 1.0)),) * 3))
    out = np.eye(4)
    out[:3, :3] = turn @ shear * draw(st.tuples(*(st.floats(0.01, 50),) * 3)) * flips
    out[:3, 3] = draw(st.tuples(*(st.floats(-1000, 1000),) * 3))
    return out


ARRAYS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))


@examples(100)
@given(ARRAYS, affines(), st.sampled_from(SUFFIXES))
def test_what_is_written_is_read(array: NDArray[np.uint8], affine: NDArray[np.float64], suffix: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write_label(path, array, LabelMap.from_array(array, affine))
        found = read_label(path)
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.affine, affine, rtol=1e-5, atol=1e-4)


@st.composite
def changed(draw: st.DrawFn, content: bytes, length: int, parts: st.SearchStrategy[bytes], cut: int) -> bytes:
    """``content`` with parts of its first ``length`` bytes replaced, up to ``cut`` bytes less or more."""
    for _ in range(draw(st.integers(1, 2))):
        at, part = draw(st.integers(0, length - 1)), draw(parts)
        stop = at + (draw(st.integers(0, cut)) if cut else len(part))
        content = content[:at] + part + content[stop:]
    return content


LABEL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
NUMBERS = st.one_of(
    st.binary(min_size=1, max_size=4),
    st.integers(-(2**15), 2**15 - 1).map(lambda n: n.to_bytes(2, "little", signed=True)),
    st.floats(width=32).map(lambda x: np.float32(x).tobytes()),
)
NIFTI = nib.Nifti1Image(LABEL, np.diag([0.5, 0.6, 0.7, 1])).to_bytes()
QFORM = NIFTI[:252] + b"\1\0\0\0" + NIFTI[256:]


@examples(300)
@given(st.one_of(changed(NIFTI, 352, NUMBERS, 0), changed(QFORM, 352, NUMBERS, 0)))
def test_nifti_headers_are_read_as_the_standard_says(content: bytes) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.nii"
        path.write_bytes(content)
        assert len(refusal(lambda: check_nifti(path)).splitlines()) < 2


NRRD = b"""NRRD0004
type: uint8
dimension: 3
space: left-posterior-superior
sizes: 4 3 2
space directions: (0.5,0,0) (0,0.6,0) (0,0,0.7)
kinds: domain domain domain
encoding: raw
space origin: (1,2,3)

"""
META = b"""ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 1 2 3
ElementSpacing = 0.5 0.6 0.7
DimSize = 4 3 2
ElementType = MET_UCHAR
ElementDataFile = LOCAL
"""
WORDS = st.one_of(
    st.binary(max_size=3),
    st.sampled_from((b"\n", b" ", b"-", b"0", b"nan", b"1e400", b"1e-30", b"9999999", b"True", b"gzip", b"\xff")),
)


@examples(200)
@given(st.sampled_from(((".nrrd", NRRD), (".mha", META))), st.data())
def test_text_headers_are_read_as_simpleitk_reads_them(kind: tuple[str, bytes], data: st.DataObject) -> None:
    suffix, header = kind
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(data.draw(changed(header, len(header), WORDS, 6)) + LABEL.tobytes())
        assert len(refusal(lambda: check_itk(path)).splitlines()) < 2


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(NAMES)
KEYS = st.sampled_from(("label", "truth", "x"))
ANY = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
THERE = st.sampled_from(("labelsTr/a.nii.gz", "./b.nii", "up/b.nii", "labelsTr/../c.mha"))
PATHS = st.one_of(THERE, THERE, THERE, st.sampled_from(NAMES), st.text(max_size=5))
ENTRIES = st.lists(st.fixed_dictionaries({"label": PATHS}, optional={"truth": PATHS | ANY}), min_size=1, max_size=3)
MSD = st.fixed_dictionaries({"training": ENTRIES}, optional={"validation": ENTRIES | ANY, "labels": ANY})
ENDINGS = st.sampled_from(SUFFIXES[:2]) | ANY
NNUNET = st.fixed_dictionaries({"file_ending": ENDINGS}, optional={"numTraining": st.integers(0, 2) | ANY})


@examples(200)
@given(st.one_of(MSD, MSD, NNUNET, ANY))
def test_lists_give_files_of_their_folder(content: Any) -> None:
    with TemporaryDirectory() as top:
        folder = Path(top) / "set"
        (folder / "labelsTr").mkdir(parents=True)
        for name in ("labelsTr/a.nii.gz", "b.nii", "c.mha", "../outside.nii", "../a.nii.gz"):
            (folder / name).write_bytes(b"")
        (folder / "up").symlink_to(folder)
        (folder / "dataset.json").write_text(dumped(content), encoding="utf-8")
        assert len(refusal(lambda: check_cases(folder)).splitlines()) < 2


@st.composite
def masks(draw: st.DrawFn, side: int, classes: st.SearchStrategy[int]) -> NDArray[np.uint8]:
    """A few boxes of different classes, with a share of single voxels."""
    array = np.zeros(draw(st.tuples(*(st.integers(1, side),) * 3)), np.uint8)
    for _ in range(draw(st.integers(1, 3))):
        start = [draw(st.integers(0, n - 1)) for n in array.shape]
        stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, array.shape, strict=True)]
        array[tuple(map(slice, start, stop))] = draw(classes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    array[rng.random(array.shape) < draw(st.sampled_from((0.0, 0.001, 0.05, 0.5)))] = draw(classes)
    return array


def brute_force(mask: NDArray[np.bool_], spacing: tuple[float, float, float], truncate: float) -> NDArray[np.float64]:
    """The nearest of all voxels of the other kind; beside what is one voxel thick no further than it is deep."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, -truncate if mask.any() else truncate)
    points = np.indices(mask.shape).reshape(3, -1).T * spacing
    inside, half = mask.ravel(), min(spacing) / 2
    outer, inner = (cKDTree(points[which]).query(points)[0] for which in (inside, ~inside))
    signed = np.clip(np.where(inside, half - inner, outer - half), -truncate, truncate).reshape(mask.shape)
    for axis in (axis for axis in range(3) if spacing[axis] > min(spacing)):
        rows, own = np.moveaxis(mask, axis, 0), np.moveaxis(signed, axis, 0)
        balanced = own.copy()
        for n, i, j in np.argwhere((rows[1:-1] != rows[:-2]) & (rows[1:-1] != rows[2:])) + np.array([1, 0, 0]):
            for beside in (n - 1, n + 1):
                if abs(own[n, i, j]) < abs(balanced[beside, i, j]):
                    balanced[beside, i, j] = -own[n, i, j]
        own[:] = balanced
    return signed


REACHES = st.sampled_from((0.4, 1.0, 3.0))


@examples(120)
@given(masks(20, st.sampled_from((0, 1))), SPACING, REACHES, st.sampled_from((1, 2, 8)))
def test_distances_in_parts_are_those_of_brute_force(
    array: NDArray[np.uint8], spacing: tuple[float, float, float], truncate: float, part: int
) -> None:
    with mock.patch("near_monai.geometry.distance.PARTS", (part,)):
        found = signed_distance(array, spacing, truncate)
    assert found.dtype == np.float32 and found.shape == array.shape
    np.testing.assert_allclose(found, brute_force(array > 0, spacing, truncate), atol=2e-5)


AORTA, VENTRICLE = by_name("aorta").index, by_name("left_ventricle").index
UNKNOWN = 99


@examples(20)
@given(
    masks(16, st.sampled_from((CORONARY, AORTA, VENTRICLE, UNKNOWN))),
    SPACING,
    st.sampled_from(("auto", "fg", CORONARY, AORTA)),
    st.sampled_from(("coronary", "aorta")),
    st.booleans(),
)
def test_refinement_changes_nothing_that_it_may_not(
    array: NDArray[np.uint8], spacing: tuple[float, float, float], which: int | str, structure: str, clean: bool
) -> None:
    before = array.copy()
    results: list[NDArray[np.integer]] = []
    said = refusal(lambda: results.append(refine(array, spacing, which, None, "cpu", clean, structure)))
    np.testing.assert_array_equal(array, before)
    assert len(said.splitlines()) + len(results) == 1
    for after in results:
        assert after.shape == before.shape and after.dtype == np.uint8
        assert set(np.unique(after)) <= {0, *np.unique(before)}
        label = choose_label(before, parse_class(which))
        if isinstance(label, int):
            lost, gained = (after != before) & (before == label), (after != before) & (before != label)
            assert not after[lost].any() and (after[gained] == label).all()
            rivals = set(np.unique(before[gained]).tolist()) - {0}
            assert all(HEART.rank(rival) > HEART.rank(label) for rival in rivals) and UNKNOWN not in rivals
