from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnets.data.open import open_dataset
from resnets.train.config.recipes import list_recipes, load_recipe
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import describe_recipe, phase_rows, phase_spans, run_summary
from resnets.train.config.train_config import TrainConfig


def resolved(data: Path, *layers: dict[str, Any], **options: Any) -> ResolvedConfig:
    return resolve_config(TrainConfig.from_options({"data": str(data)}, *layers, options), open_dataset(data))


def test_defaults_are_omitted_but_for_the_main_options(images: Path) -> None:
    assert run_summary(resolved(images, epochs=1)) == {
        "Run": {"epochs": 1, "batch_size": 8},
        "Optimizer": {"opt": "sgd", "lr": 0.00625, "weight_decay": 0.0005},
        "Learning rate schedule": {"sched": "cosine"},
        "Loss": {"loss": "ce"},
        "Augmentation": {"pad": 1, "pad_mode": "reflect"},
    }


@pytest.mark.parametrize(
    ("options", "heading", "values"),
    [
        ({"opt": "lamb", "clip_grad": 1.0, "accumulate": 4}, "Optimizer",
         {"opt": "lamb", "weight_decay": 0.02, "clip_grad": 1.0, "accumulate": 4}),
        ({"nesterov": False, "betas": (0.9, 0.99)}, "Optimizer", {"nesterov": False, "betas": [0.9, 0.99]}),
        ({"lr": 0.4, "sched": "step", "milestones": (30, 60), "epochs": 90, "warmup_epochs": 0},
         "Learning rate schedule", {"sched": "step", "milestones": [30, 60], "warmup_epochs": 0}),
        ({"loss": "focal", "label_smoothing": 0, "class_weights": "balanced"}, "Loss",
         {"loss": "focal", "label_smoothing": 0, "class_weights": "balanced"}),
        ({"scale": (0.08, 1), "policy": "randaugment", "random_erasing": 0.25}, "Augmentation",
         {"scale": [0.08, 1], "policy": "randaugment", "random_erasing": 0.25}),
        ({"mixup": 0.2, "off_epoch": 20}, "Mixup and CutMix", {"mixup": 0.2, "off_epoch": 20}),
        ({"balanced": True, "repeats": 3}, "Sampling", {"balanced": True, "repeats": 3}),
        ({"ema": 0.999, "ema_every": 5}, "Weight averaging", {"ema": 0.999, "ema_every": 5}),
        ({"patience": 3}, "Checkpoints and early stopping", {"patience": 3}),
        ({"views": 2}, "Feature cache", {"views": 2}),
        ({"train_sizes": ((0, 8), (0.7, 12))}, "Run", {"train_sizes": [[0, 8], [0.7, 12]]}),
        ({"model_args": {"drop_path_rate": 0.1, "drop_rate": 0.2}}, "Run", {"drop_path_rate": 0.1, "drop_rate": 0.2}),
    ],
)  # fmt: skip
def test_options_that_differ_from_the_defaults_are_listed(
    images: Path, options: dict[str, Any], heading: str, values: dict[str, Any]
) -> None:
    listed = run_summary(resolved(images, **options))[heading]
    assert {name: listed.get(name) for name in values} == values


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_has_a_description_and_no_changes_from_itself(images: Path, name: str) -> None:
    small = {"model": "resnet20_cifar", "img_size": 16, "train_sizes": (), "freeze_random": True}
    recipe = {"model": "resnet20_cifar", **load_recipe(name).settings}
    config = resolved(
        images, recipe, recipe=name, **{key: small[key] for key in small if key in (*recipe, "freeze_random")}
    )
    summary = run_summary(config)
    assert summary["Run"]["recipe"] == name
    assert load_recipe(name).about in describe_recipe(config)
    assert set(summary.get("Changed from the recipe", {})) <= set(small)


def test_changes_from_the_recipe_are_listed(images: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("epochs: 20\nlr: 0.1\nbetas: [0.9, 0.99]\nhflip: false\n")
    settings = load_recipe(own).settings
    assert "Changed from the recipe" not in run_summary(resolved(images, settings, recipe=str(own)))
    summary = run_summary(resolved(images, settings, recipe=str(own), epochs=3, ema=0.9, hflip=True))
    assert summary["Changed from the recipe"] == {
        "epochs": "3 (recipe: 20)",
        "ema": "0.9 (recipe: 0)",
        "hflip": "yes (recipe: no)",
    }
    own.unlink()
    without_file = resolved(images, settings, recipe=str(own), epochs=3)
    assert "Changed from the recipe" not in run_summary(without_file)
    assert describe_recipe(without_file) == ""


def test_phases_are_rows_and_spans(images: Path) -> None:
    plain = resolved(images, epochs=4)
    assert phase_rows(plain) == []
    assert [(span.first, span.last, span.shaded) for span in phase_spans(plain)] == [(1, 4, False)]
    config = resolved(
        images,
        epochs=4,
        lr=0.1,
        freeze_random=True,
        freeze="layer2",
        freeze_epochs=3,
        unfreeze_lr=0.01,
        bn_stats="frozen",
    )
    assert phase_rows(config) == [
        {"epochs": "1 to 3", "frozen": "up to layer2", "peak learning rate": 0.1, "BN statistics": "frozen"},
        {"epochs": "4", "frozen": "nothing", "peak learning rate": 0.01, "BN statistics": "frozen"},
    ]
    frozen, unfrozen = phase_spans(config)
    assert (frozen.first, frozen.last, frozen.names, frozen.shaded) == (1, 3, ("frozen up to layer2", "layer2"), True)
    assert (unfrozen.first, unfrozen.last, unfrozen.shaded) == (4, 4, False)
    assert len(phase_rows(resolved(images, epochs=4, freeze_random=True, freeze="stem"))) == 1
