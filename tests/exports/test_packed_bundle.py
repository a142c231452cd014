"""A packed bundle: what is in it and what never is, and that it runs where only MONAI is installed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow, load
from monai.transforms import SaveImaged
from numpy.typing import NDArray

from near_monai.anatomy import Structure, by_name
from near_monai.cli import main
from near_monai.errors import NearError
from near_monai.exports.packed_bundle import Provenance, pack
from near_monai.formats.label_maps import read_label, write_label
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.near_inferer import NearInferer
from near_monai.networks.code_table import CodeTable
from near_monai.networks.encoder import CodeEncoder
from near_monai.networks.field import OccupancyField
from near_monai.networks.model_description import Description
from near_monai.networks.network import NearNetwork
from near_monai.networks.weight_files import load_network, read_weights, shipped, write_weights
from near_monai.refinement.many_files import refine_files
from near_monai.refinement.options import Options
from near_monai.shipped_files import bundle_dir

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:parsing config_file:UserWarning")

#: Run before anything else, this leaves Python with what the metadata of the bundle name and what comes with these.
BARE = """
import json
import sys
from importlib.machinery import PathFinder

ABSENT = {"itk", "yaml", "typer", "matplotlib", "plotly", "mlflow", "near_monai"}

class Bare(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        found = super().find_spec(name, path, target)
        packed = found is not None and "coronary_near" in str(found.origin)
        return found if packed or name.partition(".")[0] not in ABSENT else None

sys.meta_path[sys.meta_path.index(PathFinder)] = Bare
from monai.bundle import run
run(sys.argv[2], config_file=sys.argv[1] + "/configs/" + sys.argv[3], bundle_root=sys.argv[1],
    device="$torch.device('cpu')", **json.loads(sys.argv[4]))
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("share") / "coronary_near.zip"
    pack(path)
    return path


@pytest.fixture(scope="module")
def unpacked(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elsewhere")
    with ZipFile(packed) as archive:
        archive.extractall(folder)
    return folder / "coronary_near"


@pytest.fixture
def label(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    path = tmp_path / "vessel.nii.gz"
    nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), np.diag([*vessel_grid.spacing, 1.0])), path)
    return path


def inference_of(bundle: Path, label: Path, output: Path) -> Any:
    """The inference of an unpacked bundle, as MONAI makes it."""
    return create_workflow(
        config_file=str(bundle / "configs" / "inference.json"),
        workflow_type="infer",
        logging_file=False,
        bundle_root=str(bundle),
        dataset_dir=str(label),
        output_dir=str(output),
    )


def voxels(path: Path) -> NDArray[Any]:
    return np.asarray(nib.nifti1.load(path).dataobj)


def test_same_input_same_bytes_and_nothing_else_in_it(packed: Path, tmp_path: Path) -> None:
    pack(tmp_path / packed.name)
    assert (tmp_path / packed.name).read_bytes() == packed.read_bytes()
    with ZipFile(packed) as archive:
        names = {tuple(name.split("/")) for name in archive.namelist()}
        metadata = json.loads(archive.read("coronary_near/configs/metadata.json"))
    assert {name[:2] for name in names} == {
        ("coronary_near", part) for part in ("LICENSE", "configs", "docs", "models", "near_monai")
    }
    assert {name[2] for name in names if name[1] == "models"} == {
        "model.pt",
        "coronary.safetensors",
        "heart.safetensors",
        "organs.safetensors",
    }
    assert {Path(name[-1]).suffix for name in names if name[1] == "near_monai"} == {
        ".py",
        ".json",
        ".yaml",
        ".typed",
        ".css",
        ".html",
        ".js",
    }
    shipped = json.loads((bundle_dir() / "configs" / "metadata.json").read_text())  # tests/test_bundle.py verifies it
    assert metadata == shipped


def bare(bundle: Path, run_id: str, config: str, folder: Path, **options: Any) -> None:
    command = [sys.executable, "-c", BARE, str(bundle), run_id, config, json.dumps(options)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]


def test_runs_in_an_environment_of_its_own_metadata(unpacked: Path, label: Path, tmp_path: Path) -> None:
    """Inference (of a NRRD, too), training and evaluation, from another folder."""
    own = tmp_path / "own"
    own.mkdir()
    image = read_label(shutil.copy(label, own))
    write_label(own / "other.nrrd", image.array, image)
    bare(unpacked, "inference", "inference.json", tmp_path, dataset_dir=str(own), output_dir=str(tmp_path / "bare"))
    refine_files(own, tmp_path / "full", Options(device="cpu"), quiet=True)
    for name in (label.name, "other.nrrd"):
        one, other = (read_label(tmp_path / door / name).array for door in ("bare", "full"))
        assert one.any()
        np.testing.assert_array_equal(one, other)
    tiny = {"max_epochs": 1, "windows_per_epoch": 2, "batch_size": 2, "phantoms": 0, "points": 100, "num_workers": 0}
    generated = {"count": 1, "spacing": [1.5, 1.5, 1.5]}
    coarse = {f"{part}#dataset#data#{k}": v for part in ("validate", "held_out") for k, v in generated.items()}
    run = str(tmp_path / "run")
    bare(unpacked, "training", "train.json", tmp_path, dataset_dir=str(label), output_dir=run, **tiny, **coarse)
    load_network(tmp_path / "run" / "best.pt", "cpu")
    bare(unpacked, "evaluating", "evaluate.json", tmp_path, phantoms=1, output_dir=str(tmp_path / "scores"))
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["n"] == 1


def test_loads_through_monai_wherever_one_stands(
    unpacked: Path, label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    shipped = load_network(None, "cpu")[0].state_dict()
    for kind in ("train", "inference"):
        network = load(unpacked.name, bundle_dir=str(unpacked.parent), workflow_type=kind, device="cpu")
        assert isinstance(network, NearNetwork)
        torch.testing.assert_close(network.state_dict(), shipped, rtol=0, atol=0)
    workflow = inference_of(unpacked, label, tmp_path / "out")
    assert set(tmp_path.iterdir()) == before  # until it is run, nothing is written
    workflow.run()
    assert voxels(tmp_path / "out" / label.name).any()
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dataset_dir"] == str(label)


def test_what_monai_label_reads(unpacked: Path) -> None:
    """Its ``BundleInferTask`` reads these keys of ``inference.json`` and ``metadata.json``, and starts no run."""
    parser = ConfigParser()
    parser.read_config(str(unpacked / "configs" / "inference.json"))
    parser["bundle_root"], parser["device"] = str(unpacked), "cpu"
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(unpacked / "models" / "model.pt", weights_only=True))
    before, after = (parser.get_parsed_content(key).transforms for key in ("preprocessing", "postprocessing"))
    assert isinstance(parser.get_parsed_content("inferer"), NearInferer)
    assert isinstance(after[-1], SaveImaged)  # it leaves these out, and writes itself
    formats = json.loads((unpacked / "configs" / "metadata.json").read_text())["network_data_format"]
    (image, shape), (pred, channels) = (next(iter(formats[key].items())) for key in ("inputs", "outputs"))
    assert (image, pred) == ("image", "pred")
    assert all(image in step.keys for step in before) and all(pred in step.keys for step in after)
    assert len(shape["spatial_shape"]) == 3
    assert channels["channel_def"] == {"0": "background", "1": "coronary"}


def test_monai_label_infers(unpacked: Path, label: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = pytest.importorskip("monailabel.tasks.infer.bundle", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    task = tasks.BundleInferTask(str(unpacked), {"preload": "false"})
    assert task.is_valid()
    result, _ = task({"image": str(label), "device": "cpu", "result_extension": ".nii.gz"})
    refine_files(label, tmp_path / "full", Options(device="cpu"), quiet=True)
    np.testing.assert_array_equal(voxels(Path(result)) > 0, voxels(tmp_path / "full" / label.name) > 0)


def trained(folder: Path, network: NearNetwork, definition: dict[str, Any], structure: Structure) -> Path:
    """What a run on patients leaves behind."""
    folder.mkdir()
    network_def = {"_target_": "near_monai.NearNetwork"} | definition
    training = {"data": "12 label maps of the person who trained", "own_cases": 12}
    description = Description((structure,), WorkingSpace(0.6), network_def, "0.1.0", training, "")
    write_weights(folder / "best.safetensors", network.state_dict(), description)
    space = {"_target_": "near_monai.WorkingSpace", "spacing": 0.6}
    config = {"network_def": network_def, "space": space, "dataset_dir": "/clinic/patient_007", "output_dir": "/clinic"}
    (folder / "config.json").write_text(json.dumps(config))
    torch.save({"case": "patient_007"}, folder / "latest.pt")
    return folder / "best.safetensors"


#: A network that differs from the shipped one where nobody would see it by the shapes of its tensors, and elsewhere.
OWN = {
    "source": {"_target_": "near_monai.CodeEncoder", "dilations": [1, 1, 1]},
    "field": {"_target_": "near_monai.OccupancyField", "hidden": [8]},
}


def own_network() -> NearNetwork:
    return NearNetwork(CodeEncoder(dilations=(1, 1, 1)), OccupancyField(hidden=[8]))


def unzipped(path: Path) -> Path:
    with ZipFile(path) as archive:
        archive.extractall(path.parent)
        for name in archive.namelist():
            assert b"patient_007" not in archive.read(name) and b"/clinic" not in archive.read(name), name
    return path.with_suffix("")


def test_own_weights_go_in_and_whose_they_were_does_not(tmp_path: Path) -> None:
    own = own_network()
    weights = trained(tmp_path / "run", own, OWN, by_name("coronary"))
    said = ("--data", "twelve hearts of a clinic", "--authors", "A. Person", "--version-name", "2.0.1")
    assert main_exit("pack", "-o", tmp_path / "mine.zip", "--weights", weights, *said) == 0
    mine = unzipped(tmp_path / "mine.zip")
    state = torch.load(mine / "models" / "model.pt", weights_only=True)
    torch.testing.assert_close(state, dict(own.state_dict()), rtol=0, atol=0)
    for name in ("train", "inference", "evaluate"):
        content = json.loads((mine / "configs" / f"{name}.json").read_text())
        assert content["network_def"]["source"]["dilations"] == [1, 1, 1]
        assert content["space"]["spacing"] == 0.6
    for file in ("model.pt", "coronary.safetensors"):
        network, space = load_network(mine / "models" / file, "cpu")
        assert network.field.mlp.last.in_features == 8 and space.spacing == 0.6
        assert network.description and network.description.training["data"] == "twelve hearts of a clinic"
    assert load_network(mine / "models" / "heart.safetensors", "cpu")[0].field.heads == 10
    metadata = json.loads((mine / "configs" / "metadata.json").read_text())
    assert (metadata["version"], metadata["authors"]) == ("2.0.1", "A. Person")
    assert metadata["data_source"] == "twelve hearts of a clinic"


def test_weights_of_the_bundle_go_by_their_names(tmp_path: Path) -> None:
    """As in every other command."""
    pack(tmp_path / "by_name.zip", "organs.safetensors")
    pack(tmp_path / "by_path.zip", shipped("organs.safetensors"))
    by_name, by_path = (ZipFile(tmp_path / f"by_{way}.zip") for way in ("name", "path"))
    with by_name, by_path:
        found = [{Path(i.filename).name: i.CRC for i in archive.infolist()} for archive in (by_name, by_path)]
    assert found[0] == found[1]


def test_card_of_own_weights_claims_nothing_of_the_shipped_ones(tmp_path: Path) -> None:
    weights = trained(tmp_path / "run", own_network(), OWN, by_name("coronary"))
    assert main_exit("pack", "-o", tmp_path / "mine.zip", "--weights", weights) == 0
    mine = unzipped(tmp_path / "mine.zip")
    card = (mine / "docs" / "README.md").read_text()
    assert "12 label maps of the person who trained" in card and "None are known for these weights" in card
    assert "generated trees only" not in card and "0.86" not in card and "clinical data" not in card
    metadata = json.loads((mine / "configs" / "metadata.json").read_text())
    assert metadata["data_source"] == "12 label maps of the person who trained"
    assert metadata["authors"] == "the person who trained the weights"


def test_bundle_of_another_structure_does_what_the_command_does(tmp_path: Path, vessel_grid: Grid) -> None:
    """An aorta has a scale of 2 and a trust of its own."""
    _, j, k = np.meshgrid(*vessel_grid.axes_mm(), indexing="ij")
    rough = np.hypot(j - 14, k - 14) + np.random.default_rng(0).normal(0, 0.5, vessel_grid.shape) < 6
    rough[:6] = rough[-6:] = False
    label = tmp_path / "vessel.nii.gz"
    nib.save(nib.Nifti1Image(rough.astype(np.uint8), np.diag([*vessel_grid.spacing, 1.0])), label)
    state, description = read_weights(shipped("organs.safetensors"))
    assert description is not None
    weights = tmp_path / "best.safetensors"
    write_weights(
        weights,
        state,
        replace(description, structures=(replace(by_name("aorta"), threshold=0.3),)),
    )
    assert main_exit("pack", "-o", tmp_path / "aorta.zip", "--weights", weights) == 0
    unpacked = unzipped(tmp_path / "aorta.zip")
    workflow = inference_of(unpacked, label, tmp_path / "bundle")
    workflow.run()
    options = Options(device="cpu", weights=str(weights), structure="aorta")
    refine_files(label, tmp_path / "command", options, quiet=True)
    one, other = voxels(tmp_path / "bundle" / label.name), voxels(tmp_path / "command" / label.name)
    assert np.count_nonzero(one != voxels(label)) > 0
    np.testing.assert_array_equal(one, other)
    assert nib.nifti1.load(tmp_path / "bundle" / label.name).affine[0, 0] == nib.nifti1.load(label).affine[0, 0]
    refine_files(label, tmp_path / "coronary", replace(options, structure="coronary"), quiet=True)
    assert np.count_nonzero(voxels(tmp_path / "coronary" / label.name) != other), "the structure makes a difference"


def test_codes_of_patients_are_not_shared(tmp_path: Path) -> None:
    network = NearNetwork(CodeTable(3, 4), OccupancyField((4,), (4,), 4, (8,)))
    table = {
        "source": {"_target_": "near_monai.CodeTable", "cases": 3, "channels": 4},
        "field": {
            "_target_": "near_monai.OccupancyField",
            "code_channels": [4],
            "level_channels": [4],
            "stem": 4,
            "hidden": [8],
        },
    }
    with pytest.raises(NearError, match="a code of every case"):
        pack(tmp_path / "x.zip", trained(tmp_path / "run", network, table, by_name("coronary")))
    assert not (tmp_path / "x.zip").exists()


def test_bundle_that_was_edited_to_name_a_data_set(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = shutil.copytree(unpacked, tmp_path / "own")
    content = json.loads((own / "configs" / "train.json").read_text())
    (own / "configs" / "train.json").write_text(json.dumps(content | {"dataset_dir": "/clinic"}))
    monkeypatch.setattr("near_monai.exports.packed_bundle.bundle_dir", lambda: own)
    with pytest.raises(NearError, match=r"train.json: names a data set"):
        pack(tmp_path / "x.zip")


@pytest.mark.slow
def test_packed_source_packs_the_same_again(packed: Path, unpacked: Path, tmp_path: Path) -> None:
    again = tmp_path / packed.name
    command = [sys.executable, "-m", "near_monai", "pack", "-o", str(again)]
    subprocess.run(command, check=True, cwd=unpacked, env=os.environ | {"PYTHONPATH": str(unpacked)}, timeout=120)
    with ZipFile(packed) as one, ZipFile(again) as other:
        assert one.namelist() == other.namelist()
        assert all(one.read(name) == other.read(name) for name in one.namelist())


def main_exit(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


def test_provenance_is_of_own_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main_exit("pack", "-o", tmp_path / "x.zip", "--authors", "A. Person") == 1
    assert "are about weights of your own: give --weights, too" in capsys.readouterr().err
    with pytest.raises(NearError, match="holds the expression"):
        pack(
            tmp_path / "x.zip",
            trained(tmp_path / "run", own_network(), OWN, by_name("coronary")),
            Provenance(authors="$1"),
        )
    assert not (tmp_path / "x.zip").exists()


def test_wrong_names_are_one_line(
    packed: Path, label: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_exit("pack", "-o", packed) == 1
    assert main_exit("pack", "-o", tmp_path / "bundle") == 1
    assert main_exit("refine", label, "-o", tmp_path / "out", "--weights", packed) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [any(text in line for text in ("there already", "ends in .zip", "unzip it")) for line in lines] == [True] * 3
