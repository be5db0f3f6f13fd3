"""Resolution of model references: which network, named weights, folder or file a text stands for.

A reference is, in this order:

1. `starter`, the network that comes with the package;
2. a network's name, such as `resnet50` (without weights), or named weights, such as `resnet50.tv_in1k`;
3. a model folder of ours, timm's or transformers', or the `model.safetensors` in it;
4. a run folder: its best model, or the last one if there is no best yet;
5. a weights file.

Names come before paths; a folder that is named like a network is reached as `./resnet50`. `open.py` reads the model.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import ResnetsError, UnknownNameError, WeightsError
from resnets.weights.folder.config_json import network_config, read_config, read_json
from resnets.weights.folder.storage import CONFIG, TENSORS, current_folder, is_model_folder
from resnets.weights.readers import SUFFIXES
from resnets.weights.registry import NAMED_WEIGHTS, get_weights

__all__ = ["STARTER", "Reference", "resolve"]

STARTER = Path(__file__).parent / "starter"
RUN_MODELS = ("best", "last")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A resolved model reference.

    Args:
        text: as it was given.
        kind: `starter`, `variant`, `named`, `folder`, `run` or `file`.
        path: the model folder to read (of a run: the chosen one), or the file (of named weights: its path in the
            cache); `None` for a variant.
    """

    text: str
    kind: Literal["starter", "variant", "named", "folder", "run", "file"]
    path: Path | None = None

    def read_config(self) -> NetworkConfig | None:
        """The network's config, without torch; `None` for weights files and timm's folders: tensors determine it."""
        if self.kind in ("variant", "named"):
            return get_config(get_weights(self.text).variant if self.kind == "named" else self.text)
        if self.path is None or self.kind == "file":
            return None
        config = current_folder(self.path) / CONFIG
        return network_config(read_config(config), config) if "resnets" in read_json(config) else None


def resolve(reference: str | Path) -> Reference:
    """Find out what a model reference stands for; reads no weights.

    Args:
        reference: see above; a `Path` is always a path.

    Raises:
        UnknownNameError: neither a name nor a path; the nearest names are listed.
        ConfigError: a CIFAR depth that no rule makes.
        WeightsError: a path without a model, or no `starter` in this installation.
    """
    text = str(reference)
    if isinstance(reference, str) and not _is_path(text):
        if text == "starter":
            return _starter()
        if _is_variant(text):
            return Reference(text=text, kind="variant")
        if text in NAMED_WEIGHTS:
            from resnets.weights.hub import cached  # imports the HTTP client

            return Reference(text=text, kind="named", path=cached(NAMED_WEIGHTS[text].url))
    try:
        return _resolve_path(text, Path(text).expanduser(), certain=_is_path(text) or isinstance(reference, Path))
    except ResnetsError:
        raise
    except (OSError, RuntimeError, ValueError) as error:  # no such user, a loop of links, a name too long
        reason = getattr(error, "strerror", None) or str(error)
        raise WeightsError(f"a model is required; {text} cannot be opened ({reason}); check the path") from None


def _resolve_path(text: str, path: Path, *, certain: bool) -> Reference:
    """What a path stands for. `certain`: the text cannot be a name."""
    if is_model_folder(path):
        return Reference(text=text, kind="folder", path=path)
    for name in RUN_MODELS:
        if is_model_folder(path / name):
            return Reference(text=text, kind="run", path=path / name)
    if path.is_file():
        in_folder = path.name == TENSORS and is_model_folder(path.parent)
        return Reference(text=text, kind="folder" if in_folder else "file", path=path.parent if in_folder else path)
    if path.is_dir():
        what = "a run without a saved model" if (path / "args.yaml").is_file() else "a folder without a model"
        raise WeightsError(f"a model is required; {path} is {what}; pass a model folder, run folder or weights file")
    if path.exists():
        raise WeightsError(f"a model is required; {path} is not a regular file; check the path")
    if path.with_name(f"{path.name}.index").is_file():  # the prefix of a TensorFlow checkpoint
        return Reference(text=text, kind="file", path=path)
    if certain:
        raise WeightsError(f"a model is required; {path} does not exist; check the path")
    known = ("starter", *VARIANTS, *NAMED_WEIGHTS)
    raise UnknownNameError("model: no network, file or folder has this name", text, known)


def _starter() -> Reference:
    if not is_model_folder(STARTER):
        raise WeightsError(f"`starter` comes with the package; {STARTER} does not exist; install resnets again")
    return Reference(text="starter", kind="starter", path=STARTER)


def _is_variant(text: str) -> bool:
    try:
        get_config(text)
    except UnknownNameError:
        return False
    return True


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text or text.startswith((".", "~")) or text.endswith(SUFFIXES)
