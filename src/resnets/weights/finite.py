"""Refusing weights that are not finite, and variances below zero: their network outputs NaN."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm

from resnets.errors import WeightsError

__all__ = ["check_finite", "check_variances", "checking"]

SUMMED = (torch.float32, torch.float16, torch.bfloat16)  # other types are converted first, as networks do
REMEDY = "use an earlier checkpoint, or pass --allow-nonfinite (allow_nonfinite=True) to look at it all the same"


@contextmanager
def checking(tensors: Mapping[str, Tensor], where: str) -> Iterator[None]:
    """`check_finite` in a thread of its own, since it reads every value, while the block builds the network.

    An error of the block comes first; the thread has ended when the block is left.
    """
    with ThreadPoolExecutor(1, "check_finite") as pool:
        done = pool.submit(check_finite, tensors, where)
        yield
        done.result()


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise WeightsError if a value is NaN or infinite, or becomes so in float32; it names the first tensor."""
    floating = {
        name: tensor if tensor.dtype in SUMMED else tensor.to(torch.float32)
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel()
    }
    # A norm is finite only if its terms are. This is one call, which leaves the interpreter to the caller's thread.
    single = [tensor for tensor in floating.values() if tensor.dtype == torch.float32]
    if len(single) == len(floating) and torch.isfinite(get_total_norm(single)):
        return
    # A sum too, and it takes a twentieth of the time of isfinite.
    sums = [tensor.sum(dtype=torch.float32) for tensor in floating.values()]
    suspects = [name for name, total in zip(floating, sums, strict=True) if not torch.isfinite(total)]
    bad = [name for name in suspects if not torch.isfinite(floating[name]).all()]  # a sum may overflow
    if bad:
        first = floating[bad[0]]
        count, kind = int((~torch.isfinite(first)).sum()), "NaN" if torch.isnan(first).any() else "infinite"
        more = f", and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise WeightsError(
            f"weights must be finite; {where} has {count:,} of {first.numel():,} values of {bad[0]} {kind}{more}; "
            f"{REMEDY}"
        )


def check_variances(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise WeightsError if a running variance, by our keys, is below zero."""
    for key, tensor in tensors.items():
        if key.endswith("running_var") and tensor.numel() and tensor.min() < 0:
            raise WeightsError(f"variances must not be negative; {where} has {tensor.min():g} in {key}; {REMEDY}")
