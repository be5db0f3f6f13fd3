"""Mixup and CutMix, held against the papers' formulas and numpy's beta distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnets.data.augment.config import MixConfig
from resnets.data.augment.mixup import beta_quantile, cut_box, mix, soft_targets
from resnets.data.random import Stream, permutation, uniform
from resnets.errors import ConfigError, ShapeError


def batch(count: int = 7, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, 12, 10, generator=generator)
    return x, 0.9 * soft_targets(torch.arange(count) % classes, classes) + 0.1 / classes


def partners(seed: int, step: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return permutation(7, seed, step, Stream.MIXUP, view=1)


def test_mixup_is_the_papers_sum() -> None:
    x, targets = batch()
    for step in range(20):
        mixed, soft = mix(x, targets, MixConfig(mixup=0.8), seed=3, step=step)
        partner = torch.from_numpy(partners(3, step))
        share = beta_quantile(uniform(3, step, 0, Stream.MIXUP, 3)[0, 2] + 2.0**-33, 0.8)
        torch.testing.assert_close(mixed, share * x + (1 - share) * x[partner])
        torch.testing.assert_close(soft, share * targets + (1 - share) * targets[partner])


def test_cutmix_pastes_a_box_and_counts_its_true_area() -> None:
    x, targets = batch()
    sizes, centres = set(), []
    for step in range(60):
        mixed, soft = mix(x, targets, MixConfig(cutmix=1.0), seed=1, step=step)
        partner = torch.from_numpy(partners(1, step))
        moved = partner != torch.arange(7)
        pasted = (mixed != x).any(1)[moved]  # (moved, H, W)
        assert (pasted == pasted[:1]).all()
        hole = pasted[0]
        rows, columns = hole.any(1), hole.any(0)
        assert torch.equal(hole, rows[:, None] & columns)  # a rectangle
        assert torch.equal(mixed, torch.where(hole, x[partner], x))
        share = 1 - hole.float().mean()
        torch.testing.assert_close(soft, share * targets + (1 - share) * targets[partner])
        sizes.add(int(hole.sum()))
        centres.append([float(side.nonzero().float().mean()) for side in (rows, columns)])
    assert len(sizes) > 15
    assert abs(np.corrcoef(np.array(centres)[np.isfinite(centres).all(1)], rowvar=False)[0, 1]) < 0.4


def test_the_box_by_hand() -> None:
    # lambda 3/4 leaves half of each side: 6 of 12 and 5 of 10, halves rounded down
    assert cut_box(12, 10, 0.75, 0.5, 0.5) == (3, 9, 3, 7)
    assert cut_box(12, 10, 0.75, 0.0, 0.999) == (0, 3, 7, 10)
    assert cut_box(12, 10, 1.0, 0.5, 0.5) == (6, 6, 5, 5)
    assert cut_box(12, 10, 0.0, 0.5, 0.5) == (0, 12, 0, 10)


@settings(max_examples=100, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    share=st.floats(0, 1),
    row=st.floats(0, 1, exclude_max=True),
    column=st.floats(0, 1, exclude_max=True),
)
def test_boxes_lie_in_the_image(height: int, width: int, share: float, row: float, column: float) -> None:
    top, bottom, left, right = cut_box(height, width, share, row, column)
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width
    assert (bottom - top) * (right - left) <= (1 - share) * height * width + 1e-6


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    step=st.integers(0, 10**6),
    count=st.integers(1, 9),
    config=st.sampled_from(
        [MixConfig(mixup=0.2), MixConfig(cutmix=1.0), MixConfig(mixup=0.8, cutmix=1.0), MixConfig(mixup=1.0, prob=0.5)]
    ),
)
def test_targets_sum_to_one_and_nothing_given_changes(seed: int, step: int, count: int, config: MixConfig) -> None:
    x, targets = batch(count)
    kept = x.clone(), targets.clone()
    mixed, soft = mix(x, targets, config, seed=seed, step=step)
    torch.testing.assert_close(soft.sum(1), torch.ones(count))
    assert soft.min() >= 0
    assert (mixed.shape, soft.shape) == (x.shape, targets.shape)
    assert torch.equal(x, kept[0])
    assert torch.equal(targets, kept[1])
    torch.manual_seed(step)
    np.random.seed(step % 2**32)
    again = mix(x, targets, config, seed=seed, step=step)
    assert torch.equal(again[0], mixed)
    assert torch.equal(again[1], soft)


def test_the_step_and_the_seed_matter() -> None:
    x, targets = batch()
    config = MixConfig(mixup=1.0)
    results = [mix(x, targets, config, seed=seed, step=step)[0] for seed, step in ((0, 0), (0, 1), (1, 0))]
    assert not any(torch.equal(a, b) for i, a in enumerate(results) for b in results[:i])


def kinds(config: MixConfig, steps: int = 600) -> tuple[float, float]:
    """Shares of the batches that are mixed up, and cut."""
    x, targets = batch()
    up = cut = 0
    for step in range(steps):
        mixed, soft = mix(x, targets, config, seed=0, step=step)
        if mixed is x:
            assert soft is targets
            continue
        moved = torch.from_numpy(partners(0, step)) != torch.arange(7)
        a_cut = bool((mixed == x)[moved].any())  # all of a mixed-up image is a sum
        up, cut = up + (not a_cut), cut + a_cut
    return up / steps, cut / steps


def test_how_often_each_kind_comes() -> None:
    assert kinds(MixConfig(), 20) == (0, 0)
    assert kinds(MixConfig(mixup=1.0, prob=0.0), 20) == (0, 0)
    up, cut = kinds(MixConfig(mixup=5.0, cutmix=5.0, prob=0.6, switch_prob=0.25))
    assert up == pytest.approx(0.6 * 0.75, abs=0.06)
    assert cut == pytest.approx(0.6 * 0.25, abs=0.06)
    assert kinds(MixConfig(cutmix=1.0), 50) == (0, 1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_and_the_memory_layout_stay(dtype: torch.dtype) -> None:
    x, targets = batch()
    x = x.to(dtype).to(memory_format=torch.channels_last)
    for config in (MixConfig(mixup=1.0), MixConfig(cutmix=1.0)):
        mixed, soft = mix(x, targets, config, seed=0, step=1)
        assert mixed.dtype == dtype
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        assert soft.dtype == torch.float32


def test_quantiles_have_closed_forms() -> None:
    for p in (1e-9, 1e-4, 0.01, 0.2, 0.5, 0.7, 0.99, 1 - 1e-9):
        assert beta_quantile(p, 1) == pytest.approx(p, rel=1e-12)
        assert beta_quantile(p, 0.5) == pytest.approx(math.sin(math.pi * p / 2) ** 2, rel=1e-9)
        x = beta_quantile(p, 2)
        assert 3 * x**2 - 2 * x**3 == pytest.approx(p, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.2, 0.8, 1.0, 5.0, 100.0, 1000.0])
def test_quantiles_rise_and_mirror(alpha: float) -> None:
    p = np.linspace(0, 1, 1001)[1:-1]
    x = np.array([beta_quantile(value, alpha) for value in p])
    assert (np.diff(x) >= 0).all()
    assert abs(x + x[::-1] - 1).max() < 1e-9
    assert x.min() >= 0
    assert x.max() <= 1


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 2.5])
def test_lambdas_are_beta_distributed(alpha: float) -> None:
    """Kolmogorov and Smirnov's distance of 4000 draws to numpy's 100000; 1.63 / sqrt(n) is the 1 % limit."""
    uniforms = [uniform(5, step, 0, Stream.MIXUP, 3)[0, 2] for step in range(4000)]
    ours = np.sort([beta_quantile(u + 2.0**-33, alpha) for u in uniforms])
    theirs = np.sort(np.random.default_rng(0).beta(alpha, alpha, 100_000))
    points = np.concatenate((ours, theirs))
    below = [np.searchsorted(side, points, "right") / len(side) for side in (ours, theirs)]
    assert abs(below[0] - below[1]).max() < 1.63 * math.sqrt(1 / 4000 + 1 / 100_000)


def test_soft_targets() -> None:
    expected = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    for kind in (torch.int64, torch.int32):
        assert torch.equal(soft_targets(torch.tensor([2, 0], dtype=kind), 3), expected)


def test_when_mixing_ends() -> None:
    assert not MixConfig().active(0)
    assert not MixConfig(mixup=1.0, prob=0.0).active(0)
    assert MixConfig(cutmix=1.0).active(10**6)
    assert [MixConfig(mixup=0.1, off_epoch=2).active(epoch) for epoch in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(
    "options",
    [{"mixup": -0.1}, {"cutmix": math.nan}, {"prob": 1.5}, {"switch_prob": -1.0}, {"off_epoch": -1}],
)
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        MixConfig(**options)


def test_batches_are_checked() -> None:
    x, targets = batch()
    for images, soft in (
        (x.byte(), targets),
        (x[0], targets),
        (x, torch.arange(7)),
        (x, targets[:5]),
        (x, targets.long()),
    ):
        with pytest.raises(ShapeError, match="mixup needs"):
            mix(images, soft, MixConfig(mixup=1.0), seed=0, step=0)
