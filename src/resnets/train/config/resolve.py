"""Work out what a `TrainConfig` leaves open, from the data: network, preprocessing, learning rate, ..."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from resnets.arch.describe import describe
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Norm
from resnets.arch.parts import freeze_points
from resnets.arch.plan import plan
from resnets.arch.preprocessing import FULL_SCALE, IMAGENET_MEAN, IMAGENET_STD, Depth, Preprocessing
from resnets.arch.shapes import trace
from resnets.arch.variants import get_config
from resnets.arch.vgg import VGGConfig
from resnets.data.augment.config import AugmentConfig
from resnets.data.dataset import Dataset, ImageSet
from resnets.data.decode.image import PixelChannels
from resnets.errors import ConfigError, ImageError, ResnetsError, ShapeError
from resnets.options.validate import validate
from resnets.train.config.recipes import load_recipe
from resnets.train.config.reid_defaults import reid_network, resolve_sampling, trained_classes
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.config.start_model import compare_with_start
from resnets.train.config.train_config import RunOptions, TrainConfig
from resnets.train.freeze.phases import NONE, ResolvedPhase, check_freeze, make_phases
from resnets.train.optim.losses import class_weights
from resnets.weights.folder.bundle import Bundle
from resnets.weights.registry import NAMED_WEIGHTS

__all__ = ["augment_options", "resolve_config"]

SMALL = 64  # pixels a side up to which images are augmented by padded crops, in memory
MIN_STEPS = 32  # per epoch; with fewer, the learning-rate schedule has too few steps
PIXELS_AT_A_TIME = 2**20
TALL = 1.5  # height / width of images of people, from which on re-identification uses 256x128 pixels
SAMPLE_SIZE = 2000  # images from which mean and std are measured


def resolve_config(config: TrainConfig, dataset: Dataset, start: Bundle | None = None) -> ResolvedConfig:
    """Work out what `config` leaves open, from the images and the model that training starts from.

    Args:
        config: the request; left as it is.
        dataset: with a `train` split.
        start: the model of `config.pretrained`. Its preprocessing is kept except for an image size named in `config`,
            and its network unless `config` names a model.

    Raises:
        ConfigError: options that contradict each other or the data.
        ShapeError: images too small for the network; the message names the stage and the minimum size.
    """
    if "train" not in dataset.splits:
        raise ConfigError(
            f"training needs a train split; {dataset.name} has {', '.join(dataset.splits)}; name it train"
        )
    train = dataset.splits["train"]
    preprocessing = _resolve_preprocessing(config, dataset, start)
    small = max(preprocessing.size) <= SMALL
    model = config.model or (start.name if start else "resnet20_cifar" if small else "resnet18")
    if model in NAMED_WEIGHTS:
        raise ConfigError(f"model names a network; {model} are weights; pass --pretrained {model}")
    base = start.config if start is not None and model == start.name else get_config(model)
    reid, classes = config.task == "reid", trained_classes(config, dataset)
    network = _resolve_network(base, config, classes, preprocessing)
    if reid:
        batch_size, sampling, about_batches = resolve_sampling(config, train.labels)
    else:
        batch_size = config.batch_size or _default_batch_size(len(train), 128 if small else 32)
        sampling, about_batches = config.sampling, []
    notes = [*describe(network, preprocessing.size).warnings, *about_batches]
    fresh_classifier = False
    if start is not None:
        differences, fresh_classifier = compare_with_start(start, dataset, preprocessing, classes)
        notes += differences
    if batch_size > len(train) and not sampling.num_instances:  # before the learning rate is scaled to it
        notes.append(f"a batch holds all {len(train)} training images; {batch_size} were requested")
        batch_size = len(train)
    update_size = batch_size * config.optim.accumulate
    update_size = update_size if sampling.num_instances else min(update_size, len(train))
    optim = replace(config.optim, lr=config.optim.lr_for(update_size), lr_batch=None)
    stages = freeze_points(plan(network))
    phases = config.phases or make_phases(config.freeze.with_peak_lr(optim.lr), config.epochs, stages)
    for phase in phases:
        check_freeze(phase.freeze, stages)
    if start is None and phases[0].freeze != NONE and not config.freeze.freeze_random:
        raise ConfigError(
            f"freezing keeps weights as they are; got freeze={phases[0].freeze} with initial weights; add pretrained "
            "(--pretrained starter, named weights, a file or a folder), or --set freeze_random=true"
        )
    resolved = ResolvedConfig(
        **{one.name: getattr(config, one.name) for one in fields(RunOptions)}
        | {
            "model": model,
            "network": network,
            "preprocessing": preprocessing,
            "epochs": sum(phase.epochs for phase in phases),
            "batch_size": batch_size,
            "optim": optim,
            "class_weights": class_weights(config.loss, train.labels, len(classes)),
            "augment": augment_options(config.augment, preprocessing, hflip=dataset.name != "digits", reid=reid),
            "sampling": sampling,
            "phases": tuple(ResolvedPhase.sequence(phases, optim.lr, config.schedule.warmup_epochs)),
            "recipe_changes": _recipe_changes(config),
            "notes": tuple(notes),
            "fresh_classifier": fresh_classifier,
        }
    )
    _check_grad_checkpointing(resolved)
    _check_milestones(resolved)
    _check_recolouring(resolved)
    _check_norms(network, preprocessing.size, batch_size)
    _check_train_sizes(resolved)
    return resolved


def _check_grad_checkpointing(resolved: ResolvedConfig) -> None:
    if not resolved.grad_checkpointing:
        return
    if isinstance(resolved.network, VGGConfig):
        raise ConfigError(
            f"grad_checkpointing applies to residual blocks; {resolved.model} has none; leave it out, or set accumulate"
        )
    if resolved.compile != "off":
        raise ConfigError(
            f"grad_checkpointing and compile exclude each other; got compile={resolved.compile}; leave one out"
        )


def _resolve_preprocessing(config: TrainConfig, dataset: Dataset, start: Bundle | None) -> Preprocessing:
    if start is None:
        hint = dataset.preprocessing_hint
        channels, depth = config.channels or hint.channels, config.depth or hint.dtype
        preprocessing = _default_preprocessing(_image_size(config, dataset), channels, depth, dataset.splits["train"])
    else:
        preprocessing = replace(start.preprocessing, size=config.size or start.preprocessing.size)
    if config.task == "reid":  # whole images, as every codebase of re-identification does
        preprocessing = replace(preprocessing, crop_mode="squash", crop_pct=1.0)
    return replace(
        preprocessing,
        crop_pct=config.crop_pct or preprocessing.crop_pct,
        interpolation=config.interpolation or preprocessing.interpolation,
    )


def _image_size(config: TrainConfig, dataset: Dataset) -> tuple[int, int]:
    if config.size is not None:
        return config.size
    hint = dataset.preprocessing_hint
    if hint.uniform and max(hint.size) <= 224:
        return hint.size
    if max(hint.largest) <= SMALL:
        side = max(8, round(max(hint.size) / 8) * 8)
        return side, side
    return (256, 128) if config.task == "reid" and hint.size[0] >= TALL * hint.size[1] else (224, 224)


def _default_preprocessing(
    size: tuple[int, int], channels: PixelChannels, depth: Depth, train: ImageSet
) -> Preprocessing:
    """Large RGB images are normalised as ImageNet's are; others by their own mean, and small ones are not cropped."""
    if max(size) > SMALL and channels == "RGB" and depth != "float32":
        return Preprocessing(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=depth)
    indices = np.unique(np.linspace(0, len(train) - 1, min(SAMPLE_SIZE, len(train))).astype(int))
    count = channels if isinstance(channels, int) else len(channels)
    sums = np.zeros((3, count))
    for index in indices:
        try:
            pixels = train.image(int(index), channels, depth).reshape(-1, count)
        except ImageError:  # reported by the check of all images, which follows
            continue
        for start in range(0, len(pixels), PIXELS_AT_A_TIME):
            part = pixels[start : start + PIXELS_AT_A_TIME] / FULL_SCALE[depth]  # float64: eight times the memory
            sums += (np.full(count, len(part)), part.sum(axis=0), (part**2).sum(axis=0))
    mean = sums[1] / np.maximum(sums[0], 1)
    std = np.sqrt(np.maximum(sums[2] / np.maximum(sums[0], 1) - mean**2, 1e-4 if depth == "uint8" else 1e-12))
    return Preprocessing(
        size=size,
        crop_pct=1.0 if max(size) <= SMALL else 0.875,
        channels=channels,
        mean=tuple(_rounded(value, depth) for value in mean),
        std=tuple(_rounded(value, depth) for value in std),
        dtype=depth,
    )


def _rounded(value: float, depth: Depth) -> float:
    """Rounded for reading; deep images may be dark, so that they keep significant digits instead of decimals."""
    return round(float(value), 4) if depth == "uint8" else float(f"{value:.5g}")


def _resolve_network(
    base: NetworkConfig, config: TrainConfig, names: Sequence[str], preprocessing: Preprocessing
) -> NetworkConfig:
    classes, channels = len(names), preprocessing.num_channels
    given = {"num_classes": classes, "in_chans": channels, "img_size": preprocessing.size[0]} | config.model_args
    if config.task == "reid":
        given = reid_network(base, config.reid, given)
    network = base.with_overrides(**given)
    if network.num_classes != classes:
        raise ConfigError(f"num_classes is the data's; got {network.num_classes} for {classes} classes; leave it out")
    if network.in_chans != channels:
        raise ConfigError(
            f"in_chans is the images'; got {network.in_chans} for {preprocessing.channels} images; set channels instead"
        )
    return network


def augment_options(
    options: Mapping[str, Any], preprocessing: Preprocessing, *, hflip: bool = True, reid: bool = False
) -> AugmentConfig:
    """The augmentation of images of this size.

    Args:
        options: fields of `AugmentConfig` that are not the default.
        hflip: the default of that option; false for digits, as a mirrored digit is none.
        reid: pad whole images and crop them, instead of random resized crops.

    Raises:
        ConfigError: unknown or contradictory options.
    """
    height, small = preprocessing.size[0], max(preprocessing.size) <= SMALL
    defaults: dict[str, Any] = {
        "pad": (height // 8 if small else 10 if reid else 0) if "scale" not in options else 0,
        "pad_mode": "zero" if reid and not small else "reflect",
        "hflip": hflip,
        "scale": None if small or reid else (0.25, 1.0),
    }
    return validate(AugmentConfig, defaults | dict(options))


def _default_batch_size(images: int, size: int) -> int:
    """`size`, halved until an epoch has `MIN_STEPS` steps, but at least 8."""
    while size > 8 and images < size * MIN_STEPS:
        size //= 2
    return size


def _recipe_changes(config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Options whose values differ from those of the recipe that the request names."""
    if config.recipe is None:
        return {}
    try:
        recipe = TrainConfig.from_options({"data": config.data}, load_recipe(config.recipe).settings)
    except ResnetsError:  # only named for the record, as in the args.yaml of a run whose recipe file is gone
        return {}
    then, now = dict(_leaves(asdict(recipe))), dict(_leaves(asdict(config)))
    return {name: (now[name], then.get(name)) for name in now if now[name] != then.get(name)}


def _leaves(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options by their bare names, as JSON has them; without those that are no part of a recipe."""
    for name, value in json.loads(json.dumps(options)).items():
        if isinstance(value, dict):
            yield from _leaves(value)
        elif name not in ("data", "output", "name", "recipe", "phases", "lr_batch"):
            yield name, value


def _check_milestones(config: ResolvedConfig) -> None:
    milestones = config.schedule.milestones
    if milestones and milestones[-1] >= config.epochs:
        thirds = f"{config.epochs / 3:.3g},{config.epochs * 2 / 3:.3g}"
        raise ConfigError(
            f"milestones must be below the number of epochs, {config.epochs}, for the learning rate to drop; got "
            f"{', '.join(f'{one:g}' for one in milestones)}; set others, such as milestones={thirds}"
        )


def _check_recolouring(config: ResolvedConfig) -> None:
    """Policies and colour changes are defined for 8-bit grayscale and RGB images."""
    depth, channels = config.preprocessing.dtype, config.preprocessing.num_channels
    if config.augment.recolours and (depth != "uint8" or channels not in (1, 3)):
        raise ConfigError(
            f"policy, color_jitter and grayscale require uint8 images with 1 or 3 channels; got {depth} with "
            f"{channels}; set policy=none, color_jitter=0,0,0,0 and grayscale=0, or depth=uint8 and channels=RGB"
        )


def _check_train_sizes(config: ResolvedConfig) -> None:
    for side in sorted({side for _, side in config.train_sizes}):
        size = config.scaled_size(side)
        try:
            describe(config.network, size)
            _check_norms(config.network, size, config.batch_size)
        except (ConfigError, ShapeError) as error:
            raise type(error)(f"train_sizes: {error}") from None


def _check_norms(network: NetworkConfig, size: tuple[int, int], batch_size: int) -> None:
    """Batch normalisation cannot train on one value per channel, as a batch of one image with 1x1 maps has."""
    if batch_size > 1:
        return
    height, width = size
    for record in trace(plan(network), (network.in_chans, height, width)):
        if isinstance(record.node, Norm) and record.node.kind == "batch" and math.prod(record.result.shape[1:]) == 1:
            raise ConfigError(
                f"batch normalisation needs more than one value per channel; {record.path} has one, with images of "
                f"{height}x{width} and a batch of 1; use larger images or batches"
            )
