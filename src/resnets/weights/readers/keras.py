"""Reader of Keras files: `.h5` (weights alone or a whole model), `.weights.h5` and `.keras` of Keras 3.

Names have the form `layer/variable` for every generation: `conv1_conv/kernel`, `bn2a_branch2a/moving_mean`.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from resnets.errors import WeightsError, require_extra
from resnets.weights.readers.hdf5_probe import probe_hdf5
from resnets.weights.readers.keras_config import config_facts, layer_names
from resnets.weights.readers.keras_run import describes_layers
from resnets.weights.readers.keras_verify import keras_verifier
from resnets.weights.readers.limits import as_tensor, check_sizes, one_line
from resnets.weights.readers.unwrap import Unwrapped

__all__ = ["read_keras"]

CONFIG_BYTES = 2**22  # of a model's description; ResNet-152's has 0.4 MB
KERAS_1 = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",  # a variance, despite its name
}
ORDER = {1: ("kernel",), 2: ("kernel", "bias"), 4: ("gamma", "beta", "moving_mean", "moving_variance")}


def read_keras(path: Path) -> Unwrapped:
    """Read the tensors of a Keras file, and config fields from the model's description."""
    with require_extra("a Keras file", "keras"):
        import h5py
    try:
        if zipfile.is_zipfile(path):
            weights, config = _unpack(path)
            _try_reading(weights, path)
            with h5py.File(io.BytesIO(weights), "r") as file:
                return _read(file, config, path, h5py)
        _try_reading(path, path)
        with h5py.File(path, "r") as file:
            return _read(file, _model_config(file), path, h5py)
    except WeightsError:
        raise
    except Exception as error:  # h5py raises any type on damaged files
        raise WeightsError(f"{path} is damaged or no Keras file; {one_line(error)}; copy it again") from None


def _try_reading(source: Path | bytes, path: Path) -> None:
    if problem := probe_hdf5(source):
        raise WeightsError(f"{path} is damaged or no Keras file; {problem}; copy it again")


def _unpack(path: Path) -> tuple[bytes, dict[str, Any]]:
    """`model.weights.h5` and `config.json` of a `.keras` archive."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        weights, config = entries.get("model.weights.h5"), entries.get("config.json")
        if weights is None:
            raise WeightsError(f"a .keras archive has model.weights.h5; {path} has none; save the model with Keras")
        check_sizes([(weights.filename, (weights.file_size,), 1)], path, path.stat().st_size)
        if config is not None and config.file_size > CONFIG_BYTES:
            raise WeightsError(
                f"config.json of a .keras archive is small; {path} has {config.file_size} bytes; do not use it"
            )
        return archive.read(weights), json.loads(archive.read(config)) if config else {}


def _model_config(file: Any) -> dict[str, Any]:
    text = file.attrs.get("model_config")
    if text is None:
        return {}
    text = text.decode() if isinstance(text, bytes) else str(text)
    if len(text) > CONFIG_BYTES:
        raise WeightsError(f"a model's description is small; {file.filename} has {len(text):,} bytes; do not use it")
    config = json.loads(text)
    return config if isinstance(config, dict) else {}


def _refuse_links(file: Any, path: Path, h5py: Any) -> None:
    """Links to other files would be followed: by `get`, and by attributes that name groups."""

    # The function returns what it finds: h5py loses an exception that is raised within.
    found = file.visititems_links(lambda name, link: name if isinstance(link, h5py.ExternalLink) else None)
    if found is not None:
        raise WeightsError(f"tensors must be in the file itself; {path} has {found} in another; do not use it")


def _read(file: Any, config: dict[str, Any], path: Path, h5py: Any) -> Unwrapped:
    _refuse_links(file, path, h5py)
    root = file.get("model_weights", file)
    arrays = _datasets(root, path, h5py)  # by path; links to other files are not followed
    dropped = tuple(name for name in file if name not in ("model_weights", "layers", "_layer_checkpoint_dependencies"))
    if "layer_names" in root.attrs or "layer_names0" in root.attrs:
        named = list(_legacy(root, arrays))
        dropped = () if root is file else dropped
    else:
        named = list(_by_order(file, arrays, config))
    tensors: dict[str, Tensor] = {}
    for name, array in named:
        if name in tensors:
            raise WeightsError(f"each name has one tensor; {path} has {name} twice; save one network alone")
        tensors[name] = as_tensor(name, array[()], path)
    if not tensors:
        raise WeightsError(f"weights are tensors by layer; {path} has none; save the model with Keras")
    verify = keras_verifier(config, tensors, path) if describes_layers(config) else None
    notes = () if verify else ("the file has no description of its layers to compare the network with",)
    return Unwrapped(tensors=tensors, dropped=dropped, notes=notes, facts=config_facts(config, path), verify=verify)


def _datasets(root: Any, path: Path, h5py: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:  # h5py follows only hard links, and each object once
        if not isinstance(item, h5py.Dataset) or "optimizer" in name.split("/")[0]:
            return
        if item.external or item.is_virtual:
            raise WeightsError(f"tensors must be in the file itself; {path} has {name} in another; do not use it")
        if item.dtype.kind in "biuf":
            found[name] = item

    root.visititems(visit)
    check_sizes(((n, d.shape, d.dtype.itemsize) for n, d in found.items()), path, path.stat().st_size)
    return found


def _legacy(root: Any, arrays: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Variables of Keras 1 and 2 files: attributes list the layers, and the weights of each."""
    for layer in _strings(root, "layer_names"):
        if layer not in root:
            continue
        for weight in _strings(root[layer], "weight_names"):
            yield _legacy_name(layer, weight), arrays[f"{layer}/{weight}"]


def _legacy_name(layer: str, weight: str) -> str:
    weight = weight.removesuffix(":0")
    if "/" in weight:
        return "/".join(weight.split("/")[-2:])
    if match := re.fullmatch(rf"{re.escape(layer)}_({'|'.join(KERAS_1)})(?:_\d+)?", weight):
        return f"{layer}/{KERAS_1[match[1]]}"
    return f"{layer}/{weight}"


def _strings(group: Any, name: str) -> list[str]:
    """An attribute that is a list of strings, split over several attributes if it is long."""
    pieces = [group.attrs[name]] if name in group.attrs else []
    while name not in group.attrs and f"{name}{len(pieces)}" in group.attrs:
        pieces.append(group.attrs[f"{name}{len(pieces)}"])
    return [item.decode() if isinstance(item, bytes) else str(item) for piece in pieces for item in np.ravel(piece)]


def _by_order(file: Any, arrays: dict[str, Any], config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Variables of Keras 3 files: `layers/conv2d_1/vars/0`, numbered by class; new ones name the layer in `vars`."""
    names = layer_names(config)
    groups: dict[str, dict[int, Any]] = {}
    for name, array in arrays.items():
        group, _, number = name.rpartition("/")
        if group.endswith("/vars") and number.isdecimal() and not group.startswith("optimizer"):
            groups.setdefault(group, {})[int(number)] = array
    for group, variables in groups.items():
        counted = group.removesuffix("/vars").rpartition("/")[2]
        own = file[group].attrs.get("name")
        layer = (own.decode() if isinstance(own, bytes) else str(own)) if own else names.get(counted, counted)
        roles = ORDER.get(len(variables), ())
        if len(variables) == 2 and variables[0].ndim == 1:
            roles = ("gamma", "beta")
        if sorted(variables) != list(range(len(roles))):
            continue  # seed counters of random layers
        for index, role in enumerate(roles):
            yield f"{layer}/{role}", variables[index]
