"""Counts, durations and percentages as text."""

from __future__ import annotations

__all__ = ["format_count", "format_duration", "format_percent", "plural"]


def plural(count: int, noun: str) -> str:
    """Count with its noun: `1 epoch`, `30 epochs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_count(count: float, unit: str = "") -> str:
    """Count in three digits with a prefix: `25.6M`; with a unit, `4.09 GMACs`."""
    gap = " " if unit else ""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:
            digits = max(0, 3 - len(str(round(count / size))))
            return f"{count / size:.{digits}f}{gap}{prefix}{unit}"
    return f"{count:g}{gap}{unit}"


def format_duration(seconds: float) -> str:
    """Duration to the second or minute: `45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_percent(fraction: float, digits: int = 2) -> str:
    """Fraction in [0, 1] as a percentage: `99.16 %`."""
    return f"{100 * fraction:.{digits}f} %"
