from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from resnets.arch.preprocessing import IMAGENET_MEAN, Preprocessing
from resnets.arch.variants import get_config
from resnets.data.open import open_dataset
from resnets.errors import ConfigError, ShapeError, TrainingError
from resnets.nn.model import build_model
from resnets.train.config.recipes import load_recipe
from resnets.train.config.resolve import resolve_config
from resnets.train.config.resolved_config import ResolvedConfig, read_resolved, write_resolved
from resnets.train.config.train_config import TrainConfig, write_args
from resnets.weights.folder.bundle import Bundle
from resnets.weights.open import load_bundle
from tests.images import write_images


def test_small_images_get_a_small_network_and_their_own_mean(images: Path) -> None:
    resolved = resolve_config(TrainConfig.from_options(data=str(images)), open_dataset(images))
    assert resolved.model == "resnet20_cifar"
    assert resolved.network.num_classes == 3
    assert resolved.preprocessing.size == (12, 12)
    assert resolved.preprocessing.resized == (12, 12)
    expected = [sum(values) / 3 / 255 for values in zip((40, 60, 200), (40, 180, 60), (200, 50, 40), strict=True)]
    assert resolved.preprocessing.mean == pytest.approx(expected, abs=0.02)
    assert resolved.augment.hflip
    assert resolved.augment.pad == 1
    assert resolved.augment.scale is None
    assert resolved.batch_size == 8  # 72 images: as many steps as there can be
    assert resolved.optim.lr == pytest.approx(0.1 * 8 / 128)


def test_digits_are_grayscale_and_not_mirrored() -> None:
    resolved = resolve_config(TrainConfig.from_options(data="digits"), open_dataset("digits"))
    assert resolved.preprocessing.channels == "L"
    assert resolved.network.in_chans == 1
    assert not resolved.augment.hflip


def test_large_images_get_imagenets_preprocessing(tmp_path: Path) -> None:
    root = write_images(tmp_path / "big", {"train": 3, "val": 1}, size=300)
    resolved = resolve_config(TrainConfig.from_options(data=str(root)), open_dataset(root))
    assert resolved.model == "resnet18"
    assert resolved.preprocessing == Preprocessing(size=(224, 224), mean=IMAGENET_MEAN)
    assert resolved.augment.scale is not None
    assert resolved.augment.pad == 0


def test_a_pretrained_model_keeps_its_preprocessing_and_network(images: Path) -> None:
    config = get_config("resnet20_cifar", depths=(1, 1, 1), num_classes=7)
    start = Bundle(
        model=build_model(config),
        preprocessing=Preprocessing(size=(32, 24), crop_pct=1.0),
        classes=tuple("abcdefg"),
        name="mine",
    )
    dataset = open_dataset(images)
    resolved = resolve_config(TrainConfig.from_options(data=str(images)), dataset, start)
    assert resolved.preprocessing == start.preprocessing
    assert resolved.model == "mine"
    assert resolved.preprocessing.size == (32, 24)
    assert resolved.network == replace(config, num_classes=3)
    assert resolve_config(
        TrainConfig.from_options(data=str(images), img_size=24), dataset, start
    ).preprocessing.size == (
        24,
        24,
    )
    other = resolve_config(TrainConfig.from_options(data=str(images), model="resnet32_cifar"), dataset, start)
    assert other.network.depths == (5, 5, 5)


def test_options_of_the_request_are_kept(images: Path) -> None:
    config = TrainConfig.from_options(data=str(images), model="plain20_cifar", batch_size=5, lr=0.3, hflip=False, pad=0)
    resolved = resolve_config(config, open_dataset(images))
    augment = resolved.augment
    assert (resolved.model, resolved.batch_size, resolved.optim.lr, augment.hflip, augment.pad) == (
        "plain20_cifar",
        5,
        0.3,
        False,
        0,
    )


OPTIONS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "frozen": {"freeze": "layer1", "freeze_epochs": 2, "unfreeze": "stages", "unfreeze_lr_share": 0.1, "epochs": 9,
               "freeze_random": True},
    "phases": {"phases": [{"epochs": 1, "lr": 1 / 3}, {"epochs": 2, "freeze": "stem", "warmup_epochs": 0}]},
    "VGG": {"model": "vgg11_bn", "img_size": 64, "class_weights": "balanced", "betas": (0.9, 0.99), "opt": "adamw"},
    "sizes": {"train_sizes": ((0, 8), (0.5, 12)), "policy": "trivialaugment", "pad": 2, "off_epoch": 3, "mixup": 0.1},
    "bands": {"channels": "L", "depth": "uint16", "model_args": {"depths": (1, 1, 1)}, "sched": "step",
              "milestones": (10, 20)},
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_a_resolved_configuration_is_read_as_it_was_written(images: Path, tmp_path: Path, name: str) -> None:
    resolved = resolve_config(TrainConfig.from_options(data=str(images), **OPTIONS[name]), open_dataset(images))
    write_resolved(tmp_path / "resolved.yaml", resolved)
    assert read_resolved(tmp_path / "resolved.yaml") == resolved
    assert resolved.epochs == sum(phase.epochs for phase in resolved.phases)


@pytest.mark.parametrize("damage", ["", "- 1\n", "model: resnet18\n", "half"])
def test_a_damaged_resolved_configuration_is_one_line(images: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "resolved.yaml"
    write_resolved(path, resolve_config(TrainConfig.from_options(data=str(images)), open_dataset(images)))
    path.write_text(path.read_text()[:600] if damage == "half" else damage)
    with pytest.raises(TrainingError) as caught:
        read_resolved(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("phases", []), ("phases.first_epoch", 5), ("class_weights", [1.0]), ("batch_size", 0), ("epochs", 3),
        ("seed", -1), ("optim.lr", 0), ("train_sizes", [[0.5, -4]]), ("unknown", 1),
    ],
)  # fmt: skip
def test_an_edited_resolved_configuration_is_checked(images: Path, tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "resolved.yaml"
    write_resolved(path, resolve_config(TrainConfig.from_options(data=str(images)), open_dataset(images)))
    values = yaml.safe_load(path.read_text())
    group, _, name = key.rpartition(".")
    target = values[group] if group else values
    (target[0] if isinstance(target, list) else target)[name] = value
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(TrainingError, match=r"resolved\.yaml") as caught:
        read_resolved(path)
    assert "\n" not in str(caught.value)


def test_the_request_stays_as_it_is(images: Path) -> None:
    config = TrainConfig.from_options(data=str(images), freeze="layer1", freeze_epochs=2, freeze_random=True)
    before = repr(config)
    resolve_config(config, open_dataset(images))
    assert repr(config) == before


def test_phase_and_image_size_of_an_epoch(images: Path) -> None:
    options = {
        "freeze_random": True,
        "phases": [{"epochs": 2, "freeze": "stem"}, {"epochs": 3}],
        "train_sizes": ((0.4, 8), (0.8, 10)),
    }
    options["train_sizes"] = ((0, 8), (0.8, 10))
    config = resolve_config(TrainConfig.from_options(data=str(images), **options), open_dataset(images))
    assert [config.phase_at(epoch).first_epoch for epoch in range(6)] == [0, 0, 2, 2, 2, 2]
    assert [config.train_size(epoch) for epoch in range(5)] == [(8, 8)] * 4 + [(10, 10)]
    plain = resolve_config(TrainConfig.from_options(data=str(images)), open_dataset(images))
    assert plain.train_size(0) is None


def test_changes_of_a_recipe(images: Path) -> None:
    recipe = load_recipe("finetune").settings
    config = TrainConfig.from_options(
        recipe, data=str(images), recipe="finetune", epochs=9, hflip=False, freeze_random=True
    )
    changes = resolve_config(config, open_dataset(images)).recipe_changes
    assert changes == {"epochs": (9, recipe["epochs"]), "hflip": (False, None), "freeze_random": (True, False)}


def test_images_too_small_for_the_network(images: Path) -> None:
    dataset = open_dataset(images)

    def resolved(model: str, size: int, batch_size: int = 8) -> ResolvedConfig:
        return resolve_config(
            TrainConfig.from_options(data="x", model=model, img_size=size, batch_size=batch_size), dataset
        )

    with pytest.raises(ShapeError, match="the minimum size is 32x32"):
        resolved("vgg11_bn", 16)
    assert "layer4 is 1x1" in resolved("resnet18", 24).notes[0]
    assert not resolved("resnet18", 64).notes
    with pytest.raises(ConfigError, match=r"batch normalisation needs more .*; layer4\.0\.bn1 has one"):
        resolved("resnet18", 32, batch_size=1)
    resolved("resnet18", 64, batch_size=1)
    with pytest.raises(ShapeError, match="instance norm"):
        resolved("resnet18_ibn_a", 16)


def test_train_sizes_too_small_for_the_network(images: Path) -> None:
    dataset = open_dataset(images)

    def resolved(model: str, *sides: int, **options: Any) -> ResolvedConfig:
        sizes = [[index / len(sides), side] for index, side in enumerate(sides)]
        return resolve_config(TrainConfig.from_options(data="x", model=model, train_sizes=sizes, **options), dataset)

    with pytest.raises(ShapeError, match=r"^train_sizes: .*the minimum size is 32x32"):
        resolved("vgg11_bn", 32, 16, 64, img_size=64)
    with pytest.raises(ConfigError, match=r"^train_sizes: batch normalisation .* images of 32x32"):
        resolved("resnet18", 32, img_size=64, batch_size=1)
    with pytest.raises(ConfigError, match=r"^train_sizes: batch normalisation .* images of 32x16"):
        resolved("resnet18", 32, img_size=[128, 64], batch_size=1)
    resolved("vgg11_bn", 32, 64, img_size=64)


def test_milestones_must_be_within_the_run(images: Path) -> None:
    dataset, recipe = open_dataset(images), load_recipe("imagenet-90").settings | {"img_size": 32}

    def resolved(**options: Any) -> ResolvedConfig:
        return resolve_config(TrainConfig.from_options(recipe, data="x", **options), dataset)

    with pytest.raises(ConfigError, match=r"milestones must be .*, 30, .*; got 30, 60, 80; set .*milestones=10,20$"):
        resolved(epochs=30)
    with pytest.raises(ConfigError, match="epochs, 80"):
        resolved(epochs=80)
    assert resolved(epochs=30, milestones=[10, 20]).epochs == 30
    assert resolved(epochs=30, sched="cosine").schedule.milestones == ()


@pytest.mark.parametrize(
    "colours", [{"policy": "trivialaugment"}, {"color_jitter": [0.4, 0, 0, 0]}, {"grayscale": 0.1}]
)
@pytest.mark.parametrize("kind", [{"depth": "uint16"}, {"depth": "float32"}, {"channels": 4}])
def test_colour_changes_require_8_bit_images(images: Path, colours: dict[str, Any], kind: dict[str, Any]) -> None:
    dataset = open_dataset(images)
    with pytest.raises(
        ConfigError, match="policy, color_jitter and grayscale require uint8 images with 1 or 3 channels; got"
    ):
        resolve_config(TrainConfig.from_options(data="x", **colours, **kind), dataset)
    resolve_config(TrainConfig.from_options(data="x", random_erasing=0.5, **kind), dataset)
    resolve_config(TrainConfig.from_options(data="x", channels="L", **colours), dataset)


def test_learning_rate_after_unfreezing(images: Path) -> None:
    dataset, recipe = open_dataset(images), load_recipe("finetune").settings

    def rates(*layers: Any, **options: Any) -> list[float]:
        config = TrainConfig.from_options(*layers, data="x", batch_size=16, freeze_random=True, **options)
        return [phase.lr for phase in resolve_config(config, dataset).phases]

    peak = 0.08 * 16 / 64
    assert rates(recipe) == [pytest.approx(peak), pytest.approx(0.1 * peak)]
    assert rates(recipe, lr=1e-4) == [1e-4, pytest.approx(1e-5)]
    assert rates(recipe, unfreeze_lr=0.002) == [pytest.approx(peak), 0.002]
    given = {"freeze": "backbone", "freeze_epochs": 4, "unfreeze_lr": 0.002, "lr": 0.3, "lr_batch": 32}
    assert rates(given) == [pytest.approx(0.15), 0.002]


def test_a_request_as_a_recipe(images: Path, tmp_path: Path) -> None:
    dataset = open_dataset(images)
    request = TrainConfig.from_options(load_recipe("finetune").settings, data="x", freeze_random=True)
    first = resolve_config(request, dataset)
    write_args(tmp_path / "args.yaml", request)
    recipe = load_recipe(tmp_path / "args.yaml").settings

    def resolved(**options: Any) -> ResolvedConfig:
        return resolve_config(TrainConfig.from_options(recipe, {"data": "x", **options}), dataset)

    assert resolved() == first
    longer, whole, slow = resolved(epochs=9), resolved(freeze="none"), resolved(lr=1e-4)
    assert [phase.epochs for phase in longer.phases] == [4, 5]
    assert [(phase.epochs, phase.freeze) for phase in whole.phases] == [(20, "none")]
    assert [phase.lr for phase in slow.phases] == [1e-4, pytest.approx(1e-5)]
    assert {phase.layer_decay for phase in resolved(layer_decay=0.5).phases} == {0.5}


def test_options_that_contradict_the_data(images: Path) -> None:
    dataset = open_dataset(images)
    with pytest.raises(ConfigError, match="num_classes is the data's"):
        resolve_config(TrainConfig.from_options(data="x", model_args={"num_classes": 7}), dataset)
    with pytest.raises(ConfigError, match="in_chans is the images'"):
        resolve_config(TrainConfig.from_options(data="x", model_args={"in_chans": 1}), dataset)


FREEZING: list[dict[str, Any]] = [
    {"freeze": "backbone"},
    {"freeze": "layer1", "freeze_epochs": 2},
    {"phases": [{"epochs": 1, "freeze": "stem"}, {"epochs": 2}]},
]


@pytest.mark.parametrize("options", FREEZING)
def test_freezing_requires_trained_weights(images: Path, options: dict[str, Any]) -> None:
    dataset = open_dataset(images)
    frozen = "stem" if "phases" in options else options["freeze"]
    with pytest.raises(ConfigError, match=f"got freeze={frozen} with initial weights; add pretrained .*freeze_random"):
        resolve_config(TrainConfig.from_options(data="x", **options), dataset)
    resolve_config(TrainConfig.from_options(data="x", freeze_random=True, **options), dataset)
    resolve_config(TrainConfig.from_options(data="x", pretrained="starter", **options), dataset, load_bundle("starter"))
    later = [{"epochs": 1}, {"epochs": 2, "freeze": "stem"}]  # what the first phase has trained
    resolve_config(TrainConfig.from_options(data="x", phases=later), dataset)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "vgg11", "img_size": 32}, "residual blocks; vgg11 has none"),
        ({"compile": "default"}, "exclude each other"),
    ],
)
def test_gradient_checkpointing_that_is_not_possible(images: Path, options: dict[str, Any], message: str) -> None:
    config = TrainConfig.from_options(data="x", grad_checkpointing=True, **options)
    with pytest.raises(ConfigError, match=message):
        resolve_config(config, open_dataset(images))
