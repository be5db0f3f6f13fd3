"""Strict filling: a network takes exactly the tensors that its plan names, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from torch import Tensor, nn

from resnets.arch.nodes import join, walk
from resnets.errors import WeightsError
from resnets.nn.build import init_weights
from resnets.nn.model import Network
from resnets.weights.report import shorten

__all__ = ["fill"]


def fill(model: Network, tensors: Mapping[str, Tensor], where: str, *, fresh: Iterable[str] = ()) -> None:
    """Assign every tensor of a network on the meta device, without a copy where type and device allow it.

    Args:
        model: from `build_model(config, init=False)`.
        tensors: by our keys, on the CPU. Half, bfloat16 and double become float32.
        where: the file, for the message.
        fresh: our keys of tensors that take initial values instead, from torch's global generator.

    Raises:
        WeightsError: a missing, unexpected or mis-shaped tensor, or one of another type (all are listed).
    """
    # As `load_state_dict(assign=True)`, in a fifth of the time; every tensor of our modules is in the state_dict.
    owners: dict[str, tuple[dict[str, Any], str, Tensor]] = {}
    for path, module in model.named_modules():
        for held in (module._parameters, module._buffers):
            owners |= {join(path, name): (held, name, slot) for name, slot in held.items() if slot is not None}
    tensors = {**tensors, **_initial(model, fresh)}
    _check({key: slot for key, (_, _, slot) in owners.items()}, tensors, where)
    for key, (held, name, slot) in owners.items():
        tensor = tensors[key].detach().to(device="cpu", dtype=slot.dtype)
        held[name] = nn.Parameter(tensor, slot.requires_grad) if isinstance(slot, nn.Parameter) else tensor


def _initial(model: Network, keys: Iterable[str]) -> dict[str, Tensor]:
    """Initial values of some tensors; nothing is drawn for modules that have none of them."""
    tensors: dict[str, Tensor] = {}
    nodes = dict(walk(model.plan))
    for path, inside in groupby(keys, key=lambda key: key.rpartition(".")[0]):
        module = model.get_submodule(path).to_empty(device="cpu")
        init_weights(module, nodes[path])
        state = module.state_dict()
        tensors |= {key: state[key.rpartition(".")[2]] for key in inside}
    return tensors


def _check(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    both = [(key, tensors[key], slot) for key, slot in expected.items() if key in tensors]
    problems = {
        "missing": [key for key in expected if key not in tensors],
        "unexpected": [key for key in tensors if key not in expected],
        "mis-shaped": [
            f"{key} {tuple(tensor.shape)} for {tuple(slot.shape)}"
            for key, tensor, slot in both
            if tensor.shape != slot.shape
        ],
        "of the wrong type": [
            f"{key} {tensor.dtype}".replace("torch.", "")
            for key, tensor, slot in both
            if tensor.is_floating_point() != slot.is_floating_point()
        ],
    }
    found = [f"{len(keys)} {problem}: {shorten(keys)}" for problem, keys in problems.items() if keys]
    if found:
        raise WeightsError(
            f"tensors must match the network; {where}: {'; '.join(found)}; name the network that they belong to"
        )
