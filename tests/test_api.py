"""What the verbs call, from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import resnets
from resnets.errors import ConfigError, DataError, ImageError
from resnets.runtime.console import Console
from resnets.train.config.train_config import TrainConfig
from resnets.train.run import train
from tests.images import write_images


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images without a val split."""
    return write_images(tmp_path_factory.mktemp("data") / "colours", {"train": 20})


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on them."""
    config = TrainConfig.from_options(
        data=str(data), epochs=3, lr=0.05, amp="off", val_fraction=0.2, seed=5, warmup_epochs=0.5,
        model_args={"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8},
        output=str(tmp_path_factory.mktemp("runs")), name="r",
    )  # fmt: skip
    return train(config, console=Console(quiet=True)).folder


def test_train_says_what_it_needs() -> None:
    with pytest.raises(ConfigError, match="training needs data; got none"):
        resnets.train()
    with pytest.raises(ConfigError, match="keeps its data and options; got data, epochs"):
        resnets.train("digits", resume="runs/x", epochs=3)
    with pytest.raises(ConfigError, match="unknown training option; got 'epoch'; did you mean epochs"):
        resnets.train("digits", epoch=3)


def test_a_run_is_measured_on_what_it_held_out(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = resnets.evaluate(run, quiet=True)
    assert len(kept) == 12
    assert kept.top1 == pytest.approx(resnets.load(run).provenance["metrics"]["val_top1"])
    monkeypatch.chdir(data.parent)
    for same in (data, f"{data}/", data.name, f"./{data.name}/."):  # the same data, however it is written
        again = resnets.evaluate(run, same, quiet=True)
        assert np.array_equal(again.logits, kept.logits)
    assert len(resnets.evaluate(run / "last", quiet=True)) == 12


def test_other_data_is_taken_as_it_is(run: Path, tmp_path: Path) -> None:
    other = write_images(tmp_path / "colours", {"train": 4, "val": 2, "test": 3}, seed=9)
    bundle = resnets.load(run)
    assert len(resnets.evaluate(bundle, other, quiet=True)) == 6
    assert len(resnets.evaluate(run, other, split="test", quiet=True)) == 9
    assert len(resnets.evaluate(run, other, split="train", quiet=True)) == 12
    with pytest.raises(ConfigError, match="measuring needs data; got a bundle"):
        resnets.evaluate(bundle)
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        resnets.evaluate(bundle, other, batch_size=0, quiet=True)
    (other / "val" / "red" / "x.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"x\.png"):
        resnets.evaluate(bundle, other, quiet=True)
    assert len(resnets.evaluate(bundle, other, skip_bad=True, quiet=True)) == 6


def test_a_bundle_predicts_and_embeds(run: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "colours", {"val": 2}, seed=9)
    bundle = resnets.load(run)
    answers = bundle.predict(data, top_k=2)
    assert [answer.label for answer in answers] == ["blue", "blue", "green", "green", "red", "red"]
    assert all(len(answer.top) == 2 and answer.confidence == answer.top[0][1] for answer in answers)
    assert resnets.predict(run, data, top_k=2) == answers
    assert resnets.predict(bundle, data / "val" / "red" / "000.png")[0].label == "red"
    embedded = bundle.embed([data / "val" / "red", data / "val" / "blue" / "000.png"])
    assert (embedded.shape, embedded.dtype) == ((3, 8), np.float32)
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        bundle.predict(data, batch_size=0)
    with pytest.raises(DataError, match="images must exist"):
        bundle.predict(tmp_path / "nowhere")


def test_a_saved_bundle_answers_the_same(run: Path, tmp_path: Path) -> None:
    data = write_images(tmp_path / "colours", {"val": 1})
    bundle = resnets.load(run)
    bundle.save(tmp_path / "copy")
    assert resnets.load(tmp_path / "copy").predict(data) == bundle.predict(data)


def test_a_quiet_call_says_nothing(run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    resnets.evaluate(run, quiet=True)
    shutil.copytree(run, tmp_path / "r")
    resnets.load(tmp_path / "r")
    assert capfd.readouterr() == ("", "")
