"""Strict filling: a network takes exactly the tensors that its plan names, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
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
    expected = model.state_dict()
    check({name: (tuple(slot.shape), slot.is_floating_point()) for name, slot in expected.items()}, tensors, where)
    for path, module in model.named_modules():  # `load_state_dict(assign=True)` does the same in five times the time
        for name, slot in module._parameters.items():
            if slot is not None:
                tensor = tensors[join(path, name)].detach().to(slot.dtype)
                module._parameters[name] = nn.Parameter(tensor, requires_grad=slot.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                module._buffers[name] = tensors[join(path, name)].detach().to(buffer.dtype)
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert all(p.dtype == torch.float32 for p in model.parameters())
