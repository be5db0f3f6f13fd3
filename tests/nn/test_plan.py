"""The plan and the module are the same network, for every variant: shapes, strides, parameters, names, order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.nodes import children
from resnets.arch.plan import plan
from resnets.arch.shapes import trace
from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import ShapeError
from resnets.nn.model import Network
from tests.nn.tracing import shallow, thin, traced, weightless, with_weights
from tests.strategies import choosy_configs, configs

UNPLANNED = ("drop_path", "downsample", "gate")  # modules that the plan needs no node for

KINDS = {shallow(config): name for name, config in reversed(VARIANTS.items())}  # depth apart, what there is to see


def hold(model: Network, config: NetworkConfig, height: int, width: int) -> None:
    """Plan and module side by side, path by path, in the order in which things run."""
    shape = (config.in_chans, height, width)
    records = {r.path: r for r in trace(plan(config), shape) if r.node.name}
    outputs = {path: out for path, out in traced(model, shape).items() if path}
    extra = [path for path in outputs if path not in records]
    assert all(path.endswith(UNPLANNED) for path in extra), extra
    assert {path: out for path, out in outputs.items() if path in records} == {
        path: record.result.shape for path, record in records.items()
    }
    path_through = [path for path, record in records.items() if not children(record.node) and "downsample" not in path]
    assert [path for path in outputs if path in set(path_through)] == path_through


@pytest.mark.parametrize("config", KINDS, ids=KINDS.get)
def test_shapes(config: NetworkConfig) -> None:
    """At the size that it is meant for, and at odd, non-square ones; of blocks that are alike the first few."""
    hold(weightless(config), config, config.img_size, config.img_size)
    small = thin(shallow(config, 2))
    for height, width in ((67, 45), (223, 351)):
        hold(with_weights(small), small, height, width)


@pytest.mark.parametrize("name", ["resnet50", "resnet110_cifar"])
def test_shapes_at_full_depth(name: str) -> None:
    config = VARIANTS[name]
    hold(weightless(config), config, 65, 33)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters(name: str) -> None:
    """By path, and in total, at full depth."""
    config = VARIANTS[name]
    model = weightless(config)
    counts = {path: sum(p.numel() for p in module.parameters(recurse=False)) for path, module in model.named_modules()}
    records = trace(plan(config), (3, 65, 65))
    assert sum(counts.values()) == records[0].params
    leaves = {r.path: r.params for r in records if r.node.name and not children(r.node)}
    assert {path: count for path, count in counts.items() if count} == {p: n for p, n in leaves.items() if n}
    assert leaves.keys() <= counts.keys()


@given(configs(), st.integers(1, 70), st.integers(1, 70))
def test_any_network(config: ResNetConfig, height: int, width: int) -> None:
    model = with_weights(config)
    hold(model, config, height, width)
    assert sum(p.numel() for p in model.parameters()) == trace(plan(config), (config.in_chans, 64, 64))[0].params


@given(choosy_configs(), st.integers(1, 70), st.integers(1, 70))
def test_a_network_that_needs_room(config: ResNetConfig, height: int, width: int) -> None:
    """If the plan rejects an image as too small, the module cannot run; otherwise the two agree."""
    try:
        trace(plan(config), (config.in_chans, height, width))
    except ShapeError:
        with pytest.raises((RuntimeError, ValueError)):
            traced(with_weights(config), (config.in_chans, height, width))
    else:
        hold(with_weights(config), config, height, width)


STRIDED: tuple[str, ...] = (
    "resnet18",
    "resnet50",
    "resnet50_v1",
    "resnetv2_50",
    "resnetv2_18",
    "plain18",
    "resnet_v1_50",
)
STRIDED += ("resnet_v2_50", "keras_resnet50v2", "resnet50d", "resnetblur50", "senet154", "resnet50_ibn_b")


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("options", [{"output_stride": 8}, {"output_stride": 16}, {"last_stride": 1}], ids=str)
def test_strides_on_every_block_type(name: str, options: dict[str, int]) -> None:
    config = thin(shallow(get_config(name, **options)))
    hold(with_weights(config), config, 97, 65)


TOP = ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]
POST = [
    config
    for config in KINDS
    if isinstance(config, ResNetConfig) and len(config.depths) == 4 and not config.pre_activation
]


@pytest.mark.parametrize("config", POST, ids=KINDS.get)
def test_children_are_in_torchvisions_order(config: ResNetConfig) -> None:
    model = weightless(config.with_overrides(num_classes=0))
    assert [path for path, _ in model.named_children()] == TOP
    assert list(model.children())[4][0].conv1 is model.layer1[0].conv1  # type: ignore[index,union-attr]


def test_options_keep_the_module_paths() -> None:
    """What an option drops leaves an identity, so that indices into `children()` hold for the whole family."""
    for config in (
        get_config("resnet20_cifar"),
        get_config("resnetv2_50"),
        get_config("resnet50", stem_pool="none"),
        get_config("resnet50", stem_act=False),
        get_config("resnet50", global_pool="none", num_classes=0),
    ):
        names = [path for path, _ in weightless(config).named_children()]
        assert names[:5] == TOP[:5]
        assert names[-2:] == TOP[-2:]


def test_vgg_is_torchvisions() -> None:
    model = weightless(get_config("vgg16"))
    assert [path for path, _ in model.named_children()] == ["features", "avgpool", "classifier"]
    kinds = [type(module).__name__ for module in model.get_submodule("features").children()]
    assert kinds[:5] == ["Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"]
    assert len(kinds) == 31
    assert list(model.state_dict())[-2:] == ["classifier.6.weight", "classifier.6.bias"]
    batch = weightless(get_config("vgg11_bn"))
    assert [path for path, _ in batch.named_modules() if type(batch.get_submodule(path)).__name__ == "BatchNorm2d"] == [
        f"features.{index}" for index in (1, 5, 9, 12, 16, 19, 23, 26)
    ]


def test_module_paths_are_torchvisions() -> None:
    model = weightless(get_config("resnet50"))
    assert model.layer1[0].conv1.in_channels == 64  # type: ignore[index,union-attr]
    assert model.layer3[5].conv3.out_channels == 1024  # type: ignore[index,union-attr]
    assert model.layer2[0].downsample[0].stride == (2, 2)  # type: ignore[index,union-attr]
    assert model.layer2[1].downsample is None  # type: ignore[index,union-attr]
    assert model.layer1[0].bn3.num_features == 256  # type: ignore[index,union-attr]
    assert model.fc.in_features == model.num_features == 2048  # type: ignore[union-attr]
    block = weightless(get_config("resnet18")).get_submodule("layer1.0")
    assert [name for name, _ in block.named_children()][:5] == [
        "conv1",
        "bn1",
        "act1",
        "conv2",
        "bn2",
    ]
