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
from resnets.errors import ConfigError, ResnetsError, WeightsError
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


def test_containers_beyond_the_size_of_their_file(tmp_path: Path) -> None:
    def archive(pickled: bytes) -> None:
        with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
            file.writestr("a/data.pkl", b"\x80\x02" + pickled)
            file.writestr("a/version", "3\n")

    archive(b"})" + b"\x85" * 200_000 + b"K\x01s.")  # C code recurses over a key of nested tuples
    refused(tmp_path / "w.pth", "far beyond its own size")
    archive(b"})" + b"K\x01\x86" * 100_000 + b"K\x01s.")
    refused(tmp_path / "w.pth", "far beyond its own size")
    text = pickle.dumps("a" * 2**20, 2)[2:-1]
    calls = b"h\x00c_codecs\nencode\n(h\x00X\x06\x00\x00\x00utf-32tR0" * 300
    archive(text + b"0" + calls + b"N.")
    refused(tmp_path / "w.pth", "far beyond its own size")


def test_a_large_old_file_that_allocates_at_its_end(tmp_path: Path) -> None:
    pickled = b"\x80\x02}(X\x01\x00\x00\x00aX" + (2**24).to_bytes(4, "little") + b"a" * 2**24
    (tmp_path / "w.pth").write_bytes(pickled + b"X\x01\x00\x00\x00bc__builtin__\nbytearray\nJ\x00\x00\x00\x70\x85Ru.")
    refused(tmp_path / "w.pth", "may allocate any size")


@pytest.mark.parametrize("name", ["get", "values"])
def test_a_container_with_a_damaged_method(tmp_path: Path, name: str) -> None:
    state = OrderedDict(randomized_network("resnet8_cifar").state_dict())
    setattr(state, name, "text")
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    refused(tmp_path / "w.pth", "cannot read|damaged|no torch file")


@pytest.mark.parametrize(
    "header",
    [b"(", b"-" * 9000 + b"1", b"1" + b"+1" * 4000, b"{[]:1}", b"{'descr': '|V0', 'shape': (9,), 'fortran_order': 0}"],
)
def test_headers_of_npz(tmp_path: Path, header: bytes) -> None:
    for version, size in ((1, 2), (2, 4)):
        with zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
            entry = b"\x93NUMPY" + bytes([version, 0]) + len(header).to_bytes(size, "little") + header
            file.writestr("a.npy", entry)
        refused(tmp_path / "w.npz", "is damaged or no .npz")


def test_an_npz_with_a_huge_header_or_a_name_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", b"\x93NUMPY\x02\x00" + (10**8).to_bytes(4, "little") + b" " * 10**8)
    refused(tmp_path / "w.npz", "has a header of 100,000,000 bytes")
    np.savez(tmp_path / "one.npz", **{"fc.bias": np.zeros(3)})  # type: ignore[arg-type]
    with zipfile.ZipFile(tmp_path / "one.npz") as one, zipfile.ZipFile(tmp_path / "w.npz", "w") as file:
        for name in ("fc.bias", "fc.bias.npy"):
            file.writestr(name, one.read("fc.bias.npy"))
    refused(tmp_path / "w.npz", "has some twice")


@pytest.mark.parametrize("path", [".", "/", "a\0b.pth", "n" * 300 + ".pth", "~nobody-here/x.pth", "w\ud800.pth"])
def test_paths_that_cannot_be(path: str) -> None:
    for read in (read_file, resnets.load):
        with pytest.raises(ResnetsError) as caught:
            read(path)
        assert str(caught.value).isprintable()


def test_names_are_quoted_in_one_printable_line(tmp_path: Path) -> None:
    state = randomized_network("resnet8_cifar").state_dict() | {"a\n\x1b[2J" + "b" * 10**6: torch.zeros(1)}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        resnets.import_weights(tmp_path / "w.pth", variant="resnet8_cifar", dialect="torchvision")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 5000


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
