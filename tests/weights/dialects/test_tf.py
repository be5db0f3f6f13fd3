"""Keras, its tutorials, slim, TensorFlow official, MLPerf Tiny: foreign names and axes back to the same network."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets.arch.aliases import aliases, keras_points, slim_points
from resnets.arch.plan import plan
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import build_model
from resnets.weights.dialects import get_dialect, matching_dialects
from resnets.weights.load import import_weights
from tests.weights.networks import DEEPER, NETWORKS, foreign, same


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
    assert [found.name for found in matching_dialects(names, "here")] == [dialect]


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


def test_tutorial_blocks_are_lettered_up_to_z() -> None:
    """`res4b2_branch2a` and `res4c_branch2a` are one block."""
    dialect, config = NETWORKS["tutorial 101, Caffe's count"]
    tensors, state = foreign(config, dialect)
    assert "res4b22_branch2a/kernel" in tensors

    def lettered(name: str) -> str:
        return re.sub(r"(?<=\d)b(\d+)(?=_branch)", lambda match: chr(ord("a") + int(match[1])), name)

    renamed = {lettered(name): tensor for name, tensor in tensors.items()}
    assert "res4w_branch2a/kernel" in renamed
    assert same(import_weights(renamed)[0].state_dict(), state)


def test_options_in_the_spelling_of_their_codebase() -> None:
    tensors, _ = foreign(NETWORKS["slim v2 without logits"][1], "slim")
    model, report = import_weights(tensors, dialect="slim", global_pool=False, output_stride=16)
    assert model.config.global_pool == "none"
    assert report.variant == "custom"
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 64)).shape[2:] == (4, 4)
    with pytest.raises(ConfigError, match="one of True, False; got 'avg'"):
        import_weights(tensors, dialect="slim", global_pool="avg")
    with pytest.raises(UnknownNameError):
        import_weights(tensors, dialect="slim", include_top=False)
    tensors, _ = foreign(NETWORKS["keras 50"][1], "keras")
    model, report = import_weights(tensors, include_top=False, pooling="max")
    assert (model.config.num_classes, model.config.global_pool) == (0, "max")
    assert set(report.dropped) == {"predictions/kernel", "predictions/bias"}
    with pytest.raises(ConfigError, match="pooling must be one of 'avg', 'max', None"):
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


def test_end_points_have_the_names_of_slim_and_keras() -> None:
    model = build_model(get_config("resnet_v2_50", **DEEPER)).eval()
    with torch.no_grad():
        points = model.end_points(torch.randn(1, 3, 64, 64))
    scope = f"resnet_v2_{2 + 3 * 7}"
    assert points[f"{scope}/block3/unit_2/bottleneck_v2"] is points["layer3.1"] is points["conv4_block2_out"]
    assert points[f"{scope}/block3"] is points["layer3"]
    every = slim_points(model.plan) | keras_points(model.plan)
    assert aliases(model.plan).items() <= every.items()
    assert aliases(model.plan).keys() <= points.keys()


# Real weights on real images


@pytest.mark.parametrize(
    ("file", "correct"), [("mlperf_tiny/pretrainedResnet.h5", 877), ("weights/onnx/resnet20.onnx", 926)]
)
def test_real_weights_classify_as_published(shared_data: Path, command: Any, file: str, correct: int) -> None:
    for package in ("h5py", "onnx"):
        if os.environ.get("CI") != "true":
            pytest.importorskip(package)
    result = command("val", shared_data / "cifar10_png", "--json", "--model", shared_data / file)
    assert result.code == 0, result.err
    metrics = json.loads(result.out)
    assert metrics["images"] == 1000
    assert round(metrics["top1"] * 1000) == correct
