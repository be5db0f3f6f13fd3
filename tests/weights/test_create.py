"""Networks with the weights of related ones: what `create_model` takes, says in its log, and refuses."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import Network
from resnets.weights.create import create_model
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.registry import list_pretrained
from tests.weights.networks import create_network, randomized


@pytest.fixture
def source() -> Network:
    return randomized(get_config("resnet18", num_classes=4))


@pytest.fixture
def plain(source: Network, tmp_path: Path) -> Path:
    """Weights of a plain ResNet-18 of four classes."""
    torch.save(source.state_dict(), tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


def test_plain_weights_in_ibn_and_se(plain: Path, source: Network, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "resnets")
    model = create_model("resnet18_ibn_a", pretrained=plain, in_chans=1, num_classes=7)
    assert model.config == get_config("resnet18_ibn_a", in_chans=1, num_classes=7)
    assert model.training
    new, old = model.state_dict(), source.state_dict()
    torch.testing.assert_close(new["conv1.weight"], old["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(new["layer1.0.bn1.IN.weight"], old["layer1.0.bn1.weight"][:32])
    for part in ("plain.pth: ", "takes 1 channels instead of 3: sum of 3", "IBN-a", "7 are requested", "fresh (2)"):
        assert part in caplog.text
    gates = create_model("seresnet18", pretrained=plain, in_chans=4, inflate="repeat")
    assert gates.num_classes == 4
    torch.testing.assert_close(gates.state_dict()["conv1.weight"][:, 3], old["conv1.weight"][:, 0] * 0.75)
    both = create_model("resnet18_ibn_b", pretrained=plain, attention="se", se_form="linear")
    assert both(torch.rand(2, 3, 64, 64)).shape == (2, 4)


def test_errors_are_about_the_requested_network(plain: Path) -> None:
    with pytest.raises(WeightsError, match="missing: "):
        create_model("resnet34_ibn_a", pretrained=plain)
    with pytest.raises(WeightsError, match="missing: "):
        create_model("resnet34", pretrained=plain)
    with pytest.raises(ConfigError, match="inflate is one of"):
        create_model("resnet18", pretrained=plain, in_chans=1, inflate="mean")  # type: ignore[arg-type]


def test_grayscale_weights_in_an_rgb_network_and_back(source: Network, plain: Path, tmp_path: Path) -> None:
    gray = create_network("resnet18", pretrained=plain, in_chans=1).eval()
    preprocessing = Preprocessing(channels="L", mean=(0.449,), std=(0.226,))
    folder = save_bundle(Bundle(model=gray, preprocessing=preprocessing, classes=tuple("abcd")), tmp_path / "gray")
    colour = create_model("resnet18", pretrained=folder, in_chans=3).eval()
    x = torch.rand(1, 1, 64, 64)

    def agree(output: Tensor) -> None:
        torch.testing.assert_close(output, source.eval()(x.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)

    agree(gray(x))
    agree(colour(x.expand(-1, 3, -1, -1)))


def test_frozen_norms_of_plain_weights(plain: Path, source: Network) -> None:
    frozen = create_model("resnet18", pretrained=plain, norm="frozen_batch")
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(frozen(x), source.eval()(x), rtol=1e-3, atol=1e-3)


def test_a_deep_stem(tmp_path: Path) -> None:
    source = randomized(get_config("resnet18d", num_classes=4))
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = create_model("resnet18d", pretrained=tmp_path / "w.pth", in_chans=4)
    assert model.state_dict()["conv1.0.weight"].shape == (32, 4, 3, 3)
    assert create_network("resnet18d", pretrained=tmp_path / "w.pth").config.in_chans == 3


def test_only_what_starts_fresh_draws_random_numbers(plain: Path) -> None:
    torch.manual_seed(3)
    create_model("resnet18", pretrained=plain, in_chans=1)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    assert torch.equal(torch.get_rng_state(), after)


def test_the_name_of_weights_is_that_of_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("resnet18.tv_in1k", num_classes=3)
    assert isinstance(model, Network)
    assert (model.config.depths, model.num_classes) == ((2, 2, 2, 2), 3)
    asked: list[str] = []

    def refuse(reference: str) -> None:
        asked.append(reference)
        raise WeightsError("no network")

    monkeypatch.setattr("resnets.weights.create.resolve", refuse)
    for pretrained in (True, "resnet18.a1_in1k"):
        with pytest.raises(WeightsError, match="no network"):
            create_model("resnet18.tv_in1k", pretrained=pretrained)
    assert asked == ["resnet18.tv_in1k", "resnet18.a1_in1k"]
    assert len(list_pretrained()) > 60
    assert list_pretrained("vgg11*") == ["vgg11.tv_in1k", "vgg11_bn.tv_in1k"]


def test_unknown_weights_offer_those_of_the_network() -> None:
    with pytest.raises(
        UnknownNameError, match=r"got 'resnet34.tv'; did you mean resnet34\.tv_in1k or resnet34\.a1_in1k"
    ):
        create_model("resnet34.tv")
    with pytest.raises(ConfigError, match=r"got 'starter', a model; call load\('starter'\)"):
        create_model("starter")
