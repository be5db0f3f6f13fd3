"""Strict filling: a network takes exactly the tensors that its plan names, or nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from resnets.errors import WeightsError
from resnets.nn.model import Network

__all__ = ["fill", "listed"]


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first few of some names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def fill(model: Network, tensors: Mapping[str, Tensor], where: str) -> None:
    """Give a network on the meta device its tensors, without a copy where type and device are right.

    Args:
        model: from `build_model(config, init=False)`.
        tensors: by the network's own names, on the CPU. Half, bfloat16 and double become float32.
        where: the file, for the message.

    Raises:
        WeightsError: a missing, unexpected or mis-shaped tensor, or one of another type (all are listed).
    """
    expected = model.state_dict()
    wrong = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "mis-shaped": [
            f"{name} {tuple(tensors[name].shape)} for {tuple(slot.shape)}"
            for name, slot in expected.items()
            if name in tensors and tensors[name].shape != slot.shape
        ],
        "of the wrong type": [
            f"{name} {tensors[name].dtype}".replace("torch.", "")
            for name, slot in expected.items()
            if name in tensors and tensors[name].is_floating_point() != slot.is_floating_point()
        ],
    }
    found = [f"{len(names)} {what}: {listed(names)}" for what, names in wrong.items() if names]
    if found:
        raise WeightsError(
            f"tensors and network must belong together; {where}: {'; '.join(found)}; name the network they are of"
        )
    model.load_state_dict({name: tensors[name].to(slot.dtype) for name, slot in expected.items()}, assign=True)
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert all(p.dtype == torch.float32 for p in model.parameters())
