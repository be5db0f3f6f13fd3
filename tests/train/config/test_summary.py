from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnets.data.open import open_dataset
from resnets.train.config.recipes import list_recipes, load_recipe
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.summary import about_recipe, phase_rows, phase_spans, recipe_words
from resnets.train.config.train_config import TrainConfig


def resolved(data: Path, *layers: dict[str, Any], **options: Any) -> ResolvedConfig:
    return resolve_config(TrainConfig.from_options({"data": str(data)}, *layers, options), open_dataset(data))


def test_what_is_off_is_not_told(images: Path) -> None:
    words = recipe_words(resolved(images, epochs=1, label_smoothing=0, weight_decay=0, momentum=0, nesterov=False))
    assert words == {
        "Start": "from scratch",
        "Length": "1 epoch, 8 images a step",
        "Optimiser": "SGD",
        "Learning rate": "peak 0.00625, warm-up over 2 epochs, then half a cosine down to zero",
        "Loss": "cross-entropy",
        "Augmentation": "random shift by up to 1 pixel, mirrored left-right",
    }


@pytest.mark.parametrize(
    ("options", "heading", "text"),
    [
        ({"opt": "lamb", "clip_grad": 1.0, "accumulate": 4}, "Optimiser",
         "LAMB, betas 0.9 and 0.999, weight decay 0.02 (weights only), gradients clipped to a length of 1, "
         "gradients of 4 steps summed for an update"),
        ({"opt": "muon", "nesterov": False}, "Optimiser",
         "Muon, Nesterov momentum 0.9, weight decay 0.01 (weights only)"),
        ({"decay_norms": True}, "Optimiser", "SGD, Nesterov momentum 0.9, weight decay 0.0005 (all parameters)"),
        ({"lr": 0.4, "sched": "step", "milestones": (30, 60), "epochs": 90, "warmup_epochs": 0}, "Learning rate",
         "peak 0.4, times 0.1 after epoch 30, 60"),
        ({"lr": 0.4, "sched": "linear", "min_lr": 0.01, "warmup_epochs": 1}, "Learning rate",
         "peak 0.4, warm-up over 1 epoch, then a straight line down to 0.01 of it"),
        ({"lr": 0.4, "sched": "onecycle"}, "Learning rate",
         "peak 0.4, one cycle: up over 30 % of the phase, then down to next to nothing"),
        ({"loss": "bce", "label_smoothing": 0, "bce_threshold": 0.2}, "Loss",
         "binary cross-entropy, a yes or no for every class, mixed labels above 0.2 count as a yes"),
        ({"loss": "focal", "label_smoothing": 0, "class_weights": "balanced"}, "Loss",
         "focal loss (gamma 2), classes weighted in inverse proportion to their images"),
        ({"scale": (0.08, 1), "hflip": False, "policy": "randaugment", "random_erasing": 0.25,
          "color_jitter": (0.4, 0, 0, 0.1)},
         "Augmentation",
         "random crop of 8 to 100 % of the area, RandAugment (2 operations, magnitude 9), "
         "colour jitter (brightness 0.4, hue 0.1), random erasing in 25 % of the images"),
        ({"pad": 0, "hflip": False}, "Augmentation", "none"),
        ({"mixup": 0.2, "cutmix": 1.0, "prob": 0.5, "off_epoch": 20}, "Mixing",
         "mixup (alpha 0.2) or CutMix (alpha 1) of 50 % of the batches, for the first 20 epochs"),
        ({"balanced": True, "repeats": 3}, "Sampling",
         "every class equally often, each image 3 times in turn, augmented anew (repeated augmentation)"),
        ({"ema": 0.999, "ema_every": 5}, "Averaging",
         "the model is a moving average of the weights (EMA), decay 0.999 every 5 steps"),
        ({"swa_epochs": 5}, "Averaging", "the model is the mean of the weights after the last 5 epochs (SWA)"),
        ({"patience": 3}, "Early stopping", "after 3 epochs without a better validation"),
        ({"train_sizes": ((0, 8), (0.7, 12))}, "Image size", "8 pixels at first, 12 pixels from 70 % of the run on"),
        ({"drop_path_rate": 0.1, "drop_rate": 0.2}, "Regularisation",
         "stochastic depth, rising to 0.1, dropout 0.2"),
    ],
)  # fmt: skip
def test_what_is_on_is_told(images: Path, options: dict[str, Any], heading: str, text: str) -> None:
    network = {name: value for name, value in options.items() if name.startswith("drop_")}
    rest = {name: value for name, value in options.items() if name not in network}
    assert recipe_words(resolved(images, model_args=network, **rest))[heading] == text


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_has_words_and_changes_nothing_of_itself(images: Path, name: str) -> None:
    small = {"model": "resnet20_cifar", "img_size": 16, "train_sizes": ()}
    recipe = {"model": "resnet20_cifar", **load_recipe(name).settings}
    settings = resolved(images, recipe, recipe=name, **{key: small[key] for key in small if key in recipe})
    words = recipe_words(settings)
    assert words["Recipe"] == name
    assert load_recipe(name).about in about_recipe(settings)
    told = {part.split()[0] for part in words.get("Changed", "").split("), ") if part}
    assert told <= set(small), words["Changed"]


def test_what_was_changed_is_told(images: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("epochs: 20\nlr: 0.1\nbetas: [0.9, 0.99]\nhflip: false\n")
    read = load_recipe(own).settings
    assert "Changed" not in recipe_words(resolved(images, read, recipe=str(own)))
    changed = recipe_words(resolved(images, read, recipe=str(own), epochs=3, ema=0.9, hflip=True))["Changed"]
    assert changed == "epochs 3 (recipe: 20), hflip True (recipe: False), ema 0.9 (recipe: 0.0)"
    own.unlink()
    gone = resolved(images, read, recipe=str(own), epochs=3)
    assert "Changed" not in recipe_words(gone)
    assert about_recipe(gone) == ""


def test_phases_are_rows_and_spans(images: Path) -> None:
    plain = resolved(images, epochs=4)
    assert phase_rows(plain) == []
    assert [(span.first, span.last, span.shaded) for span in phase_spans(plain)] == [(1, 4, False)]
    config = resolved(images, epochs=4, lr=0.1, freeze="layer2", freeze_epochs=3, unfreeze_lr=0.01, bn_stats="frozen")
    assert phase_rows(config) == [
        {"epochs": "1 to 3", "frozen": "up to layer2", "peak learning rate": 0.1, "BN statistics": "frozen"},
        {"epochs": "4", "frozen": "nothing", "peak learning rate": 0.01, "BN statistics": "frozen"},
    ]
    frozen, unfrozen = phase_spans(config)
    assert (frozen.first, frozen.last, frozen.names, frozen.shaded) == (1, 3, ("frozen up to layer2", "layer2"), True)
    assert (unfrozen.first, unfrozen.last, unfrozen.shaded) == (4, 4, False)
    assert len(phase_rows(resolved(images, epochs=4, freeze="stem"))) == 1
