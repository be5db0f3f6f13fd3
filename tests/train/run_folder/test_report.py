from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from resnets.arch.preprocessing import Preprocessing
from resnets.data.dataset import ImageSet
from resnets.errors import TrainingError
from resnets.runtime.console import Console
from resnets.train.config.train_config import TrainConfig
from resnets.train.run import resume, train
from resnets.train.run_folder import report
from resnets.train.run_folder.report import displayable_image
from resnets.weights.folder.model_folder import read_bundle


@dataclass(frozen=True)
class Arrays:
    """A source of one image in memory."""

    pixels: npt.NDArray[np.generic]

    def name(self, row: int) -> str:
        return f"array#{row}"

    def read(self, row: int) -> npt.NDArray[np.generic]:
        return self.pixels


def displayed(pixels: npt.NDArray[np.generic], channels: int) -> npt.NDArray[np.uint8]:
    images = ImageSet(source=Arrays(pixels), rows=np.array([0]), labels=np.array([0]))  # type: ignore[arg-type]
    preprocessing = Preprocessing(
        channels=channels,
        dtype=str(pixels.dtype),  # type: ignore[arg-type]
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
    )
    return displayable_image(images, 0, preprocessing)


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_images_of_any_channels_can_be_displayed(channels: int, shown: int) -> None:
    pixels = np.arange(4 * 6 * channels, dtype=np.uint8).reshape(4, 6, channels)
    np.testing.assert_array_equal(displayed(pixels, channels), pixels[..., :shown])


def test_images_that_are_not_8_bit_are_stretched() -> None:
    dark = np.array([[[100], [150]], [[200], [300]]], np.uint16)
    assert displayed(dark, 1)[..., 0].tolist() == [[0, 63], [127, 255]]
    floats = np.array([[[-1.0], [0.0]], [[3.0], [1.0]]], np.float32)
    assert displayed(floats, 1)[..., 0].tolist() == [[0, 63], [255, 127]]
    assert displayed(np.full((2, 2, 1), 7, np.uint16), 1).max() == 0


def test_the_report_has_the_settings_events_and_plots_of_the_run(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.from_options(
        data=str(images), output=str(tmp_path), name="a run", epochs=2, lr=0.01, opt="adamw", amp="off",
        model_args={"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}, recipe="finetune",
        freeze="layer1", freeze_random=True, freeze_epochs=1, class_weights="balanced", balanced=True, patience=9,
    )  # fmt: skip

    def info(self: Console, text: str) -> None:
        if text.startswith("epoch 1/"):
            (tmp_path / "a run" / "events.txt").write_text("2026-01-01T00:00:00  rolled back <b>\n")

    monkeypatch.setattr(Console, "info", info)
    folder = train(config, console=Console(quiet=True)).folder
    html = (folder / "report.html").read_text(encoding="utf-8")
    for text in (
        "Fine-tuning of pretrained weights on own images",
        "<h3>Optimizer</h3>",
        "<tr><th>opt</th><td>adamw</td></tr>",
        "<tr><th>patience</th><td>9 (recipe: –)</td></tr>",
        "<td>up to layer1</td>",
        "<li>2026-01-01T00:00:00  rolled back &lt;b&gt;</li>",
        "12x12 pixels, RGB, uint8",
        "balanced: blue: 1, green: 1, red: 1",
        "all classes equally often",
        "In the shaded epochs",
        f"resnets predict IMAGE --model &#39;{folder}&#39;",
        "<h3>optim</h3>",
        "<h3>preprocessing</h3>",
    ):
        assert text in html, text
    assert (folder / "plots" / "rates.png").read_bytes()[:4] == b"\x89PNG"
    card = (folder / "best" / "README.md").read_text(encoding="utf-8")
    assert "- **Optimizer**: opt adamw" in card
    assert "| 1 | up to layer1 | 0.01 |" in card


@pytest.mark.parametrize("failure", [MemoryError("Unable to allocate 51 MiB"), OSError(28, "No space left on device")])
def test_a_report_that_cannot_be_written_leaves_the_models_and_is_written_on_resume(
    failure: Exception, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> bytes:
        raise failure

    config = TrainConfig.from_options(
        data=str(images), output=str(tmp_path), name="a run", epochs=1, lr=0.01, amp="off",
        model_args={"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8},
    )  # fmt: skip
    folder = tmp_path / "a run"
    with monkeypatch.context() as patch:
        patch.setattr(report, "plot_curves", fail)
        with pytest.raises(TrainingError, match="cannot write the report") as caught:
            train(config, console=Console(quiet=True))
    assert f"resnets train --resume '{folder}'" in str(caught.value)
    assert read_bundle(folder / "best").classes == ("blue", "green", "red")
    assert not (folder / "report.html").exists()
    resume(folder, console=Console(quiet=True))
    assert (folder / "report.html").is_file()
