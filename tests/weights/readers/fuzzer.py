"""Opens mutated files of one kind until its time is over; `test_fuzz.py` runs it in a process of its own.

    python -m tests.weights.readers.fuzzer KIND SECONDS SEED [ITERATION]

Every mutation depends on the kind, the seed and its number alone, so that ITERATION repeats one. It prints a line of
JSON: how many files were opened and refused, and whatever else happened.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import resnets
from resnets.errors import ResnetsError
from resnets.weights.export import foreign_tensors
from resnets.weights.folder.timm_folder import save_timm_folder
from tests.weights.networks import randomized_network

MAX_SECONDS = 20.0  # for one file
MAX_LINE = 1500  # characters of an error
ADDRESS_SPACE = 16 * 2**30

Case = tuple[str, bytes]  # name of the file that is mutated, and its content


def network() -> Any:
    return randomized_network("resnet8_cifar", widths=(4, 8, 16), stem_width=4, num_classes=3).eval()


def state() -> dict[str, torch.Tensor]:
    return {key: tensor.contiguous() for key, tensor in network().state_dict().items()}


def torch_file(folder: Path, *, archive: bool) -> Case:
    buffer = io.BytesIO()
    payload = {"state_dict": state(), "epoch": 3, "args": {"lr": 0.1}}
    torch.save(payload, buffer, _use_new_zipfile_serialization=archive)
    return "w.pth", buffer.getvalue()


def safetensors_file(folder: Path) -> Case:
    save_file(state(), folder / "w.safetensors")
    return "w.safetensors", (folder / "w.safetensors").read_bytes()


def npz_file(folder: Path) -> Case:
    arrays: dict[str, Any] = {key: tensor.numpy() for key, tensor in state().items()}
    np.savez(folder / "w.npz", **arrays)
    return "w.npz", (folder / "w.npz").read_bytes()


def h5_file(folder: Path) -> Case:
    import h5py

    model = randomized_network("keras_resnet50", depths=(1, 1, 1, 1), widths=(4, 4, 4, 4), stem_width=4, num_classes=2)
    with h5py.File(folder / "w.h5", "w") as file:
        layers: dict[str, list[str]] = {}
        for name, tensor in foreign_tensors(model, "keras").items():
            layer = name.partition("/")[0]
            file.create_dataset(f"{layer}/{name}:0", data=tensor.numpy())
            layers.setdefault(layer, []).append(f"{name}:0")
        file.attrs["layer_names"] = [layer.encode() for layer in layers]
        for layer, names in layers.items():
            file[layer].attrs["weight_names"] = [name.encode() for name in names]
    return "w.h5", (folder / "w.h5").read_bytes()


def keras_file(folder: Path) -> Case:
    import h5py

    inner = io.BytesIO()
    with h5py.File(inner, "w") as file:
        file.create_dataset("layers/conv2d/vars/0", data=np.zeros((3, 3, 3, 4), np.float32))
        file.create_dataset("layers/conv2d/vars/1", data=np.zeros(4, np.float32))
    config = {"config": {"layers": [{"class_name": "Conv2D", "config": {"name": "conv2d", "kernel_size": [3, 3]}}]}}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", inner.getvalue())
    return "w.keras", buffer.getvalue()


def onnx_file(folder: Path) -> Case:
    torch.onnx.export(network(), (torch.zeros(1, 3, 32, 32),), str(folder / "w.onnx"), dynamo=False, opset_version=13)
    return "w.onnx", (folder / "w.onnx").read_bytes()


def tflite_file(folder: Path) -> Case:
    from tests.weights.readers.lite_files import LiteFile
    from tests.weights.readers.lite_files import network as lite_network

    del folder
    return "w.tflite", lite_network(LiteFile())


def model_folder(folder: Path) -> Case:
    bundle = resnets.load("starter")
    bundle.save(folder / "m")
    return "m/config.json", (folder / "m" / "config.json").read_bytes()


def timm_folder(folder: Path) -> Case:
    model = randomized_network("resnet10t", num_classes=3) if "resnet10t" in resnets.list_models() else None
    model = model or randomized_network("resnet18", depths=(1, 1, 1, 1), num_classes=3)
    images = resnets.Preprocessing(size=(32, 32))
    save_timm_folder(resnets.Bundle(model=model, preprocessing=images, classes=("a", "b", "c")), folder / "m")
    return "m/config.json", (folder / "m" / "config.json").read_bytes()


KINDS: dict[str, Callable[[Path], Case]] = {
    "torch": lambda folder: torch_file(folder, archive=True),
    "torch before 1.6": lambda folder: torch_file(folder, archive=False),
    "safetensors": safetensors_file,
    "npz": npz_file,
    "h5": h5_file,
    "keras": keras_file,
    "onnx": onnx_file,
    "tflite": tflite_file,
    "model folder": model_folder,
    "timm folder": timm_folder,
}


def mutate(content: bytes, draw: random.Random) -> bytes:
    """One to four changes: bits, numbers, cut or repeated stretches, lost ends."""
    data = bytearray(content)
    # Headers and directories are at the ends of files.
    zones = (min(len(data), 4096), len(data))
    for _ in range(draw.choice((1, 1, 2, 4))):
        if not data:
            break
        at = draw.randrange(min(draw.choice(zones), len(data)))
        if draw.random() < 0.3:
            at = len(data) - 1 - at
        match draw.randrange(7):
            case 0:
                data[at] ^= 1 << draw.randrange(8)
            case 1:
                data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
            case 2:
                size = draw.choice((1, 2, 4, 8))
                value = draw.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1), draw.getrandbits(8 * size)))
                data[at : at + size] = value.to_bytes(size, draw.choice(("little", "big")))
            case 3:
                del data[at : at + draw.choice((1, 2, 16, 1000))]
            case 4:
                part = data[at : at + draw.choice((1, 4, 64, 1000))]
                data[at:at] = part * draw.choice((1, 1, 3, 50))
            case 5:
                del data[at:]
            case 6:  # a number in text
                digits = [i for i in range(at, min(at + 200, len(data))) if 48 <= data[i] <= 57]
                if digits:
                    value = draw.choice((b"-1", b"1e999", b"99999999999", b"NaN", b"[[]]", b'"x"'))
                    data[digits[0] : digits[0] + 1] = value
    return bytes(data)


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    kind, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    only = int(sys.argv[4]) if len(sys.argv) > 4 else None
    torch.set_num_threads(1)
    counts, faults, slowest = {"opened": 0, "refused": 0}, list[str](), 0.0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        name, content = KINDS[kind](folder)
        path = folder / name
        reference = path.parent if path.name == "config.json" else path
        path.write_bytes(content)
        with contextlib.suppress(ResnetsError):
            open_one(reference)
        before, end, number = peak_bytes(), time.perf_counter() + seconds, only or 0
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        while time.perf_counter() < end or not counts["opened"] + counts["refused"] + len(faults):
            new = path.with_name(f"{path.name}.new")
            new.write_bytes(mutate(content, random.Random(f"{kind} {seed} {number}")))
            new.replace(path)  # the one before may still be mapped
            started = time.perf_counter()
            try:
                open_one(reference)
                counts["opened"] += 1
            except ResnetsError as error:
                counts["refused"] += 1
                if "\n" in str(error) or len(str(error)) > MAX_LINE:
                    faults.append(f"{number}: not one line: {str(error)[:300]!r}")
            except BaseException as error:  # whatever else is a fault
                faults.append(f"{number}: {type(error).__name__}: {str(error)[:300]!r}")
            slowest = max(slowest, took := time.perf_counter() - started)
            if took > MAX_SECONDS:
                faults.append(f"{number}: took {took:.0f} s")
            number += 1
            if only is not None or len(faults) > 5:
                break
    report = {**counts, "faults": faults, "slowest": round(slowest, 2), "added_bytes": peak_bytes() - before}
    print(json.dumps(report))


def open_one(reference: Path) -> None:
    stated = reference.suffix in (".h5", ".keras", ".onnx", ".tflite")
    options: dict[str, Any] = {} if stated else {"shortcut": "A", "stem_pool": "none"}
    if reference.is_dir():
        resnets.load(reference)
    else:
        resnets.import_weights(reference, **options)


if __name__ == "__main__":
    main()
