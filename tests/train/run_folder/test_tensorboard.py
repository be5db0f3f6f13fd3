from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from resnets.data.open import open_dataset
from resnets.errors import MissingExtraError
from resnets.runtime.console import Console
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.train_config import TrainConfig
from resnets.train.run import train
from resnets.train.run_folder.tensorboard import SCALARS, TensorBoardLogger, summary_markdown

ROW = {"epoch": 1, "lr": 0.1, "train_loss": 2.0, "train_top1": 0.25, "val_top1": None, "memory_mib": 300}


@pytest.fixture
def settings(images: Path) -> ResolvedConfig:
    config = TrainConfig.from_options(data=str(images), recipe="finetune", epochs=4, freeze="layer1", freeze_epochs=2)
    return resolve_config(config, open_dataset(images))


def read(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], str]:
    """Scalars by name and the recipe, as TensorBoard itself reads them."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    scalars = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    texts = [event.tensor_proto.string_val[0].decode() for event in events.Tensors("recipe/text_summary")]
    return scalars, texts[-1]


def test_tensorboard_reads_every_epoch_and_the_recipe(settings: ResolvedConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracker = TensorBoardLogger(tmp_path, settings)
    tracker.log_epoch(ROW)
    before_close, _ = read(tmp_path)  # a run that is killed has left its epochs
    tracker.log_epoch(ROW | {"epoch": 2, "lr": 0.05, "val_top1": 0.5})
    tracker.close()
    scalars, text = read(tmp_path)
    assert before_close["learning rate"] == [(1, pytest.approx(0.1))]
    assert scalars["learning rate"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.05))]
    assert scalars["accuracy/val"] == [(2, 0.5)]
    assert scalars["memory (MiB)"] == [(1, 300), (2, 300)]
    assert set(scalars) < set(SCALARS.values())
    assert "| Optimiser | SGD, Nesterov momentum 0.9" in text
    assert "| 1 to 2 | up to layer1 |" in text


def test_a_resumed_run_takes_the_place_of_what_it_does_again(settings: ResolvedConfig, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    first = TensorBoardLogger(tmp_path, settings)
    for epoch in (1, 2, 3):
        first.log_epoch(ROW | {"epoch": epoch})
    first.close()
    second = TensorBoardLogger(tmp_path, settings, epoch=1)
    second.log_epoch(ROW | {"epoch": 2, "lr": 0.7})
    second.close()
    scalars, text = read(tmp_path)
    assert scalars["learning rate"] == [(1, pytest.approx(0.1)), (2, pytest.approx(0.7))]
    assert "Optimiser" in text


def test_without_a_folder_nothing_is_written(settings: ResolvedConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    tracker = TensorBoardLogger(None, settings)
    tracker.log_epoch(ROW)
    tracker.close()


def test_without_tensorboard_nothing_is_begun(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = TrainConfig.from_options(data=str(images), output=str(tmp_path / "runs"), tensorboard=True)
    with pytest.raises(MissingExtraError, match=r"pip install 'resnets\[track\]'"):
        train(config, console=Console(quiet=True))
    assert not (tmp_path / "runs").exists()


def test_the_recipe_is_a_table_whatever_is_in_it(settings: ResolvedConfig) -> None:
    odd = replace(settings, config=replace(settings.config, pretrained="a|b"))
    assert "| Start | the weights of a\\|b |" in summary_markdown(odd)
