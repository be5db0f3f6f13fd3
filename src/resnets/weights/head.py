"""The classifier of a file whose own name for it no table has, found by its shape."""

from __future__ import annotations

import re
from collections.abc import Mapping

from resnets.weights.dialects.axes import Shape

__all__ = ["find_head"]

BLOCK = re.compile(r"layer(\d{1,4})\.(\d{1,4})\.conv(\d)\.weight")
# Dropout and activations have no tensors, so Sequential(Dropout, Linear) is `fc.1`.
TENSORS = {"weight": "weight", "bias": "bias", "kernel": "weight"}


def find_head(ours: Mapping[str, Shape], unmapped: Mapping[str, Shape]) -> dict[str, str]:
    """Names of the classifier's tensors to `fc.weight` and `fc.bias`; empty if there is none, or no single one.

    Args:
        ours: shapes by our keys, in torch's axis order, of the tensors that a dialect knows.
        unmapped: the same of the others, by their own names: `fc.1.weight`, `dense/kernel`.

    It is the only matrix of the file outside the dialect's names, and takes as many features as the last block gives.
    """
    blocks = {tuple(map(int, m.groups())): shape for key, shape in ours.items() if (m := BLOCK.fullmatch(key))}
    matrices = [name for name, shape in unmapped.items() if len(shape) == 2]
    if not blocks or "fc.weight" in ours or len(matrices) != 1:
        return {}
    name, features = matrices[0], blocks[max(blocks)][0]
    separator = "/" if "/" in name else "."
    path, _, tensor = name.rpartition(separator)
    if TENSORS.get(tensor) != "weight" or not path or unmapped[name][1] != features:
        return {}
    bias = f"{path}{separator}bias"
    if unmapped.get(bias) != (unmapped[name][0],):
        return {}
    return {name: "fc.weight", bias: "fc.bias"}
