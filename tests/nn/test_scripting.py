"""`torch.jit.script` of networks."""

from __future__ import annotations

import pytest
import torch

from resnets.arch.variants import get_config
from resnets.errors import ConfigError
from resnets.nn.model import build_model
from tests.nn.test_graphs import CONFIGS

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The TorchScript type system:UserWarning"),  # about torch's own GraphModule
]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_scripted_network_has_the_same_outputs_and_weights(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(CONFIGS[name]).eval()
    scripted = torch.jit.script(model)
    size = 64 if model.config.img_size > 32 else 32
    for height, width in ((size, size), (size + 13, size + 32)):
        x = torch.randn(2, 3, height, width)
        torch.testing.assert_close(scripted(x), model(x), rtol=1e-5, atol=1e-5)
    assert set(scripted.state_dict()) == set(model.state_dict())
    scripted.load_state_dict(model.state_dict())


def test_batch_norms_of_a_scripted_network_follow_its_mode() -> None:
    model = build_model(get_config("resnet8_cifar"))
    scripted = torch.jit.script(model)
    before = scripted.bn1.running_mean.clone()
    scripted(torch.randn(4, 3, 32, 32))
    assert not torch.equal(scripted.bn1.running_mean, before)


@pytest.mark.parametrize("option", ["drop_rate", "drop_path_rate"])
def test_random_layers_are_not_scripted_in_training_mode(option: str) -> None:
    model = build_model(get_config("resnet8_cifar", **{option: 0.1}))
    with pytest.raises(ConfigError, match=r"got training mode; call eval\(\)"):
        torch.jit.script(model)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(torch.jit.script(model.eval())(x), model(x))
