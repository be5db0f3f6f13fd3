"""Parity with other implementations: `tests/golden` holds what they answered for weights that names alone rebuild.

To add a source: put its files into `tests/golden` and its networks into `NETWORKS`, with a function into `FILL` if
its names are not torchvision's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.variants import get_config
from resnets.nn.model import ResNet, build_model
from tests.golden import rule

FOLDER = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4  # of an array's largest magnitude

NETWORKS: dict[str, ResNetConfig] = {
    "torchvision__resnet18": get_config("resnet18"),
    "torchvision__resnet50": get_config("resnet50"),
    "torchvision__resnet50_dilated_os8": get_config("resnet50", output_stride=8),
    "torchvision__resnext50_32x4d": get_config("resnext50_32x4d"),
    "akamaster__resnet20": get_config("resnet20_cifar"),
}
LATER = (  # golden files of issues to come: whole sources, and networks of a source that is here
    "timm",
    "ibnnet",
    "cadene",
    "vocreid",
    "tutorial",
    "keras",
    "kerastutorial",
    "slim",
    "tfofficial",
    "torchvision__vgg16",
)
AKAMASTERS_HEAD = {"linear.weight": "fc.weight", "linear.bias": "fc.bias"}


def as_it_is(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our names are torchvision's."""
    return tensors


def with_linear_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """akamaster's names are torchvision's but for the classifier."""
    return {AKAMASTERS_HEAD.get(name, name): tensor for name, tensor in tensors.items()}


FILL: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "torchvision": as_it_is,
    "akamaster": with_linear_head,
}


def golden(name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a file says of its network, and its arrays."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return json.loads(str(file["meta"])), arrays


def filled(name: str, meta: dict[str, Any]) -> ResNet:
    """Our network with the file's weights, strictly: no key missing, none left over."""
    foreign = {key: torch.from_numpy(rule.tensor(key, tuple(shape), role)) for key, shape, role in meta["tensors"]}
    model = build_model(NETWORKS[name], init=False)
    model.load_state_dict(FILL[meta["source"]](foreign), strict=True, assign=True)
    return model.eval()


def test_every_file_is_tested() -> None:
    """Here; and where the collection that these are copied from is at hand, each of its files now or `LATER`."""
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(NETWORKS)
    collection = {path.stem for path in (FOLDER.parents[2] / "shared" / "golden").glob("*.npz")}
    left = {name for name in collection - set(NETWORKS) if name not in LATER and name.partition("__")[0] not in LATER}
    assert not left


@pytest.mark.parametrize("name", NETWORKS)
def test_names_and_shapes(name: str) -> None:
    """Their list of tensors is our `state_dict`, in the same order."""
    meta, _ = golden(name)
    theirs = {key: torch.empty(shape, device="meta") for key, shape, _ in meta["tensors"]}
    ours = build_model(NETWORKS[name], init=False).state_dict()
    renamed = FILL[meta["source"]](theirs)
    assert [(key, tuple(t.shape)) for key, t in renamed.items()] == [(key, tuple(t.shape)) for key, t in ours.items()]


@pytest.mark.parametrize("name", NETWORKS)
def test_answers(name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """Logits, and every inner map that the file taps; `pytest -v` shows the largest error."""
    meta, expected = golden(name)
    model = filled(name, meta)
    maps: dict[str, Tensor] = {}
    for key in expected:
        if key.startswith("tap:"):
            layer = key.removeprefix("tap:")
            model.get_submodule(layer).register_forward_hook(
                lambda module, args, out, layer=layer: maps.update({layer: out})
            )
    with torch.no_grad():
        maps["logits"] = model(torch.from_numpy(rule.image(tuple(meta["input"]))))

    errors: dict[str, float] = {}
    for key, array in expected.items():
        kind, _, layer = key.rpartition(":")
        if kind == "shape":
            assert tuple(maps[layer].shape) == tuple(array), key
            continue
        ours = rule.probe(maps[layer].numpy()) if kind == "tap" else maps["logits"].numpy()
        assert ours.shape == array.shape, key
        errors[key] = float(np.abs(ours - array).max() / np.abs(array).max())
    if request.config.get_verbosity() > 0:
        worst = max(errors, key=errors.__getitem__)
        with capsys.disabled():
            print(f"  largest error {errors[worst]:.1e} in {worst} of {len(errors)}", end=" ")
    assert set(errors) == {key for key in expected if not key.startswith("shape:")}
    assert max(errors.values()) < TOLERANCE, errors
