"""Checks of what a network gets. Modules that `torch.fx` traces wrap them (`torch.fx.wrap`)."""

from __future__ import annotations

from torch import Tensor

from resnets.errors import ShapeError

__all__ = ["check_input", "check_windows"]


def check_input(x: Tensor, in_chans: int) -> None:
    """Raise ShapeError unless `x` is (N, in_chans, H, W)."""
    if x.ndim != 4 or x.shape[1] != in_chans:
        raise ShapeError(
            f"the network takes (N, {in_chans}, H, W); got {tuple(x.shape)}; set in_chans or add the batch axis"
        )


def check_windows(x: Tensor, features: int, size: int) -> None:
    """Raise ShapeError unless fixed pooling windows give as many features as the classifier takes."""
    if x.shape[1] != features:
        raise ShapeError(
            f"a head of fixed windows takes images of {size}x{size}; got one whose windows give {x.shape[1]} features "
            f"for {features}; set img_size or another global_pool"
        )
