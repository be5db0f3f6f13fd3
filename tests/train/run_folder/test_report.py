from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from resnets.arch.preprocessing import Preprocessing
from resnets.data.dataset import ImageSet
from resnets.runtime.console import Console
from resnets.train.config.train_config import TrainConfig
from resnets.train.run import train
from resnets.train.run_folder.report import _shown


@dataclass(frozen=True)
class Arrays:
    """Images that lie in memory."""

    pixels: npt.NDArray[np.generic]

    def name(self, row: int) -> str:
        return f"array#{row}"

    def read(self, row: int) -> npt.NDArray[np.generic]:
        return self.pixels


def shown(pixels: npt.NDArray[np.generic], channels: object) -> npt.NDArray[np.uint8]:
    images = ImageSet(source=Arrays(pixels), rows=np.array([0]), labels=np.array([0]))  # type: ignore[arg-type]
    count = channels if isinstance(channels, int) else len(str(channels))
    preprocessing = Preprocessing(
        channels=channels,  # type: ignore[arg-type]
        dtype=str(pixels.dtype),  # type: ignore[arg-type]
        mean=(0.5,) * count,
        std=(0.5,) * count,
    )
    return _shown(images, 0, preprocessing)


@pytest.mark.parametrize(("bands", "seen"), [(1, 1), (2, 1), (3, 3), (5, 3)])
def test_images_of_any_bands_can_be_seen(bands: int, seen: int) -> None:
    pixels = np.arange(4 * 6 * bands, dtype=np.uint8).reshape(4, 6, bands)
    np.testing.assert_array_equal(shown(pixels, bands), pixels[..., :seen])


def test_deep_images_are_stretched() -> None:
    dark = np.array([[[100], [150]], [[200], [300]]], np.uint16)
    assert shown(dark, 1)[..., 0].tolist() == [[0, 63], [127, 255]]
    floats = np.array([[[-1.0], [0.0]], [[3.0], [1.0]]], np.float32)
    assert shown(floats, 1)[..., 0].tolist() == [[0, 63], [255, 127]]
    assert shown(np.full((2, 2, 1), 7, np.uint16), 1).max() == 0


def test_a_run_leaves_its_recipe_events_and_plots_in_the_report(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TrainConfig.from_options(
        data=str(images), output=str(tmp_path), name="a run", epochs=2, lr=0.01, opt="adamw", amp="off",
        model_args={"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}, recipe="finetune",
        freeze="layer1", freeze_epochs=1, class_weights="balanced", balanced=True, patience=9,
    )  # fmt: skip

    def say(self: Console, text: str, *, always: bool = False) -> None:
        if text.startswith("epoch 1/"):
            (tmp_path / "a run" / "events.txt").write_text("2026-01-01T00:00:00  went back <b>\n")

    monkeypatch.setattr(Console, "say", say)
    folder = train(config, console=Console(quiet=True)).folder
    html = (folder / "report.html").read_text(encoding="utf-8")
    for text in (
        "Own images from pretrained weights",
        "<tr><th>Optimiser</th><td>AdamW, betas 0.9 and 0.999, weight decay 0.05 (weights only)</td></tr>",
        "<td>up to layer1</td>",
        "<li>2026-01-01T00:00:00  went back &lt;b&gt;</li>",
        "12x12 pixels, RGB, uint8",
        "balanced: blue: 1, green: 1, red: 1",
        "every class is drawn equally often",
        "In the shaded epochs",
        f"resnets predict IMAGE --model &#39;{folder}&#39;",
        "<h3>optim</h3>",
        "<h3>preprocessing</h3>",
    ):
        assert text in html, text
    assert (folder / "plots" / "rates.png").read_bytes()[:4] == b"\x89PNG"
    card = (folder / "best" / "README.md").read_text(encoding="utf-8")
    assert "- **Optimiser**: AdamW" in card
    assert "| 1 | up to layer1 | 0.01 |" in card
