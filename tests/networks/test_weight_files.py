"""Files of weights: what they say is verified, and what they name cannot reach anything but our own networks."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from near_monai.anatomy import HEART, Anatomy, by_name, table_of
from near_monai.errors import NearError
from near_monai.formats.tensor_files import fingerprint_of
from near_monai.geometry.working_space import WorkingSpace
from near_monai.networks.definitions import build_network, register
from near_monai.networks.encoder import LabelEncoder
from near_monai.networks.model_description import Description
from near_monai.networks.weight_files import (
    describe,
    find_weights,
    identity,
    load_network,
    load_state,
    read_state,
    read_weights,
    shipped,
    write_weights,
)

SHIPPED = ("coronary.safetensors", "organs.safetensors", "heart.safetensors")


@pytest.fixture(scope="module")
def coronary() -> tuple[dict[str, torch.Tensor], Description]:
    state, description = read_weights(shipped("coronary.safetensors"))
    assert description is not None
    return state, description


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_say_what_the_table_says(name: str) -> None:
    description = load_network(name, "cpu")[0].description
    assert description is not None
    rows = {s.name: replace(s, weights="") for s in HEART.structures if s.weights == name or name.startswith("heart")}
    assert {s.name: replace(s, weights="") for s in description.structures} == rows


def test_model_pt_holds_the_numbers_of_the_coronary_weights(coronary: tuple[Any, Description]) -> None:
    assert fingerprint_of(read_state(shipped("model.pt"))) == coronary[1].fingerprint
    assert load_network("model.pt", "cpu")[0].description == coronary[1]
    assert find_weights(None) == shipped("coronary.safetensors")


def test_round_trip_whatever_the_name(coronary: tuple[dict[str, torch.Tensor], Description], tmp_path: Path) -> None:
    state, description = coronary
    write_weights(tmp_path / "w.safetensors", state, replace(description, fingerprint=""))
    assert (tmp_path / "w.safetensors").read_bytes() == shipped("coronary.safetensors").read_bytes()
    for name in ("mine.pt", "x"):
        shutil.copy(tmp_path / "w.safetensors", tmp_path / name)
        network, _ = load_network(tmp_path / name, "cpu")
        assert network.description == description
        torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)


def test_fingerprint_is_of_names_types_shapes_and_numbers() -> None:
    one = {"a": torch.arange(4.0), "b": torch.tensor(3)}
    same = fingerprint_of({"b": torch.tensor(3), "a": torch.arange(4.0)})
    others: list[dict[str, torch.Tensor]] = [
        one | {"a": torch.arange(4.0).reshape(2, 2)},
        one | {"a": torch.arange(4.0).double()},
        one | {"b": torch.tensor(4)},
        {"c": one["a"], "b": one["b"]},
        {"a": one["a"]},
    ]
    assert fingerprint_of(one) == same
    assert len({same, *(fingerprint_of(other) for other in others)}) == 6
    image = torch.arange(16.0).reshape(1, 2, 2, 2, 2)
    last = image.to(memory_format=torch.channels_last_3d)
    assert fingerprint_of({"a": image}) == fingerprint_of({"a": last})


def changed_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def foreign(path: Path) -> None:
    safetensors.torch.save_file({"x": torch.zeros(2)}, path)


def another_network(path: Path) -> None:
    state, description = read_weights(path)
    assert description is not None
    network = json.loads(json.dumps(description.network))
    network["field"]["hidden"] = [10**6, 10**9]  # nothing of that size is allocated
    write_weights(path, state, replace(description, network=network))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (changed_byte, "its numbers are not those that it describes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "missing, damaged, or not what near_monai writes"),
        (lambda path: path.write_bytes(b"\xff" * 8 + b"{" + b"x" * 50), "missing, damaged"),
        (lambda path: path.write_bytes(b""), "damaged, or not a file of weights"),
        (foreign, "missing, damaged, or not what near_monai writes"),
        (another_network, "does not fit the network of its description"),
        (lambda path: path.unlink(), "no such weights file; expected a path, or a name of the bundle: coronary"),
        (lambda path: torch.save({"a": [1]}, path), "not a flat state dict"),
        (lambda path: torch.save({"a": torch.zeros(1)}, path), "nothing says what these weights are"),
    ],
)
def test_damaged_and_foreign_files_get_one_line(damage: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    shutil.copy(shipped("coronary.safetensors"), path)
    damage(path)
    with pytest.raises(NearError, match=message) as error:
        load_network(path, "cpu")
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize(
    "target",
    [
        "benchmarks.commands.Command",
        "near_monai.training.train_command.run_training",
        "near_monai.RepairMaskd",
        "near_monai.load_network",
        "subprocess.Popen",
        "builtins.eval",
        "os.system",
        "here.Trap",
        "torch.nn.Linear",
        "CodeEncoder",
        ["near_monai.CodeEncoder"],
        None,
        3,
    ],
)
@pytest.mark.parametrize("place", ["network_def", "source", "field", "norm", "space"])
def test_names_outside_the_table_are_refused_and_not_imported(
    target: Any, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "here.py").write_text("open('ran', 'w')\nclass Trap: ...\n")
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(shipped("model.pt"), run / "best.pt")
    content = json.loads((shipped("model.pt").parents[1] / "configs" / "inference.json").read_text())
    config = {key: content[key] for key in ("network_def", "space")}
    attack = {"_target_": target, "name": "x", "path": "ran", "command": "touch ran", "args": "touch ran"}
    if place in config:
        config[place] = attack
    elif place == "norm":
        config["network_def"]["field"]["norm"] = attack
    else:
        config["network_def"][place] = attack
    (run / "config.json").write_text(json.dumps(config))
    before = set(sys.modules)
    with pytest.raises(NearError) as error:
        load_network(run / "best.pt", "cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    assert {"here", "benchmarks.commands", "near_monai.training.train_command"}.isdisjoint(set(sys.modules) - before)


def test_classes_of_ones_own_are_registered_by_whoever_imports_them() -> None:
    class Own(LabelEncoder):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.layer = nn.Linear(width, 1)

    source = {"_target_": f"{Own.__module__}.{Own.__qualname__}", "width": 3}
    field = {"_target_": "near_monai.OccupancyField"}
    definition = {"_target_": "near_monai.NearNetwork", "source": source, "field": field}
    with pytest.raises(NearError, match="which no description may"):
        build_network(definition, "w")
    register(Own)
    assert isinstance(build_network(definition, "w").source, Own)
    with pytest.raises(NearError, match=r"w: does not describe a network .*pace"):
        build_network(definition | {"source": source | {"pace": 3}}, "w")
    with pytest.raises(NearError, match=r"describes a CodeEncoder; expected near_monai.NearNetwork"):
        build_network({"_target_": "near_monai.CodeEncoder"}, "w")


def test_flat_state_dict_is_what_its_twin_or_its_configuration_says(
    coronary: tuple[dict[str, torch.Tensor], Description], tmp_path: Path
) -> None:
    state, description = coronary
    torch.save(state, tmp_path / "best.pt")
    assert describe(tmp_path / "best.pt") is None
    space = {"_target_": "near_monai.WorkingSpace", "spacing": 0.5, "truncate": 3.0, "margin": 3.0}
    config = {"network_def": description.network, "space": space, "dataset_dir": "$anything"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = describe(tmp_path / "best.pt")
    assert said is not None and said.space == description.space and said.structures == ()
    write_weights(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, description)
    assert describe(tmp_path / "best.pt") == said
    write_weights(tmp_path / "best.safetensors", state, description)
    assert describe(tmp_path / "best.pt") == description


def test_configuration_refuses_weights_of_another_space_and_warns_of_another_structure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network, space = load_network("organs.safetensors", "cpu")
    with pytest.raises(NearError, match=r"was trained in WorkingSpace\(spacing=0.5.*configuration has WorkingSpace"):
        load_state(network, shipped("organs.safetensors"), WorkingSpace(0.8))
    with caplog.at_level("WARNING", "near_monai"):
        load_state(network, shipped("organs.safetensors"), space, by_name("aorta"))
        assert caplog.records == []
        load_state(network, shipped("organs.safetensors"), space, by_name("coronary"))
    (record,) = caplog.records
    assert "the weights are for myocardium" in record.message and "not for coronary" in record.message


def test_weights_of_another_network_than_the_configuration_has() -> None:
    network, space = load_network("coronary.safetensors", "cpu")
    with pytest.raises(NearError, match=r"does not fit network_def .* for .*aorta.*; near-monai pack") as error:
        load_state(network, shipped("heart.safetensors"), space)
    assert "\n" not in str(error.value)


def test_identity_changes_with_all_that_decides_a_result(
    coronary: tuple[dict[str, torch.Tensor], Description], tmp_path: Path
) -> None:
    state, description = coronary
    weights = tmp_path / "w.safetensors"
    write_weights(weights, state, description)
    found = [identity(weights, HEART), identity(None, HEART)]
    write_weights(tmp_path / "moved.safetensors", state, description)
    assert identity(tmp_path / "moved.safetensors", HEART) == found[0], "the same weights elsewhere"
    write_weights(weights, state | {"field.mlp.last.bias": torch.ones(1)}, description)
    found.append(identity(weights, HEART))
    write_weights(weights, state, replace(description, space=WorkingSpace(0.6)))
    found.append(identity(weights, HEART))
    rows = list(HEART.structures)
    found.append(identity(None, Anatomy((*rows[:-1], replace(rows[-1], threshold=0.7)))))
    found.append(identity(None, Anatomy((*rows[:-1], replace(rows[-1], weights="heart.safetensors")))))
    assert len(set(found)) == len(found)
    copy = tmp_path / "table.yaml"
    copy.write_bytes(Path(sys.modules["near_monai.anatomy"].__file__ or "").with_name("anatomy.yaml").read_bytes())
    assert identity(None, table_of(copy)) == identity(None, HEART)


def test_identity_follows_the_shipped_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in SHIPPED:
        shutil.copy(shipped(name), tmp_path / name)
    monkeypatch.setattr("near_monai.networks.weight_files.shipped", lambda name: tmp_path / name)
    before = identity(None, HEART)
    state, description = read_weights(tmp_path / "organs.safetensors")
    assert description is not None
    write_weights(tmp_path / "organs.safetensors", state | {"field.mlp.last.bias": torch.ones(1)}, description)
    assert identity(None, HEART) != before
