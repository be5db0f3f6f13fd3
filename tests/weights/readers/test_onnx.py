"""ONNX graphs of our networks open exactly, however they were exported."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from resnets.arch.config import ResNetConfig
from resnets.arch.variants import get_config
from resnets.arch.vgg import VGGConfig
from resnets.errors import WeightsError
from resnets.nn.layers import BlurPool2d
from resnets.weights.load import import_weights
from resnets.weights.open import open_model
from resnets.weights.resolve import resolve
from tests.weights.networks import NARROW, randomized, same
from tests.weights.readers.onnx_graphs import FOUR, TINY, distance, export, network, opened, run_graph

onnx = pytest.importorskip("onnx")

NETWORKS: dict[str, Any] = {
    "resnet18": get_config("resnet18", **NARROW),
    "bottlenecks": get_config("resnet50", **FOUR),
    "stride in the 1x1": get_config("resnet50_v1", **FOUR),
    "resnet-d": get_config("resnet50d", **FOUR),
    "resnet-d, dilated": get_config("resnet50d", output_stride=8, **FOUR),
    "resnext": ResNetConfig(groups=2, **FOUR),
    "v2": get_config("resnetv2_50", **FOUR),
    "v2 of basic blocks": ResNetConfig(block="basic", pre_activation=True, **TINY),
    "keras": get_config("keras_resnet50", **FOUR),
    "keras v2": get_config("keras_resnet50v2", **FOUR),
    "bit": get_config("resnetv2_50x1_bit", norm_groups=4, **FOUR),
    "group norm": ResNetConfig(norm="group", norm_groups=2, **TINY),
    "frozen norm": ResNetConfig(norm="frozen_batch", **TINY),
    "se": get_config("seresnet50", **TINY),
    "se of linear layers": ResNetConfig(attention="se", se_form="linear", attention_reduction=2, **TINY),
    "eca": ResNetConfig(attention="eca", **TINY),
    "cbam": ResNetConfig(attention="cbam", **TINY),
    "ibn-a": ResNetConfig(ibn=("a", ""), **TINY),
    "ibn-b": ResNetConfig(ibn=("b", ""), **TINY),
    "dilated": ResNetConfig(output_stride=8, **FOUR),
    "dilated as detectron": ResNetConfig(output_stride=8, dilation_rule="detectron", **FOUR),
    "dilated basic blocks": ResNetConfig(block="basic", output_stride=16, **FOUR),
    "last stride 1": ResNetConfig(last_stride=1, **FOUR),
    "projections everywhere": ResNetConfig(shortcut="C", **TINY),
    "tiered stem": ResNetConfig(stem="tiered", **TINY),
    "ceil pool": ResNetConfig(stem_pool="max_ceil", **TINY),
    "unpadded pool": ResNetConfig(stem_pool="max_valid", **TINY),
    "2x2 pool": ResNetConfig(stem_pool="max2", **TINY),
    "no pool": ResNetConfig(stem_pool="none", **TINY),
    "no stem activation": ResNetConfig(stem_act=False, **TINY),
    "epsilon": ResNetConfig(norm_eps=1e-3, **TINY),
    "biases": ResNetConfig(conv_bias="all", **TINY),
    "unnormed shortcut": ResNetConfig(shortcut_norm=False, **TINY),
    "gem": ResNetConfig(global_pool="gem", **TINY),
    "max": ResNetConfig(global_pool="max", **TINY),
    "avgmax": ResNetConfig(global_pool="avgmax", **TINY),
    "catavgmax": ResNetConfig(global_pool="catavgmax", **TINY),
    "silu": ResNetConfig(act="silu", **TINY),
    "leaky relu": ResNetConfig(act="leaky_relu", **TINY),
    "hard swish": ResNetConfig(act="hard_swish", **TINY),
    "gelu": ResNetConfig(act="gelu", **TINY),
    "silu, se": ResNetConfig(act="silu", attention="se", attention_reduction=2, **TINY),
    "convolution instead of a pool": ResNetConfig(stem="deep", stem_pool="conv", **TINY),
    "activation of the branch": ResNetConfig(block="basic", branch_act=True, attention="se", **TINY),
    "one channel": ResNetConfig(in_chans=1, **TINY),
    "embeddings": ResNetConfig(**{**TINY, "num_classes": 0}),
    "feature maps": ResNetConfig(**{**TINY, "num_classes": 0}, global_pool="none"),
    "option A": get_config("resnet8_cifar"),
    "option A after": get_config("resnet8_cifar", shortcut="A_after"),
}
FIXED: dict[str, tuple[Any, int]] = {  # networks that are exported for one image size
    "slim v1": (get_config("resnet_v1_50", **FOUR), 64),
    "average filter": (ResNetConfig(antialias=True, antialias_filter="average", **TINY), 64),  # even sizes alone
    "average filter instead of a pool": (
        ResNetConfig(block="basic", antialias=True, antialias_filter="average", stem_pool="avg2", **TINY),
        64,
    ),
    "slim v2": (get_config("resnet_v2_50", **FOUR), 64),
    "windows": (ResNetConfig(global_pool="window", pool_window=2, img_size=96, **FOUR), 96),
    "vgg": (VGGConfig(depths=(1, 1, 2), widths=(4, 4, 8), hidden=16, num_classes=3), 56),
    "vgg with norms": (VGGConfig(depths=(1, 2), widths=(4, 8), hidden=16, num_classes=3, norm="batch"), 28),
}


BOTH = ("resnet18", "bottlenecks", "resnet-d", "v2", "se", "dilated", "group norm", "silu")
EXPORTS = [  # every network folded or not, some both
    (name, folded)
    for number, name in enumerate(NETWORKS)
    for folded in (False, True)
    if name in BOTH or folded == bool(number % 2)
]


@pytest.mark.parametrize(("name", "folded"), EXPORTS)
def test_any_size(tmp_path: Path, name: str, folded: bool) -> None:
    model = network(NETWORKS[name])
    export(model, tmp_path / "w.onnx", folded=folded, shape=(1, model.config.in_chans, 64, 64), free=True)
    error, found, report = opened(tmp_path / "w.onnx")
    assert error < 1e-5
    assert report.filled == 1
    has_batch_norm = model.config.norm == "batch"
    assert any("folded" in note for note in report.notes) == (folded and has_batch_norm)
    if not folded and has_batch_norm:
        assert same(found.state_dict(), model.state_dict())


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", FIXED)
def test_one_size(tmp_path: Path, name: str, folded: bool) -> None:
    config, size = FIXED[name]
    export(network(config), tmp_path / "w.onnx", folded=folded, shape=(1, 3, size, size))
    assert distance(tmp_path / "w.onnx") < 1e-5


def test_config_is_read(tmp_path: Path) -> None:
    """The config, not just one that computes the same: of networks that codebases tell apart by options alone."""
    for name in ("stride in the 1x1", "dilated", "last stride 1", "ceil pool", "epsilon", "bottlenecks"):
        export(network(NETWORKS[name]), tmp_path / "w.onnx", folded=False)
        assert import_weights(tmp_path / "w.onnx")[0].config == NETWORKS[name], name


class FixedBlur(nn.Module):
    """A blur whose filter is a buffer, as other codebases have it, so that it can be exported."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        line = torch.tensor([0.25, 0.5, 0.25])
        self.stride = stride
        self.register_buffer("filter", (line[:, None] * line).repeat(channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filters = self.get_buffer("filter")
        padded = nn.functional.pad(x, (1, 1, 1, 1), "reflect")
        return nn.functional.conv2d(padded, filters, stride=self.stride, groups=filters.shape[0])


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_blur(tmp_path: Path, block: Any, folded: bool) -> None:
    model = network(ResNetConfig(block=block, antialias=True, **TINY))
    for name, module in list(model.named_modules()):
        if isinstance(module, BlurPool2d):
            parent, _, last = name.rpartition(".")
            channels = 8  # of the stem and of the last stage's 3x3
            setattr(model.get_submodule(parent), last, FixedBlur(channels, module.stride))
    export(model, tmp_path / "w.onnx", folded=folded, free=True)
    assert distance(tmp_path / "w.onnx") < 1e-5
    assert import_weights(tmp_path / "w.onnx")[0].config.antialias


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("name", ["v2", "eca", "gem", "option A", "bit", "hard swish", "gelu", "avgmax"])
def test_operator_sets(tmp_path: Path, name: str, opset: int) -> None:
    model = network(NETWORKS[name])
    export(model, tmp_path / "w.onnx", folded=opset % 2 == 0, opset=opset)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output, expected = import_weights(tmp_path / "w.onnx")[0](image), model(image)
    assert torch.allclose(output, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_overflow_is_compared_as_far_as_it_can_be(tmp_path: Path) -> None:
    model = randomized(get_config("seresnet50", **NARROW))  # positive weights: values grow out of float32
    export(model, tmp_path / "w.onnx", folded=False)
    found, report = import_weights(tmp_path / "w.onnx")
    assert same(found.state_dict(), model.state_dict())
    assert any("overflow" in note for note in report.notes)


# Ends of the graph


class Ends(nn.Module):
    """A network with operations before and after it."""

    def __init__(self, model: nn.Module, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x) if self.before else x
        x = self.model(x)
        return self.after(x) if self.after else x


MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
NORMALISATIONS: dict[str, Any] = {
    "sub, div": lambda x: (x - MEAN[:, None, None]) / STD[:, None, None],
    "mul, add": lambda x: x * (1 / STD)[:, None, None] + (-MEAN / STD)[:, None, None],
    "of bytes": lambda x: (x / 255 - MEAN[:, None, None]) / STD[:, None, None],
    "of bytes, to [-1, 1]": lambda x: x / 127.5 - 1,
    "channels last": lambda x: ((x - MEAN) / STD).permute(0, 3, 1, 2),
    "channels last, after": lambda x: (x.permute(0, 3, 1, 2) - MEAN[:, None, None]) / STD[:, None, None],
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_normalisation_becomes_preprocessing(tmp_path: Path, name: str) -> None:
    model, shape = network(NETWORKS["resnet18"]), (1, 64, 64, 3) if "last" in name else (1, 3, 64, 64)
    export(Ends(model, NORMALISATIONS[name]), tmp_path / "w.onnx", folded=True, shape=shape)
    read = open_model(resolve(tmp_path / "w.onnx"))
    preprocessing = read.require_bundle().preprocessing
    top = 255.0 if "bytes" in name else 1.0
    assert (preprocessing.value_range, preprocessing.size) == ((0.0, top), (64, 64))
    mean, std = (0.5, 0.5) if "[-1, 1]" in name else (MEAN.numpy(), STD.numpy())
    assert np.allclose(preprocessing.mean, top * mean, rtol=1e-5)
    assert np.allclose(preprocessing.std, top * std, rtol=1e-5)
    assert read.report is not None
    assert any("became preprocessing" in note for note in read.report.notes)
    image = np.random.default_rng(3).uniform(0, top, shape).astype(np.float32)
    expected = run_graph(onnx.load(str(tmp_path / "w.onnx")), image)
    ours = image.transpose(0, 3, 1, 2) if "last" in name else image
    ours = (ours - np.reshape(preprocessing.mean, (3, 1, 1))) / np.reshape(preprocessing.std, (3, 1, 1))
    with torch.no_grad():
        output = read.model(torch.from_numpy(ours.astype(np.float32))).numpy()
    assert np.abs(output - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("after", [nn.Softmax(1), nn.LogSoftmax(-1)])
def test_softmax_is_dropped_and_reported(tmp_path: Path, after: nn.Module) -> None:
    model = network(NETWORKS["resnet18"])
    export(Ends(model, None, after), tmp_path / "w.onnx", folded=True)
    found, report = import_weights(tmp_path / "w.onnx")
    assert "oftmax" in report.dropped[0]
    assert any("softmax" in note for note in report.notes)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(found(image), model(image), rtol=1e-4, atol=1e-5)


def test_fixed_batch_and_half_precision(tmp_path: Path) -> None:
    model = network(NETWORKS["resnet18"])
    export(model, tmp_path / "w.onnx", folded=True, shape=(3, 3, 64, 96))
    assert distance(tmp_path / "w.onnx") < 1e-5
    graph = onnx.load(str(tmp_path / "w.onnx"))
    for tensor in graph.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(graph, str(tmp_path / "half.onnx"))
    found, _ = import_weights(tmp_path / "half.onnx")
    assert torch.equal(
        found.get_parameter("conv1.weight"),
        import_weights(tmp_path / "w.onnx")[0].get_parameter("conv1.weight").half().float(),
    )


def test_fused_nodes(tmp_path: Path) -> None:
    """What ONNX Runtime writes when it saves an optimised graph: activation, and the sum, inside the convolution."""
    export(network(NETWORKS["resnet18"]), tmp_path / "w.onnx", folded=True, free=True)
    graph = onnx.load(str(tmp_path / "w.onnx"))
    expected = [run_graph(graph, np.ones(shape, np.float32)) for shape in ((1, 3, 64, 64), (2, 3, 71, 93))]
    nodes = list(graph.graph.node)
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    fused = 0
    for node in nodes:
        following = readers.get(node.output[0], [])
        if node.op_type == "Conv" and len(following) == 1 and following[0].op_type == "Relu":
            node.op_type, node.domain = "FusedConv", "com.microsoft"
            node.attribute.append(onnx.helper.make_attribute("activation", "Relu"))
            node.output[0] = following[0].output[0]
            graph.graph.node.remove(following[0])
            fused += 1
    graph.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(graph, str(tmp_path / "fused.onnx"))
    found, _ = import_weights(tmp_path / "fused.onnx")
    assert fused > 4
    for output in expected:
        shape = (1, 3, 64, 64) if output is expected[0] else (2, 3, 71, 93)
        with torch.no_grad():
            assert np.allclose(found(torch.ones(shape)).numpy(), output, rtol=1e-4, atol=1e-5)


def test_another_epsilon_in_one_norm(tmp_path: Path) -> None:
    export(network(NETWORKS["resnet18"]), tmp_path / "w.onnx", folded=False)
    graph = onnx.load(str(tmp_path / "w.onnx"))
    norm = [node for node in graph.graph.node if node.op_type == "BatchNormalization"][3]
    next(a for a in norm.attribute if a.name == "epsilon").f = 0.01
    onnx.save(graph, str(tmp_path / "w.onnx"))
    assert distance(tmp_path / "w.onnx") < 1e-5
    _, report = import_weights(tmp_path / "w.onnx")
    assert any("another epsilon" in note for note in report.notes)


def test_onnxruntime_runs_the_graph_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    export(network(NETWORKS["resnet18"]), tmp_path / "w.onnx", folded=True)
    monkeypatch.setitem(sys.modules, "onnx.reference", None)
    import_weights(tmp_path / "w.onnx")


def test_options_apply_after_the_proof(tmp_path: Path) -> None:
    export(network(NETWORKS["resnet18"]), tmp_path / "w.onnx", folded=False)
    maps, _ = import_weights(tmp_path / "w.onnx", features_only=True)
    assert maps.feature_info[-1]["num_chs"] == 32
    with pytest.raises(WeightsError, match="match the network"):
        import_weights(tmp_path / "w.onnx", variant="resnet34", **NARROW)
