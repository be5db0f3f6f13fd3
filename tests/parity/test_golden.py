"""Parity with other implementations: `tests/golden` holds what they answered for weights that names alone rebuild.

Every file goes through the one documented call, from its foreign tensors, in its own axis order. A new source needs a
dialect of its name, and taps that are not our module paths stand in that dialect's `points`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnets.arch.variants import list_models
from resnets.nn.model import Network
from resnets.weights.dialects import DIALECTS
from resnets.weights.load import import_weights
from tests.golden import rule

FOLDER = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4  # of an array's largest magnitude

FILES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def golden(name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What a file says of its network, and its arrays."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return json.loads(str(file["meta"])), arrays


def imported(meta: dict[str, Any]) -> tuple[nn.Module, Any]:
    """The network, by the documented call."""
    tensors = {key: rule.tensor(key, tuple(shape), role) for key, shape, role in meta["tensors"]}
    variant = meta["name"] if meta["name"] in list_models() else "auto"
    return import_weights(tensors, dialect=meta["source"], variant=variant, **meta["build"])


def answers(model: nn.Module, x: Tensor, source: str, layers: list[str]) -> dict[str, NDArray[Any]]:
    """What a network answers (`logits` and `map` are the same thing, `out0`..), and its inner maps by foreign name."""
    maps: dict[str, Tensor] = {}
    places = DIALECTS[source].points(model.plan) if isinstance(model, Network) else {}
    for layer in layers:
        module = model.get_submodule(places.get(layer, layer))
        module.register_forward_hook(lambda module, args, out, layer=layer: maps.update({layer: out.clone()}))
    with torch.no_grad():
        out = model(x)
    many = out if isinstance(out, list) else [out]
    found = {f"out{number}": tensor for number, tensor in enumerate(many)} | maps
    if not isinstance(out, list):
        found |= {"logits": out, "map": out}
    return {name: tensor.numpy() for name, tensor in found.items()}


def test_no_file_is_forgotten() -> None:
    """Where the collection that these are copied from is at hand, each of its files is here, byte for byte."""
    collection = FOLDER.parents[2] / "shared" / "golden"
    for path in collection.glob("*.npz"):
        assert (FOLDER / path.name).read_bytes() == path.read_bytes()
    assert {name.partition("__")[0] for name in FILES} <= {*DIALECTS}


@pytest.mark.parametrize("name", FILES)
def test_answers(name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything in the file: answers and inner maps to 1e-4, shapes exactly. `-v` prints the largest error."""
    meta, expected = golden(name)
    model, report = imported(meta)
    layers = [key.removeprefix("tap:") for key in expected if key.startswith("tap:")]
    ours = answers(model, torch.from_numpy(rule.image(tuple(meta["input"]))), meta["source"], layers)

    errors: dict[str, float] = {}
    for key, array in expected.items():
        kind, _, layer = key.rpartition(":")
        if kind == "shape" or key.endswith("_shape"):
            assert ours[layer.removesuffix("_shape")].shape == tuple(array), key
            continue
        found = ours[layer]
        if found.shape != array.shape:
            assert array.ndim == 1, f"{key}: {found.shape} for {array.shape}"
            found = rule.probe(found, array.size)
        errors[key] = float(np.abs(found - array).max() / np.abs(array).max())
    worst = max(errors, key=errors.__getitem__)
    if request.config.get_verbosity() > 0:
        with capsys.disabled():
            text = f"{meta['source']} {meta['name']} ({report.variant}): largest error {errors[worst]:.1e} in {worst}"
            print(f"\n  {text}, of {len(errors)}", end=" ")
    assert errors[worst] < TOLERANCE, errors
