"""Weights files into networks: identify, map the keys, fill strictly, report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from torch import Tensor

from resnets.arch.networks import NetworkConfig
from resnets.arch.parts import BACKBONE, CLASSIFIER, NECK, parts
from resnets.arch.plan import plan
from resnets.arch.variants import get_config, name_of
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, ResnetsError, WeightsError
from resnets.nn.model import VGG, FeatureExtractor, Network, build_model
from resnets.weights.dialects import get_dialect
from resnets.weights.dialects.axes import Shapes, flattened_chans, to_torch
from resnets.weights.fill import fill
from resnets.weights.finite import check_variances, checking
from resnets.weights.identify import Identification, identify
from resnets.weights.key_map import check_key_map, proposed_map, read_key_map, rename_keys
from resnets.weights.readers.files import read_file
from resnets.weights.readers.limits import as_tensor
from resnets.weights.readers.unwrap import Unwrapped, unwrap
from resnets.weights.report import LoadReport, shorten
from resnets.weights.slots import COUNTER, Slot, slots

__all__ = ["import_weights"]

MAX_LINES = 12  # of a key map that an error proposes
HEAD_MODULES = ("fc", "classifier", "avgpool", *NECK)
TRUNK = re.compile(r"(?:layer\d|conv|bn|norm|maxpool|stem|stage|block|features|res|root|postnorm)")


@overload
def import_weights(
    source: Path | str | Mapping[str, Any],
    *,
    dialect: str = ...,
    variant: str | NetworkConfig = ...,
    features_only: Literal[False] = ...,
    out_indices: None = ...,
    min_filled: float = ...,
    key_map: Mapping[str, str | None] | Path | str | None = ...,
    allow_nonfinite: bool = ...,
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
    min_filled: float = ...,
    key_map: Mapping[str, str | None] | Path | str | None = ...,
    allow_nonfinite: bool = ...,
    **options: Any,
) -> tuple[Network | FeatureExtractor, LoadReport]: ...


def import_weights(
    source: Path | str | Mapping[str, Any],
    *,
    dialect: str = "auto",
    variant: str | NetworkConfig = "auto",
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    min_filled: float = 1.0,
    key_map: Mapping[str, str | None] | Path | str | None = None,
    allow_nonfinite: bool = False,
    **options: Any,
) -> tuple[Network | FeatureExtractor, LoadReport]:
    """Load the network of a weights file, in evaluation mode.

    Args:
        source: a file that `read_file` reads, or tensors (torch or numpy) by name.
        dialect: whose naming it follows, and whose conventions the network has; `auto` detects it from the names.
        variant: the network's name or config; `auto` detects it from the tensors. Classes and input channels come
            from the tensors either way. A name that two codebases use means the network of the one that introduced
            it, but with `dialect=` what that codebase means by it.
        features_only: return a `FeatureExtractor`, as timm does; the classifier is left out.
        out_indices: which feature maps (see `Network.forward_intermediates`), with `features_only`.
        min_filled: share of the network's values that the file must give, in [0, 1]. Below 1, what the file lacks
            or has in another shape starts fresh, and what the network does not have is left out.
        key_map: renames of the file's tensors, applied first: a mapping, or a YAML file (see `key_map.py`).
        allow_nonfinite: accept weights that are NaN or infinite, and variances below zero.
        **options: what tensors do not determine, in the dialect's own spelling (`replace_stride_with_dilation`) or
            as config fields. `num_classes=0` leaves the classifier out.

    Returns:
        The network, and how the file was read.

    Raises:
        WeightsError: a file that cannot be used, a tensor that is missing, unexpected or of the wrong shape, or
            tensors that fit two networks.
        ConfigError: an unknown dialect, variant or option, or options that contradict each other.
    """
    if out_indices is not None and not features_only:
        raise ConfigError(f"out_indices selects feature maps; got {list(out_indices)}; pass features_only=True")
    if not 0 <= min_filled <= 1:
        raise ConfigError(f"min_filled is a share in [0, 1]; got {min_filled}; 1 requires every tensor")
    where = "the tensors" if isinstance(source, Mapping) else str(source)
    file = _unwrap_arrays(source, where) if isinstance(source, Mapping) else read_file(source)
    if key_map is not None:
        file = _renamed(file, key_map, where)
    with nullcontext() if allow_nonfinite else checking(file.tensors, where):
        if features_only:
            options = {"num_classes": 0, "global_pool": "none"} | options
        shapes = {name: tuple(tensor.shape) for name, tensor in file.tensors.items()}
        if dialect != "auto":
            get_dialect(dialect)
        try:
            found = identify(shapes, file.dialect or dialect, variant, options, where, file.facts)
        except WeightsError as error:
            raise _with_proposal(error, shapes, variant) from None
        pooled = features_only and any(name.startswith("features_") for name in shapes)  # a VGG's, of timm
        if features_only and out_indices:
            found = replace(found, config=_used_stages(found, shapes, out_indices, pooled=pooled))
        model, report = _load(found, file, where, features_only=features_only, min_filled=min_filled)
        if file.verify is not None and not allow_nonfinite:
            altered = bool(options) or variant != "auto" or dialect != "auto" or min_filled < 1
            report = _verified(file, model, report, altered=altered)
        if pooled and isinstance(model, VGG):
            model.append_pooled_map()
    if not allow_nonfinite:
        check_variances(dict(model.named_buffers()), where)
    return (FeatureExtractor(model, out_indices).eval() if features_only else model), report


def _renamed(file: Unwrapped, key_map: Mapping[str, str | None] | Path | str, where: str) -> Unwrapped:
    """The file with the names that a key map gives to its tensors."""
    lines = check_key_map(key_map, "key_map") if isinstance(key_map, Mapping) else read_key_map(key_map)
    names = rename_keys(file.tensors, lines, where)
    tensors = {new: file.tensors[name] for name, new in names.items() if new is not None}
    dropped = (*file.dropped, *(name for name, new in names.items() if new is None))
    note = f"{sum(name != new for name, new in names.items())} tensors were renamed by the key map"
    return replace(file, tensors=tensors, dropped=dropped, notes=(*file.notes, note))


def _with_proposal(error: WeightsError, shapes: Shapes, variant: str | NetworkConfig) -> WeightsError:
    """The error, with the key map that would make the tensors those of a known network, if there is one."""
    try:
        config = None if variant == "auto" else get_config(variant) if isinstance(variant, str) else variant
        lines = proposed_map(shapes, config)
    except ResnetsError:
        lines = None
    if not lines or len(lines) > MAX_LINES:
        return error
    text = ", ".join(f"{old}: {new}" for old, new in lines.items())
    return WeightsError(
        f"{error}; its shapes are those of a known network in order: write {{{text}}} to map.yaml and pass key_map= "
        "(--map map.yaml)"
    )


def _used_stages(
    found: Identification, shapes: Mapping[str, Any], out_indices: Sequence[int], *, pooled: bool
) -> NetworkConfig:
    """The network without its last stages where the file lacks them and no map of `out_indices` needs them.

    Args:
        pooled: whether the maps end with that of the last pool.
    """
    config, total = found.config, len(found.config.depths)
    tree, keys = plan(config), {found.keys.get(name, name) for name in shapes}
    stages = {name: paths for name, paths in parts(tree).items() if name not in ("stem", BACKBONE, CLASSIFIER)}
    own: dict[str, list[str]] = {name: [] for name in stages}
    for slot in slots(tree):
        for name, paths in stages.items():
            if slot.role != "count" and any(slot.path == path or slot.path.startswith(f"{path}.") for path in paths):
                own[name].append(slot.key)
    present = next((number for number, name in enumerate(stages) if not keys.issuperset(own[name])), total)
    maps = total + (pooled or not isinstance(config, VGGConfig))  # a residual network's first map is the stem's
    last = max(index if index >= 0 else maps + index for index in out_indices)
    needed = min(last + 1, total) if isinstance(config, VGGConfig) else max(last, 1)
    if not needed <= present < total:
        return config
    depths, widths = config.depths[:present], config.widths[:present]
    if isinstance(config, VGGConfig):
        return replace(config, depths=depths, widths=widths, num_classes=0, global_pool="none")
    ibn = config.ibn[:present]
    return replace(config, depths=depths, widths=widths, ibn=ibn, last_stride=None, num_classes=0)


def _unwrap_arrays(source: Mapping[str, Any], where: str) -> Unwrapped:
    """`unwrap` for torch tensors and numpy arrays."""
    arrays = {name: as_tensor(name, value, where) for name, value in source.items() if isinstance(value, np.ndarray)}
    return unwrap({**source, **arrays}, where)


@dataclass(kw_only=True)
class _Mapped:
    """A file's tensors by our keys, in torch's axis order, and what happened to the others."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    renames: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    unexpected: dict[str, Tensor] = field(default_factory=dict)


def _load(
    found: Identification, file: Unwrapped, where: str, *, features_only: bool, min_filled: float
) -> tuple[Network, LoadReport]:
    config = found.config
    if sum(config.depths) > len(file.tensors):  # before anything of that size is built
        raise WeightsError(f"{sum(config.depths)} blocks cannot come from {len(file.tensors)} tensors; in {where}")
    tree = plan(config)
    expected = {slot.key: slot for slot in slots(tree)}
    mapped = _map(found, file, expected, found.dialect.key_map(tree), keep_misshaped=min_filled == 1)
    given = frozenset(mapped.tensors)
    sizes = {key: slot.numel for key, slot in expected.items() if slot.role != "count"}
    filled = sum(size for key, size in sizes.items() if key in given) / sum(sizes.values())
    missing = [key for key in expected if key not in given]
    counters = [key for key in missing if key.endswith(COUNTER)]  # torch counts steps only since 0.4.1
    fresh = [key for key in missing if not key.endswith(COUNTER)]
    notes = _notes(found, file, mapped.tensors)
    tensors = mapped.tensors | {key: torch.tensor(0) for key in counters}
    if min_filled == 1:
        _check_head(mapped, missing if not features_only else (), where)
        tensors |= mapped.unexpected  # `fill` reports them, under the file's own names
        norm_is_unused = features_only and not any(key.startswith("norm.") for key in given)
        fresh = [key for key in fresh if key.startswith("norm.")] if norm_is_unused else []
        notes += ["the last norm is missing, and no feature map passes through it"] if fresh else []
    elif filled < min_filled:
        raise WeightsError(
            f"{min_filled:.2%} of the network must come from the file; {where} gives {filled:.2%}, without "
            f"{shorten(missing)}; name the network that it is of, or lower min_filled"
        )
    else:
        notes += [f"{len(fresh)} tensors start fresh"] if fresh else []
    notes += [f"{len(counters)} step counters are missing and start at 0"] if counters else []
    if found.dialect.layout == "tensorflow":  # views in another order of axes
        tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    model = build_model(config, init=False)
    fill(model, tensors, where, fresh=fresh)
    report = LoadReport(
        source=where,
        dialect=found.dialect.name,
        variant=name_of(_named_part(config)) or "custom",
        filled=filled,
        renames=mapped.renames,
        missing=tuple(missing),
        unexpected=tuple(mapped.unexpected),
        dropped=tuple(mapped.dropped),
        assumed=found.assumed,
        notes=tuple(notes),
        preprocessing=dict(file.preprocessing),
    )
    return model.eval(), report


def _verified(file: Unwrapped, model: Network, report: LoadReport, *, altered: bool) -> LoadReport:
    """The report, once the network is compared with the file's description of it.

    Args:
        altered: whether the caller has said which network it is; then a difference is only noted.
    """
    assert file.verify is not None
    try:
        stated = file.verify(model)
    except WeightsError as error:
        if not altered:
            raise
        return replace(report, notes=(*report.notes, f"as you have chosen it, the network is another: {error}"))
    note = "the network computes what the file's description does, for random images"
    return replace(report, notes=(*report.notes, note), preprocessing={**report.preprocessing, **stated})


def _map(
    found: Identification,
    file: Unwrapped,
    expected: Mapping[str, Slot],
    key_map: Mapping[str, str],
    *,
    keep_misshaped: bool,
) -> _Mapped:
    dialect, keys = found.dialect, dict(found.keys)
    if dialect.layout == "torch":  # exact for this plan; TensorFlow's layers may be numbered from anywhere on
        keys |= {name: key for key, name in key_map.items()}
    shapes = {keys.get(name, name): tuple(tensor.shape) for name, tensor in file.tensors.items()}
    chans = flattened_chans(shapes, dialect.layout)
    mapped = _Mapped(dropped=list(file.dropped))
    for name, tensor in file.tensors.items():
        key = keys.get(name, name)
        if key in expected:
            converted = to_torch(key, tensor, dialect.layout, chans)
            if not keep_misshaped and tuple(converted.shape) != expected[key].shape:
                mapped.unexpected[name] = tensor
                continue
            mapped.tensors[key] = converted
            if name != key:
                mapped.renames[name] = key
        elif (found.headless and _is_of_head(key, tensor)) or dialect.unused(name) or _is_extra_counter(key, expected):
            mapped.dropped.append(name)
        else:
            mapped.unexpected[name] = tensor
    return mapped


def _is_of_head(key: str, tensor: Tensor) -> bool:
    """Whether a tensor that the network lacks may be of a head: a classifier or norm outside stem and stages."""
    first = key.partition(".")[0]
    return first in HEAD_MODULES or (tensor.ndim <= 2 and not TRUNK.match(first))


def _check_head(mapped: _Mapped, missing: Iterable[str], where: str) -> None:
    """Raise WeightsError if the head alone is another."""
    lacking = [key for key in missing if not key.endswith(COUNTER)]
    others = {**mapped.unexpected, **{key: torch.empty(0) for key in lacking}}
    if others and all(_is_of_head(key, tensor) for key, tensor in others.items()):
        raise WeightsError(
            f"the head must be one linear layer with a bias; {where} has another: {len(mapped.unexpected)} unexpected "
            f"({shorten(mapped.unexpected) or 'none'}), {len(lacking)} missing ({shorten(lacking) or 'none'}); pass "
            "num_classes=0 (--set num_classes=0) to leave it out, or rename it with a key map (--map)"
        )


def _is_extra_counter(key: str, expected: Mapping[str, Slot]) -> bool:
    """Whether a key is the step counter of a norm that the network keeps frozen, without one."""
    return key.endswith(COUNTER) and key.removesuffix(COUNTER) + ".running_mean" in expected


def _notes(found: Identification, file: Unwrapped, tensors: Mapping[str, Tensor]) -> list[str]:
    notes = list(file.notes)
    notes += [f"the file states {', '.join(f'{n}={v!r}' for n, v in file.facts.items())}"] if file.facts else []
    notes += found.dialect.notes(found.config)
    types = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()} - {"float32"}
    notes += [f"converted from {', '.join(sorted(types))} to float32"] if types else []
    return notes


def _named_part(config: NetworkConfig) -> NetworkConfig:
    """The config without fields that no variant name is about: dilation, and pooling in the head."""
    if isinstance(config, VGGConfig):
        return replace(config, global_pool="avg")
    return replace(config, output_stride=None, last_stride=None, global_pool="avg")
