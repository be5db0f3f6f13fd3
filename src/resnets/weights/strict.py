"""Strict filling: a network takes exactly the tensors that its plan names, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from resnets.arch.nodes import join
from resnets.errors import WeightsError
from resnets.nn.model import Network

__all__ = ["check", "fill", "listed"]


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first few of some names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def check(expected: Mapping[str, tuple[tuple[int, ...], bool]], tensors: Mapping[str, Tensor], where: str) -> None:
    """Hold tensors against those of a network, before it is built.

    Args:
        expected: the shape of each, and whether it is of floating point.
        tensors: by the network's own names.
        where: the file, for the message.

    Raises:
        WeightsError: a missing, unexpected or mis-shaped tensor, or one of another type (all are listed).
    """
    both = [(name, tensors[name], *slot) for name, slot in expected.items() if name in tensors]
    wrong = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "mis-shaped": [
            f"{name} {tuple(tensor.shape)} for {shape}" for name, tensor, shape, _ in both if tensor.shape != shape
        ],
        "of the wrong type": [
            f"{name} {tensor.dtype}".replace("torch.", "")
            for name, tensor, _, floats in both
            if tensor.is_floating_point() != floats
        ],
    }
    found = [f"{len(names)} {what}: {listed(names)}" for what, names in wrong.items() if names]
    if found:
        raise WeightsError(
            f"tensors and network must belong together; {where}: {'; '.join(found)}; name the network they are of"
        )


def fill(model: Network, tensors: Mapping[str, Tensor], where: str) -> None:
    """Give a network on the meta device its tensors, without a copy where type and device are right.

    Args:
        model: from `build_model(config, init=False)`.
        tensors: by the network's own names, on the CPU. Half, bfloat16 and double become float32.
        where: the file, for the message.

    Raises:
        WeightsError: as `check`.
    """
    # As `load_state_dict(assign=True)` does it, in a fifth of the time; every tensor of ours is in a network's state.
    places: dict[str, tuple[dict[str, Any], str, Tensor]] = {}
    for path, module in model.named_modules():
        for held in (module._parameters, module._buffers):
            places |= {join(path, name): (held, name, slot) for name, slot in held.items() if slot is not None}
    check({key: (tuple(slot.shape), slot.is_floating_point()) for key, (_, _, slot) in places.items()}, tensors, where)
    for key, (held, name, slot) in places.items():
        tensor = tensors[key].detach().to(device="cpu", dtype=slot.dtype)
        held[name] = nn.Parameter(tensor, slot.requires_grad) if isinstance(slot, nn.Parameter) else tensor
