from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resnets.arch.preprocessing import IMAGENET_MEAN, Preprocessing
from resnets.arch.variants import get_config
from resnets.data.open import open_dataset
from resnets.errors import ConfigError, ShapeError
from resnets.nn.model import build_model
from resnets.train.config.recipes import load_recipe
from resnets.train.config.resolve import Settings, settle
from resnets.train.config.train_config import TrainConfig, write_args
from resnets.weights.folder.bundle import Bundle
from tests.images import write_images


def test_small_images_get_a_small_network_and_their_own_mean(images: Path) -> None:
    settings = settle(TrainConfig.from_options(data=str(images)), open_dataset(images))
    assert settings.config.model == "resnet20_cifar"
    assert settings.network.num_classes == 3
    assert settings.preprocessing.size == (12, 12)
    assert settings.preprocessing.resized == (12, 12)
    expected = [sum(values) / 3 / 255 for values in zip((40, 60, 200), (40, 180, 60), (200, 50, 40), strict=True)]
    assert settings.preprocessing.mean == pytest.approx(expected, abs=0.02)
    assert settings.augment.hflip
    assert settings.augment.pad == 1
    assert settings.augment.scale is None
    assert settings.config.batch_size == 8  # 72 images: as many steps as there can be
    assert settings.config.optim.lr == pytest.approx(0.1 * 8 / 128)


def test_digits_are_grey_and_never_mirrored() -> None:
    settings = settle(TrainConfig.from_options(data="digits"), open_dataset("digits"))
    assert settings.preprocessing.channels == "L"
    assert settings.network.in_chans == 1
    assert not settings.augment.hflip


def test_large_images_get_imagenet_s_preprocessing(tmp_path: Path) -> None:
    root = write_images(tmp_path / "big", {"train": 3, "val": 1}, size=300)
    settings = settle(TrainConfig.from_options(data=str(root)), open_dataset(root))
    assert settings.config.model == "resnet18"
    assert settings.preprocessing == Preprocessing(size=(224, 224), mean=IMAGENET_MEAN)
    assert settings.augment.scale is not None
    assert settings.augment.pad == 0


def test_what_training_starts_from_keeps_its_preprocessing_and_network(images: Path) -> None:
    config = get_config("resnet20_cifar", depths=(1, 1, 1), num_classes=7)
    start = Bundle(
        model=build_model(config),
        preprocessing=Preprocessing(size=(32, 24), crop_pct=1.0),
        classes=tuple("abcdefg"),
        name="mine",
    )
    dataset = open_dataset(images)
    settings = settle(TrainConfig.from_options(data=str(images)), dataset, start)
    assert settings.preprocessing == start.preprocessing
    assert settings.config.model == "mine"
    assert settings.config.img_size == (32, 24)
    assert settings.network == replace(config, num_classes=3)
    assert settle(TrainConfig.from_options(data=str(images), img_size=24), dataset, start).preprocessing.size == (
        24,
        24,
    )
    other = settle(TrainConfig.from_options(data=str(images), model="resnet32_cifar"), dataset, start)
    assert other.network.depths == (5, 5, 5)
    again = Bundle(
        model=build_model(settings.network), preprocessing=settings.preprocessing, classes=tuple("abc"), name="mine"
    )
    assert settle(settings.config, dataset, again) == settings


def test_what_is_asked_for_stays(images: Path) -> None:
    config = TrainConfig.from_options(data=str(images), model="plain20_cifar", batch_size=5, lr=0.3, hflip=False, pad=0)
    settled = settle(config, open_dataset(images)).config
    assert (settled.model, settled.batch_size, settled.optim.lr, settled.augment["hflip"], settled.augment["pad"]) == (
        "plain20_cifar",
        5,
        0.3,
        False,
        0,
    )


def test_settling_twice_changes_nothing(images: Path) -> None:
    dataset = open_dataset(images)
    first = settle(TrainConfig.from_options(data=str(images)), dataset)
    assert settle(first.config, dataset) == first


def test_images_too_small_for_the_network(images: Path) -> None:
    dataset = open_dataset(images)

    def settled(model: str, size: int, batch_size: int = 8) -> Settings:
        return settle(TrainConfig.from_options(data="x", model=model, img_size=size, batch_size=batch_size), dataset)

    with pytest.raises(ShapeError, match="the minimum size is 32x32"):
        settled("vgg11_bn", 16)
    assert "layer4 has shrunk to 1x1" in settled("resnet18", 24).notes[0]
    assert not settled("resnet18", 64).notes
    with pytest.raises(ConfigError, match=r"batch normalisation needs more .*; layer4\.0\.bn1 has one"):
        settled("resnet18", 32, batch_size=1)
    settled("resnet18", 64, batch_size=1)
    with pytest.raises(ShapeError, match="instance norm"):
        settled("resnet18_ibn_a", 16)


def test_sizes_that_the_network_cannot_train_at(images: Path) -> None:
    dataset = open_dataset(images)

    def settled(model: str, *sides: int, **options: Any) -> Settings:
        sizes = [[index / len(sides), side] for index, side in enumerate(sides)]
        return settle(TrainConfig.from_options(data="x", model=model, train_sizes=sizes, **options), dataset)

    with pytest.raises(ShapeError, match=r"^train_sizes: .*the minimum size is 32x32"):
        settled("vgg11_bn", 32, 16, 64, img_size=64)
    with pytest.raises(ConfigError, match=r"^train_sizes: batch normalisation .* images of 32x32"):
        settled("resnet18", 32, img_size=64, batch_size=1)
    with pytest.raises(ConfigError, match=r"^train_sizes: batch normalisation .* images of 32x16"):
        settled("resnet18", 32, img_size=[128, 64], batch_size=1)
    settled("vgg11_bn", 32, 64, img_size=64)


def test_the_rate_of_steps_must_drop(images: Path) -> None:
    dataset, recipe = open_dataset(images), load_recipe("imagenet-90").settings | {"img_size": 32}

    def settled(**options: Any) -> Settings:
        return settle(TrainConfig.from_options(recipe, data="x", **options), dataset)

    with pytest.raises(
        ConfigError, match=r"milestones are .* the run's 30, .*; got 30, 60, 80; set .*milestones=10,20$"
    ):
        settled(epochs=30)
    with pytest.raises(ConfigError, match="run's 80"):
        settled(epochs=80)
    assert settled(epochs=30, milestones=[10, 20]).config.epochs == 30
    assert settled(epochs=30, sched="cosine").config.schedule.milestones == ()


@pytest.mark.parametrize("varied", [{"policy": "trivialaugment"}, {"color_jitter": [0.4, 0, 0, 0]}, {"grayscale": 0.1}])
@pytest.mark.parametrize("kind", [{"depth": "uint16"}, {"depth": "float32"}, {"channels": 4}])
def test_colours_are_those_of_bytes(images: Path, varied: dict[str, Any], kind: dict[str, Any]) -> None:
    dataset = open_dataset(images)
    with pytest.raises(
        ConfigError, match="policy, color_jitter and grayscale take images of bytes with 1 or 3 channels; got"
    ):
        settle(TrainConfig.from_options(data="x", **varied, **kind), dataset)
    settle(TrainConfig.from_options(data="x", random_erasing=0.5, **kind), dataset)
    settle(TrainConfig.from_options(data="x", channels="L", **varied), dataset)


def test_unfrozen_at_a_share_of_the_peak(images: Path) -> None:
    dataset, recipe = open_dataset(images), load_recipe("finetune").settings

    def rates(*layers: Any, **options: Any) -> list[float | None]:
        config = TrainConfig.from_options(*layers, data="x", batch_size=16, **options)
        return [phase.lr for phase in settle(config, dataset).config.phases]

    assert rates(recipe) == [None, pytest.approx(0.1 * 0.02 * 16 / 64)]
    assert rates(recipe, lr=1e-4) == [None, pytest.approx(1e-5)]
    assert rates(recipe, unfreeze_lr=0.002) == [None, 0.002]
    assert rates({"freeze": "backbone", "freeze_epochs": 4, "unfreeze_lr": 0.002}) == [None, 0.002]


def test_settled_options_as_a_recipe(images: Path, tmp_path: Path) -> None:
    dataset = open_dataset(images)
    first = settle(TrainConfig.from_options(load_recipe("finetune").settings, data="x"), dataset)
    write_args(tmp_path / "args.yaml", first.config)
    recipe = load_recipe(tmp_path / "args.yaml").settings

    def settled(**options: Any) -> TrainConfig:
        return settle(TrainConfig.from_options(recipe, {"data": "x", **options}), dataset).config

    assert settled() == first.config
    longer, whole, slow = settled(epochs=9), settled(freeze="none"), settled(lr=1e-4)
    assert [phase.epochs for phase in longer.phases] == [4, 5]
    assert [(phase.epochs, phase.freeze) for phase in whole.phases] == [(20, "none")]
    assert [phase.lr for phase in slow.phases] == [None, pytest.approx(1e-5)]
    assert {phase.layer_decay for phase in settled(layer_decay=0.5).phases} == {0.5}


def test_options_that_contradict_the_data(images: Path) -> None:
    dataset = open_dataset(images)
    with pytest.raises(ConfigError, match="num_classes is the data's"):
        settle(TrainConfig.from_options(data="x", model_args={"num_classes": 7}), dataset)
    with pytest.raises(ConfigError, match="in_chans is the images'"):
        settle(TrainConfig.from_options(data="x", model_args={"in_chans": 1}), dataset)
