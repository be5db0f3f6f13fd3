"""The plan and the module are the same network, for every variant: shapes, strides, parameters, names, order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Chain, Residual
from resnets.arch.plan import plan
from resnets.arch.shapes import trace
from resnets.arch.variants import VARIANTS, get_config
from resnets.nn.model import ResNet
from tests.nn.tracing import narrow, traced, weightless
from tests.strategies import configs

UNPLANNED = ("drop_path", "downsample")  # containers that the plan needs no node for


def hold(model: ResNet, config: ResNetConfig, height: int, width: int) -> None:
    """Plan and module side by side, path by path, in the order in which things run."""
    shape = (config.in_chans, height, width)
    records = {r.path: r for r in trace(plan(config), shape) if r.path}
    outputs = {path: out for path, out in traced(model, shape).items() if path}
    extra = [path for path in outputs if path not in records]
    assert all(path.endswith(UNPLANNED) for path in extra), extra
    assert {path: out for path, out in outputs.items() if path in records} == {
        path: record.result.shape for path, record in records.items()
    }
    path_through = [
        path
        for path, record in records.items()
        if not isinstance(record.node, Chain | Residual) and "downsample" not in path
    ]
    assert [path for path in outputs if path in set(path_through)] == path_through


@pytest.mark.parametrize("name", VARIANTS)
def test_shapes(name: str) -> None:
    """At the size that it is meant for, and at odd, non-square ones."""
    config = VARIANTS[name]
    model = narrow(config) if name.endswith("_cifar") else weightless(config)
    sizes = [(config.img_size, config.img_size), (67, 45)]
    if sum(config.depths) < 100:
        sizes += [(1, 1), (29, 130)] if config.img_size == 32 else [(223, 351), (33, 500)]
    for height, width in sizes:
        hold(model, config, height, width)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters(name: str) -> None:
    """By path, and in total."""
    config = VARIANTS[name]
    model = weightless(config)
    records = trace(plan(config), (3, 32, 32))
    assert sum(p.numel() for p in model.parameters()) == records[0].params
    for record in records:
        if record.path:
            module = model.get_submodule(record.path)
            assert sum(p.numel() for p in module.parameters()) == record.params, record.path


@given(configs(), st.integers(1, 70), st.integers(1, 70))
def test_any_network(config: ResNetConfig, height: int, width: int) -> None:
    model = narrow(config)
    hold(model, config, height, width)
    assert sum(p.numel() for p in model.parameters()) == trace(plan(config), (config.in_chans, 64, 64))[0].params


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50_v1", "resnetv2_50", "resnetv2_18", "plain18"])
@pytest.mark.parametrize("options", [{"output_stride": 8}, {"output_stride": 16}, {"last_stride": 1}], ids=str)
def test_strides_on_every_block_type(name: str, options: dict[str, int]) -> None:
    config = get_config(name, **options)
    hold(weightless(config), config, 97, 65)


TOP = ["conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"]


@pytest.mark.parametrize(
    "name", [name for name in VARIANTS if not name.endswith("_cifar") and not name.startswith("resnetv2")]
)
def test_children_are_in_torchvisions_order(name: str) -> None:
    model = weightless(get_config(name, num_classes=0))
    assert [path for path, _ in model.named_children()] == TOP
    assert list(model.children())[4][0].conv1 is model.layer1[0].conv1  # type: ignore[index,union-attr]


def test_options_keep_the_places() -> None:
    """What an option drops leaves an identity, so that indices into `children()` hold for the whole family."""
    for config in (
        get_config("resnet20_cifar"),
        get_config("resnetv2_50"),
        get_config("resnet50", stem_pool="none"),
        get_config("resnet50", global_pool="none", num_classes=0),
    ):
        names = [path for path, _ in weightless(config).named_children()]
        assert names[:5] == TOP[:5]
        assert names[-2:] == TOP[-2:]


def test_where_people_look_for_things() -> None:
    model = weightless(get_config("resnet50"))
    assert model.layer1[0].conv1.in_channels == 64  # type: ignore[index,union-attr]
    assert model.layer3[5].conv3.out_channels == 1024  # type: ignore[index,union-attr]
    assert model.layer2[0].downsample[0].stride == (2, 2)  # type: ignore[index,union-attr]
    assert model.layer2[1].downsample is None  # type: ignore[index,union-attr]
    assert model.layer1[0].bn3.num_features == 256  # type: ignore[index,union-attr]
    assert model.fc.in_features == model.num_features == 2048
    assert list(weightless(get_config("resnet18")).layer1[0]._modules)[:5] == [  # type: ignore[index,union-attr]
        "conv1",
        "bn1",
        "act1",
        "conv2",
        "bn2",
    ]
