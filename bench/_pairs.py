"""Compare the speed of two implementations on a shared machine.

They run alternately (A B, B A, ...); the ratio is computed per round, so that a slow minute affects both, and medians
are reported.
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
    """Result of a comparison.

    Args:
        ours, other: median images per second.
        ratio: median over the rounds of ours / other.
        low, high: quartiles of the ratio.
        rounds: number of rounds.
    """

    ours: float
    other: float
    ratio: float
    low: float
    high: float
    rounds: int

    def line(self, name: str, target: float | None = None) -> str:
        """A row of the printed table."""
        verdict = "" if target is None else f"  (target {target:g}: {'met' if self.ratio >= target else 'MISSED'})"
        spread = f"{self.low:.3f} to {self.high:.3f}"
        return f"{name:44}{self.ours:9.0f}{self.other:9.0f}{self.ratio:9.3f}   {spread}{verdict}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form."""
        return asdict(self)


HEAD = f"{'':44}{'ours':>9}{'other':>9}{'ratio':>9}   quartiles"


def compare(ours: Callable[[], int], other: Callable[[], int], *, rounds: int) -> Pair:
    """Time both, after a warm-up call of each.

    Args:
        ours, other: process some images and return their number.
        rounds: at least 1.
    """
    ours(), other()
    speeds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            start = time.perf_counter()
            images = (ours, other)[which]()
            speeds[which].append(images / (time.perf_counter() - start))
    ratios = sorted(a / b for a, b in zip(*speeds, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4) if rounds > 1 else ratios * 3
    return Pair(
        statistics.median(speeds[0]), statistics.median(speeds[1]), statistics.median(ratios), low, high, rounds
    )


def machine() -> dict[str, Any]:
    """Hardware and software that the results depend on."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
