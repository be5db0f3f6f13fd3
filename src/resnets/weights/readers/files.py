"""Reading weights files of any format safely: safetensors and torch files here, the others in the files beside this.

Torch files are read with `weights_only=True`; no option turns that off. Archives must be stored uncompressed, and no
tensor may be larger than its storage, so a small file cannot expand to a large allocation.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from resnets.errors import ResnetsError, WeightsError
from resnets.weights.readers import KERAS_SUFFIXES, SUFFIXES
from resnets.weights.readers.keras import read_keras
from resnets.weights.readers.limits import one_line
from resnets.weights.readers.npz import read_npz
from resnets.weights.readers.onnx.read import read_onnx
from resnets.weights.readers.pickle_depth import first_pickles, tuple_depth
from resnets.weights.readers.tensorflow import is_tensorflow, read_tensorflow
from resnets.weights.readers.tflite.read import read_tflite
from resnets.weights.readers.unwrap import Unwrapped, unwrap

__all__ = ["read_file", "read_safetensors"]

# The name of a class or function in torch's error on rejecting a pickle.
ALLOCATING = re.compile(rb"(?:builtins|__builtin__)\n(?:bytearray|complex)|torch(?:\.\w+)*\n\w*Tensor(?=\n)")
COPYING = re.compile(rb"(?:builtins|__builtin__)\nset|_codecs\nencode|torch\nSize(?=\n)")
COPIED = 2**28  # bytes that these may make: calls times the longest argument
LEGACY_PICKLE = 2**22  # bytes of a file in torch's format before 1.6, at whose start the pickle is
NESTED = 50_000  # opcodes that may nest tuples; C code recurses over them
TUPLES = (b"\x85", b"\x86", b"\x87", b"t")
CODE = re.compile(r"(?:GLOBAL|[Uu]nsupported class|unrecognized function) <?([\w.]+)")


def read_file(path: Path | str) -> Unwrapped:
    """Read the tensors of the network in a weights file or training checkpoint, on the CPU.

    Args:
        path: `.safetensors`, or a torch file (`.pth .pt .th .ckpt .bin`), mapped from the disk where it can be; a
            Keras file (`.h5 .keras`), `.npz`, `.onnx`, `.tflite`; a TensorFlow checkpoint: its prefix or `.index`.

    Raises:
        MissingExtraError: the file requires a library that is not installed.
        WeightsError: missing, truncated, of another kind, without tensors, two networks, or a pickle with code.
    """
    try:
        return _read_file(Path(path).expanduser())
    except ResnetsError:
        raise
    except Exception as error:  # impossible paths, and what libraries raise on hostile files
        raise WeightsError(f"cannot read {path}; {one_line(error)}; check the path, and copy the file again") from None


def _read_file(path: Path) -> Unwrapped:
    if is_tensorflow(path):
        return read_tensorflow(path)
    _check_file(path)
    suffix = path.suffix.lower()
    if suffix in KERAS_SUFFIXES:
        return read_keras(path)
    if suffix == ".onnx":
        return read_onnx(path)
    if suffix == ".tflite":
        return read_tflite(path)
    if suffix == ".npz":
        return unwrap(read_npz(path), str(path))
    payload = read_safetensors(path) if suffix == ".safetensors" else _read_torch(path)
    unwrapped = unwrap(payload, str(path))
    _check_tensors(unwrapped.tensors, path)
    return unwrapped


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, mapped from the disk. The format itself rules out code and overlapping tensors."""
    _check_file(path)
    try:
        return load_file(path)
    except OSError as error:
        raise WeightsError(f"cannot read {path}; {error.strerror or error}; check its permissions") from None
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is damaged or no safetensors file; {error}; copy or download it again") from None


def _check_file(path: Path) -> None:
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise WeightsError(f"a weights file is required; {path} {what}; check the path")
    if path.suffix.lower() not in SUFFIXES:
        raise WeightsError(f"weights come as {' '.join(SUFFIXES)}; got {path}; rename or convert it")
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise WeightsError(f"cannot read {path}; {error.strerror}; check its permissions") from None
    if not start:
        raise WeightsError(f"{path} is empty; copy or download it again")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull`")
    if start.lower().startswith((b"<!doctype", b"<html")):
        raise WeightsError(f"{path} is a web page, not weights; download the file itself")


def _read_torch(path: Path) -> Any:
    try:
        archive = zipfile.is_zipfile(path)
        if archive:
            _check_archive(path)
        else:
            _check_pickle(path.read_bytes(), path, legacy=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice is for the author of the file
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except WeightsError:
        raise
    except Exception as error:  # torch raises any type on damaged and hostile files
        raise WeightsError(_why(error, path)) from None


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise WeightsError(f"{path} is a TorchScript program, not weights; save its state_dict() with torch.save")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise WeightsError(
                f"{path} is a compressed archive; torch writes them uncompressed; save it again with torch"
            )
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise WeightsError(f"{path} claims to hold more than its own size; it is damaged or hostile; do not use it")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                _check_pickle(archive.read(entry), path)


def _check_pickle(content: bytes, path: Path, *, legacy: bool = False) -> None:
    """Refuse calls that torch allows, that no weights need, and that allocate any size that they are told."""
    if match := ALLOCATING.search(content):
        name = match[0].replace(b"\n", b".").decode()
        raise WeightsError(
            f"weights are made of tensors and plain containers; {path} calls {name}, which may allocate any size; save "
            "its state_dict() alone, best as safetensors"
        )
    suspect = content[:LEGACY_PICKLE] if legacy else content
    if not COPYING.search(suspect) and sum(map(suspect.count, TUPLES)) <= NESTED:
        return
    pickled = first_pickles(suspect, 4) if legacy else suspect  # tensors follow
    copies = COPYING.search(pickled) and len(pickled) * pickled.count(b"R") > COPIED
    if copies or tuple_depth(pickled) > NESTED:
        raise WeightsError(
            f"weights are made of tensors and plain containers; {path} nests or copies containers far beyond its own "
            "size; it is hostile; do not use it"
        )


def _why(error: Exception, path: Path) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, pickle.UnpicklingError) and (code := CODE.search(text)):
        return (
            f"reading {path} would run code (it names {code[1].rstrip('.')}), which is never allowed; "
            "save its state_dict() alone, best as safetensors"
        )
    first = text.rpartition("WeightsUnpickler error: ")[2].split(". ")[0].split(" Check ")[0]  # the rest is advice
    reason = f"{type(error).__name__}: {first[:100]}"
    return f"{path} is damaged or no torch file; {reason}; copy or download it again"


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    total, limit = 0, 4 * path.stat().st_size
    for name, tensor in tensors.items():
        special = tensor.is_quantized or tensor.is_complex() or tensor.is_meta or tensor.is_nested
        if tensor.layout != torch.strided or special:
            kind = f"{'nested ' * tensor.is_nested}{tensor.layout} {tensor.dtype}".replace("torch.", "")
            raise WeightsError(f"weights are plain dense real tensors; {path} has {name} as {kind}; convert it first")
        size = tensor.numel() * tensor.element_size()
        total += size
        if size > tensor.untyped_storage().nbytes() or total > limit:
            raise WeightsError(
                f"tensors cannot be larger than their file; {path} claims {tuple(tensor.shape)} for {name}; "
                "it is damaged or hostile; do not use it"
            )
