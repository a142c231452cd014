"""Clients of the bundle do as they do with every bundle: model zoo, federated learning, MONAI Label."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo
from monai.fl.utils.exchange_object import ExchangeObject

from near_monai.resources import bundle_dir

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
