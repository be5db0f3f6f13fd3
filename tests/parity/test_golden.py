"""Parity with other implementations: `tests/golden` holds their outputs for weights that are computed from names.

Every file is read by `import_weights`, from foreign tensors in their own axis order. A new source needs a
dialect of its name; taps that are not our module paths are translated by `taps.py`.
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
from resnets.nn.model import Network, build_model
from resnets.weights.dialects import DIALECTS
from resnets.weights.load import import_weights
from tests.golden import rule
from tests.parity.taps import TAPS
from tests.weights.networks import NETWORKS

FOLDER = Path(__file__).parents[1] / "golden"
TOLERANCE = 1e-4  # of an array's largest magnitude

FILES = sorted(path.stem for path in FOLDER.glob("*.npz"))


def golden(name: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Metadata of a golden file, and its arrays."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files if key != "meta"}
        return json.loads(str(file["meta"])), arrays


def imported(meta: dict[str, Any]) -> tuple[nn.Module, Any]:
    """The network, by `import_weights`."""
    tensors = {key: rule.tensor(key, tuple(shape), role) for key, shape, role in meta["tensors"]}
    variant = meta["name"] if meta["name"] in list_models() else "auto"
    return import_weights(tensors, dialect=meta["source"], variant=variant, **meta["build"])


def outputs(model: nn.Module, x: Tensor, source: str, layers: list[str]) -> dict[str, NDArray[Any]]:
    """Outputs of a network (`out0`.., also as `logits` and `map`), and its feature maps by foreign name."""
    maps: dict[str, Tensor] = {}
    places = TAPS[source](model.plan) if isinstance(model, Network) and source in TAPS else {}
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


def test_every_golden_file_is_tested() -> None:
    """If the collection that these are copied from is available, each of its files is here, byte for byte."""
    collection = FOLDER.parents[2] / "shared" / "golden"
    for path in collection.glob("*.npz"):
        assert (FOLDER / path.name).read_bytes() == path.read_bytes()
    assert {name.partition("__")[0] for name in FILES} <= {*DIALECTS}


@pytest.mark.parametrize("name", FILES)
def test_outputs(name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """Outputs and feature maps to 1e-4, shapes exactly. `-v` prints the largest error."""
    meta, expected = golden(name)
    model, report = imported(meta)
    layers = [key.removeprefix("tap:") for key in expected if key.startswith("tap:")]
    ours = outputs(model, torch.from_numpy(rule.image(tuple(meta["input"]))), meta["source"], layers)

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


@pytest.mark.parametrize("name", [name for name, (dialect, _) in NETWORKS.items() if dialect in TAPS])
def test_taps_are_modules(name: str) -> None:
    dialect, config = NETWORKS[name]
    model = build_model(config, init=False)
    points = TAPS[dialect](model.plan)
    assert all(isinstance(model.get_submodule(path), nn.Module) for path in points.values())
    assert points
