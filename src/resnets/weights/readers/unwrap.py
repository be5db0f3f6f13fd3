"""Finding the network in what a training program saved: wrappers, EMA copies and key prefixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from resnets.errors import WeightsError
from resnets.weights.report import shorten

__all__ = ["Unwrapped", "unwrap"]

EMA = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
FIRST_BLOCKS = ("layer1.0.conv1.weight", "stages.0.blocks.0.conv1.weight", "features.0.weight")
MAX_DEPTH = 8  # of wrappers around a state_dict
# Prefix of the backbone -> a tensor of the head beside it, in files of re-identification that a dialect reads whole.
WITH_HEAD = {"base.": "classifier.weight", "backbone.": "heads.weight", "model.": "classifier.add_block.0.weight"}
COUNTERS = ("n_averaged",)  # torch.optim.swa_utils.AveragedModel counts its steps beside the network


@dataclass(frozen=True, kw_only=True)
class Unwrapped:
    """The tensors of a network in a file.

    Args:
        tensors: by name, in the file's order, without common prefixes.
        dropped: names of entries that are not the network's.
        notes: which entry was used and which prefix was cut, a sentence each.
        facts: config fields that the file states besides its tensors.
        dialect: the dialect that a reader has named them in; empty where the names are the file's own.
        preprocessing: fields of `Preprocessing` that the file states.
        verify: for a file that describes its network besides the tensors: compares a network with the description,
            and returns more fields of `Preprocessing`; raises WeightsError if they differ.
    """

    tensors: dict[str, Tensor]
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    dialect: str = ""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    verify: Callable[[nn.Module], dict[str, Any]] | None = None


def unwrap(payload: object, where: str) -> Unwrapped:
    """The network in `payload`: a state_dict, or a training checkpoint that holds one (its EMA copy first)."""
    dropped: list[str] = []
    notes: list[str] = []
    while isinstance(payload, Mapping) and (entry := _choose(payload, where)) is not None:
        if len(notes) == MAX_DEPTH:
            raise WeightsError(
                f"a state_dict lies at most {MAX_DEPTH} entries deep; {where} refers to itself or is damaged; save a "
                "state_dict() alone"
            )
        dropped += [str(key) for key in payload if key != entry]
        notes.append(f"used {entry!r}" + (", the moving average of the weights" if entry in EMA else ""))
        payload = payload[entry]
    if not isinstance(payload, Mapping):
        raise WeightsError(
            f"weights are tensors by name; {where} holds a {type(payload).__name__}; save a state_dict()"
        )
    tensors = {str(key): value.detach() for key, value in payload.items() if _is_weight(key, value)}
    dropped += [str(key) for key, value in payload.items() if not _is_weight(key, value)]
    if not tensors:
        raise WeightsError(f"weights are tensors by name; {where} has none, only {shorten(dropped) or 'nothing'}")
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        notes.append(f"cut the prefix {prefix!r}")
    if root := _root(tensors, where):
        dropped += [name for name in tensors if not name.startswith(root)]
        notes.append(f"used the part under {root!r}")
        tensors = {name.removeprefix(root): value for name, value in tensors.items() if name.startswith(root)}
    return Unwrapped(tensors=tensors, dropped=tuple(dropped), notes=tuple(notes))


def _root(tensors: Mapping[str, Tensor], where: str) -> str:
    """Key prefix of a network beside other parts, such as a re-identification head; empty if there is none."""
    roots = {name.removesuffix(first) for name in tensors for first in FIRST_BLOCKS if name.endswith(first)}
    roots = {root for root in roots if not root or root.endswith(".")}
    if "" in roots or not roots:
        return ""
    known = any(root in roots and head in tensors for root, head in WITH_HEAD.items())
    if known and (
        "bottleneck.weight" not in tensors or "bottleneck.running_mean" in tensors
    ):  # no neck, or a batch norm
        return ""
    if len(roots) > 1:
        raise WeightsError(
            f"one network is read from a file; {where} has {shorten(sorted(roots))}; save one of them alone"
        )
    return roots.pop()


def _choose(payload: Mapping[Any, Any], where: str) -> str | None:
    """Key of the entry that holds the network; `None` where the payload itself does."""
    holders = [key for key in (*EMA, *WRAPPERS) if _holds_tensors(payload.get(key))]
    averaged = [key for key in holders if key in EMA]
    chosen = averaged or holders
    if len(chosen) > 1:
        raise WeightsError(f"one network is read from a file; {where} has {shorten(chosen)}; save one of them alone")
    return chosen[0] if chosen else None


def _holds_tensors(value: object, depth: int = 4) -> bool:
    if not isinstance(value, Mapping) or not depth:
        return False
    return any(isinstance(item, Tensor) or _holds_tensors(item, depth - 1) for item in value.values())


def _is_weight(key: object, value: object) -> bool:
    return isinstance(value, Tensor) and key not in COUNTERS
