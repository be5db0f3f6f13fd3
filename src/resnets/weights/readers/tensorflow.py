"""Reader of TensorFlow checkpoints, through TensorFlow: `model.ckpt-100.index` beside `.data-...`, or one old file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from resnets.errors import MissingExtraError, WeightsError, require_extra
from resnets.weights.readers.limits import as_tensor, check_sizes, one_line
from resnets.weights.readers.unwrap import Unwrapped

__all__ = ["is_tensorflow", "read_tensorflow"]

TABLE_MAGIC = bytes.fromhex("57fb808b247547db")  # at the end of LevelDB tables, the format of checkpoints
AVERAGE = "/ExponentialMovingAverage"
OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"
GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
SLOT = re.compile(
    r"(^|/)(Momentum|Adam(_\d+)?|RMSProp(_\d+)?|Adagrad|Ftrl(_\d+)?|\.OPTIMIZER_SLOT)(/|$)", re.IGNORECASE
)
COUNTER = re.compile(r"(^|/)(global_step|save_counter|iter|beta[12]_power|learning_rate|optimizer|_optimizer)(/|$)")


def is_tensorflow(path: Path) -> bool:
    """Whether `path` is the index or prefix of a checkpoint, or a checkpoint in one file, as TF-slim's first ones."""
    if path.suffix.lower() == ".index" or path.with_name(f"{path.name}.index").is_file():
        return True
    if not path.is_file():  # a pipe would wait for somebody to write to it
        return False
    try:
        with path.open("rb") as file:
            file.seek(-8, 2)
            return file.read() == TABLE_MAGIC
    except OSError:
        return False


def read_tensorflow(path: Path) -> Unwrapped:
    """Read the variables of a checkpoint: moving averages if there are any, no optimizer slots or counters.

    Args:
        path: the `.index`, the prefix that index and data share, or a file of the old format.
    """
    with require_extra("a TensorFlow checkpoint", "tensorflow"):
        from tensorflow import train
    prefix = path.with_suffix("") if path.suffix.lower() == ".index" else path
    parts = [part for part in prefix.parent.glob(f"{prefix.name}*") if part.is_file()]
    try:
        reader = train.load_checkpoint(str(prefix))
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        names = _names(reader, shapes)
        kept, dropped = _select(names)
        check_sizes(((name, shapes[name], 4) for name in kept), path, sum(part.stat().st_size for part in parts))
        tensors: dict[str, Tensor] = {ours: as_tensor(ours, reader.get_tensor(n), path) for n, ours in kept.items()}
    except (WeightsError, MissingExtraError):
        raise
    except Exception as error:  # TensorFlow's errors have no common base but this
        raise WeightsError(
            f"{path} is damaged or no TensorFlow checkpoint; {one_line(error)}; copy its .index and .data files again"
        ) from None
    if not tensors:
        raise WeightsError(f"weights are variables by name; {path} has none; save the network's variables")
    averaged = any(name.endswith(AVERAGE) for name in kept)
    return Unwrapped(
        tensors=tensors,
        dropped=dropped,
        notes=("used the moving averages of the weights",) if averaged else (),
    )


def _names(reader: Any, shapes: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """The file's keys to the variables' names, which TensorFlow 2 stores in an object graph beside the tensors."""
    names = {name: name for name in shapes if name != GRAPH}
    if GRAPH not in shapes:
        return names
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    graph = TrackableObjectGraph.FromString(reader.get_tensor(GRAPH))
    for node in graph.nodes:
        for attribute in node.attributes:
            if attribute.full_name and attribute.checkpoint_key in names:
                slot = "/.OPTIMIZER_SLOT/" in attribute.checkpoint_key
                names[attribute.checkpoint_key] = f"{attribute.full_name}{'/.OPTIMIZER_SLOT' if slot else ''}"
    return {key: name.removesuffix(OBJECT) for key, name in names.items()}


def _select(names: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Keys of the network's variables to their names, and the keys that are left out."""
    averages = {name.removesuffix(AVERAGE) for name in names.values() if name.endswith(AVERAGE)}
    kept = {
        key: name.removesuffix(AVERAGE)
        for key, name in sorted(names.items())
        if name not in averages and not any(p.search(text) for p in (SLOT, COUNTER) for text in (key, name))
    }
    return kept, tuple(sorted(set(names) - set(kept)))
