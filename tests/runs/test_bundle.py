"""The bundle: complete, consistent, and trained, resumed, run and scored through MONAI's own door."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run, verify_metadata, verify_net_in_out
from monai.data import DataLoader, MetaTensor
from numpy.typing import NDArray

from near_monai.anatomy import CORONARY, HEART, by_name, row_of
from near_monai.cli import refine
from near_monai.data.class_selection import ALL
from near_monai.datasets.heart_cases import organ_training_cases, structure_items
from near_monai.datasets.label_shapes import OrganShapes
from near_monai.errors import NearError, known_error
from near_monai.geometry.coordinates import Grid
from near_monai.geometry.working_space import WorkingSpace
from near_monai.inferers.near_inferer import NearInferer
from near_monai.inferers.saved_codes import redraw
from near_monai.networks.weight_files import DESCRIBES, describe, load_network
from near_monai.repair.mask_repair import repair
from near_monai.runs.configuration import check_keys, keys_of
from near_monai.runs.inference_progress import Progress
from near_monai.runs.tolerant_dataset import TolerantDataset
from near_monai.shipped_files import bundle_dir
from near_monai.training.checkpoints import Checkpoints, start_from
from near_monai.training.train_command import run_training
from near_monai.transforms.postprocessing import RepairMaskd
from near_monai.transforms.preprocessing import PickLabeld, Shrinkd

CONFIGS = bundle_dir() / "configs"
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:parsing config_file:UserWarning"
)

COARSE = [1.5, 1.5, 1.5]
#: A run of seconds: one tree, few points, coarse phantoms to validate on.
TINY = {
    "phantoms": 1,
    "max_epochs": 2,
    "val_interval": 1,
    "windows_per_epoch": 4,
    "batch_size": 2,
    "points": 256,
    "num_workers": 0,
    "validate#dataset#data#count": 1,
    "validate#dataset#data#spacing": COARSE,
    "held_out#dataset#data#count": 2,
    "held_out#dataset#data#spacing": COARSE,
}


def arguments(options: dict[str, Any]) -> list[str]:
    return [word for key, value in options.items() for word in (f"--{key}", json.dumps(value))]


def config(name: str) -> Any:
    return json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))


def test_every_config_describes_the_same_network() -> None:
    for name in ("inference", "evaluate"):
        for key in ("network_def", "space", "label"):
            assert config(name)[key] == config("train")[key]


@pytest.mark.parametrize("name", ["train", "recipe"])
def test_what_is_validated_is_what_refine_gives(name: str) -> None:
    """In full precision: on a GPU only the steps of training are in mixed precision, which threads do not share."""
    for part in ("validate", "held_out"):
        assert "amp" not in ((config(name)[part] or {}).get("evaluator", {}))


@pytest.mark.parametrize(
    ("name", "heads"), [("coronary.safetensors", 1), ("organs.safetensors", 1), ("heart.safetensors", 10)]
)
def test_shipped_weights_fit_and_are_small(name: str, heads: int) -> None:
    network, space = load_network(name, "cpu")
    assert not network.training
    assert network.field.heads == heads
    assert space.spacing == config("heart" if heads > 1 else "train")["space"]["spacing"]
    assert (bundle_dir() / "models" / name).stat().st_size < 10e6


def test_training_starts_from_shipped_weights_by_their_name() -> None:
    network = load_network("model.pt", "cpu")[0]
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for value in network.parameters():
        value.data.zero_()
    start_from(network, "model.pt")
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


@pytest.mark.filterwarnings("ignore:No hash value provided:UserWarning")
def test_metadata_passes_the_schema_s_rules(tmp_path: Path) -> None:
    """MONAI fetches the schema from the network; here are the rules of version 20240725."""
    tensor = ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"]
    tensors = {"type": "object", "additionalProperties": {"type": "object", "required": tensor}, "minProperties": 1}
    data_format = {
        "type": "object",
        "properties": {"inputs": tensors, "outputs": tensors},
        "required": ["inputs", "outputs"],
    }
    required = ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"]
    required += ["task", "description", "authors", "copyright", "network_data_format"]
    schema = {
        "type": "object",
        "required": required,
        "properties": {"network_data_format": data_format},
        "not": {"required": ["optional_packages_version"]},
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    verify_metadata(meta_file=str(CONFIGS / "metadata.json"), filepath=str(tmp_path / "schema.json"))


def test_recipe_keeps_the_described_numbers() -> None:
    recipe = config("recipe")
    assert recipe["points"] == 128**3
    assert (recipe["batch_size"], recipe["accumulation_steps"]) == (1, 4)
    assert (recipe["lr"], recipe["max_epochs"], recipe["val_interval"]) == (5e-4, 300, 10)
    assert recipe["curriculum"] == [[1, 0.5], [101, 0.3], [201, 0.1]]
    assert recipe["network_def"]["source"]["channels"] == 256
    inner = recipe["loss"]["loss"]
    assert (inner["lambda_dice"], inner["lambda_focal"], inner["gamma"]) == (0.7, 0.3, 4.0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished tiny run."""
    folder = tmp_path_factory.mktemp("run")
    run_training(folder, "", [], arguments(TINY))
    return folder


def test_run_leaves_weights_configuration_and_paired_figures(finished: Path) -> None:
    saved = json.loads((finished / "config.json").read_text())
    assert saved["points"] == 256
    summary = json.loads((finished / "held_out" / "summary.json").read_text())
    assert summary["n"] == 2
    assert {"prediction", "baseline", "difference"} <= set(summary["metrics"]["dice"])
    assert list((finished / "tensorboard").glob("events*"))
    for file in ("best.safetensors", "best.pt"):
        description = load_network(finished / file, "cpu")[0].description
        assert description is not None and description.names == ("coronary",)
        assert description.training["data"] == "1 generated shapes"
        assert description.training["settings"]["points"] == 256 and "began_at" not in description.training
        assert str(finished) not in description.to_json()


def test_stopped_run_goes_on_to_the_same_weights(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoints._save

    def save_and_die(self: Checkpoints, engine: Any) -> None:
        save(self, engine)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_training(tmp_path, "", [], arguments(TINY))
    assert torch.load(tmp_path / "latest.pt", weights_only=True)["epoch"] == 1
    run_training(tmp_path, "", [], arguments(TINY))
    one, other = (torch.load(p / "latest.pt", weights_only=True)["network"] for p in (finished, tmp_path))
    for key, value in one.items():
        torch.testing.assert_close(value, other[key], rtol=0, atol=0)


def test_killed_before_the_last_validation_still_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last epoch is saved, then validated: a kill between the two must not cost its weights."""
    tiny = TINY | {"max_epochs": 1, "val_interval": 5}
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_validate_last", lambda self, engine: None)
        run_training(tmp_path, "", [], arguments(tiny))
    assert not (tmp_path / "best.pt").exists()
    run_training(tmp_path, "", [], arguments(tiny))
    latest = torch.load(tmp_path / "latest.pt", weights_only=True)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert latest["validated"] == 1
    assert all(torch.equal(value, best[key]) for key, value in latest["network"].items())


def test_fine_tuned_weights_say_on_whose_data(labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = TINY | {"max_epochs": 1, "initial_weights": "model.pt", "lr": 0}
    run_training(tmp_path / "run", str(labels), [], arguments(options))
    told = capsys.readouterr().out
    assert "2 label maps and 1 generated trees to train on" in told
    ((after, before),) = re.findall(r"held-out cases: mean Dice (\S+), and (\S+) with model.pt, where training", told)
    summary = json.loads((tmp_path / "run" / "held_out" / "summary.json").read_text())
    assert float(after) == pytest.approx(summary["metrics"]["dice"]["prediction"]["mean"], abs=1e-4)
    assert float(before) == pytest.approx(float(after), abs=0.05), "no step was made; the norms follow the data"
    description = describe(tmp_path / "run" / "best.safetensors")
    assert description is not None
    words = "2 label maps of the person who trained and 1 generated shapes; began at weights made from: 192 generated"
    assert description.training["data"].startswith(words)
    before = describe("coronary.safetensors")
    assert before is not None and description.training["began_at"] == before.fingerprint
    assert (description.training["own_cases"], description.training["generated_cases"]) == (2, 1)


def test_network_that_cannot_be_described_is_refused_before_hours_are_spent(tmp_path: Path) -> None:
    options = TINY | {"network_def#field#hidden": "$[8]"}
    with pytest.raises(NearError, match=r"network_def or space: holds the expression '\$\[8\]'"):
        run_training(tmp_path / "run", "", [], arguments(options))
    assert not (tmp_path / "run" / "latest.pt").exists()


def test_held_out_organs_are_repaired_as_what_they_are(tmp_path: Path) -> None:
    """Masks are seen in their scale, judged by their own trust, and scored in mm."""
    item: Any
    (item, *_) = (i for i in structure_items(1, 5, "mild", "organs.safetensors", (2, 2, 2)) if "aorta" in i["name"])
    shrunk: Any = Shrinkd("image", None)(item)
    assert shrunk["image"].affine[0, 0] == 1 and shrunk["label"].affine[0, 0] == 2
    network, space = load_network("organs.safetensors", "cpu")
    pred = NearInferer(space)(shrunk["image"][None].float(), network)[0]
    repaired = RepairMaskd("pred")(shrunk | {"pred": pred})["pred"]
    grid = Grid.under(shrunk["image"].affine, item["image"].shape[1:])
    own, other = (
        repair(np.asarray(item["image"][0]) > 0, np.asarray(pred[0]), grid, structure=by_name(name)).mask
        for name in ("aorta", "coronary")
    )
    np.testing.assert_array_equal(np.asarray(repaired[0]) > 0, own)
    assert np.count_nonzero(own != other), "a coronary's trust would do something else"


def test_folder_of_another_run_is_refused(finished: Path) -> None:
    before = (finished / "config.json").read_bytes()
    with pytest.raises(NearError, match=r"another configuration \(lr\)"):
        run_training(finished, "", [], arguments(TINY | {"lr": 0.1}))
    assert (finished / "config.json").read_bytes() == before


OVERLAYS = [CONFIGS / f"{name}.json" for name in ("recipe", "organs", "heart", "multi_gpu_train")]


@pytest.mark.parametrize("overlay", [*OVERLAYS, CONFIGS.parents[1] / "benchmarks" / "unet.json"], ids=lambda p: p.stem)
def test_overlays_hold_no_key_that_means_nothing(overlay: Path) -> None:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(overlay)])
    check_keys(parser.get(), {*keys_of(config("train")), *DESCRIBES})


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"max_epoch": 3}, "max_epoch: the configuration has no such key; did you mean max_epochs"),
        ({"train#handlrs": []}, "train#handlrs: the configuration has no such key; did you mean train#handlers"),
        ({"hearts": 2, "phantoms": 3}, "hearts: the configuration has no such key"),
        ({"train#dataset#pionts": 3}, "unexpected keyword argument 'pionts'"),
    ],
)
def test_misspelt_key_in_an_overlay_is_one_line(content: dict[str, Any], text: str, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(json.dumps(content))
    with pytest.raises(NearError, match=re.escape(text)) as error:
        run_training(tmp_path / "run", "", [tmp_path / "own.json"], arguments(TINY))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("run_id", "name"), [("inference", "inference"), ("evaluating", "evaluate"), ("training", "train")]
)
def test_misspelt_option_of_monai_s_own_command_is_an_error(
    run_id: str, name: str, labels: Path, tmp_path: Path
) -> None:
    """MONAI itself would pass over it in silence."""
    with pytest.raises(RuntimeError) as error:
        run_bundle(run_id, name, labels, tmp_path / "out", lable=9)
    assert "lable: the configuration has no such key; did you mean label?" in str(error.value.__cause__)
    assert not (tmp_path / "out").exists()


def test_both_doors_share_their_options() -> None:
    shared = {"output": "output_dir", "label": "label", "weights": "weights", "device": "device", "no_clean": "clean"}
    assert set(shared) <= set(inspect.signature(refine).parameters)
    assert set(shared.values()) <= set(config("inference")) & set(config("evaluate"))


def test_tracking_without_mlflow_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("near_monai.training.train_command.find_spec", lambda name: None)
    with pytest.raises(NearError, match=r"^--tracking mlflow: MLflow is not installed; pip install"):
        run_training(tmp_path / "run", "", [], arguments(TINY), tracking="mlflow")


@pytest.mark.filterwarnings("ignore")
def test_tracking_records_the_run_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    run_training(tmp_path / "run", "", [], [*arguments(TINY), "--experiment_name", "trees"], tracking="mlflow")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/run/mlruns.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("trees").experiment_id])
    assert {"train_loss", "full_grid_dice"} <= set(tracked.data.metrics)
    assert {path.name for path in tmp_path.iterdir()} == {"run"}
    run_training(tmp_path / "run", "", [], [*arguments(TINY), "--experiment_name", "trees"], tracking="mlflow")


def test_missing_data_set_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NearError, match=r"^nowhere: no such file or folder$"):
        run_training(tmp_path, "nowhere", [], arguments(TINY))


@pytest.fixture
def labels(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> Path:
    for folder in ("labelsTr", "truthTr"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        for name in ("a", "b"):
            image = nib.Nifti1Image(noisy_vessel.astype(np.uint8) * CORONARY, np.diag([*vessel_grid.spacing, 1.0]))
            nib.save(image, tmp_path / "set" / folder / f"{name}.nii.gz")
    return tmp_path / "set"


@pytest.mark.parametrize(("name", "kind"), [("train", "train"), ("inference", "infer"), ("evaluate", "infer")])
def test_required_properties_are_there(name: str, kind: str, labels: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataset_dir": str(labels), "output_dir": str(tmp_path / "run")}
    workflow = ConfigWorkflow(
        str(CONFIGS / f"{name}.json"),
        workflow_type=kind,
        logging_file=False,
        bundle_root=str(bundle_dir()),
        **(options | TINY if name == "train" else options),
    )
    workflow.initialize()
    assert not workflow.check_properties()


def test_recipe_trains_on_own_labels_and_saves_codes(labels: Path, tmp_path: Path) -> None:
    small = {"max_epochs": 1, "val_interval": 1, "points": 512, "network_def#field#chunk": 200, "num_workers": 0}
    run_training(tmp_path / "run", str(labels), [Path("recipe")], arguments(small))
    assert {p.name for p in (tmp_path / "run" / "codes").iterdir()} == {"a.safetensors", "b.safetensors"}
    best = torch.load(tmp_path / "run" / "best.pt", weights_only=True)
    assert best["source.codes.weight"].shape == (2, 256)
    shutil.rmtree(labels)  # a run speaks for itself
    probability, affine = redraw(
        tmp_path / "run" / "codes" / "a.safetensors", tmp_path / "run" / "best.safetensors", 16, "cpu"
    )
    assert probability.shape == (16, 16, 16)
    assert affine.shape == (4, 4)


def run_bundle(run_id: str, names: str, labels: Path, output: Path, **more: Any) -> None:
    run(
        run_id=run_id,
        config_file=[str(CONFIGS / f"{name}.json") for name in names.split()],
        bundle_root=str(bundle_dir()),
        dataset_dir=str(labels),
        output_dir=str(output),
        device="$torch.device('cpu')",
        **more,
    )


@pytest.mark.parametrize("name", ["organs", "heart"])
def test_other_functions_train_on_hearts_and_on_own_maps(name: str, tmp_path: Path) -> None:
    array = np.zeros((30, 30, 30), np.uint8)
    array[5:15, 8:22, 8:22], array[15:25, 8:22, 8:22] = 2, 3
    nib.save(nib.Nifti1Image(array, np.diag([1.5, 1.5, 1.5, 1])), tmp_path / "own.nii.gz")
    tiny = {key: value for key, value in TINY.items() if "held_out" not in key and key != "phantoms"}
    options = tiny | {"hearts": 1, "max_epochs": 1, "label": 2, "held_out#dataset#data#spacing": COARSE}
    if name == "heart":
        del options["held_out#dataset#data#spacing"]
        options |= {"calibration#count": 1, "calibration#spacing": COARSE}
    output = tmp_path / "run"
    run_training(output, str(tmp_path / "own.nii.gz"), [Path(name)], arguments(options))
    description = describe(output / "best.safetensors")
    assert description is not None
    organs = {row.name for row in HEART.structures if row.weights == "organs.safetensors"}
    assert set(description.names) == (organs if name == "organs" else {row.name for row in HEART.structures})
    network, space = load_network(output / "best.pt")
    run_training(output, str(tmp_path / "own.nii.gz"), [Path(name)], arguments(options))  # finished: changes nothing
    again = load_network(output / "best.pt")[0].state_dict()
    torch.testing.assert_close(again, network.state_dict(), rtol=0, atol=0)
    assert network.field.heads == (10 if name == "heart" else 1)
    assert space.spacing == (0.8 if name == "heart" else 0.5)


def test_organs_of_a_class_that_the_table_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(NearError, match="say with --label which class"):
        run_training(tmp_path / "run", str(tmp_path), [Path("organs")], arguments({"hearts": 1}))


def test_another_organ_has_a_table_of_its_own(tmp_path: Path) -> None:
    array = np.zeros((30, 30, 30), np.uint8)
    array[5:25, 8:22, 8:22] = 77
    nib.save(nib.Nifti1Image(array, np.diag([3.0, 3.0, 3.0, 1])), tmp_path / "own.nii.gz")
    table = tmp_path / "liver.yaml"
    table.write_text("- {index: 77, name: liver, components: 1, rank: 1, scale: 5}\n")
    space = WorkingSpace()
    shapes = OrganShapes(77, space, table=str(table))
    (case,) = organ_training_cases(str(tmp_path / "own.nii.gz"), shapes, 0, 0, "organs.safetensors")
    extent = np.multiply(case.grid.shape, case.grid.spacing) - 2 * space.margin
    assert extent[0] == pytest.approx(60 / 5, abs=2), "seen as if it were five times smaller"
    with pytest.raises(NearError, match="the table has 77 liver"):
        organ_training_cases(str(tmp_path), OrganShapes(9, space, table=str(table)), 0, 0, "organs.safetensors")


def test_inference_through_monai_equals_the_command_line(labels: Path, tmp_path: Path) -> None:
    from near_monai.refinement.many_files import refine_files
    from near_monai.refinement.options import Options

    run_bundle("inference", "inference", labels, tmp_path / "monai")
    refine_files(labels, tmp_path / "cli", Options(device="cpu"), quiet=True)
    for name in ("a.nii.gz", "b.nii.gz"):
        one, other = (nib.nifti1.load(tmp_path / door / name) for door in ("monai", "cli"))
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        assert np.asarray(one.dataobj).any()


def test_one_function_of_all_through_monai_equals_the_command_line(tmp_path: Path) -> None:
    from near_monai.refinement.many_files import refine_files
    from near_monai.refinement.options import Options

    array = np.zeros((34, 30, 30), np.uint8)
    array[5:17, 8:22, 8:22], array[17:29, 8:22, 8:22] = 2, 3
    array[10, 9:12, 9:12] = array[23, 5:9, 5:9] = 0
    nib.save(nib.Nifti1Image(array, np.diag([1.2, 1.2, 1.2, 1])), tmp_path / "a.nii.gz")
    run_bundle("inference", "inference heart_inference", tmp_path / "a.nii.gz", tmp_path / "monai")
    refine_files(tmp_path / "a.nii.gz", tmp_path / "cli", Options(ALL, "heart.safetensors", "cpu"), quiet=True)
    one, other = (np.asarray(nib.nifti1.load(tmp_path / door / "a.nii.gz").dataobj) for door in ("monai", "cli"))
    assert set(np.unique(other)) == {0, 2, 3}
    assert np.mean(one != other) < 1e-3  # the command line keeps probabilities in half precision


@pytest.mark.parametrize("name", ["inference", "inference heart_inference"])
def test_of_an_empty_map_an_empty_one_is_made(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 7), np.uint8), np.diag([0.5, 0.5, 0.5, 1])), tmp_path / "a.nii.gz")
    run_bundle("inference", name, tmp_path / "a.nii.gz", tmp_path / "out")
    made = np.asarray(nib.nifti1.load(tmp_path / "out" / "a.nii.gz").dataobj)
    assert made.shape == (9, 8, 7) and not made.any()
    said = "".join(capfd.readouterr())
    assert said.count("a.nii.gz: the label map is empty, and so is the result") == 1
    assert "1 of 1 cases" in said


def test_evaluating_scores_refined_and_noisy(labels: Path, tmp_path: Path) -> None:
    run_bundle("evaluating", "evaluate", labels, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["cases"]) == {"a", "b"}
    assert summary["cases"]["a"]["baseline"]["dice"] == 1


def test_two_processes_train_together(tmp_path: Path) -> None:
    files = [str(CONFIGS / f"{name}.json") for name in ("train", "multi_gpu_train")]
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += ["-m", "monai.bundle", "run", "training", "--config_file", str(files)]
    options = TINY | {"output_dir": str(tmp_path), "bundle_root": str(bundle_dir()), "max_epochs": 1}
    words = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        command + words, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("epoch 1/1") == 1
    state = torch.load(tmp_path / "latest.pt", weights_only=True)
    assert state["epoch"] == 1
    assert not any(key.startswith("module.") for key in state["network"])
    assert json.loads((tmp_path / "held_out" / "summary.json").read_text())["n"] == 2


def test_expressions_stay_short() -> None:
    """Anything longer than a line belongs into the package, where it can be read and tested."""
    for path in CONFIGS.glob("*.json"):
        parser = ConfigParser(json.loads(path.read_text()))
        for text in json.dumps(parser.get()).split('"'):
            assert not text.startswith("$") or len(text) <= 100, f"{path.name}: {text}"


@pytest.mark.parametrize(("run_id", "name"), [("inference", "inference"), ("evaluating", "evaluate")])
def test_a_bad_file_stops_no_other_and_the_run_fails(
    run_id: str, name: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = labels / "labelsTr" / "b.nii.gz"
    (labels / "labelsTr" / "a.nii.gz").write_bytes(good.read_bytes()[:-200])
    with pytest.raises(RuntimeError) as error:
        run_bundle(run_id, name, labels, tmp_path / "out")
    assert str(error.value.__cause__) == f"1 of 2 cases could not be used: a; 1 are in {tmp_path / 'out'}"
    assert len([line for line in capsys.readouterr().out.splitlines() if "a.nii.gz: damaged" in line]) == 1
    if name == "inference":
        assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == [good.name]
    else:
        assert [*json.loads((tmp_path / "out" / "summary.json").read_text())["cases"]] == ["b"]
    good.write_bytes(b"")
    with pytest.raises(RuntimeError) as error:
        run_bundle(run_id, name, labels, tmp_path / "none")
    assert str(error.value.__cause__).startswith("2 of 2 cases could not be used: a, b; 0 are in")


def test_monai_s_own_command_ends_with_one_line(labels: Path, tmp_path: Path) -> None:
    (labels / "labelsTr" / "a.nii.gz").write_bytes(b"")
    command = [sys.executable, "-m", "monai.bundle", "run", "inference"]
    command += ["--config_file", str(CONFIGS / "inference.json"), "--bundle_root", str(bundle_dir())]
    command += ["--dataset_dir", str(labels), "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[-1].startswith("near_monai: 1 of 2 cases could not be used: a; 1 are in")


def test_evaluating_passes_over_pairs_on_two_grids(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nib.nifti1.load(labels / "truthTr" / "b.nii.gz")
    moved = image.affine @ np.diag([1, 1, 1, 1.0]) + np.array([[0, 0, 0, 50.0]] + [[0.0] * 4] * 3)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), labels / "truthTr" / "b.nii.gz")
    with pytest.raises(RuntimeError) as error:
        run_bundle("evaluating", "evaluate", labels, tmp_path / "out")
    assert str(error.value.__cause__).startswith("1 of 2 cases could not be used: b;")
    assert "b.nii.gz: is not on the grid of" in capsys.readouterr().out
    assert [*json.loads((tmp_path / "out" / "summary.json").read_text())["cases"]] == ["a"]


def test_classes_that_need_other_weights_are_refused(labels: Path, tmp_path: Path) -> None:
    """``near-monai refine`` picks weights by class; the bundle's configuration has those of coronary arteries."""
    pick = PickLabeld("image", 6, "coronary")
    array = torch.zeros(1, 5, 5, 5, dtype=torch.uint8)
    array[0, 1:4, 1:4, 1:4] = 6
    assert pick({"image": MetaTensor(array)})["image"].sum() == 27  # alone in its map it may be anything
    array[0, 0, 0, 0] = 9
    with pytest.raises(NearError, match="label 6 is aorta, and these weights are for coronary alone"):
        pick({"image": MetaTensor(array)})
    assert PickLabeld("image", 6)({"image": MetaTensor(array)})["image"].sum() == 27
    assert PickLabeld("image", 9, "coronary")({"image": MetaTensor(array)})["image"].sum() == 1
    for name in ("inference", "evaluate"):
        assert config(name)["structure"]["row"] == row_of(by_name("coronary"))


def test_truth_is_scored_for_the_class_of_the_image() -> None:
    one, other = (torch.zeros(1, 5, 5, 5, dtype=torch.uint8) for _ in range(2))
    one[0, 2], other[0, 2] = 9, 1
    with pytest.raises(NearError, match="no voxel has label 9"):
        PickLabeld(["image", "label"])({"image": MetaTensor(one), "label": MetaTensor(other)})


def test_refusals_are_not_lost_in_worker_processes() -> None:
    data = TolerantDataset([{"name": "a"}, {"name": "b"}], lambda item: item)
    assert [item["name"] for item in data] == ["a", "b"]
    with pytest.raises(NearError) as error:
        [*DataLoader(data, batch_size=1, num_workers=1)]
    assert str(known_error(error.value)) == "the loader must do without worker processes here; leave num_workers at 0"


def test_inference_goes_on_where_it_was_stopped(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, done = tmp_path / "out", Progress.done

    def die(self: Progress, name: str, image: str) -> None:
        if name == "b":
            raise KeyboardInterrupt
        done(self, name, image)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "done", die)
        with pytest.raises(KeyboardInterrupt):
            run_bundle("inference", "inference", labels, output)
    first = (output / "a.nii.gz").stat().st_mtime_ns
    run_bundle("inference", "inference", labels, output)
    told = capsys.readouterr().out
    assert "1 cases are finished already" in told
    assert f"2 of 2 cases, in {output}" in told
    assert (output / "a.nii.gz").stat().st_mtime_ns == first
    run_bundle("inference", "inference", labels, output)
    assert f"2 of 2 cases, in {output}" in capsys.readouterr().out
    with pytest.raises(RuntimeError) as error:
        run_bundle("inference", "inference", labels, output, label=9)
    assert "holds a run with another configuration (label)" in str(error.value.__cause__)
    (output / "b.nii.gz").write_bytes(b"mine")
    (output / "a.nii.gz").unlink()
    for _ in range(2):
        with pytest.raises(RuntimeError) as error:
            run_bundle("inference", "inference", labels, output)
        assert "1 of 2 cases could not be used: b" in str(known_error(error.value))
        assert "b.nii.gz: is there already, and is not of this run; move it" in capsys.readouterr().out
        assert (output / "b.nii.gz").read_bytes() == b"mine", "refused again, not taken for what a killed run left"
        assert (output / "a.nii.gz").is_file()


def test_processes_of_a_launcher_share_the_cases(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, names in enumerate((["a"], ["a", "b"])):
        monkeypatch.setenv("RANK", str(rank))
        run_bundle("inference", "inference", labels, tmp_path / "out")
        told = capsys.readouterr().out
        assert f"shard {rank} of 2: 1 of 2 cases (RANK and WORLD_SIZE of the environment)" in told
        assert f"1 of 1 cases, in {tmp_path / 'out'}" in told
        assert sorted(path.name[0] for path in (tmp_path / "out").glob("*.nii.gz")) == names


def test_batches_hold_cases_of_one_shape(labels: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"dataloader#batch_size": 2}
    run_bundle("inference", "inference", labels, tmp_path / "two", **options)
    assert {path.name for path in (tmp_path / "two").glob("*.nii.gz")} == {"a.nii.gz", "b.nii.gz"}
    image = nib.nifti1.load(labels / "labelsTr" / "b.nii.gz")
    nib.save(image.slicer[:-1], tmp_path / "b.nii.gz")
    shutil.copy(tmp_path / "b.nii.gz", labels / "labelsTr" / "b.nii.gz")
    with pytest.raises(RuntimeError) as error:
        run_bundle("inference", "inference", labels, tmp_path / "three", **options)
    assert str(known_error(error.value)).startswith("a, b: label maps of shapes")


def test_bundle_root_is_asked_for_where_it_is_not_found(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError) as error:
        run(
            run_id="inference",
            config_file=str(CONFIGS / "inference.json"),
            dataset_dir=str(labels),
            output_dir=str(tmp_path / "out"),
        )
    assert str(known_error(error.value)) == (
        "bundle: no bundle there; say with --bundle_root which folder holds its configs and models"
    )
    assert not (tmp_path / "out").exists()


def test_metadata_and_card_say_what_the_model_zoo_asks_for() -> None:
    metadata = config("metadata")
    assert {"eval_metrics", "label_classes", "pred_classes", "references"} <= set(metadata)
    assert metadata["version"] in metadata["changelog"]
    assert "near_monai" not in metadata["required_packages_version"], "the zip brings it along"
    tensors = [
        *metadata["network_data_format"]["inputs"].values(),
        *metadata["network_data_format"]["outputs"].values(),
    ]
    assert {tensor["type"] for tensor in tensors} == {"image"}
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        bundle_root=str(bundle_dir()),
        device="cpu",
    )
    card = (bundle_dir() / "docs" / "README.md").read_text(encoding="utf-8")
    headings = ("Model Description", "Data", "Performance", "System Configuration", "Limitations", "References")
    assert all(f"\n## **{heading}**\n" in card for heading in headings)
    for path in re.findall(r"coronary_near/((?:configs|models|docs)/[\w./]+)", card):
        assert (bundle_dir() / path).is_file(), path
