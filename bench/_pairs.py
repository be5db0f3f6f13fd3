"""Timing two ways of doing one thing on a machine that others use too.

They run in turn, A B then B A, round after round; the ratio is taken round by round, so that a slow minute slows
both, and medians are what is printed.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

__all__ = ["Pair", "compare", "machine"]


@dataclass(frozen=True)
class Pair:
    """Two ways compared.

    Args:
        ours, other: median images a second.
        ratio: the median of ours / other, round by round; low, high: its quartiles.
        rounds: how many there were.
    """

    ours: float
    other: float
    ratio: float
    low: float
    high: float
    rounds: int

    def line(self, name: str, target: float | None = None) -> str:
        """A row of a table."""
        verdict = "" if target is None else f"  (target {target:g}: {'met' if self.ratio >= target else 'MISSED'})"
        spread = f"{self.low:.3f} to {self.high:.3f}"
        return f"{name:44}{self.ours:9.0f}{self.other:9.0f}{self.ratio:9.3f}   {spread}{verdict}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


HEAD = f"{'':44}{'ours':>9}{'other':>9}{'ratio':>9}   quartiles"


def compare(ours: Callable[[], int], other: Callable[[], int], *, rounds: int) -> Pair:
    """Times both, after a warm-up of one call each.

    Args:
        ours, other: do some of the work and answer how many images it was.
        rounds: at least 1.
    """
    ours(), other()
    rates: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            start = time.perf_counter()
            images = (ours, other)[which]()
            rates[which].append(images / (time.perf_counter() - start))
    ratios = sorted(a / b for a, b in zip(*rates, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return Pair(statistics.median(rates[0]), statistics.median(rates[1]), statistics.median(ratios), low, high, rounds)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "processor": platform.processor() or platform.machine(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
