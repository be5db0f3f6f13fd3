"""Reading an ONNX file: open, guess the network, prove it by attributes and by numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from resnets.arch.plan import plan
from resnets.errors import ResnetsError, WeightsError, require_extra
from resnets.nn.model import build_model
from resnets.weights.fill import fill
from resnets.weights.readers.limits import as_tensor, one_line
from resnets.weights.readers.onnx.candidates import candidates
from resnets.weights.readers.onnx.file import UnknownGraphError, open_onnx
from resnets.weights.readers.onnx.graph import Array, InvalidNodeError, concrete
from resnets.weights.readers.onnx.match import match, strip_ends
from resnets.weights.readers.onnx.patterns import simplify
from resnets.weights.readers.onnx.proof import Match, MismatchError
from resnets.weights.readers.onnx.structure import structure
from resnets.weights.readers.onnx.verify import probe, verify
from resnets.weights.readers.unwrap import Unwrapped

__all__ = ["read_model", "read_onnx"]

FREE_SIZES = ((64, 64), (77, 69))  # probes where the graph takes any size; odd ones show how windows are rounded
EVEN_SIZES = ((64, 64), (128, 96))  # where odd ones fail, as with unpadded average filters
USUAL_SIZE = (224, 224)  # where a graph declares free sizes and works with one alone
NOT_IN_SHAPES = frozenset(
    {"stride_in", "stride_unit", "stem_act", "stem_pool", "antialias", "shortcut", "padding", "act", "norm_eps"}
    | {"output_stride", "dilation_rule", "last_stride", "global_pool", "pool_window", "img_size", "attention_round"}
    | {"antialias_filter", "branch_act", "norm", "standardised"}
)
UINT8 = 2  # ONNX's number of the type


def read_onnx(path: Path) -> Unwrapped:
    """Read the network of an ONNX file: tensors under our keys, and the config fields that they leave open.

    Raises:
        MissingExtraError: `onnx` is not installed.
        WeightsError: a file that is damaged, or a graph that is not proven to be one of our networks.
    """
    with require_extra("an ONNX file", "export"):
        import onnx  # noqa: F401
    try:
        return read_model(open_onnx(path), path)
    except UnknownGraphError as error:
        raise WeightsError(
            f"an ONNX graph must be exactly one of our networks; {path}: {error}; read the weights that it was "
            "exported from (a state_dict), or run the graph with ONNX Runtime"
        ) from None
    except ResnetsError:
        raise
    except Exception as error:  # damaged graphs raise any type in onnx and numpy
        raise WeightsError(f"{path} is damaged or no ONNX file; {one_line(error)}; export it again") from None


@dataclass(frozen=True, kw_only=True)
class _Input:
    """The declared input of a graph: name, sizes (`None` where free), whether uint8."""

    name: str
    dims: tuple[int | None, ...]
    integers: bool
    channels_last: bool
    channels: int

    def shapes(self) -> list[list[tuple[int, ...]]]:
        """Lists of input shapes to prove the graph for, the later ones if it cannot run at those before.

        The sizes that it fixes are kept.
        """
        usual = (USUAL_SIZE, USUAL_SIZE)
        return list(map(list, dict.fromkeys(tuple(self._shapes(sizes)) for sizes in (FREE_SIZES, EVEN_SIZES, usual))))

    def _shapes(self, sizes: tuple[tuple[int, int], ...]) -> list[tuple[int, ...]]:
        batch, places = self.dims[0], (1, 2) if self.channels_last else (2, 3)
        found = list[tuple[int, ...]]()
        for number, size in enumerate(sizes):
            height, width = (self.dims[place] or free for place, free in zip(places, size, strict=True))
            images, cells = batch or 2 - number, (height, width)
            found.append((images, *cells, self.channels) if self.channels_last else (images, self.channels, *cells))
        return list(dict.fromkeys(found))


def read_model(model: Any, path: Path) -> Unwrapped:
    """Read the network of an `onnx.ModelProto` of float32 operations, which is proven to be that network.

    Args:
        model: as from `open_onnx`.
        path: the file that it comes from, for messages.

    Raises:
        UnknownGraphError: a graph that is not proven to be one of our networks; the message names the node.
    """
    import onnx

    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    source = _input(model, arrays, onnx)
    config, facts, found, shapes = _prove_at_some_sizes(model, arrays, source)
    tensors = {name: as_tensor(name, array, path) for name, array in found.tensors.items()}
    network = build_model(config, init=False)
    counters = {key: as_tensor(key, np.array(0), path) for key in network.state_dict() if key.endswith("_tracked")}
    fill(network, tensors | counters, str(path))
    network.eval()
    normalisation = _preprocessing(found, source)
    top = 255.0 if normalisation.get("value_range") == (0.0, 255.0) or source.integers else 1.0
    compared = [verify(model, network, found, source.name, probe(shape, top, source.integers)) for shape in shapes]
    if facts.get("img_size") is None and None not in source.dims[1:]:
        height, width = (source.dims[place] or 0 for place in ((1, 2) if source.channels_last else (2, 3)))
        normalisation["size"] = (height, width)
    return Unwrapped(
        tensors=tensors,
        dropped=tuple(found.dropped),
        notes=tuple(_notes(found, shapes, normalisation, all(compared))),
        facts=facts | _stated(config),
        dialect="onnx",
        preprocessing=normalisation,
    )


def _stated(config: Any) -> dict[str, Any]:
    """The config's fields that no tensor shows, all of which the graph does."""
    stated = NOT_IN_SHAPES if config.global_pool == "window" else NOT_IN_SHAPES - {"img_size", "pool_window"}
    return {field.name: getattr(config, field.name) for field in fields(config) if field.name in stated - config.inert}


def _notes(found: Match, shapes: list[tuple[int, ...]], normalisation: dict[str, Any], compared: bool) -> list[str]:
    sizes = " and ".join("x".join(map(str, shape)) for shape in shapes)
    what = "the output" if compared else "all values until they overflow float32"
    notes = [f"every node was compared with the network, and {what} for random images of {sizes}"]
    if found.folded:
        notes.append(
            f"{found.folded} norms were folded into convolutions: identity norms hold their biases, which batch "
            "statistics would replace in training; to train it, pass norm=frozen_batch"
        )
    if found.epsilons:
        notes.append(f"{found.epsilons} norms have another epsilon: their variances were adapted")
    if found.dropped:
        notes.append("the softmax at the end is left out: the network outputs logits")
    if "mean" in normalisation:
        notes.append(
            f"normalisation inside the graph became preprocessing (value range {normalisation['value_range']}, "
            f"mean {_rounded(normalisation['mean'])}, std {_rounded(normalisation['std'])}): the network expects "
            "normalised images"
        )
    if found.channels_last:
        notes.append("the graph takes (N, H, W, C), our network (N, C, H, W)")
    return notes


def _rounded(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _prove_at_some_sizes(
    model: Any, arrays: dict[str, Array], source: _Input
) -> tuple[Any, dict[str, Any], Match, list[tuple[int, ...]]]:
    """`_prove`, and the shapes that it was done for: the first at which the graph's nodes are valid."""
    first: InvalidNodeError | None = None
    for shapes in source.shapes():
        try:
            return *_prove(model, arrays, source, shapes), shapes
        except InvalidNodeError as error:
            first = first or error
    assert first is not None
    raise first


def _prove(
    model: Any, arrays: dict[str, Array], source: _Input, shapes: list[tuple[int, ...]]
) -> tuple[Any, dict[str, Any], Match]:
    """The config of a graph, the facts that lead to it, and the match, which holds for all shapes."""
    worst: UnknownGraphError | None = None
    graph = concrete(model, arrays, source.name, shapes[0])
    simplify(graph)
    found, ends = structure(graph), Match()
    strip_ends(graph, found, ends)
    for config, facts in candidates(graph, found):
        tree = plan(config)
        try:
            proof = match(graph, found, config, tree, ends)
        except MismatchError as error:
            if worst is None or error.depth > getattr(worst, "depth", 0):
                worst = error
            continue
        for shape in shapes[1:]:
            try:
                other = concrete(model, arrays, source.name, shape)
                simplify(other)
                again, other_ends = structure(other), Match()
                strip_ends(other, again, other_ends)
                match(other, again, config, tree, other_ends)
            except UnknownGraphError as error:
                raise type(error)(f"for an input of {'x'.join(map(str, shape))}, {error}") from None
        return config, facts, proof
    raise worst or UnknownGraphError("it is none of our networks")


def _input(model: Any, arrays: dict[str, Array], onnx: Any) -> _Input:
    """The one input of a graph, as (N, C, H, W) or (N, H, W, C)."""
    inputs = [value for value in model.graph.input if value.name not in arrays]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise UnknownGraphError(
            f"it has {len(inputs)} inputs and {len(model.graph.output)} outputs; one of each is read"
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type not in (onnx.TensorProto.FLOAT, UINT8):
        raise UnknownGraphError(f"its input {inputs[0].name!r} is neither of floats nor of bytes")
    dims = tuple(
        int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in kind.shape.dim
    )
    if not kind.HasField("shape"):
        dims = (None,) * 4
    if len(dims) != 4:
        raise UnknownGraphError(f"its input has {len(dims)} axes; images of (N, C, H, W) are read")
    if any(size is not None and size > 4096 for size in dims):
        raise UnknownGraphError(f"its input is of {dims}; images up to 4096 pixels a side are read")
    channels, last = _layout(model, dims, _kernel_channels(model, arrays))
    return _Input(
        name=inputs[0].name, dims=dims, integers=kind.elem_type == UINT8, channels_last=last, channels=channels
    )


def _layout(model: Any, dims: tuple[int | None, ...], wanted: int | None) -> tuple[int, bool]:
    """Input channels, and whether they are the last axis; `wanted`: those of the first convolution, where known."""
    first, last = dims[1], dims[3]
    if first is not None and last is not None:
        is_last = last == wanted and first != wanted
        return (last if is_last else first), is_last
    if last is not None and dims[2] is None:
        return last, True
    if first is not None:
        return first, False
    transposed = any(
        node.op_type == "Transpose" and any(a.name == "perm" and list(a.ints) == [0, 3, 1, 2] for a in node.attribute)
        for node in model.graph.node[:8]
    )
    if wanted is None:
        raise UnknownGraphError("its input states no number of channels")
    return wanted, transposed


def _kernel_channels(model: Any, arrays: dict[str, Array]) -> int | None:
    """Input channels of the first convolution, where its kernel is stored as it is."""
    same = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Identity" and n.input and n.output}
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) > 1:
            kernel = arrays.get(same.get(node.input[1], node.input[1]))
            return int(kernel.shape[1]) if kernel is not None and kernel.ndim == 4 else None
    return None


def _preprocessing(found: Match, source: _Input) -> dict[str, Any]:
    """Fields of `Preprocessing` for the normalisation that a graph starts with, (x * scale + shift)."""
    if found.scale is None or found.shift is None:
        return {}
    scale, shift = found.scale.astype(np.float64), found.shift.astype(np.float64)
    if not (np.isfinite(scale).all() and np.isfinite(shift).all()) or (scale <= 0).any():
        raise UnknownGraphError(f"it multiplies channels of the image by {scale.tolist()}; positive factors are read")
    mean, std = -shift / scale, 1 / scale
    # Images of bytes have means and deviations of tens to hundreds, images in [0, 1] below 1.
    top = 255.0 if source.integers or float(np.max(np.abs(mean) + std)) > 8 else 1.0
    return {
        "value_range": (0.0, top),
        "mean": tuple(float(f"{value:.7g}") for value in mean),
        "std": tuple(float(f"{value:.7g}") for value in std),
    }
