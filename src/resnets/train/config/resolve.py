"""What a run's open settings come to for the data at hand: network, preprocessing, batch, learning rate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from pydantic import TypeAdapter

from resnets.arch.describe import describe
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Norm
from resnets.arch.parts import freeze_points
from resnets.arch.plan import plan
from resnets.arch.preprocessing import FULL_SCALE, IMAGENET_MEAN, IMAGENET_STD, Depth, Preprocessing
from resnets.arch.shapes import trace
from resnets.arch.variants import get_config
from resnets.data.augment.geometric import AugmentConfig
from resnets.data.dataset import Dataset, ImageSet
from resnets.data.decode.image import PixelChannels
from resnets.errors import ConfigError, ImageError, ShapeError
from resnets.train.config.train_config import TrainConfig
from resnets.train.freeze.phases import check_phases, phases_of
from resnets.weights.folder.bundle import Bundle

__all__ = ["Settings", "settle"]

SMALL = 64  # pixels a side up to which an image is augmented by a padded crop in memory
LEAST_STEPS = 32  # an epoch; fewer would leave the learning rate too few steps to act
SAMPLE = 2000  # images that mean and std are measured on


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a run does, nothing left open.

    Args:
        config: the recipe with every `None` filled in.
        network: what is built.
        preprocessing: from a decoded image to its input.
        augment: what training does to images.
        notes: what is odd about the network for images of this size, if anything.
    """

    config: TrainConfig
    network: NetworkConfig
    preprocessing: Preprocessing
    augment: AugmentConfig
    notes: tuple[str, ...] = ()


def settle(config: TrainConfig, dataset: Dataset, start: Bundle | None = None) -> Settings:
    """Fill in what `config` leaves open, from what the images are.

    Args:
        start: what training starts from, or goes on with: its preprocessing is kept, but for the size that `config` may
            name, and so is its network, unless `config` names another.

    Raises:
        ConfigError: options that contradict each other or the data.
        ShapeError: images too small for the network; the message names the stage and the least size.
    """
    if "train" not in dataset.splits:
        raise ConfigError(
            f"training needs a train split; {dataset.name} has {', '.join(dataset.splits)}; name it train"
        )
    train = dataset.splits["train"]
    if start is None:
        hint = dataset.preprocessing_hint
        channels, depth = config.channels or hint.channels, config.depth or hint.dtype
        preprocessing = _preprocessing(_size(config, dataset), channels, depth, train)
    else:
        preprocessing = replace(start.preprocessing, size=config.size or start.preprocessing.size)
    small = max(preprocessing.size) <= SMALL
    model = config.model or (start.name if start else "resnet20_cifar" if small else "resnet18")
    base = start.config if start is not None and model == start.name else get_config(model)
    network = base.with_overrides(
        **{
            "num_classes": len(dataset.classes),
            "in_chans": preprocessing.num_channels,
            "img_size": preprocessing.size[0],
            **config.model_args,
        }
    )
    if network.num_classes != len(dataset.classes):
        raise ConfigError(f"num_classes is the data's; got {network.num_classes} for {len(dataset.classes)} classes")
    if network.in_chans != preprocessing.num_channels:
        raise ConfigError(f"in_chans is the images'; got {network.in_chans} for {preprocessing.channels} images")
    preprocessing = replace(
        preprocessing,
        crop_pct=config.crop_pct or preprocessing.crop_pct,
        interpolation=config.interpolation or preprocessing.interpolation,
    )
    height, width = preprocessing.size
    batch_size = config.batch_size or _batch_size(len(train), 128 if small else 32)
    augment = TypeAdapter(AugmentConfig).validate_python(
        {
            "pad": height // 8 if small and "scale" not in config.augment else 0,
            "pad_mode": "reflect",
            "hflip": dataset.name != "digits",  # a mirrored digit is no digit
            "scale": None if small else (0.25, 1.0),
        }
        | config.augment
    )
    stops = freeze_points(plan(network))
    optim = replace(config.optim, lr=config.optim.lr_for(batch_size * config.optim.accumulate), lr_batch=None)
    phases = config.phases or phases_of(config.freeze.at_peak(optim.lr), config.epochs, stops)
    config = replace(
        config,
        model=model,
        epochs=sum(phase.epochs for phase in phases),
        batch_size=batch_size,
        img_size=height if height == width else (height, width),
        optim=optim,
        augment=asdict(augment),
        phases=phases,
    )
    check_phases(phases, config.epochs, stops)
    _check_milestones(config)
    _check_weights(config, len(dataset.classes))
    _check_colours(augment, preprocessing)
    notes = describe(network, preprocessing.size).warnings
    _check_norms(network, preprocessing.size, batch_size)
    _check_sizes(config, network, preprocessing.size, batch_size)
    return Settings(config=config, network=network, preprocessing=preprocessing, augment=augment, notes=notes)


def _check_weights(config: TrainConfig, classes: int) -> None:
    weights = config.loss.class_weights
    if isinstance(weights, tuple) and len(weights) != classes:
        raise ConfigError(f"class_weights are one a class; got {len(weights)} for {classes} classes; give all or none")


def _check_milestones(config: TrainConfig) -> None:
    milestones = config.schedule.milestones
    if milestones and milestones[-1] >= config.epochs:
        thirds = f"{config.epochs / 3:.3g},{config.epochs * 2 / 3:.3g}"
        raise ConfigError(
            f"milestones are epochs before the last of the run's {config.epochs}, or the rate never drops; got "
            f"{', '.join(f'{one:g}' for one in milestones)}; set others, such as milestones={thirds}"
        )


def _check_colours(augment: AugmentConfig, preprocessing: Preprocessing) -> None:
    """Policies and colours are those of bytes, grey or RGB; see `data.vary`."""
    if augment.recolours and (preprocessing.dtype != "uint8" or preprocessing.num_channels not in (1, 3)):
        raise ConfigError(
            f"policy, color_jitter and grayscale take images of bytes with 1 or 3 channels; "
            f"got {preprocessing.dtype} with {preprocessing.num_channels}; "
            "set policy=none, color_jitter=0,0,0,0 and grayscale=0, or depth=uint8 and channels=RGB"
        )


def _check_sizes(config: TrainConfig, network: NetworkConfig, size: tuple[int, int], batch_size: int) -> None:
    """The network must take images of every size that it trains at."""
    for side in sorted({side for _, side in config.train_sizes}):
        shape = side, max(1, round(side * size[1] / size[0]))
        try:
            describe(network, shape)
            _check_norms(network, shape, batch_size)
        except (ConfigError, ShapeError) as error:
            raise type(error)(f"train_sizes: {error}") from None


def _check_norms(network: NetworkConfig, size: tuple[int, int], batch_size: int) -> None:
    """Batch normalisation cannot train on a single value a channel: a batch of one whose maps are one cell."""
    if batch_size > 1:
        return
    height, width = size
    for record in trace(plan(network), (network.in_chans, height, width)):
        one = isinstance(record.node, Norm) and record.node.kind == "batch" and math.prod(record.result.shape[1:]) == 1
        if one:
            raise ConfigError(
                f"batch normalisation needs more than one value a channel; {record.path} has one, with images of "
                f"{height}x{width} and a batch of 1; use larger images or batches"
            )


def _size(config: TrainConfig, dataset: Dataset) -> tuple[int, int]:
    if config.size is not None:
        return config.size
    hint = dataset.preprocessing_hint
    if hint.uniform and max(hint.size) <= 224:
        return hint.size
    if max(hint.largest) <= SMALL:
        side = max(8, round(max(hint.size) / 8) * 8)
        return side, side
    return 224, 224


def _preprocessing(size: tuple[int, int], channels: PixelChannels, depth: Depth, train: ImageSet) -> Preprocessing:
    """Small images are taken whole and normalised by their own mean; large ones as ImageNet's are."""
    if max(size) > SMALL and channels == "RGB" and depth != "float32":
        return Preprocessing(size=size, mean=IMAGENET_MEAN, std=IMAGENET_STD, dtype=depth)
    places = np.unique(np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).astype(int))
    count = channels if isinstance(channels, int) else len(channels)
    sums = np.zeros((3, count))
    for place in places:
        try:
            pixels = train.image(int(place), channels, depth).reshape(-1, count) / FULL_SCALE[depth]
        except ImageError:  # the check of all images, which follows, names it
            continue
        sums += (np.full(count, len(pixels)), pixels.sum(axis=0), (pixels**2).sum(axis=0))
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
    """What a person reads in a model folder; deep images may be dark, so that digits count and not places."""
    return round(float(value), 4) if depth == "uint8" else float(f"{value:.5g}")


def _batch_size(images: int, most: int) -> int:
    """`most`, halved until an epoch has `LEAST_STEPS` steps, but not below 8."""
    size = most
    while size > 8 and images < size * LEAST_STEPS:
        size //= 2
    return size
