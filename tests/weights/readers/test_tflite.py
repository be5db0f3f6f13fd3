"""TensorFlow Lite files: opened exactly, or refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("tflite")
pytest.importorskip("onnx")

import resnets
from resnets.errors import WeightsError
from tests.weights.readers.lite_files import RELU, VALID, LiteFile, classify, mean, network, padded

Part = Callable[[LiteFile, int], int]


def run(path: Path, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """LiteRT's output, maps as (N, C, H, W)."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    plain = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    runtime = interpreter.Interpreter(model_path=str(path), experimental_op_resolver_type=plain)
    runtime.resize_tensor_input(runtime.get_input_details()[0]["index"], image.shape)
    runtime.allocate_tensors()
    runtime.set_tensor(runtime.get_input_details()[0]["index"], image)
    runtime.invoke()
    out = runtime.get_tensor(runtime.get_output_details()[0]["index"])
    return np.asarray(out.transpose(0, 3, 1, 2) if out.ndim == 4 else out)


def save(folder: Path, content: bytes) -> Path:
    path = folder / "network.tflite"
    path.write_bytes(content)
    return path


# Parts that a network here has


def stem_of_imagenet(lite: LiteFile, x: int) -> int:
    """Explicit padding before a strided convolution and a pool, as in Keras's applications."""
    side = lite.shape(x)[1]
    x = lite.conv(padded(lite, x, 3), 16, 7, 2, Padding=VALID, FusedActivationFunction=RELU)
    options = {"Padding": VALID, "StrideH": 2, "StrideW": 2, "FilterHeight": 3, "FilterWidth": 3}
    return lite.op("MAX_POOL_2D", (padded(lite, x, 1),), (1, side // 4, side // 4, 16), **options)


def pooled(kind: str, side: int, cells: int) -> Part:
    """Windows of `side` over a map of `cells`, flattened in the order (H, W, C), and a classifier."""

    def head(lite: LiteFile, x: int) -> int:
        places, channels = cells // side, lite.shape(x)[3]
        options = {"Padding": VALID, "StrideH": side, "StrideW": side, "FilterHeight": side, "FilterWidth": side}
        x = lite.op(kind, (x,), (1, places, places, channels), **options)
        width = places * places * channels
        x = lite.op("RESHAPE", (x, lite.constant(np.array([-1, width], np.int32))), (1, width))
        return classify(lite, x)

    return head


def flattened(lite: LiteFile, x: int) -> int:
    """The whole map into the classifier."""
    width = int(np.prod(lite.shape(x)))
    return classify(lite, lite.op("RESHAPE", (x, lite.constant(np.array([-1, width], np.int32))), (1, width)))


def gated(lite: LiteFile, x: int, channels: int, stride: int) -> int:
    """Squeeze-and-excitation; its reshape takes the batch from the graph, as TensorFlow's converter writes it."""
    y = lite.conv(lite.conv(x, channels, 3, stride, FusedActivationFunction=RELU), channels)
    features = mean(lite, y)
    index = [lite.constant(np.array([number], np.int32)) for number in (0, 1, 1)]
    size = lite.op("SHAPE", (features,), (2,), "int32", OutType=2)
    batch = lite.op("STRIDED_SLICE", (size, *index), (), "int32", ShrinkAxisMask=1)
    ones = [lite.constant(np.array(number, np.int32)) for number in (1, 1, channels)]
    shape = lite.op("PACK", (batch, *ones), (4,), "int32", ValuesCount=4)
    gate = lite.op("RESHAPE", (features, shape), (1, 1, 1, channels))
    gate = lite.conv(lite.conv(gate, channels // 4, 1, FusedActivationFunction=RELU), channels, 1)
    gate = lite.op("LOGISTIC", (gate,), (1, 1, 1, channels))
    y = lite.op("MUL", (y, gate), lite.shape(y))
    x = lite.conv(x, channels, 1, stride) if stride > 1 else x
    return lite.op("ADD", (x, y), lite.shape(y), FusedActivationFunction=RELU)


def padded_shortcut(lite: LiteFile, x: int, channels: int, stride: int) -> int:
    """Option A: every second pixel, and zero channels."""
    y = lite.conv(lite.conv(x, channels, 3, stride, FusedActivationFunction=RELU), channels)
    if stride > 1:
        numbers = [lite.constant(np.array(values, np.int32)) for values in ([0] * 4, [0] * 4, [1, 2, 2, 1])]
        x = lite.op("STRIDED_SLICE", (x, *numbers), (*lite.shape(y)[:3], channels // 2), BeginMask=15, EndMask=15)
        amounts = np.array([[0, 0], [0, 0], [0, 0], [channels // 4, channels // 4]], np.int32)
        x = lite.op("PAD", (x, lite.constant(amounts)), lite.shape(y))
    return lite.op("ADD", (x, y), lite.shape(y), FusedActivationFunction=RELU)


def rescaled(lite: LiteFile, x: int) -> int:
    x = lite.op("MUL", (x, lite.constant(np.float32(1 / 127.5))), lite.shape(x))
    x = lite.op("ADD", (x, lite.constant(np.array([-1, -0.9, -0.8], np.float32))), lite.shape(x))
    return lite.conv(x, 16, FusedActivationFunction=RELU)


def half_weights(lite: LiteFile, x: int) -> int:
    kernel, bias = (lite.tensors[t][2] for t in (lite.weights(16, 3, 3, 3), lite.weights(16)))
    halves = [
        lite.op("DEQUANTIZE", (lite.constant(array.astype(np.float16)),), array.shape)
        for array in (kernel, bias)
        if array is not None
    ]
    return lite.op("CONV_2D", (x, *halves), (1, 32, 32, 16), **ONE, FusedActivationFunction=RELU)


def maximum(lite: LiteFile, x: int) -> int:
    return classify(lite, lite.op("REDUCE_MAX", (x, lite.constant(np.array([1, 2], np.int32))), (1, 64)))


def softmax(lite: LiteFile, x: int) -> int:
    return lite.op("SOFTMAX", (classify(lite, mean(lite, x)),), (1, 10), Beta=1.0)


ONE = {"StrideH": 1, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1}
EXACT: dict[str, dict[str, Any]] = {
    "plain": {},
    "stem of ImageNet": {"stem": stem_of_imagenet, "size": 64, "explicit": True},
    "pool of the whole map": {"head": pooled("AVERAGE_POOL_2D", 8, 8)},
    "maximum of the whole map": {"head": pooled("MAX_POOL_2D", 8, 8)},
    "four windows": {"head": pooled("AVERAGE_POOL_2D", 4, 8)},
    "windows of one cell": {"head": flattened},
    "map": {"head": lambda lite, x: x},
    "features": {"head": mean},
    "global maximum": {"head": maximum},
    "softmax": {"head": softmax},
    "squeeze and excitation": {"block": gated},
    "option A": {"block": padded_shortcut},
    "rescaling": {"stem": rescaled},
    "half precision": {"stem": half_weights},
}


@pytest.mark.parametrize("name", EXACT)
def test_network_is_exact(tmp_path: Path, name: str) -> None:
    path = save(tmp_path, network(LiteFile(), **EXACT[name]))
    bundle = resnets.load(path)
    size = EXACT[name].get("size", 32)
    image = np.random.default_rng(1).uniform(0, 1, (2, size, size, 3)).astype(np.float32)
    ours_in = torch.from_numpy(image).permute(0, 3, 1, 2)
    if name == "rescaling":  # became the preprocessing, of images in [0, 255]
        mean, std = (
            torch.tensor(values)[:, None, None] for values in (bundle.preprocessing.mean, bundle.preprocessing.std)
        )
        ours_in = (ours_in - mean) / std
    with torch.inference_mode():
        ours = bundle.model.eval()(ours_in)
    ours = ours.softmax(1) if name == "softmax" else ours
    theirs = run(path, image)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-5 * abs(theirs).max())


def test_free_sizes(tmp_path: Path) -> None:
    lite = LiteFile()
    content = network(lite)
    shape, dtype, data, _ = lite.tensors[0]
    lite.tensors[0] = (shape, dtype, data, (-1, -1, -1, 3))
    assert lite.to_bytes(0, len(lite.tensors) - 1) != content
    assert "77x69" in " ".join(resnets.import_weights(save(tmp_path, lite.to_bytes(0, len(lite.tensors) - 1)))[1].notes)


# Parts that none here has


def clipped(lite: LiteFile, x: int) -> int:
    return lite.conv(x, 16, FusedActivationFunction=3)


def tanh(lite: LiteFile, x: int) -> int:
    return lite.conv(x, 16, FusedActivationFunction=4)


def sign_bit(lite: LiteFile, x: int) -> int:
    return lite.conv(x, 16, FusedActivationFunction=5)


def unpadded(lite: LiteFile, x: int, channels: int, stride: int) -> int:
    y = lite.conv(lite.conv(x, channels, 3, stride, FusedActivationFunction=RELU), channels)
    x = lite.conv(x, channels, stride, stride, Padding=VALID)
    return lite.op("ADD", (x, y), lite.shape(y), FusedActivationFunction=RELU)


def no_activation(lite: LiteFile, x: int, channels: int, stride: int) -> int:
    y = lite.conv(lite.conv(x, channels, 3, stride, FusedActivationFunction=RELU), channels)
    return lite.op("ADD", (lite.conv(x, channels, 1, stride), y), lite.shape(y))


def late_stride(lite: LiteFile, x: int, channels: int, stride: int) -> int:
    y = lite.conv(lite.conv(x, channels, FusedActivationFunction=RELU), channels, 3, stride)
    return lite.op("ADD", (lite.conv(x, channels, 1, stride), y), lite.shape(y), FusedActivationFunction=RELU)


def dilated(lite: LiteFile, x: int, channels: int, stride: int) -> int:
    y = lite.conv(x, channels, 3, stride, FusedActivationFunction=RELU)
    y = lite.conv(y, channels, DilationHFactor=2, DilationWFactor=2)
    return lite.op("ADD", (lite.conv(x, channels, 1, stride), y), lite.shape(y), FusedActivationFunction=RELU)


def mirrored(lite: LiteFile, x: int) -> int:
    pads = lite.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    x = lite.op("MIRROR_PAD", (x, pads), (1, 34, 34, 3), Mode=0)
    return lite.conv(x, 16, Padding=VALID, FusedActivationFunction=RELU)


def hot_softmax(lite: LiteFile, x: int) -> int:
    return lite.op("SOFTMAX", (classify(lite, mean(lite, x)),), (1, 10), Beta=2.0)


def two_layers(lite: LiteFile, x: int) -> int:
    return classify(lite, classify(lite, mean(lite, x), 20))


def added_after_flattening(lite: LiteFile, x: int) -> int:
    width = int(np.prod(lite.shape(x)))
    x = lite.op("RESHAPE", (x, lite.constant(np.array([-1, width], np.int32))), (1, width))
    return classify(lite, lite.op("ADD", (x, lite.weights(width)), (1, width)))


def reordered(lite: LiteFile, x: int) -> int:
    """(8, 8, 64) read as (4, 4, 256), whose mean is taken."""
    x = lite.op("RESHAPE", (x, lite.constant(np.array([1, 4, 4, 256], np.int32))), (1, 4, 4, 256))
    return classify(lite, mean(lite, x))


def mean_of_rows(lite: LiteFile, x: int) -> int:
    x = lite.op("MEAN", (x, lite.constant(np.array([1], np.int32))), (1, 1, 8, 64), KeepDims=1)
    return classify(lite, mean(lite, x))


REFUSED: dict[str, dict[str, Any]] = {
    "relu6": {"stem": clipped},
    "tanh": {"stem": tanh},
    "sign bit": {"stem": sign_bit},
    "2x2 shortcut": {"block": unpadded},
    "no activation after a sum": {"block": no_activation},
    "stride in the second 3x3": {"block": late_stride},
    "dilated": {"block": dilated},
    "reflection": {"stem": mirrored},
    "softmax of doubled logits": {"head": hot_softmax},
    "two linear layers": {"head": two_layers},
    "operation on a flattened map": {"head": added_after_flattening},
    "map read as another": {"head": reordered},
    "mean of rows": {"head": mean_of_rows},
}


def assert_refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        resnets.load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_are_refused(tmp_path: Path, name: str) -> None:
    message = assert_refused(save(tmp_path, network(LiteFile(), **REFUSED[name])))
    assert "must be exactly one of our networks" in message


def test_quantised_networks_are_refused(tmp_path: Path, shared_data: Path) -> None:
    message = assert_refused(shared_data / "mlperf_tiny" / "pretrainedResnet_quant.tflite")
    assert "quantised" in message
    del tmp_path


def test_file_of_mlperf_is_its_keras_file(shared_data: Path) -> None:
    """The same network as Keras's file, which holds its norms unfolded."""
    folder = shared_data / "mlperf_tiny"
    lite, keras = (resnets.load(folder / f"pretrainedResnet{suffix}").model.eval() for suffix in (".tflite", ".h5"))
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        ours, theirs = lite(image), keras(image)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.abs().max()))


def test_stated_shapes_are_not_believed(tmp_path: Path) -> None:
    """A file may state any shape; LiteRT computes its own."""
    lite = LiteFile()
    network(lite, head=reordered)
    for number, (shape, dtype, data, _) in enumerate(lite.tensors):
        if shape == (1, 8, 8, 64):
            lite.tensors[number] = ((1, 4, 4, 256), dtype, data, (1, 4, 4, 256))
    assert "stated" in assert_refused(save(tmp_path, lite.to_bytes(0, len(lite.tensors) - 1)))


def test_several_outputs_and_unknown_operations(tmp_path: Path) -> None:
    lite = LiteFile()
    image = lite.value((1, 32, 32, 3))
    assert "EXP" in assert_refused(save(tmp_path, lite.to_bytes(image, lite.op("EXP", (image,), (1, 32, 32, 3)))))
    assert "0 graphs" in assert_refused(save(tmp_path, b"\x10\0\0\0TFL3" + bytes(40)))
    assert "damaged" in assert_refused(save(tmp_path, b"TFL2" * 20))
    whole = network(LiteFile())
    assert "damaged" in assert_refused(save(tmp_path, whole[: len(whole) // 2]))


@dataclasses.dataclass
class _Missing:
    """Hides a module from imports."""

    name: str

    def find_spec(self, name: str, *_: Any) -> None:
        if name.split(".")[0] == self.name:
            raise ImportError(name)


def test_without_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "meta_path", [_Missing("ai_edge_litert"), *sys.meta_path])
    for module in [name for name in sys.modules if name.startswith("ai_edge_litert")]:
        monkeypatch.delitem(sys.modules, module)
    notes = resnets.import_weights(save(tmp_path, network(LiteFile())))[1].notes
    assert any("LiteRT is not installed" in note for note in notes)
