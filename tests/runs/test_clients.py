"""Clients of the bundle do as they do with every bundle: model zoo, federated learning, MONAI Label."""

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, run
from monai.fl.client import MonaiAlgo
from monai.fl.utils.exchange_object import ExchangeObject
from numpy.typing import NDArray

from near_monai.geometry.coordinates import Grid
from near_monai.networks.weight_files import load_network
from near_monai.shipped_files import bundle_dir

CONFIGS = bundle_dir() / "configs"
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")

COARSE = [1.5, 1.5, 1.5]
#: A training of seconds.
TINY: dict[str, Any] = {
    "phantoms": 1,
    "windows_per_epoch": 4,
    "batch_size": 2,
    "points": 256,
    "num_workers": 0,
    "val_interval": 1,
    "validate#dataset#data#count": 1,
    "validate#dataset#data#spacing": COARSE,
    "held_out#dataset#data#count": 1,
    "held_out#dataset#data#spacing": COARSE,
    "device": "cpu",
    "bundle_root": str(bundle_dir()),
}


def check_workflow(names: list[str], **override: Any) -> ConfigWorkflow:
    """As the model zoo's unit tests do."""
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.json") for name in names],
        workflow_type="train",
        logging_file=str(CONFIGS / "logging.conf"),
        meta_file=str(CONFIGS / "metadata.json"),
        **override,
    )
    workflow.initialize()
    assert not workflow.check_properties()
    workflow.run()
    workflow.finalize()
    return workflow


def test_model_zoo_s_unit_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training, then training again and evaluation laid over it, in one process."""
    monkeypatch.chdir(tmp_path)
    options = TINY | {"train#trainer#max_epochs": 1}
    check_workflow(["train"], **options)
    first = torch.load("runs/train/best.pt", weights_only=True)
    check_workflow(["train"], **options)
    again = torch.load("runs/train/best.pt", weights_only=True)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    check_workflow(["train", "evaluate"], **{k: v for k, v in options.items() if k != "phantoms"}, phantoms=1)
    assert json.loads(Path("runs/evaluation/summary.json").read_text())["n"] == 1


def test_federated_rounds_begin_at_the_weights_that_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = MonaiAlgo(
        str(bundle_dir()),
        config_evaluate_filename=None,
        train_kwargs=TINY | {"lr": 0.0, "output_dir": str(tmp_path / "run")},
    )
    client.initialize({"CLIENT_NAME": "one"})
    assert client.trainer is not None
    weights = {name: value.numpy() for name, value in client.trainer.network.state_dict().items()}
    client.train(ExchangeObject(weights=weights))
    zeros = {name: np.zeros_like(value) for name, value in weights.items()}
    client.train(ExchangeObject(weights=zeros))
    assert client.trainer.state.epoch == 2
    assert not any(parameter.any() for parameter in client.trainer.network.parameters())


@pytest.fixture
def pairs(tmp_path: Path, noisy_vessel: NDArray[np.bool_], vessel_grid: Grid) -> list[dict[str, str]]:
    """Three label maps as a client lists them: noisy ones, and those that a person put right."""
    items = []
    for number in range(3):
        item = {key: str(tmp_path / f"{key}_{number}.nii.gz") for key in ("image", "label")}
        for path in item.values():
            nib.save(nib.Nifti1Image(noisy_vessel.astype(np.uint8), np.diag([*vessel_grid.spacing, 1.0])), path)
        items.append(item)
    return items


def train_as_monai_label(bundle: Path, items: list[dict[str, str]], held_back: list[dict[str, str]]) -> None:
    """What its ``BundleTrainTask`` does (MONAI Label 0.8)."""
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    handlers = parser.get("train#handlers", [])
    assert not [handler for handler in handlers if handler.get("_target_") == "CheckpointLoader"]
    loader = {"_target_": "CheckpointLoader", "load_path": str(bundle / "models" / "model.pt")}
    handlers.insert(0, loader | {"load_dict": {"model": "$@network"}, "strict": False})
    run(
        run_id="run",
        init_id=None,
        final_id=None,
        meta_file=str(bundle / "configs" / "metadata.json"),
        config_file=str(bundle / "configs" / "train.json"),
        **{
            "bundle_root": str(bundle),
            "train#trainer#max_epochs": 1,
            "train#dataset#data": items,
            "device": "cpu",
            "train#handlers": handlers,
            "validate#dataset#data": held_back,
        },
        **{key: value for key, value in TINY.items() if "validate" not in key and key not in ("device", "bundle_root")},
    )


def test_monai_label_trains_and_infers_with_the_result(
    pairs: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = shutil.copytree(bundle_dir(), tmp_path / "bundle")
    model = bundle / "models" / "model.pt"
    shipped = torch.load(model, weights_only=True)
    train_as_monai_label(bundle, pairs[:2], pairs[2:])
    first = torch.load(model, weights_only=True)
    before = torch.load("runs/train/model_before.pt", weights_only=True)
    assert all(torch.equal(value, before[name]) for name, value in shipped.items())
    # one short epoch from the shipped weights: near them, and not the same
    change = max((value - shipped[name]).abs().max().item() for name, value in first.items() if "weight" in name)
    assert 0 < change < 0.1
    Path(pairs[1]["label"]).write_bytes(b"")
    train_as_monai_label(bundle, pairs[:2], [])
    assert Path("runs/train.1/best.pt").is_file(), "an older run is kept"
    second = torch.load(model, weights_only=True)
    assert not all(torch.equal(value, second[name]) for name, value in first.items())
    load_network(model, "cpu")
