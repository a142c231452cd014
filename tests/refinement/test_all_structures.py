"""All structures at once: what is consistent stays, what is unknown is not touched, both kinds of functions serve."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from numpy.typing import NDArray

from benchmarks.unet import LogitGrid
from near_monai.anatomy import HEART, VESSEL, Anatomy
from near_monai.datasets.heart_cases import noisy_map
from near_monai.errors import NearError
from near_monai.fusion.anatomy_rules import correct, violations
from near_monai.fusion.consistent_map import compose
from near_monai.fusion.overlaps import Claim, by_priority
from near_monai.fusion.slits import slits
from near_monai.geometry.boxes import Box
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.decoding import decode_all
from near_monai.inferers.occupancy import occupancy
from near_monai.inferers.saved_codes import SavedCode, load_code, save_code
from near_monai.networks.encoder import LabelEncoder
from near_monai.networks.field import PointwiseMLP
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.phantoms.heart import label_map, structure_fields, whole_heart
from near_monai.refinement.all_structures import refine_all
from near_monai.training.volume_calibration import shift_to, volume_thresholds
from near_monai.transforms.preprocessing import PickStructuresd

SPACES = {"each": WorkingSpace(), "all": WorkingSpace(1.0, 6.0, 8.0)}


class Echo(LabelEncoder):
    """A code that says what the label says."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return ((image - 0.5) * 20,)


def echo(weights: str | Path) -> tuple[NearNetwork, WorkingSpace]:
    field = LogitGrid()
    field.heads = 10 if str(weights) == "all" else 1
    network = NearNetwork(Echo(), field)  # type: ignore[arg-type]
    return network.eval(), SPACES["all" if str(weights) == "all" else "each"]


@pytest.fixture(scope="module")
def truth() -> tuple[np.ndarray, Grid]:
    heart = whole_heart(np.random.default_rng(4))
    grid = heart.grid((1.4, 1.4, 1.4), 4.0)
    return correct(label_map(structure_fields(heart, grid, 2.0)), grid)[
        0
    ], grid  # single voxels between shapes are holes


@pytest.mark.parametrize("unified", [None, "all"])
def test_a_consistent_map_passes_unchanged(truth: tuple[np.ndarray, Grid], unified: str | None) -> None:
    array, grid = truth
    whole = refine_all(array, grid, echo, unified)
    np.testing.assert_array_equal(whole.array, array)
    assert not whole.changes
    assert [row["label"] for row in whole.rows] == [s.index for s in HEART.structures]


def test_weights_for_a_table_in_another_order_are_refused(truth: tuple[np.ndarray, Grid]) -> None:
    def reversed_weights(weights: str | Path) -> tuple[NearNetwork, WorkingSpace]:
        network, space = echo(weights)
        description = load_network("heart.safetensors", "cpu")[0].description
        assert description is not None
        network.description = replace(description, structures=HEART.structures[::-1])
        return network, space

    with pytest.raises(NearError, match="the weights are for pulmonary_veins"):
        refine_all(*truth, reversed_weights, "all")


def test_noisy_map_breaks_fewer_rules_and_has_no_slits(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    noisy = noisy_map(array, grid.spacing, "severe", 0)
    whole = refine_all(noisy, grid, echo)
    assert not len(slits(whole.array, noisy, grid))
    assert whole.rules_before == len(violations(noisy, grid))
    assert len(whole.flagged) == len(violations(whole.array, grid)) < whole.rules_before
    box = Box((0, 0, 0), grid.shape)
    claims = [Claim(s.index, box, mask := whole.array == s.index, mask.astype(np.float16)) for s in HEART.structures]
    again = compose(claims, whole.array, grid)
    np.testing.assert_array_equal(again.array, whole.array)
    assert not again.changes


def test_unknown_classes_are_not_touched(truth: tuple[np.ndarray, Grid]) -> None:
    array = truth[0].copy()
    array[:5], array[5:8] = 77, 0
    out = refine_all(array, truth[1], echo).array
    np.testing.assert_array_equal(out == 77, array == 77)


def test_weights_that_know_another_number_of_structures(truth: tuple[np.ndarray, Grid]) -> None:
    with pytest.raises(NearError, match="the weights know 1 structures; the table has 10"):
        refine_all(*truth, echo, "one")


def test_nothing_of_the_table() -> None:
    with pytest.raises(NearError, match="no class of the anatomy table"):
        refine_all(np.full((8, 8, 8), 77, np.uint8), Grid((8, 8, 8), (1.0, 1.0, 1.0)), echo)


def test_code_of_one_function_redraws_the_map(truth: tuple[np.ndarray, Grid], tmp_path: Path) -> None:
    array, grid = truth
    whole = refine_all(array, grid, echo, "all")
    assert len(whole.codes) == 1
    description = load_network("heart.safetensors", "cpu")[0].description
    assert description is not None
    save_code(tmp_path / "a.safetensors", SavedCode(whole.codes, np.eye(4), description, HEART.structures))
    (code,) = load_code(tmp_path / "a.safetensors").codes
    drawn = by_priority(decode_all(code, echo("all")[0].field, grid))
    dice = 2 * np.count_nonzero((drawn == array) & (drawn > 0)) / (np.count_nonzero(drawn) + np.count_nonzero(array))
    assert dice > 0.9


def test_priority_and_threshold_decide() -> None:
    probability = np.zeros((10, 2, 1, 1), np.float32)
    probability[0], probability[8] = 0.9, np.array([0.6, 0.4]).reshape(2, 1, 1)
    assert by_priority(probability).ravel().tolist() == [9, 1]


def test_volume_is_kept_after_calibration(truth: tuple[np.ndarray, Grid]) -> None:
    array, grid = truth
    affine = torch.diag(torch.tensor([*grid.spacing, 1.0], dtype=torch.float64))
    item = {key: MetaTensor(torch.as_tensor(array[None]), affine) for key in ("image", "label")}
    network, space = echo("all")
    network.field.mlp = PointwiseMLP(1, (), None, 0.0, 10)
    thresholds = volume_thresholds(network, space, [item], PickStructuresd(["image", "label"]))
    assert not network.field.mlp.last.bias.any(), "it only measures"
    shift_to(network, thresholds)
    shift = -network.field.mlp.last.bias.detach()
    wanted = torch.tensor([structure.threshold for structure in HEART.structures])
    torch.testing.assert_close(shift, torch.logit(torch.tensor(thresholds)) - torch.logit(wanted))
    masks = np.stack([array == s.index for s in HEART.structures])
    probability = occupancy(masks, grid, network, space, np.float16).probability
    for mask, own, threshold, structure in zip(masks, probability, thresholds, HEART.structures, strict=True):
        assert threshold >= structure.threshold - 1e-9
        assert np.count_nonzero(own > threshold) <= mask.sum() * 1.02


def test_bridges_of_classes_above_255(noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> None:
    torn = noisy_vessel.copy()
    torn[20:24] = False
    anatomy = Anatomy((replace(VESSEL, index=300, touches=()),))
    small, large = (
        refine_all((torn * index).astype(dtype), vessel_grid, load_network, anatomy=table)
        for index, dtype, table in ((VESSEL.index, np.uint8, HEART), (300, np.uint16, anatomy))
    )
    assert small.bridges.any()
    np.testing.assert_array_equal(large.bridges == 300, small.bridges == VESSEL.index)
    np.testing.assert_array_equal(large.array == 300, small.array == VESSEL.index)
