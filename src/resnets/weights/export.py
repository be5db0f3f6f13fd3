"""Weights back into the names and axes of another codebase.

A dialect can say a network if it reads its own spelling as that same network again, by the tensors alone or by the
network's name: what is written is first read back with `import_weights` and compared with the model bit for bit. So
nothing is written that the codebase would take for another network. Only formats without code: safetensors, and
`.npz`, which people of TensorFlow and Keras read more easily.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import name_of
from resnets.atomic import atomic_file
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network
from resnets.weights.dialects import Dialect, get_dialect
from resnets.weights.dialects.axes import flattened_chans, from_torch
from resnets.weights.load import import_weights

__all__ = ["foreign_tensors", "save_weights"]

COUNTER = ".num_batches_tracked"
FORMATS = (".safetensors", ".npz")
# Fields that no file tells and that change no tensor: they are the reader's to say.
UNTOLD = frozenset(
    {"drop_rate", "drop_path_rate", "zero_init_last", "img_size", "norm_momentum", "output_stride", "dilation_rule"}
    | {"last_stride", "global_pool", "pool_window"}
)


def save_weights(model: Network, path: Path | str, *, dialect: str) -> Path:
    """Write a network's tensors as another codebase names them.

    What came from that codebase goes back with the same keys and the same bits.

    Args:
        model: the network.
        path: a `.safetensors` or `.npz` file; one that is there already is replaced, whole or not at all.
        dialect: whose names: `torchvision`, `timm`, ...

    Returns:
        The file.

    Raises:
        UnknownNameError: no such dialect.
        ConfigError: another kind of file.
        WeightsError: a network that the dialect cannot say, or a place that cannot be written.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"weights are written as {' or '.join(FORMATS)}, never as a pickle; got {path.name}; choose one of these"
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
        reason = getattr(error, "strerror", None) or str(error)
        raise WeightsError(f"cannot write {path}; {reason}; free some room or choose another place") from None
    return path


def foreign_tensors(model: Network, dialect: str) -> dict[str, Tensor]:
    """The network's tensors by a dialect's names, in its axis order, on the CPU.

    Raises:
        UnknownNameError: no such dialect.
        WeightsError: a network that the dialect cannot say.
    """
    speech = get_dialect(dialect)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    names = _names(speech, model, state)
    chans = flattened_chans({key: tuple(tensor.shape) for key, tensor in state.items()}, "torch")
    cells = speech.kernels(model.plan)
    written = {
        name: from_torch(key, state[key], speech.layout, chans, cells.get(key, 0)).contiguous()
        for key, name in names.items()
    }
    _read_back(speech, model, state, written)
    return written


def _names(dialect: Dialect, model: Network, state: Mapping[str, Tensor]) -> dict[str, str]:
    """Our keys to theirs; step counters may have no place there, anything else must have one of its own."""
    try:
        names = dialect.key_map(model.plan)
    except (AssertionError, KeyError, ValueError) as error:
        raise _cannot(dialect, f"it has no names for this plan ({error})") from None
    if homeless := [key for key in state if key not in names and not key.endswith(COUNTER)]:
        raise _cannot(dialect, f"it has no name for {homeless[0]}")
    if len(set(names.values())) != len(names):
        raise _cannot(dialect, "two tensors would have one name")
    if not dialect.recognise(frozenset(names.values())):
        raise _cannot(dialect, "it does not know its own spelling of such a network")
    return {key: name for key, name in names.items() if key in state}


def _read_back(dialect: Dialect, model: Network, state: Mapping[str, Tensor], written: dict[str, Tensor]) -> None:
    """Read what would be written: by its tensors alone, else by the network's name, as a reader would have to."""
    trouble = ""
    for variant in ("auto", *_names_of(dialect, model.config)):
        try:
            back, _ = import_weights(written, dialect=dialect.name, variant=variant)
        except (ConfigError, WeightsError) as error:
            trouble = trouble or str(error)
            continue
        if differing := _differing(back.config, model.config):
            trouble = trouble or f"it would be read as another network: {', '.join(differing)}"
            continue
        for key, tensor in back.state_dict().items():
            if not key.endswith(COUNTER) and not torch.equal(tensor, state[key]):
                raise _cannot(dialect, f"{key} would come back changed")
        return
    raise _cannot(dialect, trouble)


def _names_of(dialect: Dialect, config: NetworkConfig) -> list[str | NetworkConfig]:
    """What a reader may say of the network: its name; its description, where it keeps to the dialect's habits."""
    natural = config
    if isinstance(config, ResNetConfig):
        natural = replace(config, output_stride=None, last_stride=None)
    name = name_of(natural)
    if name is not None:
        return [name]
    keeps = all(getattr(config, field, value) == value for field, value in dialect.settled.items())
    return [config] if keeps else []


def _differing(read: NetworkConfig, has: NetworkConfig) -> list[str]:
    if type(read) is not type(has):
        return ["another family"]
    unused = _unused(read) & _unused(has) | UNTOLD
    return [
        f"{field.name} {getattr(read, field.name)} for {getattr(has, field.name)}"
        for field in fields(has)
        if field.name not in unused and getattr(read, field.name) != getattr(has, field.name)
    ]


def _unused(config: NetworkConfig) -> set[str]:
    """Fields that say nothing because another switches them off, or that only round a width that is read anyway."""
    unused = {"attention_round"}
    if isinstance(config, ResNetConfig):
        unused |= {"attention_reduction"} if config.attention in ("none", "eca") else set()
        unused |= {"se_form"} if config.attention != "se" else set()
        unused |= {"norm_groups"} if config.norm != "group" else set()
    return unused


def _cannot(dialect: Dialect, why: str) -> WeightsError:
    return WeightsError(
        f"a dialect says only its own networks; {dialect.name} ({dialect.whose}) cannot say this one: {why}; "
        "save a model folder, or choose another dialect"
    )
