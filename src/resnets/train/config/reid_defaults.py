"""What `task=reid` leaves open: the head of the network, and the batches of P identities with K images each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.data.augment.config import Sampling
from resnets.data.dataset import Dataset
from resnets.data.identity_sampler import identity_batches
from resnets.errors import ConfigError
from resnets.train.config.reid_options import ReidConfig
from resnets.train.config.train_config import TrainConfig

__all__ = ["reid_network", "resolve_sampling", "trained_classes"]

IDENTITIES, INSTANCES = 16, 4  # P and K, as in Luo et al. 2019
FEWEST, MIN_STEPS = 4, 32  # P is halved down to 4 while an epoch has fewer steps
SCALES = {"circle": 64.0}  # of the cosine similarities, by margin; 30 for the others


def trained_classes(config: TrainConfig, dataset: Dataset) -> tuple[str, ...]:
    """The classes of the network: of re-identification, without the identities that only validate."""
    if config.task != "reid":
        return dataset.classes
    return dataset.classes[: int(dataset.splits["train"].labels.max()) + 1]


def reid_network(base: NetworkConfig, config: ReidConfig, given: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the network: those `given`, and a last stride of 1, a BN neck and a classifier without bias.

    Fields that `base`, such as a model that training starts from, sets itself stay.

    Raises:
        ConfigError: another family of networks, or a classifier that the loss does not fit.
    """
    if not isinstance(base, ResNetConfig):
        raise ConfigError("task=reid trains residual networks; got a VGG network; choose another, see `resnets models`")
    usual: dict[str, Any] = {}
    if base.neck == "none" and "neck" not in given:
        usual = {"neck": "bn"}
        if "classifier_bias" not in given:
            usual["classifier_bias"] = False
    if base.last_stride is None and base.output_stride is None and not {"last_stride", "output_stride"} & set(given):
        usual["last_stride"] = 1
    if config.id_margin != "none":
        if given.get("classifier", "cosine") != "cosine":
            raise ConfigError(
                f"id_margin={config.id_margin} needs cosine similarities; got classifier={given['classifier']}; leave "
                "one out"
            )
        usual |= {"classifier": "cosine", "classifier_bias": False}
    if base.classifier != "cosine" and (usual | dict(given)).get("classifier") == "cosine":
        usual["classifier_scale"] = SCALES.get(config.id_margin, 30.0)
    return usual | dict(given)


def resolve_sampling(config: TrainConfig, labels: npt.NDArray[np.int64]) -> tuple[int, Sampling, list[str]]:
    """Batch size, how batches are drawn, and notes for the user.

    Args:
        config: the request.
        labels: identities of the training images.

    Raises:
        ConfigError: a batch size that is no multiple of `num_instances`, or an update of more identities than there
            are.
    """
    sampling = config.sampling
    instances = INSTANCES if sampling.num_instances is None else sampling.num_instances
    sampling = replace(sampling, num_instances=instances)
    if not instances:
        return config.batch_size or IDENTITIES * INSTANCES, sampling, []
    available, notes = len(np.unique(labels)), list[str]()
    identities = min(IDENTITIES, available)
    while identities // 2 >= FEWEST and len(labels) < identities * instances * MIN_STEPS:
        identities //= 2
    batch_size = config.batch_size or identities * instances
    if batch_size % instances == 0 and batch_size > available * instances:
        notes.append(f"a batch holds all {available} training identities; {batch_size // instances} were requested")
        batch_size = available * instances
    identity_batches(labels, batch_size, instances)
    if config.optim.accumulate > 1:  # the sampler draws the images of an update together
        try:
            identity_batches(labels, batch_size * config.optim.accumulate, instances)
        except ConfigError as error:
            raise ConfigError(f"with accumulate={config.optim.accumulate}, {error} for all micro-batches") from None
    return batch_size, sampling, notes
