"""Graph of the operations of an ONNX model, without those that pass values on unchanged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Graph", "Op", "UnknownGraphError"]

PASS_THROUGH = {"Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "Softmax", "LogSoftmax"}
SHAPE_ARITHMETIC = {"Constant", "Shape", "Gather", "Unsqueeze", "Concat", "Slice"}  # around a Reshape


class UnknownGraphError(Exception):
    """A graph that cannot be read as a residual network; the text is the reason."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation: ONNX's name of it, names of its inputs and outputs, attributes."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def out(self) -> str:
        return self.outputs[0]


class Graph:
    """Operations, and who makes and reads each value.

    Attributes:
        ops: those that compute; pass-through operations and shape arithmetic are left out.
        arrays: constants by name.
    """

    def __init__(
        self, ops: Sequence[Op], arrays: Mapping[str, Any], inputs: Sequence[str], outputs: Sequence[str]
    ) -> None:
        self.arrays = arrays
        self._alias: dict[str, str] = {}
        for op in ops:
            if op.kind in PASS_THROUGH and op.inputs[0] not in arrays:
                self._alias[op.out] = self.value(op.inputs[0])
        self.ops = [op for op in ops if op.kind not in PASS_THROUGH | SHAPE_ARITHMETIC]
        self.makers = {self.value(op.out): op for op in self.ops}
        if len(inputs) != 1 or len(outputs) != 1:
            raise UnknownGraphError(f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is read")
        self.input, self.output = inputs[0], self.value(outputs[0])
        self.readers: dict[str, list[Op]] = {}
        for op in self.ops:
            for name in dict.fromkeys(self.value(name) for name in op.inputs if name and name not in arrays):
                self.readers.setdefault(name, []).append(op)

    def value(self, name: str) -> str:
        """Name of the value before pass-through operations."""
        return self._alias.get(name, name)

    def sources(self, op: Op) -> list[str]:
        """The values that `op` reads, without constants."""
        return [self.value(name) for name in op.inputs if name and name not in self.arrays]

    def constant(self, op: Op, index: int) -> np.ndarray[Any, Any] | None:
        """The constant input of `op` at that index; `None` if there is none."""
        name = op.inputs[index] if index < len(op.inputs) else ""
        return np.asarray(self.arrays[name]) if name in self.arrays else None

    def path_to(self, value: str) -> tuple[str, list[Op]]:
        """Follow a value back to where the graph forks, joins or begins: that value, and the operations after it."""
        ops: list[Op] = []
        while value in self.makers:
            op = self.makers[value]
            sources = self.sources(op)
            if len(sources) != 1 or (ops and len(self.readers.get(value, ())) > 1):
                break
            ops.insert(0, op)
            value = sources[0]
            if len(self.readers.get(value, ())) > 1:
                break
        return value, ops
