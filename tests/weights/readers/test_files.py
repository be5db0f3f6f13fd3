"""Weights files that other people wrote, kindly and not."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from resnets.errors import WeightsError
from resnets.weights.readers.files import read_file
from resnets.weights.readers.unwrap import unwrap

STATE = {"a.weight": torch.arange(1000.0), "a.bias": torch.ones(2)}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.th", "w.ckpt", "w.bin", "w.PTH"])
@pytest.mark.parametrize("archive", [True, False])
def test_torch_files(tmp_path: Path, name: str, archive: bool) -> None:
    torch.save(OrderedDict(STATE), tmp_path / name, _use_new_zipfile_serialization=archive)
    assert same(read_file(tmp_path / name).tensors, STATE)


def test_safetensors_files(tmp_path: Path) -> None:
    save_file({f"module.{key}": value for key, value in STATE.items()}, tmp_path / "w.safetensors")
    found = read_file(tmp_path / "w.safetensors")
    assert same(found.tensors, STATE)
    assert found.notes == ("cut the prefix 'module.'",)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net"])
def test_checkpoints_are_unwrapped(key: str) -> None:
    found = unwrap({"epoch": 3, key: STATE, "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}}}, "w")
    assert same(found.tensors, STATE)
    assert found.dropped == ("epoch", "optimizer")
    assert found.notes == (f"used {key!r}",)


@pytest.mark.parametrize("key", ["ema", "state_dict_ema", "model_ema", "ema_state_dict"])
def test_the_moving_average_comes_first(key: str) -> None:
    raw = {name: torch.zeros(2) for name in STATE}
    found = unwrap({"state_dict": raw, key: STATE}, "w")
    assert same(found.tensors, STATE)
    assert "moving average" in found.notes[0]
    nested = unwrap({"model": raw, key: {"decay": 0.99, "module": 1, "state_dict": STATE}}, "w")
    assert same(nested.tensors, STATE)
    empty = unwrap({"state_dict": STATE, key: None}, "w")
    assert same(empty.tensors, STATE)


def test_the_name_of_an_architecture_under_model_is_no_network() -> None:
    found = unwrap({"model": "resnet50", "state_dict": STATE}, "w")
    assert same(found.tensors, STATE)
    assert found.dropped == ("model",)


def test_prefixes_are_cut_only_if_all_keys_share_them() -> None:
    stacked = {f"_orig_mod.module.model.{key}": value for key, value in STATE.items()}
    assert same(unwrap(stacked, "w").tensors, STATE)
    mixed = {"backbone.conv": torch.ones(1), "head.fc": torch.ones(1)}
    assert same(unwrap(mixed, "w").tensors, mixed)
    foreign = {"encoder.conv": torch.ones(1)}
    assert same(unwrap(foreign, "w").tensors, foreign)


def test_entries_that_are_no_tensors_are_dropped() -> None:
    averaged = {"n_averaged": torch.tensor(7), **{f"module.{k}": v for k, v in STATE.items()}, "best_acc": 0.5}
    found = unwrap(averaged, "w")  # torch.optim.swa_utils.AveragedModel
    assert same(found.tensors, STATE)
    assert found.dropped == ("n_averaged", "best_acc")


def test_two_networks_are_not_chosen_between() -> None:
    with pytest.raises(WeightsError, match="has model, net; save one of them"):
        unwrap({"model": STATE, "net": STATE}, "w")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([torch.ones(1)], "holds a list"),
        (torch.ones(1), "holds a Tensor"),
        ({"epoch": 1}, "has none, only epoch"),
        ({}, "has none, only nothing"),
        ({"state_dict": {}}, "has none, only state_dict"),
    ],
)
def test_payloads_without_tensors(payload: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        unwrap(payload, "w")


class Evil:
    """A pickle of it makes a folder, where code is run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("pwned",)


def refuse(path: Path, message: str) -> None:
    with pytest.raises(WeightsError) as caught:
        read_file(path)
    assert message in str(caught.value)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "x": Evil()}, tmp_path / "a.pth")
    torch.save({"x": Evil()}, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "c.pth").write_bytes(pickle.dumps(Evil(), protocol=2))
    (tmp_path / "d.pth").write_bytes(pickle.dumps(Evil()))
    for name in "abc":
        refuse(tmp_path / f"{name}.pth", "would run code (it names posix.mkdir)")
    refuse(tmp_path / "d.pth", "damaged or no torch file")
    assert not (tmp_path / "pwned").exists()
    pickle.loads(pickle.dumps(Evil()))  # the trap does work
    assert (tmp_path / "pwned").is_dir()


def test_whole_modules_and_foreign_classes_are_refused_by_name(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    refuse(tmp_path / "a.pth", "names torch.nn.modules.linear.Linear")
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=1)}, tmp_path / "b.pth")
    refuse(tmp_path / "b.pth", "names argparse.Namespace")


def rezip(path: Path, change: Callable[[str, bytes], bytes], compression: int) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, change(name, content))


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(1_000_000)}, path)
    rezip(path, lambda _, content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 40_000
    refuse(path, "compressed archive")


def test_an_archive_that_claims_more_than_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(STATE, path)
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the first of the central directory; sizes stand 20 and 24 bytes in
    content[entry + 20 : entry + 28] = (2**31 - 1).to_bytes(4, "little") * 2
    path.write_bytes(bytes(content))
    refuse(path, "claims to hold more than its own size")


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/constants.pkl", b"\x80\x02).")
    refuse(tmp_path / "w.pt", "TorchScript program")


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(1000, 1000, 1000)}, tmp_path / "w.pth")
    refuse(tmp_path / "w.pth", "claims (1000, 1000, 1000) for a")
    shared = torch.zeros(1000)
    torch.save({str(i): shared for i in range(100)}, tmp_path / "v.pth")
    refuse(tmp_path / "v.pth", "cannot be larger than their file")


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("left", [0.01, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, archive: bool, left: float) -> None:
    path = tmp_path / "w.pth"
    torch.save(STATE, path, _use_new_zipfile_serialization=archive)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * left)])
    refuse(path, "damaged or no torch file")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "is empty"),
        ("w.pth", b"hello, this is a text", "damaged or no torch file"),
        ("w.pth", b"\n<!DOCTYPE html><html>", "web page"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        ("w.pth", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "damaged or no torch file"),
        ("w.safetensors", b"\xff" * 100, "no safetensors file"),
        ("w.safetensors", (10**15).to_bytes(8, "little") + b"{}", "no safetensors file"),
        ("w.safetensors", (2).to_bytes(8, "little") + b"{}", "has none"),
        ("w.msgpack", b"\x89HDF", "weights come as .safetensors .pth"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path / name, message)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "w.pth", "does not exist")
    (tmp_path / "v.pth").mkdir()
    refuse(tmp_path / "v.pth", "is not a file")


@pytest.mark.parametrize("odd", [torch.zeros(2, dtype=torch.complex64), torch.eye(3).to_sparse()])
def test_odd_kinds_of_tensors_are_refused(tmp_path: Path, odd: Tensor) -> None:
    torch.save({"a": odd}, tmp_path / "w.pth")
    refuse(tmp_path / "w.pth", "plain dense real tensors")
