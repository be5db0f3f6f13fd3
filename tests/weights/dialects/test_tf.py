"""Keras, its tutorials, slim, TensorFlow official, MLPerf Tiny: foreign names and axes back to the same network."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from resnets.arch.aliases import aliases, keras_points, slim_points
from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.plan import plan
from resnets.arch.variants import get_config
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import build_model
from resnets.weights.dialects import find_dialects, get_dialect
from resnets.weights.dialects.axes import flattened_chans, from_torch
from resnets.weights.load import import_weights
from tests.weights.conftest import lively

NARROW = {"widths": (4, 8, 16, 32), "stem_width": 4}
DEEPER = {"depths": (2, 1, 3, 1), **NARROW}
TUTORIAL = {
    **NARROW,
    "conv_bias": "all",
    "stride_in": "1x1",
    "norm_eps": 1e-3,
    "stem_pool": "max_valid",
    "global_pool": "window",
    "pool_window": 2,
    "img_size": 64,
}
OFFICIAL = {"shortcut": "first", "stem_pool": "max_same", **NARROW}
OFFICIAL_CIFAR = {"shortcut": "first", "stem_pool": "none", "stem": "3x3", "img_size": 32}
TINY: dict[str, Any] = {
    "block": "basic",
    "stem": "3x3",
    "stem_pool": "none",
    "stem_width": 8,
    "shortcut_norm": False,
    "conv_bias": "all",
    "padding": "same",
    "norm_eps": 1e-3,
    "global_pool": "window",
    "pool_window": 8,
    "img_size": 32,
    "num_classes": 10,
}

NETWORKS: dict[str, tuple[str, NetworkConfig]] = {
    "keras 50": ("keras", get_config("keras_resnet50", **NARROW)),
    "keras 101, 4 channels in": ("keras", get_config("keras_resnet101", in_chans=4, **NARROW)),
    "keras 152v2": ("keras", get_config("keras_resnet152v2", num_classes=5, **NARROW)),
    "keras v2 of other depths": ("keras", get_config("keras_resnet50v2", **DEEPER)),
    "keras without top": ("keras", get_config("keras_resnet50", num_classes=0, global_pool="none", **NARROW)),
    "keras vgg19": (
        "keras",
        VGGConfig(depths=(2, 2, 4, 4, 4), widths=(4, 4, 8, 8, 8), hidden=16, num_classes=3),
    ),
    "keras vgg without top": (
        "keras",
        VGGConfig(depths=(1, 2, 3), widths=(4, 4, 8), num_classes=0, global_pool="none"),
    ),
    "tutorial 50": ("kerastutorial", ResNetConfig(num_classes=6, **TUTORIAL)),
    "tutorial 101, Caffe's count": ("kerastutorial", ResNetConfig(num_classes=2, depths=(3, 4, 23, 3), **TUTORIAL)),
    "keras before 2.2": ("kerastutorial", ResNetConfig(**(TUTORIAL | {"img_size": 224, "pool_window": 7}))),
    "slim v1 50": ("slim", get_config("resnet_v1_50", **NARROW)),
    "slim v1 101": ("slim", get_config("resnet_v1_101", num_classes=3, **NARROW)),
    "slim v2 152": ("slim", get_config("resnet_v2_152", in_chans=1, **NARROW)),
    "slim v2 without logits": ("slim", get_config("resnet_v2_50", num_classes=0, **DEEPER)),
    "official v1 18": ("tfofficial", ResNetConfig(block="basic", depths=(2, 2, 2, 2), **OFFICIAL)),
    "official v1 101": ("tfofficial", ResNetConfig(depths=(3, 4, 23, 3), num_classes=1001, **OFFICIAL)),
    "official v2 34": ("tfofficial", ResNetConfig(block="basic", pre_activation=True, **OFFICIAL)),
    "official v2 50": ("tfofficial", ResNetConfig(pre_activation=True, num_classes=1001, **OFFICIAL)),
    "official of one-block stages": ("tfofficial", ResNetConfig(depths=(1, 1, 1, 1), **OFFICIAL)),
    "official CIFAR v2 20": (
        "tfofficial",
        get_config("resnetv2_20_cifar", **OFFICIAL_CIFAR),
    ),
    "official CIFAR v1 32": ("tfofficial", get_config("resnet32_cifar", **OFFICIAL_CIFAR)),
    "mlperf resnet-8": ("mlperf", ResNetConfig(depths=(1, 1, 1), widths=(8, 16, 32), **TINY)),
    "keras.io resnet-20": ("mlperf", ResNetConfig(depths=(3, 3, 3), widths=(8, 16, 32), **TINY)),
}


def foreign(config: NetworkConfig, dialect: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A lively network's tensors under a dialect's names and in its axes; and our own."""
    model, speech = lively(build_model(config)), get_dialect(dialect)  # type: ignore[arg-type]
    state, kernels = model.state_dict(), speech.kernels(model.plan)
    chans = flattened_chans({key: tuple(tensor.shape) for key, tensor in state.items()}, "torch")
    theirs = {
        name: from_torch(key, state[key], speech.layout, chans, kernels.get(key, 0))
        for key, name in speech.key_map(model.plan).items()
    }
    return theirs, state


def same(found: dict[str, Tensor], state: dict[str, Tensor]) -> bool:
    counted = {key: tensor for key, tensor in state.items() if not key.endswith("num_batches_tracked")}
    return found.keys() == state.keys() and all(torch.equal(found[key], tensor) for key, tensor in counted.items())


@pytest.mark.parametrize("name", NETWORKS)
def test_same_network_from_their_tensors(name: str) -> None:
    dialect, config = NETWORKS[name]
    tensors, state = foreign(config, dialect)
    for asked in (dialect, "auto"):
        model, report = import_weights({key: tensor.numpy() for key, tensor in tensors.items()}, dialect=asked)
        assert model.config == config
        assert same(model.state_dict(), state)
        assert (report.dialect, report.filled, report.dropped) == (dialect, 1.0, ())


@pytest.mark.parametrize("name", NETWORKS)
def test_no_other_dialect_reads_the_names(name: str) -> None:
    dialect, config = NETWORKS[name]
    names = get_dialect(dialect).key_map(plan(config)).values()
    assert [found.name for found in find_dialects(names, "here")] == [dialect]


@pytest.mark.parametrize("size", [(97, 64), (65, 129)])
@pytest.mark.parametrize("name", ["keras v2 of other depths", "slim v1 50", "official v2 50", "official v1 18"])
def test_odd_sizes_run(name: str, size: tuple[int, int]) -> None:
    dialect, config = NETWORKS[name]
    tensors, _ = foreign(config, dialect)
    model, _ = import_weights(tensors, dialect=dialect)
    with torch.no_grad():
        assert model(torch.randn(1, 3, *size)).shape == (1, config.num_classes)


def test_numbers_may_begin_anywhere_and_scopes_may_be_absent() -> None:
    for network in ("official v2 50", "mlperf resnet-8"):
        dialect, config = NETWORKS[network]
        tensors, state = foreign(config, dialect)

        def later(name: str) -> str:
            name = name.removeprefix("resnet_model/")
            return re.sub(
                r"^(conv2d|batch_normalization|dense)(?:_(\d+))?", lambda m: f"{m[1]}_{int(m[2] or 0) + 7}", name
            )

        model, _ = import_weights({later(key): tensor for key, tensor in reversed(tensors.items())})
        assert same(model.state_dict(), state)


def test_tutorial_letters_go_on_to_z() -> None:
    """`res4b2_branch2a` and `res4c_branch2a` are one block."""
    dialect, config = NETWORKS["tutorial 101, Caffe's count"]
    tensors, state = foreign(config, dialect)
    assert "res4b22_branch2a/kernel" in tensors

    def lettered(name: str) -> str:
        return re.sub(r"(?<=\d)b(\d+)(?=_branch)", lambda match: chr(ord("a") + int(match[1])), name)

    renamed = {lettered(name): tensor for name, tensor in tensors.items()}
    assert "res4w_branch2a/kernel" in renamed
    assert same(import_weights(renamed)[0].state_dict(), state)


def test_options_mean_what_their_codebase_means() -> None:
    tensors, _ = foreign(NETWORKS["slim v2 without logits"][1], "slim")
    model, report = import_weights(tensors, dialect="slim", global_pool=False, output_stride=16)
    assert model.config.global_pool == "none"
    assert report.variant == "custom"
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).shape[2:] == (4, 4)
    with pytest.raises(ConfigError, match="True or False; got 'avg'"):
        import_weights(tensors, dialect="slim", global_pool="avg")
    with pytest.raises(UnknownNameError):
        import_weights(tensors, dialect="slim", include_top=False)
    tensors, _ = foreign(NETWORKS["keras 50"][1], "keras")
    model, report = import_weights(tensors, include_top=False, pooling="max")
    assert (model.config.num_classes, model.config.global_pool) == (0, "max")
    assert set(report.dropped) == {"predictions/kernel", "predictions/bias"}
    with pytest.raises(ConfigError, match="pooling is 'avg', 'max' or None"):
        import_weights(tensors, dialect="keras", pooling="gem")


def test_named_variant_of_slim() -> None:
    tensors, state = foreign(get_config("resnet_v1_50", num_classes=3), "slim")
    model, report = import_weights(tensors, dialect="slim", variant="resnet_v1_50")
    assert report.variant == "resnet_v1_50"
    assert same(model.state_dict(), state)


@pytest.mark.parametrize("name", ["keras 50", "slim v2 152", "official v1 18", "mlperf resnet-8"])
@pytest.mark.parametrize("harm", ["missing", "left over", "of another shape"])
def test_broken_sets_are_refused(name: str, harm: str) -> None:
    dialect, config = NETWORKS[name]
    tensors, _ = foreign(config, dialect)
    last = [key for key in tensors if key.endswith("beta")][-1]
    if harm == "missing":
        del tensors[last]
    elif harm == "left over":
        tensors[last.replace("beta", "delta")] = torch.ones(3)
    else:
        tensors[last] = torch.ones(3)
    with pytest.raises(WeightsError):
        import_weights(tensors, dialect=dialect)


@pytest.mark.parametrize("name", NETWORKS)
def test_taps_are_modules(name: str) -> None:
    dialect, config = NETWORKS[name]
    model = build_model(config, init=False)
    for path in get_dialect(dialect).points(model.plan).values():
        model.get_submodule(path)


def test_end_points_answer_slims_and_keras_names() -> None:
    model = build_model(get_config("resnet_v2_50", **DEEPER)).eval()
    with torch.no_grad():
        points = model.end_points(torch.randn(1, 3, 64, 64))
    scope = f"resnet_v2_{2 + 3 * 7}"
    assert points[f"{scope}/block3/unit_2/bottleneck_v2"] is points["layer3.1"] is points["conv4_block2_out"]
    assert points[f"{scope}/block3"] is points["layer3"]
    every = slim_points(model.plan) | keras_points(model.plan)
    assert aliases(model.plan).items() <= every.items()
    assert aliases(model.plan).keys() <= points.keys()


# Real weights on real images: to the image


@pytest.mark.parametrize(
    ("file", "right"), [("mlperf_tiny/pretrainedResnet.h5", 877), ("weights/onnx/resnet20.onnx", 926)]
)
def test_real_weights_to_the_image(shared_data: Path, command: Any, file: str, right: int) -> None:
    for package in ("h5py", "onnx"):
        if os.environ.get("CI") != "true":
            pytest.importorskip(package)
    answer = command("val", shared_data / "cifar10_png", "--model", shared_data / file)
    assert answer.code == 0, answer.err
    assert f"{right} of 1,000" in answer.out
