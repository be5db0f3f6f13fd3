"""Foreign tensors into a network: dialect, description, key map, strict filling, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config, name_of
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network, build_model
from resnets.weights.checkpoints import Unwrapped, unwrap
from resnets.weights.detect import detect
from resnets.weights.dialects import Dialect, find_dialect, get_dialect
from resnets.weights.files import read_file
from resnets.weights.report import LoadReport
from resnets.weights.strict import fill

__all__ = ["import_weights"]

HEAD = ("fc.weight", "fc.bias")


def import_weights(
    source: Path | str | Mapping[str, Any],
    *,
    dialect: str = "auto",
    variant: str | NetworkConfig = "auto",
    **options: Any,
) -> tuple[Network, LoadReport]:
    """The network that a weights file holds, filled completely, in evaluation mode.

    Args:
        source: a file that `read_file` reads, or tensors (torch or numpy) by name.
        dialect: whose naming it follows; `auto` tells from the names.
        variant: the network's name or description; `auto` reads it off the tensors. Classes and input channels
            come from the tensors either way.
        **options: what tensors cannot tell, in the dialect's own spelling (`replace_stride_with_dilation`) or as
            fields of `NetworkConfig`. `num_classes=0` leaves the classifier out.

    Raises:
        WeightsError: a file that cannot be used, a tensor that is missing, left over or of the wrong shape, or
            tensors that fit two networks.
        ConfigError: an unknown dialect, variant or option, or options that contradict each other.
    """
    where = "the tensors" if isinstance(source, Mapping) else str(source)
    found = unwrap(_as_tensors(source), where) if isinstance(source, Mapping) else read_file(source)
    speech = find_dialect(found.tensors, where) if dialect == "auto" else get_dialect(dialect)
    changes = speech.translate(options)
    shapes = {speech.read(name): tuple(tensor.shape) for name, tensor in found.tensors.items()}
    if variant == "auto":
        config, assumed = _detected(shapes, speech, changes, where)
    else:
        config, assumed = _named(variant, shapes, changes), {}
    return _fill(config, speech, found, assumed, where)


def _as_tensors(source: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy arrays as tensors; anything else as it is."""
    return {name: _tensor(name, value) if isinstance(value, np.ndarray) else value for name, value in source.items()}


def _tensor(name: str, array: np.ndarray[Any, Any]) -> Tensor:
    try:
        # A copy in native byte order: torch shares memory with an array, and an .npz may give a read-only one.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise WeightsError(f"weights are arrays of numbers; {name} holds {array.dtype}; convert it first") from None


def _detected(
    shapes: Mapping[str, tuple[int, ...]], dialect: Dialect, changes: dict[str, Any], where: str
) -> tuple[NetworkConfig, dict[str, Any]]:
    """The description, and the part of it that the tensors left open and the dialect settles."""
    read = detect(shapes, where)
    fields, assumed = dict(read.fields), {}
    left = {name: values for name, values in read.open.items() if name not in changes}
    for name, values in list(left.items()):
        settled = dialect.settled.get(name, values[0] if len(values) == 1 else None)
        if settled in values:
            assumed[name] = settled
            del left[name]
    for name in ("norm_eps", *(("stride_in",) if fields["block"] == "bottleneck" else ())):
        assumed.setdefault(name, dialect.settled[name])
    assumed = {name: value for name, value in assumed.items() if name not in changes}
    fields |= assumed | changes
    if left:
        raise _ambiguous(fields, left, where)
    return ResNetConfig(**fields), assumed


def _ambiguous(fields: dict[str, Any], left: dict[str, tuple[Any, ...]], where: str) -> WeightsError:
    """The readings that remain, by name where they have one."""
    choices = {name: values for name, values in left.items() if values}
    names: list[str] = []
    for values in product(*choices.values()):
        reading = dict(zip(choices, values, strict=True))
        try:
            name = name_of(ResNetConfig(**fields | reading))
        except ConfigError:
            continue
        names += [name] if name else []
    asked = " and ".join(f"{name}= ({' or '.join(map(repr, v)) or 'a number'})" for name, v in left.items())
    fits = f", such as {' or '.join(names)}" if names else ""
    return WeightsError(f"the tensors fit more than one network{fits}; in {where}; say variant=, or {asked}")


def _named(
    variant: str | NetworkConfig, shapes: Mapping[str, tuple[int, ...]], changes: dict[str, Any]
) -> NetworkConfig:
    config = variant if isinstance(variant, NetworkConfig) else get_config(variant)
    sizes = {}
    if len(shapes.get("conv1.weight", ())) == 4:
        sizes["in_chans"] = shapes["conv1.weight"][1]
    sizes["num_classes"] = shapes["fc.weight"][0] if len(shapes.get("fc.weight", ())) == 2 else 0
    return config.with_overrides(**sizes | changes)


def _fill(
    config: NetworkConfig, dialect: Dialect, found: Unwrapped, assumed: dict[str, Any], where: str
) -> tuple[Network, LoadReport]:
    if sum(config.depths) > len(found.tensors):  # before anything of that size is built
        raise WeightsError(f"{sum(config.depths)} blocks cannot come from {len(found.tensors)} tensors; in {where}")
    model = build_model(config, init=False)
    theirs = dialect.key_map(model.plan)
    ours = {name: key for key, name in theirs.items()}
    tensors: dict[str, Tensor] = {}
    dropped, notes = list(found.dropped), list(found.notes)
    for name, tensor in found.tensors.items():
        key = ours.get(name)
        if key is not None:
            tensors[key] = tensor
        elif (dialect.read(name) in HEAD and not config.num_classes) or _is_stray_counter(name, ours):
            dropped.append(name)
        else:
            tensors[name] = tensor  # `fill` reports it, under the file's own name
    given = frozenset(tensors)
    counters = [key for key in theirs if key.endswith(".num_batches_tracked") and key not in tensors]
    for key in counters:  # torch counts steps only since 0.4.1, and evaluation never reads them
        tensors[key] = torch.tensor(0)
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()} - {"float32"}
    notes += [f"converted from {', '.join(sorted(kinds))} to float32"] if kinds else []
    notes += [f"{len(counters)} step counters are missing and start at 0"] if counters else []
    fill(model, tensors, where)
    sizes = {key: t.numel() for key, t in tensors.items() if not key.endswith(".num_batches_tracked")}
    report = LoadReport(
        source=where,
        dialect=dialect.name,
        variant=name_of(_plain(config)) or "custom",
        filled=sum(size for key, size in sizes.items() if key in given) / sum(sizes.values()),
        renames={name: key for key, name in theirs.items() if key != name and key not in counters},
        missing=tuple(counters),
        dropped=tuple(dropped),
        assumed=assumed,
        notes=tuple(notes),
    )
    return model.eval(), report


def _is_stray_counter(name: str, ours: Mapping[str, str]) -> bool:
    """A step counter beside statistics that the network keeps frozen, without one."""
    path, _, last = name.rpartition(".")
    return last == "num_batches_tracked" and f"{path}.running_mean" in ours


def _plain(config: NetworkConfig) -> NetworkConfig:
    """Without what no name is about: dilation, and how the head pools."""
    if isinstance(config, VGGConfig):
        return replace(config, global_pool="avg")
    return replace(config, output_stride=None, last_stride=None, global_pool="avg")
