from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from resnets.data.open import open_dataset
from resnets.errors import MissingExtraError
from resnets.evaluate.results import ResultsRow
from resnets.runtime.console import Console
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.train_config import TrainConfig
from resnets.train.run import train
from resnets.train.run_folder.tensorboard import SCALARS, TensorBoardLogger, summary_markdown


def row(epoch: int = 1, lr: float = 0.1, val_top1: float | None = None) -> ResultsRow:
    return {
        "epoch": epoch, "lr": lr, "train_loss": 2.0, "train_top1": 0.25, "val_loss": None, "val_top1": val_top1,
        "val_top5": None, "images_per_second": None, "seconds": None, "memory_mib": 300,
    }  # fmt: skip


def approx(*points: tuple[int, float]) -> list[object]:
    return [pytest.approx(point) for point in points]


@pytest.fixture
def config(images: Path) -> ResolvedConfig:
    request = TrainConfig.from_options(
        data=str(images), recipe="finetune", epochs=4, freeze="layer1", freeze_epochs=2, freeze_random=True
    )
    return resolve_config(request, open_dataset(images))


def read(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], str]:
    """Scalars by tag and the settings, as TensorBoard reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    scalars = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("settings/text_summary")]
    return scalars, texts[-1]


def test_tensorboard_reads_the_epochs_and_the_settings(config: ResolvedConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logger = TensorBoardLogger(tmp_path, config)
    logger.log_epoch(row())
    before_close, _ = read(tmp_path)  # events are on the disk if the run is killed
    logger.log_epoch(row(2, 0.05, 0.5))
    logger.close()
    scalars, text = read(tmp_path)
    assert before_close["learning rate"] == approx((1, 0.1))
    assert scalars["learning rate"] == approx((1, 0.1), (2, 0.05))
    assert scalars["accuracy/val"] == [(2, 0.5)]
    assert scalars["memory (MiB)"] == [(1, 300), (2, 300)]
    assert set(scalars) < set(SCALARS.values())
    assert "| Optimizer | opt | sgd |" in text
    assert "| 1 to 2 | up to layer1 |" in text


def test_a_resumed_run_hides_the_epochs_that_it_repeats(config: ResolvedConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = TensorBoardLogger(tmp_path, config)
    for epoch in (1, 2, 3):
        first.log_epoch(row(epoch))
    first.close()
    second = TensorBoardLogger(tmp_path, config, epoch=1)
    second.log_epoch(row(2, 0.7))
    second.close()
    scalars, text = read(tmp_path)
    assert scalars["learning rate"] == approx((1, 0.1), (2, 0.7))
    assert "| Optimizer | opt | sgd |" in text


def test_without_a_folder_nothing_is_written(config: ResolvedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    logger = TensorBoardLogger(None, config)
    logger.log_epoch(row())
    logger.close()


def test_without_tensorboard_no_run_starts(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = TrainConfig.from_options(data=str(images), output=str(tmp_path / "runs"), tensorboard=True)
    with pytest.raises(MissingExtraError, match=r"pip install 'resnets\[track\]'"):
        train(config, console=Console(quiet=True))
    assert not (tmp_path / "runs").exists()


def test_pipes_in_values_do_not_break_the_table(config: ResolvedConfig) -> None:
    assert "| Run | pretrained | a\\|b |" in summary_markdown(replace(config, pretrained="a|b"))
