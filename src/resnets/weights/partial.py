"""Files that lack a part of their network: the rest starts fresh, as far as the caller allows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.arch.networks import NetworkConfig
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network, build_model
from resnets.weights.dialects.axes import flattened_chans, from_torch
from resnets.weights.identify import find_reading
from resnets.weights.load import import_weights
from resnets.weights.readers.files import read_file
from resnets.weights.report import LoadReport
from resnets.weights.strict import listed

__all__ = ["import_partly"]

COUNTER = ".num_batches_tracked"


def import_partly(
    source: Path | str,
    *,
    min_filled: float,
    dialect: str = "auto",
    variant: str | NetworkConfig = "auto",
    **options: Any,
) -> tuple[Network, LoadReport]:
    """As `import_weights`, but what the file lacks or has in another shape starts fresh, and the rest is dropped.

    Args:
        source: a file that `read_file` reads.
        min_filled: the share of the network's numbers that the file must give, in [0, 1]; 1 is `import_weights`.
        dialect, variant, **options: as for `import_weights`.

    Raises:
        WeightsError: less than that share; and as `import_weights`.
        ConfigError: a share outside [0, 1]; and as `import_weights`.
    """
    if not 0 <= min_filled <= 1:
        raise ConfigError(f"min_filled is a share in [0, 1]; got {min_filled}")
    if min_filled == 1:
        return import_weights(source, dialect=dialect, variant=variant, **options)
    found, where = read_file(source), str(source)
    shapes = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    reading = find_reading(shapes, dialect, variant, options, where)
    model, speech = build_model(reading.config), reading.dialect
    state = model.state_dict()
    theirs, cells = speech.key_map(model.plan), speech.kernels(model.plan)
    chans = flattened_chans({key: tuple(tensor.shape) for key, tensor in state.items()}, "torch")
    ours = {name: key for name, key in reading.names.items() if key is not None}
    ours |= {name: key for key, name in theirs.items()}  # exact where an order of creation had a gap
    whole: dict[str, Tensor] = {}
    given: set[str] = set()
    for key, name in theirs.items():
        fresh = from_torch(key, state[key], speech.layout, chans, cells.get(key, 0))
        stored = next((other for other in found.tensors if ours.get(other) == key), name)
        held = found.tensors.get(stored)
        taken = held is not None and held.shape == fresh.shape
        whole[name] = held if held is not None and taken else fresh
        given |= {key} if taken else set()
    sizes = {key: tensor.numel() for key, tensor in state.items() if not key.endswith(COUNTER)}
    filled = sum(size for key, size in sizes.items() if key in given) / sum(sizes.values())
    missing = tuple(key for key in theirs if key not in given)
    if filled < min_filled:
        raise WeightsError(
            f"{min_filled:.2%} of the network must come from the file; {where} gives {filled:.2%}, without "
            f"{listed(missing)}; name the network that it is of, or allow less"
        )
    model, report = import_weights(whole, dialect=speech.name, variant=reading.config)
    fresh_ones = [key for key in missing if not key.endswith(COUNTER)]
    return model, replace(
        report,
        source=where,
        filled=filled,
        missing=missing,
        unexpected=tuple(name for name in found.tensors if ours.get(name) not in given),
        dropped=found.dropped,
        assumed=reading.assumed,
        notes=(*found.notes, *([f"{len(fresh_ones)} tensors start fresh"] if fresh_ones else [])),
    )
