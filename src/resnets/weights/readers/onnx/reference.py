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
        return list(ReferenceEvaluator(model, new_ops=[_batch_norm(), _average_pool()]).run(None, dict(inputs)))


def run_node(node: Any, inputs: Arrays, opset: int) -> list[Any]:
    """Outputs of one node, without those that it leaves unnamed."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    read, made = (
        [helper.make_tensor_value_info(name, 1, None) for name in names if name]
        for names in (dict.fromkeys(node.input), node.output)
    )
    graph = helper.make_graph([node], "node", read, made)
    evaluator = ReferenceEvaluator(graph, opsets={"": opset}, new_ops=[_batch_norm(), _average_pool()])
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


def _average_pool() -> Any:
    """Average pool without padding, a hundred times faster than onnx's own loop; that loop for any other."""
    from onnx.reference.ops.op_pool_common import CommonPool

    class AveragePool(CommonPool):
        def _run(  # type: ignore[no-untyped-def,override]
            self,
            x,
            auto_pad=None,
            ceil_mode=None,
            count_include_pad=None,
            dilations=None,
            kernel_shape=None,
            pads=None,
            strides=None,
        ):
            plain = (auto_pad or "NOTSET") == "NOTSET" and not any(pads or ()) and set(dilations or (1,)) == {1}
            if not plain or x.ndim != 4 or (ceil_mode and count_include_pad):
                options = {"auto_pad": auto_pad, "ceil_mode": ceil_mode, "dilations": dilations, "pads": pads}
                pool: Any = super()._run
                return pool("AVG", count_include_pad, x, kernel_shape=kernel_shape, strides=strides, **options)
            return (_window_means(x, tuple(kernel_shape), tuple(strides or (1, 1)), bool(ceil_mode)),)

    return AveragePool


def _window_means(x: Any, kernel: tuple[int, ...], strides: tuple[int, ...], ceil: bool) -> Any:
    """Means of windows of (N, C, H, W); with `ceil` the last ones may reach over the edge, where nothing is counted."""
    cells = []
    for size, reach, step in zip(x.shape[2:], kernel, strides, strict=True):
        count = (-(-(size - reach) // step) if ceil else (size - reach) // step) + 1
        cells.append(count - (ceil and (count - 1) * step >= size))
    needed = [(count - 1) * step + reach for count, reach, step in zip(cells, kernel, strides, strict=True)]
    over = [max(need - size, 0) for need, size in zip(needed, x.shape[2:], strict=True)]

    def sums(values: Any) -> Any:
        padded = np.pad(values, ((0, 0), (0, 0), (0, over[0]), (0, over[1])))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (2, 3))
        return windows[:, :, :: strides[0], :: strides[1]][:, :, : cells[0], : cells[1]].sum((-2, -1))

    return (sums(x) / sums(np.ones_like(x[:1, :1]))).astype(x.dtype)
