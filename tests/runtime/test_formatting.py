from __future__ import annotations

import pytest

from resnets.runtime.formatting import format_count, format_duration, format_percent, plural


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (7, "7"),
        (128, "128"),
        (999, "999"),
        (1000, "1.00k"),
        (9408, "9.41k"),
        (75_008, "75.0k"),
        (999_499, "999k"),
        (999_600, "1.00M"),
        (25_557_032, "25.6M"),
        (4_089_184_256, "4.09G"),
        (2.5e12, "2.50T"),
    ],
)
def test_format_count_keeps_three_digits(count: float, text: str) -> None:
    assert format_count(count) == text


def test_format_count_with_unit() -> None:
    assert format_count(4_089_184_256, "MACs") == "4.09 GMACs"
    assert format_count(12, "MACs") == "12 MACs"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_plural_and_percent() -> None:
    assert [plural(count, "epoch") for count in (0, 1, 1200)] == ["0 epochs", "1 epoch", "1,200 epochs"]
    assert (format_percent(0.99164), format_percent(1, 1)) == ("99.16 %", "100.0 %")
