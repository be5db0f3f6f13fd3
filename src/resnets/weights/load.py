"""Foreign tensors into a network: dialect, description, key map, strict filling, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from resnets.arch.networks import NetworkConfig
from resnets.arch.plan import plan
from resnets.arch.variants import name_of
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import FeatureExtractor, Network, build_model
from resnets.weights.dialects import get_dialect
from resnets.weights.dialects.axes import flattened_chans, to_torch
from resnets.weights.identify import Reading, find_reading
from resnets.weights.readers.files import read_file
from resnets.weights.readers.unwrap import Unwrapped, unwrap
from resnets.weights.report import LoadReport
from resnets.weights.slots import slots
from resnets.weights.strict import check, fill

__all__ = ["import_weights"]

HEAD = ("fc", "classifier", "avgpool")
COUNTER = "num_batches_tracked"


@overload
def import_weights(
    source: Path | str | Mapping[str, Any],
    *,
    dialect: str = ...,
    variant: str | NetworkConfig = ...,
    features_only: Literal[False] = ...,
    out_indices: None = ...,
    **options: Any,
) -> tuple[Network, LoadReport]: ...


@overload
def import_weights(
    source: Path | str | Mapping[str, Any],
    *,
    dialect: str = ...,
    variant: str | NetworkConfig = ...,
    features_only: bool,
    out_indices: Sequence[int] | None = ...,
    **options: Any,
) -> tuple[Network | FeatureExtractor, LoadReport]: ...


def import_weights(
    source: Path | str | Mapping[str, Any],
    *,
    dialect: str = "auto",
    variant: str | NetworkConfig = "auto",
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> tuple[Network | FeatureExtractor, LoadReport]:
    """The network that a weights file holds, filled completely, in evaluation mode.

    Args:
        source: a file that `read_file` reads, or tensors (torch or numpy) by name.
        dialect: whose naming it follows, and whose habits the network has; `auto` tells from the names.
        variant: the network's name or description; `auto` reads it off the tensors. Classes and input channels
            come from the tensors either way. A name that two codebases use means the one's that introduced it, but
            with `dialect=` what that codebase means by it.
        features_only: answer a list of maps, as timm does; the classifier is left out.
        out_indices: which maps (see `Network.forward_intermediates`), with `features_only`.
        **options: what tensors cannot tell, in the dialect's own spelling (`replace_stride_with_dilation`) or as
            fields of `NetworkConfig`. `num_classes=0` leaves the classifier out.

    Raises:
        WeightsError: a file that cannot be used, a tensor that is missing, left over or of the wrong shape, or
            tensors that fit two networks.
        ConfigError: an unknown dialect, variant or option, or options that contradict each other.
    """
    if out_indices is not None and not features_only:
        raise ConfigError(f"out_indices chooses among feature maps; got {list(out_indices)}; pass features_only=True")
    where = "the tensors" if isinstance(source, Mapping) else str(source)
    found = unwrap(_as_tensors(source), where) if isinstance(source, Mapping) else read_file(source)
    if features_only:
        options = {"num_classes": 0} | options
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    if dialect != "auto":
        get_dialect(dialect)
    reading = find_reading(shapes, found.dialect or dialect, variant, options, where, found.facts)
    model, report = _fill(reading, found, where, headless=features_only)
    return (FeatureExtractor(model, out_indices).eval() if features_only else model), report


def _as_tensors(source: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy arrays as tensors; anything else as it is."""
    return {name: _tensor(name, value) if isinstance(value, np.ndarray) else value for name, value in source.items()}


def _tensor(name: str, array: np.ndarray[Any, Any]) -> Tensor:
    try:
        # A copy in native byte order: torch shares memory with an array, and an .npz may give a read-only one.
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise WeightsError(f"weights are arrays of numbers; {name} holds {array.dtype}; convert it first") from None


def _fill(reading: Reading, found: Unwrapped, where: str, *, headless: bool) -> tuple[Network, LoadReport]:
    """`headless`: maps alone are wanted, and a pre-activation network may lack its last norm."""
    config, dialect = reading.config, reading.dialect
    if sum(config.depths) > len(found.tensors):  # before anything of that size is built
        raise WeightsError(f"{sum(config.depths)} blocks cannot come from {len(found.tensors)} tensors; in {where}")
    tree = plan(config)
    expected = {slot.name: slot for slot in slots(tree)}
    theirs = dialect.key_map(tree)
    # What TensorFlow's dialects rename is settled before the plan; layers may be numbered from anywhere on.
    exact = {} if dialect.layout == "tensorflow" else {name: key for key, name in theirs.items()}
    ours = {name: exact.get(name, reading.names.get(name, name)) for name in found.tensors}
    shapes = {key: tuple(found.tensors[name].shape) for name, key in ours.items() if key}
    chans = flattened_chans(shapes, dialect.layout)
    tensors: dict[str, Tensor] = {}
    dropped, notes, renames = list(found.dropped), list(found.notes), dict[str, str]()
    for name, tensor in found.tensors.items():
        key = ours[name]
        if key in expected:
            tensors[key] = to_torch(key, tensor, dialect.layout, chans)
            renames |= {name: key} if name != key else {}
        elif key is None or _is_left_out(key, config) or _is_stray_counter(key, expected):
            dropped.append(name)
        else:
            tensors[name] = tensor  # `check` reports it, under the file's own name
    given = frozenset(tensors)
    counters = [key for key in expected if key.endswith(COUNTER) and key not in tensors]
    for key in counters:  # torch counts steps only since 0.4.1, and evaluation never reads them
        tensors[key] = torch.tensor(0)
    unused = _neutral_norm(tensors, expected) if headless else []
    notes += [f"the file says {', '.join(f'{n}={v!r}' for n, v in found.facts.items())}"] if found.facts else []
    notes += dialect.remarks(config)
    kinds = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()} - {"float32"}
    notes += [f"converted from {', '.join(sorted(kinds))} to float32"] if kinds else []
    notes += [f"{len(counters)} step counters are missing and start at 0"] if counters else []
    notes += ["the last norm is missing, and none of the maps passes it"] if unused else []
    check({key: (slot.shape, slot.role != "count") for key, slot in expected.items()}, tensors, where)
    if dialect.layout == "tensorflow":  # views in another order of axes
        tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    model = build_model(config, init=False)
    fill(model, tensors, where)
    sizes = {key: t.numel() for key, t in tensors.items() if not key.endswith(COUNTER)}
    report = LoadReport(
        source=where,
        dialect=dialect.name,
        variant=name_of(_plain(config)) or "custom",
        filled=sum(size for key, size in sizes.items() if key in given) / sum(sizes.values()),
        renames=renames,
        missing=(*counters, *unused),
        dropped=tuple(dropped),
        assumed=reading.assumed,
        notes=tuple(notes),
    )
    return model.eval(), report


def _is_left_out(key: str, config: NetworkConfig) -> bool:
    """Whether a key is of a head, where the network has none."""
    return config.num_classes == 0 and key.partition(".")[0] in HEAD


def _neutral_norm(tensors: dict[str, Tensor], expected: Mapping[str, Any]) -> list[str]:
    """Fill a last norm that no map passes through, if the file has none of it; its keys."""
    keys = [key for key in expected if key.startswith("norm.") and not key.endswith(COUNTER)]
    if any(key in tensors for key in keys):
        return []
    for key in keys:
        one = key.endswith(("weight", "var"))
        tensors[key] = torch.full(expected[key].shape, float(one))
    return keys


def _is_stray_counter(key: str, expected: Mapping[str, Any]) -> bool:
    """A step counter beside statistics that the network keeps frozen, without one."""
    path, _, last = key.rpartition(".")
    return last == COUNTER and f"{path}.running_mean" in expected


def _plain(config: NetworkConfig) -> NetworkConfig:
    """Without what no name is about: dilation, and how the head pools."""
    if isinstance(config, VGGConfig):
        return replace(config, global_pool="avg")
    return replace(config, output_stride=None, last_stride=None, global_pool="avg")
