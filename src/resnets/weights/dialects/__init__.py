"""Dialects of weights files: how each codebase names its tensors, one key table each, read and written.

`base.py` explains the parts of a dialect, `key_table.py` the tables, `axes.py` the axis orders; the other files hold
the dialects themselves. `DIALECTS` lists all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from resnets.errors import UnknownNameError, WeightsError
from resnets.weights.dialects.base import Dialect
from resnets.weights.dialects.cadene import CADENE
from resnets.weights.dialects.keras import KERAS
from resnets.weights.dialects.kerastutorial import KERASTUTORIAL
from resnets.weights.dialects.numbered import MLPERF, TFOFFICIAL
from resnets.weights.dialects.reid import IBNNET, TUTORIAL, VOCREID
from resnets.weights.dialects.reid_heads import FASTREID, LAYUMI, STRONGBASELINE, TORCHREID
from resnets.weights.dialects.slim import SLIM
from resnets.weights.dialects.timm import TIMM
from resnets.weights.dialects.torchvision import AKAMASTER, LAODAOGUIZHONG, ONNX, RESNETS, TORCHVISION
from resnets.weights.dialects.transformers import TRANSFORMERS
from resnets.weights.report import shorten

__all__ = ["DIALECTS", "Dialect", "get_dialect", "matching_dialects"]

# Where several dialects read the same names as the same network, `auto` reports the first.
DIALECTS: dict[str, Dialect] = {
    d.name: d
    for d in (
        TORCHVISION,
        RESNETS,
        TIMM,
        IBNNET,
        VOCREID,
        TUTORIAL,
        TORCHREID,
        STRONGBASELINE,
        FASTREID,
        LAYUMI,
        TRANSFORMERS,
        CADENE,
        AKAMASTER,
        LAODAOGUIZHONG,
        KERAS,
        KERASTUTORIAL,
        SLIM,
        TFOFFICIAL,
        MLPERF,
        ONNX,
    )
}


def get_dialect(name: str) -> Dialect:
    """The dialect of that name, or else an `UnknownNameError`."""
    if name not in DIALECTS:
        raise UnknownNameError("dialect", name, ("auto", *DIALECTS))
    return DIALECTS[name]


def matching_dialects(names: Iterable[str], where: str) -> list[Dialect]:
    """Dialects that match the tensor names of a file, or else a `WeightsError`."""
    keys = frozenset(names)
    found = [dialect for dialect in DIALECTS.values() if dialect.matches(keys)]
    if not found:
        raise WeightsError(
            f"the keys must be of a known dialect ({', '.join(DIALECTS)}); {where} has {shorten(sorted(keys))}; if it "
            "is a ResNet, rename them with a key map, key_map= (--map FILE)"
        )
    return found
