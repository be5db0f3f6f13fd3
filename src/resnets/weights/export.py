"""Writing weights with the names and axis order of another codebase.

For timm and torchvision the network is compared with what they build under their names and arguments (`target.py`). For
other dialects what is written is first read back, by its tensors alone or by the network's name, and compared with the
model bit for bit. Nothing is written that its codebase would run as another network. Formats are safetensors
and `.npz`, which TensorFlow and Keras users read more easily; neither can hold code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import name_of
from resnets.atomic import atomic_file, describe_write_error
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network
from resnets.weights.dialects import Dialect, get_dialect
from resnets.weights.dialects.axes import flattened_chans, from_torch
from resnets.weights.load import import_weights
from resnets.weights.slots import COUNTER, TRAINING_ONLY, differing_fields
from resnets.weights.target import TargetCall, same_computation, target_call

__all__ = ["FORMATS", "call_for", "foreign_tensors", "naming_dialect", "save_weights"]

FORMATS = (".safetensors", ".npz")


def save_weights(model: Network, path: Path | str, *, dialect: str) -> Path:
    """Write a network's tensors with the names of another codebase.

    Weights that were read from that codebase are written with the same keys and the same bits.

    Args:
        model: the network.
        path: a `.safetensors` or `.npz` file; an existing one is replaced, whole or not at all.
        dialect: name of the codebase: `torchvision`, `timm`, ...

    Returns:
        The file.

    Raises:
        UnknownNameError: no such dialect.
        ConfigError: another kind of file.
        WeightsError: a network that the dialect cannot represent, or a path that cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"weights are written as {' or '.join(FORMATS)}, never as a pickle; got {path.name}; pass such a file"
        )
    tensors = foreign_tensors(model, dialect)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary:
            if path.suffix.lower() == ".npz":
                with temporary.open("wb") as file:
                    np.savez(file, **{name: tensor.numpy() for name, tensor in tensors.items()})  # type: ignore[arg-type]
            else:
                save_file(tensors, temporary, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot write {path}; {describe_write_error(error, 'another path')}") from None
    return path


def foreign_tensors(model: Network, dialect: str) -> dict[str, Tensor]:
    """The network's tensors by a dialect's names, in its axis order, on the CPU."""
    target = get_dialect(dialect)
    target = naming_dialect(target, call_for(model.config, dialect))
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    names = _names(target, model, state)
    chans = flattened_chans({key: tuple(tensor.shape) for key, tensor in state.items()}, "torch")
    kernels = target.kernels(model.plan)
    written = {
        name: from_torch(key, state[key], target.layout, chans, kernels.get(key, 0)).contiguous()
        for key, name in names.items()
    }
    if dialect not in ("timm", "torchvision"):  # for these the call was found
        _read_back(target, model, state, written)
    return written


def naming_dialect(dialect: Dialect, call: TargetCall | None) -> Dialect:
    """The dialect of the names that a codebase gives to a network: timm's `legacy_*` networks have Cadene's."""
    return get_dialect("cadene") if call is not None and call.architecture.startswith("legacy_") else dialect


def call_for(config: NetworkConfig, dialect: str) -> TargetCall | None:
    """How the codebase of a dialect builds a network; None for dialects of which that is not known.

    Raises:
        WeightsError: it cannot build it.
    """
    target = get_dialect(dialect)
    if target.name not in ("timm", "torchvision"):
        return None
    try:
        return target_call(config, target)
    except ConfigError as error:
        raise _unsupported(target, str(error)) from None


def _names(dialect: Dialect, model: Network, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our keys to the dialect's names; only step counters may have none."""
    names = dialect.key_map(model.plan)
    if unnamed := [key for key in state if key not in names and not key.endswith(COUNTER)]:
        raise _unsupported(dialect, f"it has no name for {unnamed[0]}")
    if len(set(names.values())) != len(names):
        raise _unsupported(dialect, "two tensors would have one name")
    if not dialect.matches(frozenset(names.values())):
        raise _unsupported(dialect, "the names of such a network do not match the dialect")
    return {key: name for key, name in names.items() if key in state}


def _read_back(dialect: Dialect, model: Network, state: Mapping[str, Tensor], written: dict[str, Tensor]) -> None:
    """Read what would be written: by its tensors alone, else by the network's name, as users would have to."""
    problem = ""
    for variant in ("auto", *_variants_to_pass(dialect, model.config)):
        try:
            back, _ = import_weights(written, dialect=dialect.name, variant=variant)
        except (ConfigError, WeightsError) as error:
            problem = problem or str(error)
            continue
        if type(back.config) is not type(model.config):
            problem = problem or "it would be read as another network: another family"
            continue
        told = {name: getattr(model.config, name) for name in dialect.arguments if hasattr(model.config, name)}
        if not same_computation(back.config.with_overrides(**told), model.config):
            unused = back.config.inert & model.config.inert | TRAINING_ONLY | dialect.arguments
            different = ", ".join(differing_fields(back.config, model.config, unused))
            problem = problem or f"it would be read as another network: {different}"
            continue
        for key, tensor in back.state_dict().items():
            if not key.endswith(COUNTER) and not torch.equal(tensor, state[key]):
                raise _unsupported(dialect, f"{key} would be read back changed")
        return
    raise _unsupported(dialect, problem)


def _variants_to_pass(dialect: Dialect, config: NetworkConfig) -> list[str | NetworkConfig]:
    """Values of `variant=` that users may pass: the name, or else the config where it agrees with the dialect."""
    undilated = config
    if isinstance(config, ResNetConfig):
        undilated = replace(config, output_stride=None, last_stride=None)
    name = name_of(undilated)
    if name is not None:
        return [name]
    agrees = all(getattr(config, field, value) == value for field, value in dialect.defaults.items())
    return [config] if agrees else []


def _unsupported(dialect: Dialect, why: str) -> WeightsError:
    return WeightsError(
        f"a dialect represents the networks of its codebase; {dialect.name} ({dialect.description}) cannot represent "
        f"this one: {why}; save a model folder, or choose another dialect"
    )
