"""The dialects that weights files are written in: one table, found by name or from a file's keys."""

from __future__ import annotations

from collections.abc import Iterable

from resnets.errors import UnknownNameError, WeightsError
from resnets.weights.dialects.base import Dialect
from resnets.weights.dialects.cadene import CADENE
from resnets.weights.dialects.keras import KERAS
from resnets.weights.dialects.kerastutorial import KERASTUTORIAL
from resnets.weights.dialects.numbered import MLPERF, TFOFFICIAL
from resnets.weights.dialects.onnx import ONNX
from resnets.weights.dialects.reid import IBNNET, TORCHREID, TUTORIAL, VOCREID
from resnets.weights.dialects.slim import SLIM
from resnets.weights.dialects.timm import TIMM
from resnets.weights.dialects.torch_names import AKAMASTER, LAODAOGUIZHONG, RESNETS, TORCHVISION
from resnets.weights.strict import listed

__all__ = ["DIALECTS", "Dialect", "find_dialects", "get_dialect"]

# Where several read the same keys as the same network, `auto` names the first.
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
    """The dialect of that name.

    Raises:
        UnknownNameError: no such dialect.
    """
    if name not in DIALECTS:
        raise UnknownNameError("dialect", name, ("auto", *DIALECTS))
    return DIALECTS[name]


def find_dialects(names: Iterable[str], where: str) -> list[Dialect]:
    """The dialects that spell keys as `names` are spelled, at least one.

    Raises:
        WeightsError: none does.
    """
    keys = frozenset(names)
    found = [dialect for dialect in DIALECTS.values() if dialect.recognise(keys)]
    if not found:
        raise WeightsError(
            f"the keys must be of a known dialect ({', '.join(DIALECTS)}); {where} has {listed(sorted(keys))}; "
            "pass dialect= if it is one of them"
        )
    return found
