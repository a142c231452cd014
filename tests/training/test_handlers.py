"""What a run says: one line per epoch, and plain words for the known troubles."""

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from PIL import Image

from near_monai.errors import NearError
from near_monai.training.handlers import AverageNorms, EpochLine, LeaveCores, TroubleWatch
from near_monai.training.training_curves import History


def engines(loss: float = 0.25, dice: float = 0.5) -> tuple[Engine, Engine]:
    def validate(engine: Engine, batch: object) -> None:
        engine.state.metrics["full_grid_dice"] = dice
        engine.state.key_metric_name = "full_grid_dice"  # type: ignore[attr-defined]

    return Engine(lambda engine, batch: {"loss": loss}), Engine(validate)


def test_one_line_per_epoch(log: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    trainer, evaluator = engines()
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.125)
    EpochLine(optimiser, evaluator, tmp_path).attach(trainer)
    trainer.run([0, 1], max_epochs=1)
    evaluator.run([0])
    trainer.run([0, 1], max_epochs=3)
    lines = [record.message for record in log.records if record.message.startswith("epoch")]
    assert len(lines) == 3
    assert "loss 0.2500  lr 1.25e-01  " in lines[0] and "Dice" not in lines[0]
    assert lines[2].startswith("epoch 3/3") and "full-grid Dice 0.5000" in lines[2]
    rows = History(tmp_path).rows()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert [row["full_grid_dice"] for row in rows] == pytest.approx([0.5, math.nan, math.nan], nan_ok=True)
    with Image.open(tmp_path / "curves.png") as picture:
        assert len(set(picture.convert("L").get_flattened_data())) > 10


def test_a_resumed_run_forgets_the_epochs_that_it_repeats(tmp_path: Path) -> None:
    history = History(tmp_path)
    for epoch in (1, 2, 3):
        history.put(epoch, loss=float(epoch))
    history.put(2, loss=20.0)
    assert [(row["epoch"], row["loss"]) for row in history.rows()] == [(1, 1), (2, 20)]


def test_nan_stops_with_words() -> None:
    trainer, evaluator = engines(loss=float("nan"))
    TroubleWatch(evaluator).attach(trainer)
    with pytest.raises(NearError, match="the loss is not a number at iteration 1"):
        trainer.run([0, 1, 2], max_epochs=5)


def test_norms_average_the_epoch() -> None:
    norm = torch.nn.BatchNorm1d(1)
    batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]]), torch.tensor([[0.0], [2.0]])]
    trainer = Engine(lambda engine, batch: {"loss": norm(batch).sum().item()})
    AverageNorms(norm).attach(trainer)
    trainer.run(batches, max_epochs=2)
    assert norm.running_mean is not None
    assert norm.running_mean.item() == pytest.approx((2 + 6 + 1) / 3)


def test_dice_stuck_at_0_is_said_once(log: pytest.LogCaptureFixture) -> None:
    trainer, evaluator = engines(dice=0.0)
    TroubleWatch(evaluator, patience=2).attach(trainer)
    for _ in range(4):
        evaluator.run([0])
    assert log.text.count("full-grid Dice has been 0") == 1


def test_out_of_memory_is_explained_and_raised(log: pytest.LogCaptureFixture) -> None:
    def fail(engine: Engine, batch: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer, evaluator = Engine(fail), engines()[1]
    TroubleWatch(evaluator).attach(trainer)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.run([0])
    assert "lower batch_size, points or window" in log.text


@pytest.mark.parametrize(("workers", "left"), [(0, 4), (3, 1), (9, 1)])
def test_steps_leave_a_core_to_each_loader_process(workers: int, left: int) -> None:
    seen: list[int] = []
    trainer = Engine(lambda engine, batch: seen.append(torch.get_num_threads()))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        LeaveCores(workers).attach(trainer)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append(torch.get_num_threads()))
        trainer.run([0], max_epochs=2)
    finally:
        torch.set_num_threads(before)
    assert seen == [left, 4, left, 4]
