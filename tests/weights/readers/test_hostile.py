"""Files that allocate, refer to themselves or to others, and configurations without bounds: one line, little memory."""

from __future__ import annotations

import json
import pickle
import resource
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import resnets
from resnets.errors import ConfigError, WeightsError
from resnets.weights.folder.config_json import read_json
from resnets.weights.key_map import read_key_map
from resnets.weights.readers.files import read_file
from tests.conftest import Command, assert_one_line_error
from tests.weights.networks import randomized_network

MIB = 2**20


def refused(path: Path, message: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError, match=message) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 300 * MIB


class Call:
    """Pickled as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "ema"])
def test_a_state_dict_that_refers_to_itself(tmp_path: Path, archive: bool, wrapper: str) -> None:
    payload: dict[str, Any] = {"tensor": torch.zeros(1)}
    payload[wrapper] = payload
    torch.save(payload, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
    refused(tmp_path / "w.pth", "refers to itself")


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    "call",
    [Call(bytearray, 10**10), Call(torch.FloatTensor, 10**9), Call(torch.Tensor, 10**9), Call(torch.HalfTensor, 10**9)],
    ids=["bytearray", "FloatTensor", "Tensor", "HalfTensor"],
)
def test_calls_that_allocate(tmp_path: Path, call: Call, protocol: int) -> None:
    torch.save({"a": call}, tmp_path / "new.pth", pickle_protocol=protocol)
    torch.save({"a": call}, tmp_path / "old.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps({"a": call}, protocol=protocol))
    for name in ("new.pth", "old.pth", "bare.pth"):
        refused(tmp_path / name, r"may allocate any size|damaged|never allowed|no torch file")


def test_what_weights_are_made_of_is_still_read(tmp_path: Path) -> None:
    state = OrderedDict(randomized_network("resnet8_cifar").state_dict())
    others = {"classes": Counter({"a": 1}), "shape": torch.Size([1]), "Tensor": "a word", "set": {1}}
    payload = {"state_dict": state, **others}
    for archive in (True, False):
        torch.save(payload, tmp_path / "w.pth", _use_new_zipfile_serialization=archive)
        assert read_file(tmp_path / "w.pth").tensors.keys() == state.keys()


def test_links_of_hdf5_to_other_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", data=np.zeros((3, 4), np.float32))
    for place in ("model_weights", "layers", "a/b/c"):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            file[place] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "layers")
            file.attrs["layer_names"] = [b"dense"]
        refused(tmp_path / "w.h5", "must be in the file itself")


def test_a_description_of_keras_that_unpacks(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    with zipfile.ZipFile(tmp_path / "w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"")
        archive.writestr("config.json", "[" + "[]," * 3_000_000 + "[]]")
    refused(tmp_path / "w.keras", "is small")


CONFIG: list[tuple[Any, str]] = [
    (lambda v: v["resnets"]["config"].update(widths=[10**9, 32, 64]), "widths"),
    (lambda v: v["resnets"]["config"].update(stem_width=10**9), "stem_width"),
    (lambda v: v["resnets"]["config"].update(depths=[10**6, 3, 3]), "blocks"),
    (lambda v: v["resnets"]["preprocessing"].update(size=[20_000, 20_000]), "8,192"),
    (lambda v: v["resnets"]["preprocessing"].update(size=[10**30, 32]), "8,192"),
    (lambda v: v["resnets"]["preprocessing"].update(size=[1e30, 32]), "size"),
    (lambda v: v["resnets"]["preprocessing"].update(crop_pct=1e-9), "crop_pct"),
    (lambda v: v["resnets"]["preprocessing"].update(crop_pct=5e-324), "crop_pct"),
    (lambda v: v["resnets"]["preprocessing"].update(value_range=[0, 1e300]), "finite"),
    (lambda v: v["resnets"]["preprocessing"].update(mean=[float("inf")] * 3), "mean"),
    (lambda v: v["resnets"]["preprocessing"].update(std=[1e-300] * 3), "std"),
    (lambda v: v.update(label_names=["a"] * 10), "stands twice"),
    (lambda v: v.update(label_names=["\ud800", *map(str, range(9))]), "Unicode"),
    (lambda v: v.update(label_names=5), "describe"),
]


@pytest.mark.parametrize(("change", "message"), CONFIG, ids=[message + str(i) for i, (_, message) in enumerate(CONFIG)])
def test_configurations_are_bounded(command: Command, tmp_path: Path, change: Any, message: str) -> None:
    folder = resnets.load("starter").save(tmp_path / "m")
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=message) as caught:
        resnets.load(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert_one_line_error(command("convert", folder), "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "stands twice"),
        ("[" * 100_000, "not JSON"),
        ("\ufeff[]", "must be an object"),
        ("NaN", "must be an object"),
    ],
)
def test_damaged_json(tmp_path: Path, text: str, message: str) -> None:
    folder = resnets.load("starter").save(tmp_path / "m")
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=message) as caught:
        resnets.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [{"widths": (10**9,) * 4}, {"widths": (2**20,) * 4}, {"depths": (999, 1, 1, 1), "widths": (2**14,) * 4}],
)
def test_networks_are_bounded_before_memory_is_taken(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at most"):
        resnets.create_model("resnet50", **overrides)


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    import os

    for suffix in (".safetensors", ".pth", ".onnx", ".h5", ".npz"):
        os.mkfifo(tmp_path / f"w{suffix}")
        refused(tmp_path / f"w{suffix}", "is not a file|damaged")
    os.mkfifo(tmp_path / "config.json")
    os.mkfifo(tmp_path / "map.yaml")
    with pytest.raises(WeightsError):
        resnets.load(tmp_path)
    with pytest.raises(WeightsError, match="regular file"):
        read_json(tmp_path / "config.json")
    with pytest.raises(ConfigError, match="regular file"):
        read_key_map(tmp_path / "map.yaml")
