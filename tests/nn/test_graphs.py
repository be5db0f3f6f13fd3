"""Networks as graphs: what tracing, exporting, copying and pickling tools need of them."""

from __future__ import annotations

import copy

import pytest
import torch

from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from tests.nn.tracing import thin

CONFIGS: dict[str, NetworkConfig] = {name: get_config(name) for name in ("resnet8_cifar", "plain8_cifar")} | {
    name: thin(get_config(name, depths=(1, 1, 1, 1)))
    for name in ("resnetv2_18", "resnetv2_50x1_bit", "resnetblur50", "resnet50_ibn_b", "cbamresnet50")
}
CONFIGS["SAME"] = thin(get_config("resnet18", depths=(1, 1, 1, 1), padding="same", stem_pool="max_same"))
CONFIGS["neck"] = thin(
    get_config(
        "resnet50", depths=(1, 1, 1, 1), global_pool="gem", embedding_dim=6, neck="bn_relu", classifier="cosine",
        classifier_scale=30.0, non_local=(0, 1, 0, 0),
    )
)  # fmt: skip
CONFIGS["vgg"] = thin(get_config("vgg11"))


@pytest.mark.parametrize("name", CONFIGS)
def test_traced_exported_and_copied_networks_have_the_same_output(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(CONFIGS[name]).eval()
    x = torch.randn(2, 3, 64, 64) if CONFIGS[name].img_size > 32 else torch.randn(2, 3, 32, 32)
    expected = model(x)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), expected)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.allclose(torch.export.export(model, (x,)).module()(x), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet8_cifar", "resnetv2_18", "SAME"])
def test_exported_networks_take_other_batches_and_sizes(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(CONFIGS[name]).eval()
    axes = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    exported = torch.export.export(model, (torch.randn(2, 3, 64, 64),), dynamic_shapes={"x": axes}).module()
    x = torch.randn(3, 3, 96, 128)
    torch.testing.assert_close(exported(x), model(x), atol=1e-5, rtol=1e-5)
