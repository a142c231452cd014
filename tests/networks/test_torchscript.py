"""Exported networks: the same numbers, on any device, without the package; and they serve in the bundle's inference."""

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ckpt_export, run
from monai.data import MetaTensor
from numpy.typing import NDArray

from near_monai.errors import NearError
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.near_inferer import NearInferer
from near_monai.networks.code_table import CodeTable
from near_monai.networks.field import OccupancyField
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network
from near_monai.shipped_files import bundle_dir

CONFIGS = bundle_dir() / "configs"
pytestmark = pytest.mark.filterwarnings("ignore")

#: Loads an export in a Python that has no near_monai.
FOREIGN = """
import sys
sys.modules["near_monai"] = None
import torch
network = torch.jit.load(sys.argv[1], map_location="cpu")
image = torch.load(sys.argv[2])
with torch.no_grad():
    torch.save(network(image), sys.argv[3])
assert torch.jit.load(sys.argv[1], map_location="meta")(image.to("meta")).device.type == "meta"
"""


def export(path: Path, trace: bool) -> Path:
    ckpt_export(
        net_id="network_def",
        filepath=str(path),
        ckpt_file=str(bundle_dir() / "models" / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        use_trace=trace,
        input_shape=[1, 1, 48, 48, 48] if trace else None,
        bundle_root=str(bundle_dir()),
    )
    return path


@pytest.mark.parametrize("trace", [False, True], ids=["scripted", "traced"])
def test_export_gives_the_same_anywhere(trace: bool, tmp_path: Path) -> None:
    path = export(tmp_path / "model.ts", trace)
    image = torch.rand(1, 1, 40, 32, 24)
    torch.save(image, tmp_path / "image.pt")
    files = [str(tmp_path / name) for name in ("model.ts", "image.pt", "logits.pt")]
    subprocess.run([sys.executable, "-c", FOREIGN, *files], check=True, timeout=120, cwd=tmp_path)
    network, space = load_network(None, "cpu")
    with torch.no_grad():
        expected = network(image)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), expected, rtol=1e-5, atol=2e-5)
    exported = torch.jit.load(path)
    graph = str(exported.inlined_graph)
    assert "mkldnn" not in graph and "cpu" not in graph
    mask = MetaTensor(torch.zeros(1, 1, 30, 24, 20))
    mask[..., 8:22, 9:14, 9:12] = 1
    refined = [NearInferer(space)(mask, n) for n in (network, exported)]
    torch.testing.assert_close(*refined, rtol=0, atol=1e-3)  # codes are kept in half precision


def test_scripted_network_answers_points_as_well() -> None:
    network, _ = load_network(None, "cpu")
    network.field.chunk = 100
    image, points = torch.rand(2, 1, 16, 12, 8), torch.rand(2, 333, 3) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(
            torch.jit.script(network)(image, points), network(image, points), rtol=1e-5, atol=2e-5
        )


def table_network(coordinates: bool = True) -> NearNetwork:
    norm = ("group", {"num_groups": 2})
    return NearNetwork(CodeTable(3, 8), OccupancyField((8,), (8, 8), 4, (16,), 0, coordinates, norm, chunk=100)).eval()


def test_the_recipe_s_network_scripts() -> None:
    network, case, points = table_network(), torch.tensor([0, 2]), torch.rand(2, 333, 3) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(case, points), network(case, points))


@pytest.mark.parametrize("coordinates", [True, False])
def test_voxel_centres_are_those_of_the_grid(coordinates: bool) -> None:
    field, grid = table_network(coordinates).field, Grid((5, 6, 7), (1.0, 1.0, 1.0))
    features = field.features([torch.rand(2, 8, 1, 1, 1)])
    torch.testing.assert_close(field.on_voxels(features, [5, 6, 7]), field.on_axes(features, grid.axes_in(grid)))


def test_network_of_others_is_one_line() -> None:
    with pytest.raises(NearError, match="network_def is a Conv3d; expected a NearNetwork"):
        NearInferer(WorkingSpace())(torch.zeros(1, 1, 8, 8, 8), torch.nn.Conv3d(1, 1, 1))


def test_export_serves_in_inference(
    noisy_vessel: NDArray[np.bool_], vessel_grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), np.diag([*vessel_grid.spacing, 1.0])), label)
    scripted = export(tmp_path / "model.ts", False)
    found = []
    for name, more in (("eager", {}), ("script", {"network_def": f"$torch.jit.load({str(scripted)!r})"})):
        run(
            run_id="inference",
            config_file=str(CONFIGS / "inference.json"),
            bundle_root=str(bundle_dir()),
            dataset_dir=str(label),
            output_dir=str(tmp_path / name),
            device="cpu",
            **more,
        )
        found.append(np.asarray(nib.nifti1.load(tmp_path / name / label.name).dataobj))
    assert "brings its weights along" in capsys.readouterr().out
    assert found[0].any()
    np.testing.assert_array_equal(found[0], found[1])
