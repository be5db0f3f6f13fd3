"""Nodes and graphs run by the reference implementation that comes with `onnx`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["run_node", "run_reference"]

Arrays = Mapping[str, np.ndarray[Any, Any]]


def run_reference(model: Any, inputs: Arrays) -> list[Any]:
    """Outputs of a model."""
    from onnx.reference import ReferenceEvaluator

    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(model, new_ops=[_batch_norm()]).run(None, dict(inputs)))


def run_node(node: Any, inputs: Arrays, opset: int) -> list[Any]:
    """Outputs of one node, without those that it leaves unnamed."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    read, made = (
        [helper.make_tensor_value_info(name, 1, None) for name in names if name]
        for names in (dict.fromkeys(node.input), node.output)
    )
    graph = helper.make_graph([node], "node", read, made)
    evaluator = ReferenceEvaluator(graph, opsets={"": opset}, new_ops=[_batch_norm()])
    with np.errstate(all="ignore"):
        return list(evaluator.run(None, dict(inputs)))


def _batch_norm() -> Any:
    """Batch norm of any operator set; onnx's own of sets 9 to 13 always takes the statistics of its input.

    It does so here where `training_mode` says so, or in older sets more outputs than one.
    """
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):
        def _run(  # type: ignore[no-untyped-def]
            self, x, scale, bias, mean, var, epsilon=None, momentum=None, spatial=None, training_mode=None
        ):
            del momentum, spatial
            count = sum(bool(name) for name in self.onnx_node.output)
            if training_mode or count > 1:
                axes = tuple(axis for axis in range(x.ndim) if axis != 1)
                mean, var = x.mean(axes), x.var(axes)
            terms = [term.reshape(-1, *[1] * (x.ndim - 2)) for term in (scale, bias, mean, var)]
            norm = (x - terms[2]) / np.sqrt(terms[3] + np.float32(1e-5 if epsilon is None else epsilon))
            return ((norm * terms[0] + terms[1]).astype(x.dtype), mean, var, mean, var)[:count]

    return BatchNormalization
