"""Weights files and model folders that are damaged or made to do harm."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from typing import Any

import torch
from safetensors.torch import save_file

import resnets
from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from withstands_cases.case import Group

WEIGHTS_FILES = Group("Weights files")

CONVERT = "resnets convert {} --output out"


@WEIGHTS_FILES.case("a pickle that would run a command", CONVERT.format("w.pth"), "never allowed|posix|system")
def code() -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.system, ("touch attacked",)

    torch.save({"a": Attack()}, "w.pth")


@WEIGHTS_FILES.case("a state_dict that refers to itself", CONVERT.format("w.pth"), "refers to itself")
def cycle() -> None:
    state: dict[str, Any] = {"a": torch.zeros(1)}
    state["state_dict"] = state
    torch.save(state, "w.pth")


@WEIGHTS_FILES.case("a pickle that allocates 10 GB", CONVERT.format("w.pth"), "may allocate any size")
def allocation() -> None:
    class Large:
        def __reduce__(self) -> Any:
            return bytearray, (10**10,)

    with open("w.pth", "wb") as file:
        file.write(pickle.dumps({"a": Large()}, 2))


@WEIGHTS_FILES.case("an .npz whose header unpacks to 100 MB", CONVERT.format("w.npz"), "has a header of")
def npz_bomb() -> None:
    with zipfile.ZipFile("w.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", b"\x93NUMPY\x02\x00" + (10**8).to_bytes(4, "little") + b" " * 10**8)


@WEIGHTS_FILES.case("a .keras archive that unpacks a thousandfold", CONVERT.format("w.keras"), "larger than their file")
def keras_bomb() -> None:
    with zipfile.ZipFile("w.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(400_000_000))


@WEIGHTS_FILES.case("an HDF5 file with a link to another one", CONVERT.format("w.h5"), "in another")
def outside() -> None:
    import h5py

    with h5py.File("w.h5", "w") as file:
        file["layers"] = h5py.ExternalLink("/etc/secret.h5", "layers")


@WEIGHTS_FILES.case("two bytes that crash ONNX parsers", CONVERT.format("w.onnx"), "w.onnx")
def onnx() -> None:
    with open("w.onnx", "wb") as file:
        file.write(b"\x08\x08")


@WEIGHTS_FILES.case("a safetensors header of 2^60 bytes", CONVERT.format("w.safetensors"), "w.safetensors")
def header() -> None:
    with open("w.safetensors", "wb") as file:
        file.write((2**60).to_bytes(8, "little") + b"{}")


@WEIGHTS_FILES.case("a weight that is NaN", CONVERT.format("w.safetensors --variant resnet8_cifar"), "conv1.weight")
def nan() -> None:
    state = build_model(get_config("resnet8_cifar")).state_dict()
    state["conv1.weight"][0] = float("nan")
    save_file(state, "w.safetensors")


@WEIGHTS_FILES.case("a model folder for images of 1e30 pixels", CONVERT.format("m"), "size")
def large_size() -> None:
    resnets.load("starter").save("m")
    with open("m/config.json") as file:
        config = json.load(file)
    config["resnets"]["preprocessing"]["size"] = [1e30, 1e30]
    with open("m/config.json", "w") as file:
        json.dump(config, file)
