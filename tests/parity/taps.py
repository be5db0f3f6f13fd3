"""Where the inner maps that golden files tap stand in our networks."""

from __future__ import annotations

import re
from collections.abc import Callable

from torch import nn

__all__ = ["TAPS"]


def timm(layer: str, model: nn.Module) -> str:
    """`stages.0` of resnetv2 is our `layer1`; all other names are ours."""
    match = re.fullmatch(r"stages\.(\d)", layer)
    return f"layer{int(match[1]) + 1}" if match else layer


TAPS: dict[str, Callable[[str, nn.Module], str]] = {"timm": timm}
"""By source, from a foreign layer's name to our module's; a source that is not here has our names."""
