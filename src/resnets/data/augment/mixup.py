"""Mixup (Zhang et al. 2017) and CutMix (Yun et al. 2019): every image of a batch is mixed with another one.

Partners come from a random permutation of the batch; one lambda and one box are used for all its images. Draws are
keyed by seed and step, so a resumed run mixes alike.

Legend: N batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from resnets.data import random
from resnets.data.augment.config import MixConfig
from resnets.errors import ShapeError

__all__ = ["beta_quantile", "cut_box", "mix", "soft_targets"]

_PROBABILITY, _SWITCH, _LAMBDA, _ROW, _COLUMN = range(5)  # columns of the draws


def mix(
    x: torch.Tensor, targets: torch.Tensor, config: MixConfig, *, seed: int, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix a batch and its targets. The caller checks `config.active(epoch)`.

    Args:
        x: (N, C, H, W), floating point, on any device; not modified.
        targets: (N, K) class probabilities, see `soft_targets`; not modified.
        seed: 0 to 2**64 - 1.
        step: optimiser step, counted over all epochs.

    Returns:
        Images and targets of the same shapes; `x` and `targets` themselves if this batch is not mixed.

    Raises:
        ShapeError: images or targets of another shape or type.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ShapeError(f"mixup needs (N, C, H, W) floats; got {tuple(x.shape)} {x.dtype}; normalise first")
    if targets.ndim != 2 or len(targets) != len(x) or not targets.is_floating_point():
        raise ShapeError(
            f"mixup needs (N, K) float targets, N as of the images; got {tuple(targets.shape)} {targets.dtype} "
            f"for N = {len(x)}; use soft_targets"
        )
    draws = random.uniform(seed, step, 0, random.Stream.MIXUP, 8)[0]
    if not (config.mixup or config.cutmix) or draws[_PROBABILITY] >= config.prob:
        return x, targets
    cut = config.cutmix > 0 and (not config.mixup or draws[_SWITCH] < config.switch_prob)
    share = beta_quantile(draws[_LAMBDA] + 2.0**-33, config.cutmix if cut else config.mixup)
    order = random.permutation(len(x), seed, step, random.Stream.MIXUP, view=1)  # view 0 has the counters of `draws`
    partner = torch.from_numpy(order).to(x.device)
    if cut:
        height, width = x.shape[2:]
        top, bottom, left, right = cut_box(height, width, share, draws[_ROW], draws[_COLUMN])
        mixed = x.clone()
        mixed[:, :, top:bottom, left:right] = x[:, :, top:bottom, left:right][partner]
        share = 1 - (bottom - top) * (right - left) / (height * width)
    else:
        mixed = x.lerp(x[partner], 1 - share)
    return mixed, targets.lerp(targets[partner], 1 - share)


def cut_box(height: int, width: int, share: float, row: float, column: float) -> tuple[int, int, int, int]:
    """CutMix's rectangle, by the paper's rule: any centre, clipped to the image.

    Args:
        height, width: of the images.
        share: lambda, the share of the area that is kept, before clipping.
        row, column: the centre, as uniform numbers in [0, 1).

    Returns:
        (top, bottom, left, right) in pixels; bottom and right are exclusive.
    """
    side = math.sqrt(1 - share)
    y, x = int(row * height), int(column * width)
    half_y, half_x = int(height * side) // 2, int(width * side) // 2
    return max(0, y - half_y), min(height, y + half_y), max(0, x - half_x), min(width, x + half_x)


def soft_targets(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Class indices (N,) as one-hot class probabilities (N, K) float32."""
    return F.one_hot(labels.long(), num_classes).float()


def beta_quantile(p: float, alpha: float) -> float:
    """Quantile function of Beta(alpha, alpha), for p in (0, 1), so that one uniform number makes one lambda.

    Newton's method in log x on log I_x(alpha, alpha) up to 1/2, the rest by symmetry. It starts at the leading term
    of I_x, from where the function is concave, so the iteration converges from one side.
    """
    if p > 0.5:
        return 1 - beta_quantile(1 - p, alpha)
    log_beta = 2 * math.lgamma(alpha) - math.lgamma(2 * alpha)
    half = math.log(0.5)
    t = min(half, (math.log(p * alpha) + log_beta) / alpha)
    for _ in range(60):
        x = math.exp(t)
        series = _series(x, alpha)
        log_share = alpha * (t + math.log1p(-x)) - math.log(alpha) - log_beta + math.log(series)
        slope = alpha / ((1 - x) * series)  # of log_share by t
        step = (log_share - math.log(p)) / slope
        t = min(half, t - step)
        if abs(step) < 1e-13:
            break
    return math.exp(t)


def _series(x: float, alpha: float) -> float:
    """2F1(2 alpha, 1; alpha + 1; x), of which I_x(alpha, alpha) is a multiple (DLMF 8.17.8); all terms positive."""
    term = total = 1.0
    n = 0
    while term > total * 1e-17:
        term *= (2 * alpha + n) / (alpha + 1 + n) * x
        total += term
        n += 1
    return total
