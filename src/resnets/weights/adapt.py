"""Weights of one network in a related one: other channels, another head, instance norms or attention added.

| what differs | rule |
|---|---|
| input channels | `sum`: every channel sees the sum of the filters, divided by their number; `repeat`: the filters in turn, times old / new (both as timm: 1 channel sums, N repeat) |
| classes, or a window's size | the classifier starts fresh |
| IBN-a | the affine terms of a split norm: the first half to the instance norm, the rest, with its statistics, to the batch norm |
| IBN-b | instance norms after a sum start at 1 and 0; the stem's takes the batch norm's affine terms, not its statistics |
| attention | gates start fresh |
| `gem` pooling | its power starts at 3 |
| batch and frozen norms | the same tensors; step counters are dropped, or start at 0 |

Nothing else may differ but what leaves every tensor as it is: training's fields, strides, dilation and pooling.
"""  # noqa: E501

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import groupby
from typing import Any, Literal

import torch
from torch import Tensor

from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import ChannelConv, Conv, GlobalPool, Linear, Norm, SplitNorm, walk
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, WeightsError
from resnets.nn.build import init_weights
from resnets.nn.model import Network, build_model
from resnets.weights.strict import fill, listed

__all__ = ["ATTENTION", "FREE", "AdaptReport", "Inflate", "adapt", "inflate_kernel"]

Inflate = Literal["auto", "sum", "repeat"]

# Fields that leave every tensor as it is, and concern training or geometry alone.
FREE = frozenset(
    {"drop_rate", "drop_path_rate", "zero_init_last", "img_size", "norm_momentum", "output_stride", "dilation_rule"}
    | {"last_stride", "global_pool", "pool_window", "num_classes", "in_chans"}
)
ATTENTION = frozenset({"attention", "attention_reduction", "attention_round", "se_form"})
STATISTICS = ("running_mean", "running_var")
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class AdaptReport:
    """How the weights of one network became another's.

    Args:
        source: what they were, for people.
        kept: share of the new network's numbers that are the old ones as they were, in [0, 1].
        changed: tensors that were summed, repeated or split: our key to what was done.
        fresh: tensors that start anew.
        dropped: tensors of the source that were left out.
        notes: each rule that was used, a sentence each.
    """

    source: str
    kept: float
    changed: dict[str, str]
    fresh: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON can hold it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()}

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.kept:.2%} kept as they were", *(f"  {note}" for note in self.notes)]
        changed = [f"{key} {what}" for key, what in self.changed.items()]
        for title, items in (("changed", changed), ("fresh", self.fresh), ("dropped", self.dropped)):
            if items:
                lines.append(f"  {title} ({len(items)}): {listed(items, 6)}")
        return "\n".join(lines)


def adapt(
    source: Network,
    config: NetworkConfig,
    *,
    inflate: Inflate = "auto",
    where: str = "the source",
    fixed: frozenset[str] = frozenset(),
) -> tuple[Network, AdaptReport]:
    """The network of `config` with the weights of `source`, by the rules above, in evaluation mode.

    Args:
        source: a network with weights; its tensors are shared where they stay as they are.
        config: what is wanted.
        inflate: how filters for other input channels are made; `auto` sums for one channel and repeats for more.
        where: what the weights are, for messages and the report.
        fixed: fields that must be as the weights have them all the same.

    Raises:
        WeightsError: a difference that no rule is for.
        ConfigError: another `inflate`.
    """
    _check(config, source.config, where, fixed)
    model = build_model(config, init=False)
    work = _Adaptation(source, model, inflate)
    tensors = {key: work.tensor(key) for key in model.state_dict()}
    fill(model, {key: tensor for key, tensor in tensors.items() if tensor is not None} | work.start_fresh(), where)
    return model.eval(), work.report(where)


def _check(config: NetworkConfig, has: NetworkConfig, where: str, fixed: frozenset[str]) -> None:
    """Hold the differences between two descriptions against the rules."""
    if type(config) is not type(has):
        raise WeightsError(f"weights stay in their family; {where} is no {_family(config)}; pass its own weights")
    may = set(FREE)
    if not isinstance(has, VGGConfig):
        may |= {"ibn"} if not has.ibn else set()
        may |= ATTENTION if has.attention == "none" else set()
        may |= {"norm"} if {getattr(config, "norm", ""), has.norm} <= {"batch", "frozen_batch"} else set()
    differing = [
        f"{field.name} {getattr(config, field.name)} for {getattr(has, field.name)}"
        for field in fields(has)
        if field.name not in may - fixed and getattr(config, field.name) != getattr(has, field.name)
    ]
    if differing:
        raise WeightsError(
            f"the weights must be of the network that is built, or of a plainer one; {where} differs in "
            f"{', '.join(differing)}; name the network that they belong to, or pass what should change"
        )


def inflate_kernel(kernel: Tensor, in_chans: int, rule: Inflate = "auto") -> Tensor:
    """Filters for `in_chans` channels from (out, old, k, k).

    `sum`: grey values in every channel give what they gave in every old channel. `repeat`: so does any input whose
    channels are alike.
    """
    if rule not in ("auto", "sum", "repeat"):
        raise ConfigError(f"inflate is one of auto, sum, repeat; got {rule!r}")
    old = kernel.shape[1]
    if rule == "sum" or (rule == "auto" and in_chans == 1):
        return kernel.sum(1, keepdim=True).expand(-1, in_chans, -1, -1) / in_chans
    return kernel[:, [channel % old for channel in range(in_chans)]] * (old / in_chans)


class _Adaptation:
    """The tensors of `source` on their way into `model`, and what happened to each."""

    def __init__(self, source: Network, model: Network, inflate: Inflate) -> None:
        self.model, self.inflate = model, inflate
        self.held: dict[str, Tensor] = source.state_dict()
        self.slots: dict[str, Tensor] = model.state_dict()
        self.nodes = dict(walk(model.plan))
        self.first = next(path for path, node in self.nodes.items() if isinstance(node, Conv))
        self.classifier = _classifier(source)
        self.used: set[str] = set()
        self.kept: list[str] = []
        self.changed: dict[str, str] = {}
        self.fresh: list[str] = []
        self.notes: dict[str, None] = {}

    def tensor(self, key: str) -> Tensor | None:
        """What stands at `key` in the new network; `None` where it starts fresh (or nothing is known of it)."""
        path, _, last = key.rpartition(".")
        held, slot = self.held.get(key), self.slots[key]
        if held is not None and held.shape == slot.shape:
            self.kept.append(key)
            self.used.add(key)
            return held
        if held is not None and path == self.first and last == "weight":
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
        made = inflate_kernel(kernel, new, self.inflate)
        summed = self.inflate == "sum" or (self.inflate == "auto" and new == 1)
        what = f"sum of {old} channels" + (f", over {new}" if new > 1 else "") if summed else f"{old} channels in turn"
        what += "" if summed else f", times {old}/{new}"
        self.notes[f"the first convolution takes {new} channels instead of {old}: {what}"] = None
        self.changed[key] = what
        self.used.add(key)
        return made

    def _split(self, key: str, whole: str, half: str) -> Tensor:
        tensor, slot = self.held[whole], self.slots[key]
        self.used.add(whole)
        if tensor.ndim == 0:
            return tensor
        first = half == "IN"
        size = slot.shape[0]
        self.changed[key] = f"{'first' if first else 'last'} {size} of {whole}"
        self.notes["IBN-a: each split norm's first half goes to its instance norm, without statistics"] = None
        return tensor[:size] if first else tensor[-size:]

    def _starts_fresh(self, path: str) -> bool:
        node = self.nodes.get(path)
        if path == _classifier(self.model):
            old, new = self.held.get(f"{self.classifier}.weight"), self.slots[f"{path}.weight"]
            alike = old is not None and old.shape[0] == new.shape[0]
            has = f"has {old.shape[1 if alike else 0]}" if old is not None else "has no"
            unit = "features" if alike else "classes"
            wanted = f"{new.shape[1 if alike else 0]} are wanted"
            self.notes[f"the old head {has} {unit}, {wanted}: the classifier starts fresh"] = None
        elif ".se." in path:
            self.notes["attention: every gate starts fresh"] = None
        elif path.endswith(".IN") and isinstance(node, Norm):
            self.notes["IBN-b: instance norms after a sum start at 1 and 0"] = None
        elif isinstance(node, GlobalPool):
            self.notes["the pool's power starts at 3"] = None
        else:
            return False
        return True

    def start_fresh(self) -> dict[str, Tensor]:
        """First values of all that starts fresh, from torch's global generator."""
        tensors: dict[str, Tensor] = {}
        for path, keys in groupby(self.fresh, key=lambda key: key.rpartition(".")[0]):
            module, node = self.model.get_submodule(path), self.nodes[path]
            assert isinstance(node, Conv | Linear | ChannelConv | Norm | GlobalPool)
            module.to_empty(device="cpu")
            init_weights(module, node)
            state = module.state_dict()
            tensors |= {key: state[key.rpartition(".")[2]] for key in keys}
        return tensors

    def report(self, where: str) -> AdaptReport:
        sizes = {key: slot.numel() for key, slot in self.slots.items() if not key.endswith(COUNTER)}
        dropped = [key for key in self.held if key not in self.used]
        stem = [key for key in dropped if key.startswith("bn1.") and key.rpartition(".")[2] in STATISTICS]
        if stem:
            self.notes["IBN-b: the stem's instance norm takes the affine terms of its batch norm"] = None
        return AdaptReport(
            source=where,
            kept=sum(sizes[key] for key in self.kept if key in sizes) / sum(sizes.values()),
            changed=self.changed,
            fresh=tuple(self.fresh),
            dropped=tuple(dropped),
            notes=tuple(self.notes),
        )


def _classifier(model: Network) -> str:
    """The path of the layer that answers logits; empty where there is none."""
    linear = [path for path, node in walk(model.plan) if isinstance(node, Linear) and ".se." not in path]
    return linear[-1] if linear and model.num_classes else ""


def _family(config: NetworkConfig) -> str:
    return "VGG" if isinstance(config, VGGConfig) else "residual network"
