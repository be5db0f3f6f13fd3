"""Proof by numbers: a graph and our network, run on the same random images, must give the same output.

The graph is run by ONNX Runtime where it is installed, else by the reference implementation in `onnx`. Both compute in
float32. Where outputs differ, the values of all modules are compared in order, and the first that differs is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnets.nn.model import Network
from resnets.weights.readers.onnx.file import UnknownGraphError, label
from resnets.weights.readers.onnx.graph import Array
from resnets.weights.readers.onnx.proof import Match
from resnets.weights.readers.onnx.reference import run_reference

__all__ = ["TOLERANCE", "difference", "probe", "run_graph", "verify"]

TOLERANCE = 1e-4  # largest difference of an output, relative to the largest output
SEED = 20_151_210


def probe(shape: tuple[int, ...], top: float, integers: bool) -> Array:
    """A random image of values in [0, top], the same in every run; of bytes if the graph takes `integers`."""
    generator = np.random.default_rng(SEED)
    image = generator.uniform(0, top, shape).astype(np.float32)
    return np.round(image).astype(np.uint8) if integers else image


def verify(model: Any, network: Network, found: Match, source: str, image: Array) -> bool:
    """Compare the output of a graph with that of our network.

    Args:
        model: from `open_onnx`.
        network: ours, filled, in evaluation mode.
        found: the proof of the graph's structure.
        source: name of the graph's input.
        image: for it, as it declares its axes.

    Returns:
        Whether the outputs were compared; `False` where values overflow float32, as in networks of random weights:
        then the values of all modules before were.

    Raises:
        UnknownGraphError: the outputs differ, or the graph cannot be run; the message names the first node.
    """
    embedding = found.values.get("avgpool", found.output)  # differences of it may be small beside biases of logits
    values = _run(model, source, image, list(dict.fromkeys((found.output, embedding))))
    theirs, ours_in = values[found.output], _our_input(found, image)
    with torch.inference_mode():
        features = network.forward_features(ours_in)
        ours, pooled = network.forward_head(features).numpy(), network.get_submodule("avgpool")(features).numpy()
    error = max(difference(ours, theirs), difference(pooled, values[embedding]) if embedding != found.output else 0.0)
    if error <= TOLERANCE:
        return True
    finite = bool(np.isfinite(theirs).all())
    first = _first_difference(model, network, found, source, image, ours_in)
    if first or finite:
        makers = {name: node for node in model.graph.node for name in node.output}
        end = f"{label(makers[found.output])} gives another output than our network (relative error {error:.2g})"
        raise UnknownGraphError(first or end)
    return False


def difference(ours: Array, theirs: Array) -> float:
    """Largest difference relative to the largest value; infinite for other sizes or values that are not finite."""
    if ours.size != theirs.size or not np.isfinite(theirs).all() or not np.isfinite(ours).all():
        return float("inf")
    largest = float(np.abs(theirs).max())
    distance = float(np.abs(ours.reshape(-1) - theirs.astype(np.float32).reshape(-1)).max())
    return distance / largest if largest else distance


def _our_input(found: Match, image: Array) -> Tensor:
    """What our network is given: the image with the graph's normalisation, as (N, C, H, W)."""
    values = image.astype(np.float32)
    if found.channels_last:
        values = values.transpose(0, 3, 1, 2)
    if found.scale is not None and found.shift is not None:
        values = values * found.scale[:, None, None] + found.shift[:, None, None]
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _first_difference(model: Any, network: Network, found: Match, source: str, image: Array, ours_in: Tensor) -> str:
    """The first module whose output differs, up to where values overflow; empty where none does."""
    seen: dict[str, Array] = {}
    modules = {path: network.get_submodule(path) for path in found.values}
    hooks = [
        module.register_forward_hook(lambda _, __, out, path=path: seen.update({path: out.numpy()}))
        for path, module in modules.items()
    ]
    try:
        with torch.inference_mode():
            network(ours_in)
    finally:
        for hook in hooks:
            hook.remove()
    values = _run(model, source, image, list(dict.fromkeys(found.values.values())))
    makers = {name: node for node in model.graph.node for name in node.output}
    for path in sorted(seen.keys() & found.values.keys(), key=list(seen).index):
        name = found.values[path]
        if name not in values:
            continue
        if not np.isfinite(values[name]).all() and not np.isfinite(seen[path]).all():
            return ""
        if (off := difference(seen[path], values[name])) > TOLERANCE:
            return f"{label(makers[name])} gives other values than {path} of our network (relative error {off:.2g})"
    return ""


def _run(model: Any, source: str, image: Array, outputs: Sequence[str]) -> dict[str, Array]:
    """Values of a graph by name."""
    import onnx

    declared = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in model.graph.output]
    made = {name for node in model.graph.node for name in node.output}
    names = [name for name in outputs if name in made]
    try:
        del model.graph.output[:]
        model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
        return dict(zip(names, run_graph(model, {source: image}), strict=True))
    except Exception as error:  # runtimes raise any type
        words = " ".join(str(error).split())[:120]
        raise UnknownGraphError(f"it cannot be run to compare outputs ({type(error).__name__}: {words})") from None
    finally:
        del model.graph.output[:]
        model.graph.output.extend(declared)


def run_graph(model: Any, inputs: Mapping[str, Array]) -> list[Any]:
    """Outputs of a model, by ONNX Runtime where it is installed."""
    try:
        import onnxruntime
    except ImportError:
        return run_reference(model, inputs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:  # an operator set newer than the runtime
        return run_reference(model, inputs)
    return list(session.run(None, dict(inputs)))
