"""Every named recipe trains an epoch of a tiny network, with all that it asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnets.runtime.console import Console
from resnets.train.config.recipes import list_recipes, load_recipe
from resnets.train.config.resolved_config import read_resolved
from resnets.train.config.train_config import TrainConfig
from resnets.train.loop import trainer as trainer
from resnets.train.run import train
from tests.images import write_images

TINY = {"depths": (1, 1, 1, 1), "widths": (8, 8, 8, 8), "stem_width": 8}
SMALL = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of 40 pixels a side."""
    return write_images(tmp_path_factory.mktemp("large") / "photos", {"train": 6, "val": 2}, size=40)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_trains(name: str, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "write_run_report", lambda *args: None)
    recipe = load_recipe(name)
    imagenet = "img_size" in recipe.settings
    size = 8 if name == "reid" else 6
    options: dict[str, Any] = {
        "epochs": 1, "batch_size": size, "model_args": TINY if imagenet else SMALL,
        "amp": "off", "workers": 0,
        "output": str(tmp_path),
    }  # fmt: skip
    if recipe.settings.get("freeze"):
        options |= {"epochs": 2, "freeze_epochs": 1, "freeze_random": True}  # and unfreezes
    if imagenet:
        options["img_size"] = [32, 16] if name == "reid" else 32
    else:
        options["model"] = "resnet20_cifar"
    if recipe.settings.get("train_sizes"):
        options["train_sizes"] = [[0, 24]]
    milestones = recipe.settings.get("schedule", {}).get("milestones")
    if milestones:
        options["milestones"] = [0.5]
    config = TrainConfig.from_options(recipe.settings, {"data": str(large), "recipe": name, **options})
    result = train(config, console=Console(silent=True))
    if name != "reid":  # three identities are too few to hold any out
        assert result.evaluation is not None
    assert len(result.results) == options["epochs"]
    resolved = read_resolved(result.folder / "resolved.yaml")
    assert resolved.recipe == name
    assert (resolved.optim.opt, resolved.loss, resolved.mix) == (config.optim.opt, config.loss, config.mix)
    assert resolved.optim.lr == pytest.approx(config.optim.lr_for(size))
    if name == "finetune":
        assert [(phase.freeze, phase.lr) for phase in resolved.phases] == [
            ("backbone", resolved.optim.lr),
            ("none", pytest.approx(resolved.optim.lr / 10)),
        ]
