"""Files of other frameworks, kindly and not: numpy's, Keras's, TensorFlow checkpoints."""

from __future__ import annotations

import io
import json
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from resnets.errors import MissingExtraError, WeightsError
from resnets.weights.load import import_weights
from resnets.weights.readers.files import read_file
from tests.weights.networks import NETWORKS, foreign, same


def arrays_of(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    dialect, config = NETWORKS[name]
    tensors, state = foreign(config, dialect)
    return {key: tensor.numpy() for key, tensor in tensors.items()}, state


def refused(path: Path, match: str) -> None:
    """Reading raises an error of one line, and nothing is written."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(WeightsError, match=match) as error:
        read_file(path)
    assert "\n" not in str(error.value)
    assert sorted(path.parent.iterdir()) == before


# numpy


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path: Path, save: Any) -> None:
    arrays, state = arrays_of("slim v2 152")
    save(tmp_path / "w.npz", **arrays)
    model, report = import_weights(tmp_path / "w.npz")
    assert same(model.state_dict(), state)
    assert report.dialect == "slim"


def header(shape: str, descr: str = "<f4") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def zipped(path: Path, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return path


def test_hostile_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "objects.npz", a=np.array([{"a": 1}], dtype=object))
    refused(tmp_path / "objects.npz", "would run code")
    refused(zipped(tmp_path / "billion.npz", a=header("(1000000000,)")), "not of the size in its header")
    refused(zipped(tmp_path / "bomb.npz", a=header("(10000000,)") + bytes(40_000_000)), "larger than their file")
    refused(zipped(tmp_path / "words.npz", a=header("(1,)", "<U4") + bytes(16)), "arrays of numbers")
    refused(zipped(tmp_path / "negative.npz", a=header("(-4,)")), "damaged")
    refused(zipped(tmp_path / "none.npz", a=b"no array"), "damaged")
    (tmp_path / "pickle.npz").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "pickle.npz", "damaged")
    np.savez(tmp_path / "cut.npz", a=np.ones(1000))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:2000])
    refused(tmp_path / "cut.npz", "damaged")


# Keras


def write_legacy(file: Any, arrays: dict[str, Any], *, suffix: str = ":0", keras1: bool = False) -> None:
    """As Keras 2 saves weights: a group a layer, and attributes that list them."""
    layers: dict[str, list[str]] = {}
    for name in arrays:
        layers.setdefault(name.rpartition("/")[0], []).append(name)
    file.attrs["layer_names"] = [layer.encode() for layer in layers]
    old = {"kernel": "W", "bias": "b", "moving_mean": "running_mean", "moving_variance": "running_std"}
    for layer, names in layers.items():
        group = file.create_group(layer)
        written = []
        for name in names:
            variable = name.rpartition("/")[2]
            label = f"{layer}_{old.get(variable, variable)}" if keras1 else name
            written.append(f"{label}{suffix}")
            group.create_dataset(written[-1], data=arrays[name])
        group.attrs["weight_names"] = [text.encode() for text in written]


def write_keras3(file: Any, arrays: dict[str, Any], *, named: bool) -> dict[str, Any]:
    """As Keras 3: classes counted through, variables by number; and the description of the model."""
    layers: dict[str, list[str]] = {}
    for name in arrays:
        layers.setdefault(name.rpartition("/")[0], []).append(name)
    config, counts = [], dict[str, int]()
    for layer, names in layers.items():
        kind = "batch_normalization" if any(n.endswith("gamma") for n in names) else "conv2d"
        kind = "dense" if layer == "predictions" else kind
        number = counts.get(kind, 0)
        counts[kind] = number + 1
        group = file.create_group(f"layers/{kind}{f'_{number}' if number else ''}/vars")
        if named:
            group.attrs["name"] = layer
        for place, name in enumerate(names):
            group.create_dataset(str(place), data=arrays[name])
        label = {"conv2d": "Conv2D", "batch_normalization": "BatchNormalization", "dense": "Dense"}[kind]
        config.append({"class_name": label, "config": {"name": layer}})
    return {"config": {"layers": config}}


@pytest.mark.parametrize("network", ["keras 152v2", "keras vgg19", "tutorial 50"])
def test_legacy_keras(tmp_path: Path, network: str) -> None:
    h5py = pytest.importorskip("h5py")
    arrays, state = arrays_of(network)
    with h5py.File(tmp_path / "weights.h5", "w") as file:
        write_legacy(file, arrays)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        write_legacy(file.create_group("model_weights"), arrays)
        file.create_group("optimizer_weights").create_dataset("m", data=np.ones(3))
    with h5py.File(tmp_path / "one.h5", "w") as file:
        write_legacy(file, arrays, keras1=True, suffix="")
    for path in sorted(tmp_path.iterdir()):
        model, report = import_weights(path)
        assert same(model.state_dict(), state), path
        assert report.dropped == (("optimizer_weights",) if path.name == "model.h5" else ())


def test_keras_3(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    arrays, state = arrays_of("keras 152v2")
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        write_keras3(file, arrays, named=True)
    for named in (True, False):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            config = write_keras3(file, arrays, named=named)
        with zipfile.ZipFile(tmp_path / f"{named}.keras", "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", buffer.getvalue())
    for path in sorted(tmp_path.iterdir()):
        model, _ = import_weights(path)
        assert same(model.state_dict(), state), path


def test_the_model_description_overrides_defaults(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    arrays, _ = arrays_of("keras 50")
    norm = {"class_name": "BatchNormalization", "config": {"name": "a", "epsilon": 0.002}}
    conv = {"class_name": "Conv2D", "config": {"kernel_size": [3, 3], "strides": [2, 2], "padding": "same"}}
    start = {"class_name": "InputLayer", "config": {"batch_input_shape": [None, 96, 96, 3]}}

    def saved(*layers: Any) -> Path:
        with h5py.File(tmp_path / "w.h5", "w") as file:
            write_legacy(file.create_group("model_weights"), arrays)
            file.attrs["model_config"] = json.dumps({"config": {"layers": [start, *layers]}})
        return tmp_path / "w.h5"

    config = import_weights(saved(norm, conv))[0].config
    assert (config.norm_eps, config.padding, config.img_size) == (0.002, "same", 96)
    assert import_weights(saved(norm, conv), norm_eps=0.5)[0].config.norm_eps == 0.5
    other = {"class_name": "BatchNormalization", "config": {"name": "b", "epsilon": 0.1}}
    refused(saved(norm, other), "share one epsilon")
    refused(saved({"class_name": "Activation", "config": {"activation": "gelu"}}), "activations are ReLU; .* gelu")


def test_hostile_keras(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    arrays, _ = arrays_of("mlperf resnet-8")
    with h5py.File(tmp_path / "huge.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", shape=(10**9, 10), dtype="f4", chunks=(10**4, 10))
    refused(tmp_path / "huge.h5", "larger than their file")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.create_dataset("0", (3,), dtype="f4", external=[("/etc/hostname", 0, 12)])
    refused(tmp_path / "outside.h5", "must be in the file itself")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["layers"] = h5py.ExternalLink(str(tmp_path / "huge.h5"), "layers")
        file["loop"] = h5py.SoftLink("/loop")
    refused(tmp_path / "link.h5", "has layers in another")
    with h5py.File(tmp_path / "cut.h5", "w") as file:
        write_legacy(file, arrays)
    whole = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.h5", "damaged")
    (tmp_path / "text.keras").write_text("hello")
    refused(tmp_path / "text.keras", "damaged")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    refused(tmp_path / "empty.keras", r"has model\.weights\.h5")
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(40_000_000))
    refused(tmp_path / "bomb.keras", "larger than their file")


@pytest.mark.parametrize(("module", "name"), [("h5py", "w.h5"), ("onnx", "w.onnx"), ("tensorflow", "w.index")])
def test_missing_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(MissingExtraError, match="pip install 'resnets"):
        read_file(tmp_path / name)


# TensorFlow, by a module that stands for it


class FakeReader:
    def __init__(self, variables: dict[str, Any]) -> None:
        self.variables = variables

    def get_variable_to_shape_map(self) -> dict[str, list[int]]:
        return {name: list(np.shape(array)) for name, array in self.variables.items()}

    def get_tensor(self, name: str) -> Any:
        return self.variables[name]


def fake_tensorflow(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any] | Exception) -> list[str]:
    asked: list[str] = []

    def load_checkpoint(prefix: str) -> FakeReader:
        asked.append(prefix)
        if isinstance(variables, Exception):
            raise variables
        return FakeReader(variables)

    module = types.ModuleType("tensorflow")
    module.train = types.SimpleNamespace(load_checkpoint=load_checkpoint)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorflow", module)
    return asked


def checkpoint(folder: Path, size: int = 10_000_000) -> Path:
    (folder / "model.ckpt-5.index").write_bytes(b"index")
    with (folder / "model.ckpt-5.data-00000-of-00001").open("wb") as file:
        file.truncate(size)
    return folder / "model.ckpt-5"


def test_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, state = arrays_of("slim v2 152")
    extra = {f"{name}/Momentum": array for name, array in arrays.items()}
    averages = {f"{name}/ExponentialMovingAverage": array for name, array in arrays.items()}
    raw = {name: np.zeros_like(array) for name, array in arrays.items()}
    asked = fake_tensorflow(monkeypatch, raw | extra | averages | {"global_step": np.array(5)})
    prefix = checkpoint(tmp_path)
    for path in (prefix, prefix.with_name("model.ckpt-5.index")):
        model, report = import_weights(path)
        assert same(model.state_dict(), state)
        assert "global_step" in report.dropped
        assert any("moving averages" in note for note in report.notes)
    assert asked == [str(prefix)] * 2


def test_hostile_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = checkpoint(tmp_path, size=10)
    fake_tensorflow(monkeypatch, {"a": np.broadcast_to(np.float32(1), (10**6, 10))})
    refused(prefix, "larger than their file")
    fake_tensorflow(monkeypatch, RuntimeError("Data loss:\nbad table"))
    refused(prefix, "damaged or no TensorFlow checkpoint; RuntimeError: Data loss: bad table")
    fake_tensorflow(monkeypatch, {"global_step": np.array(1)})
    refused(prefix, "variables by name")
