"""Networks as ONNX files, ways to change their graphs, and the graph's own output to compare with."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from resnets.arch.networks import NetworkConfig
from resnets.nn.model import Network, build_model
from resnets.weights.load import import_weights
from resnets.weights.report import LoadReport

TINY: dict[str, Any] = {"depths": (1, 2), "widths": (4, 8), "stem_width": 8, "num_classes": 5}
FOUR: dict[str, Any] = {"depths": (2, 1, 2, 1), "widths": (4, 8, 16, 32), "stem_width": 8, "num_classes": 5}


def network(config: NetworkConfig, seed: int = 0) -> Network:
    """A network of random weights whose values stay near 1, so that every operation matters."""
    model, generator = build_model(config), torch.Generator().manual_seed(seed)
    for key, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        values = torch.rand(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
        elif key.endswith((".weight", "running_var")):
            tensor.copy_(values + 0.5)
        else:
            tensor.copy_(values + 2.5 if key.endswith(".p") else (values - 0.5) * 0.4)
    return model.eval()


def export(
    model: nn.Module,
    path: Path,
    *,
    folded: bool,
    shape: tuple[int, ...] = (1, 3, 64, 64),
    free: bool = False,
    opset: int | None = None,
) -> None:
    """Write what torch's exporter writes; `free`: for images of any number and size."""
    mode = torch.onnx.TrainingMode.EVAL if folded else torch.onnx.TrainingMode.PRESERVE
    axes = {"x": {0: "n", 2: "h", 3: "w"}} if free else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's advice to use its new exporter, which needs onnxscript
        torch.onnx.export(
            model.eval(),
            (torch.zeros(shape),),
            str(path),
            input_names=["x"],
            training=mode,
            do_constant_folding=folded,
            opset_version=opset,
            dynamo=False,
            dynamic_axes=axes,
        )


def run_graph(model: Any, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The output of a graph, by the reference implementation."""
    from onnx.reference import ReferenceEvaluator

    outputs: Any = ReferenceEvaluator(model).run(None, {model.graph.input[0].name: image})
    return np.asarray(outputs[0])


def input_shapes(model: Any) -> list[tuple[int, ...]]:
    """Shapes that a graph takes: one where it fixes its size, else two of even and odd size."""
    dims = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return [tuple(dims)] if all(dims) else [(1, dims[1], 64, 64), (2, dims[1], 71, 77)]


def distance(path: Path) -> float:
    """Largest relative error of the imported network against its graph, over even and odd sizes."""
    return opened(path)[0]


def opened(path: Path) -> tuple[float, Network, LoadReport]:
    """`distance`, and what `import_weights` returns."""
    import onnx

    model, (found, report) = onnx.load(str(path)), import_weights(path)
    worst = 0.0
    for shape in input_shapes(model):
        image = np.random.default_rng(7).standard_normal(shape).astype(np.float32)
        expected = run_graph(model, image)
        with torch.no_grad():
            output = found(torch.from_numpy(image)).numpy()
        assert output.size == expected.size
        error = np.abs(output.reshape(-1) - expected.reshape(-1)).max()
        worst = max(worst, float(error / np.abs(expected).max()))
    return worst, found, report
