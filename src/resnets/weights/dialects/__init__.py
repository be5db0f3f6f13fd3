"""The dialects that weights files are written in: one table, found by name or from a file's keys."""

from __future__ import annotations

from collections.abc import Iterable

from resnets.errors import UnknownNameError, WeightsError
from resnets.weights.dialects.base import Dialect
from resnets.weights.dialects.torch_names import AKAMASTER, LAODAOGUIZHONG, RESNETS, TORCHVISION
from resnets.weights.strict import listed

__all__ = ["DIALECTS", "Dialect", "find_dialect", "get_dialect"]

DIALECTS: dict[str, Dialect] = {d.name: d for d in (TORCHVISION, RESNETS, AKAMASTER, LAODAOGUIZHONG)}


def get_dialect(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UnknownNameError: no such dialect.
    """
    if name not in DIALECTS:
        raise UnknownNameError("dialect", name, ("auto", *DIALECTS))
    return DIALECTS[name]


def find_dialect(names: Iterable[str], where: str) -> Dialect:
    """The one dialect that spells keys as `names` are spelled.

    Raises:
        WeightsError: none does, or several do.
    """
    keys = frozenset(names)
    found = [dialect for dialect in DIALECTS.values() if dialect.recognise(keys)]
    if len(found) == 1:
        return found[0]
    if found:
        raise WeightsError(
            f"the keys must be of one dialect; {where} reads as {' or '.join(d.name for d in found)}; pass dialect="
        )
    raise WeightsError(
        f"the keys must be of a known dialect ({', '.join(DIALECTS)}); {where} has {listed(sorted(keys))}; "
        "pass dialect= if it is one of them"
    )
