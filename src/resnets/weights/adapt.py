"""Weights of one network in a related one: other channels, another head, instance norms or attention added.

| what differs | rule |
|---|---|
| input channels | `sum`: every channel gets the sum of the filters, divided by the number of channels; `repeat`: the filters in turn, times old / new (both as timm: 1 channel sums, N repeat) |
| classes, or the size of a pooling window | the classifier starts fresh |
| IBN-a | the affine terms of a split norm: the first half to the instance norm, the rest, with its statistics, to the batch norm |
| IBN-b | instance norms after a sum start at 1 and 0; the stem's takes the batch norm's affine terms, not its statistics |
| attention | gates start fresh |
| `gem` pooling | its power starts at 3 |
| embedding layer and neck | start fresh, as does the classifier; dropped where the network has none |
| batch and frozen norms | the same tensors; step counters are dropped, or start at 0 |

Beyond that, only fields may differ that change no tensor: of training, strides, dilation and pooling.
"""  # noqa: E501

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import Conv, GlobalPool, Norm, SplitNorm, walk
from resnets.arch.parts import NECK
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network, build_model
from resnets.weights.fill import fill
from resnets.weights.report import AdaptReport
from resnets.weights.slots import COUNTER, NOT_IN_TENSORS, differing_fields

__all__ = ["Inflate", "adapt", "inflate_kernel", "plain_config"]

Inflate = Literal["auto", "sum", "repeat"]

HEAD_FIELDS = frozenset(
    {"embedding_dim", "embedding_bias", "neck", "neck_bias", "classifier", "classifier_bias", "classifier_scale"}
)
ATTENTION_FIELDS = frozenset({"attention", "attention_reduction", "attention_round", "se_form"})
STATISTICS = ("running_mean", "running_var")


def adapt(
    source: Network,
    config: NetworkConfig,
    *,
    inflate: Inflate = "auto",
    where: str = "the source",
    fixed: frozenset[str] = frozenset(),
) -> tuple[Network, AdaptReport]:
    """Build the network of `config` with the weights of `source`, by the rules above, in evaluation mode.

    Args:
        source: a network with weights; tensors that stay unchanged are shared with it.
        config: the network to build.
        inflate: how filters for other input channels are made; `auto` sums for one channel and repeats for more.
        where: the weights, for messages and the report.
        fixed: fields that must not differ although a rule would allow it.

    Returns:
        The network, and what was done.

    Raises:
        WeightsError: a difference without a rule.
        ConfigError: another `inflate`.
    """
    _check_differences(config, source.config, where, fixed)
    model = build_model(config, init=False)
    work = _Adaptation(source, model, inflate)
    tensors = {key: tensor for key in work.slots if (tensor := work.tensor(key)) is not None}
    fill(model, tensors, where, fresh=work.fresh)
    return model.eval(), work.report(where)


def plain_config(config: NetworkConfig) -> NetworkConfig:
    """The config without what `adapt` can add: instance norms, attention and frozen norms."""
    if not isinstance(config, ResNetConfig):
        return config
    default = ResNetConfig()
    plain = {name: getattr(default, name) for name in (*ATTENTION_FIELDS, "ibn")}
    return replace(config, **plain, norm="batch" if config.norm == "frozen_batch" else config.norm)


def _check_differences(config: NetworkConfig, has: NetworkConfig, where: str, fixed: frozenset[str]) -> None:
    if type(config) is not type(has):
        family = "VGG" if isinstance(config, VGGConfig) else "residual network"
        raise WeightsError(f"weights and network must be of one family; {where} is no {family}; pass its own weights")
    allowed = NOT_IN_TENSORS | HEAD_FIELDS | {"num_classes", "in_chans"}
    if isinstance(has, ResNetConfig) and isinstance(config, ResNetConfig):
        allowed |= {"ibn"} if not has.ibn else set()
        allowed |= ATTENTION_FIELDS if has.attention == "none" else set()
        allowed |= {"norm"} if {config.norm, has.norm} <= {"batch", "frozen_batch"} else set()
    if differing := differing_fields(config, has, allowed - fixed):
        raise WeightsError(
            f"weights must be of the same network, or of a plainer one; {where} differs in {', '.join(differing)}; "
            "name the network that the weights belong to, or pass these options"
        )


def inflate_kernel(kernel: Tensor, in_chans: int, rule: Inflate = "auto") -> Tensor:
    """Filters for `in_chans` channels: (out, old, k, k) -> (out, in_chans, k, k).

    An image with equal channels gives the same output as before, with `sum` for any number of channels, with `repeat`
    for multiples of the old one.
    """
    if rule not in ("auto", "sum", "repeat"):
        raise ConfigError(f"inflate is one of auto, sum, repeat; got {rule!r}")
    old = kernel.shape[1]
    if rule == "sum" or (rule == "auto" and in_chans == 1):
        return kernel.sum(1, keepdim=True).expand(-1, in_chans, -1, -1) / in_chans
    return kernel[:, [channel % old for channel in range(in_chans)]] * (old / in_chans)


def _has_new_head(config: NetworkConfig, has: NetworkConfig) -> bool:
    """Whether the layers between pool and logits differ, so that their weights do not fit."""
    if not isinstance(config, ResNetConfig) or not isinstance(has, ResNetConfig):
        return False
    return any(getattr(config, name) != getattr(has, name) for name in ("embedding_dim", "neck", "classifier"))


class _Adaptation:
    """Makes each tensor of `model` from those of `source`, and records what was done."""

    def __init__(self, source: Network, model: Network, inflate: Inflate) -> None:
        self.model, self.inflate = model, inflate
        self.held: dict[str, Tensor] = source.state_dict()
        self.slots: dict[str, Tensor] = model.state_dict()
        self.nodes = dict(walk(model.plan))
        self.first_conv = next(path for path, node in self.nodes.items() if isinstance(node, Conv))
        self.classifier = source.classifier_path
        self.new_head = _has_new_head(model.config, source.config)
        self.used: set[str] = set()
        self.kept: list[str] = []
        self.changed: dict[str, str] = {}
        self.fresh: list[str] = []
        self.notes: dict[str, None] = {}

    def tensor(self, key: str) -> Tensor | None:
        """The tensor for `key`; `None` where it starts fresh, or no rule makes it."""
        path, _, last = key.rpartition(".")
        held, slot = self.held.get(key), self.slots[key]
        if self.new_head and path in (*NECK, self.model.classifier_path):
            held = None
        if held is not None and held.shape == slot.shape:
            self.kept.append(key)
            self.used.add(key)
            return held
        if held is not None and path == self.first_conv and last == "weight":
            return self._inflated(key, held)
        outer, _, half = path.rpartition(".")
        if isinstance(self.nodes.get(outer), SplitNorm) and f"{outer}.{last}" in self.held:
            return self._split(key, f"{outer}.{last}", half)
        if key.endswith(COUNTER):
            self.notes["step counters start at 0"] = None
            return torch.tensor(0)
        if self._starts_fresh(path):
            self.fresh.append(key)
        return None

    def _inflated(self, key: str, kernel: Tensor) -> Tensor:
        old, new = kernel.shape[1], self.slots[key].shape[1]
        inflated = inflate_kernel(kernel, new, self.inflate)
        if self.inflate == "sum" or (self.inflate == "auto" and new == 1):
            change = f"sum of {old} channels" + (f", over {new}" if new > 1 else "")
        else:
            change = f"{old} channels in turn, times {old}/{new}"
        self.notes[f"the first convolution takes {new} channels instead of {old}: {change}"] = None
        self.changed[key] = change
        self.used.add(key)
        return inflated

    def _split(self, key: str, original: str, half: str) -> Tensor:
        tensor, slot = self.held[original], self.slots[key]
        self.used.add(original)
        if tensor.ndim == 0:
            return tensor
        first = half == "IN"
        size = slot.shape[0]
        self.changed[key] = f"{'first' if first else 'last'} {size} of {original}"
        self.notes["IBN-a: each split norm's first half goes to its instance norm, without statistics"] = None
        return tensor[:size] if first else tensor[-size:]

    def _starts_fresh(self, path: str) -> bool:
        node = self.nodes.get(path)
        if path == self.model.classifier_path and self.new_head:
            self.notes["the head has other layers: the classifier starts fresh"] = None
        elif path == self.model.classifier_path:
            old, new = self.held.get(f"{self.classifier}.weight"), self.slots[f"{path}.weight"]
            alike = old is not None and old.shape[0] == new.shape[0]
            count = "no" if old is None else old.shape[1 if alike else 0]
            unit = "features" if alike else "classes"
            requested = f"{new.shape[1 if alike else 0]} are requested"
            self.notes[f"the old head has {count} {unit}, {requested}: the classifier starts fresh"] = None
        elif path in NECK:
            self.notes["the head: its embedding layer and neck start fresh"] = None
        elif ".se." in path:
            self.notes["attention: every gate starts fresh"] = None
        elif path.endswith(".IN") and isinstance(node, Norm):
            self.notes["IBN-b: instance norms after a sum start at 1 and 0"] = None
        elif isinstance(node, GlobalPool):
            self.notes["the pool's power starts at 3"] = None
        else:
            return False
        return True

    def report(self, where: str) -> AdaptReport:
        sizes = {key: slot.numel() for key, slot in self.slots.items() if not key.endswith(COUNTER)}
        dropped = [key for key in self.held if key not in self.used]
        stem = [key for key in dropped if key.startswith("bn1.") and key.rpartition(".")[2] in STATISTICS]
        if stem:
            self.notes["IBN-b: the stem's instance norm takes the affine terms of the batch norm"] = None
        return AdaptReport(
            source=where,
            kept=sum(sizes[key] for key in self.kept if key in sizes) / sum(sizes.values()),
            changed=self.changed,
            fresh=tuple(self.fresh),
            dropped=tuple(dropped),
            notes=tuple(self.notes),
        )
