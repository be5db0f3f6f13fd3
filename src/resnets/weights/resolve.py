"""The one place where a model reference becomes a model.

A reference is, in this order:

1. `starter`, the network that comes with the package;
2. a network's name, such as `resnet50` (it has no weights), or named weights, such as `resnet50.tv_in1k`;
3. a model folder of ours or of timm's, or the `model.safetensors` in it;
4. a run folder: its best model, or the last where there is no best yet;
5. a weights file.

Names come before paths; a folder that is called like a network is reached as `./resnet50`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from resnets.arch.networks import NetworkConfig, config_from_dict
from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import Network
from resnets.weights.dialects import get_dialect
from resnets.weights.folder.bundle import Bundle, read_folder
from resnets.weights.folder.config_json import read_config, read_json
from resnets.weights.folder.storage import CONFIG, TENSORS, is_model_folder, standing
from resnets.weights.folder.timm import read_timm_folder
from resnets.weights.hub import cached, fetch
from resnets.weights.load import import_weights
from resnets.weights.readers.files import SUFFIXES
from resnets.weights.registry import NAMED, get_weights
from resnets.weights.report import LoadReport

__all__ = [
    "STARTER",
    "Reference",
    "assumed_preprocessing",
    "load_bundle",
    "load_named",
    "open_folder",
    "resolve",
    "resolve_config",
]

STARTER = Path(__file__).parent / "starter"
RUN_MODELS = ("best", "last")
GREY_MEAN, GREY_STD = (0.449,), (0.226,)  # the means of ImageNet's three


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a model reference stands for.

    Args:
        text: as it was given.
        kind: `starter`, `variant`, `named`, `folder`, `run` or `file`.
        path: the model folder to read (of a run: the one chosen), or the file (of named weights: where it is in the
            cache, or will be); `None` for a variant.
    """

    text: str
    kind: Literal["starter", "variant", "named", "folder", "run", "file"]
    path: Path | None = None


def resolve(reference: str | Path) -> Reference:
    """Find out what a model reference stands for; nothing is read but folders' listings.

    Args:
        reference: see above; a `Path` is always a path.

    Raises:
        UnknownNameError: neither a name nor a path; the nearest names are offered.
        ConfigError: a CIFAR depth that no rule makes.
        WeightsError: a path that holds no model, or no `starter` in this installation.
    """
    text = str(reference)
    if isinstance(reference, str) and not _is_path(text):
        if text == "starter":
            return _starter()
        if _is_variant(text):
            return Reference(text=text, kind="variant")
        if text in NAMED:
            return Reference(text=text, kind="named", path=cached(NAMED[text].url))
    path = Path(text).expanduser()
    if is_model_folder(path):
        return Reference(text=text, kind="folder", path=path)
    for name in RUN_MODELS:
        if is_model_folder(path / name):
            return Reference(text=text, kind="run", path=path / name)
    if path.is_file():
        within = path.name == TENSORS and is_model_folder(path.parent)
        return Reference(text=text, kind="folder" if within else "file", path=path.parent if within else path)
    if path.is_dir():
        what = "a run without a saved model" if (path / "args.yaml").is_file() else "a folder without a model"
        raise WeightsError(f"a model is needed; {path} is {what}; pass a model folder, run folder or weights file")
    if _is_path(text) or isinstance(reference, Path):
        raise WeightsError(f"a model is needed; {path} does not exist; check the path")
    raise UnknownNameError("model: no network, file or folder has this name", text, ("starter", *VARIANTS, *NAMED))


def load_bundle(reference: str | Path) -> Bundle:
    """The model that a reference stands for, in evaluation mode.

    A bare weights file brings neither class names nor preprocessing: classes are then called `0`, `1`, ...,
    preprocessing is what the dialect's networks were trained with, and the provenance says so.

    Raises:
        ResnetsError: as `resolve`; a network's name alone; a folder or file that cannot be used.
    """
    found = resolve(reference)
    if found.path is None:
        here = f" (for the folder, write ./{found.text})" if Path(found.text).exists() else ""
        raise WeightsError(
            f"a model with weights is needed; {found.text} is a network without any{here}; "
            "train it, or pass `starter`, a weights file, a model folder or a run folder"
        )
    if found.kind == "named":
        return _from_named(found.text)
    return _from_file(found.path) if found.kind == "file" else open_folder(found.path)


def resolve_config(reference: str | Path) -> NetworkConfig:
    """Read the config of the network that a model reference names, without its weights where possible.

    Raises:
        ResnetsError: as `load_bundle`.
    """
    found = resolve(reference)
    if found.kind == "variant":
        return get_config(found.text)
    if found.kind == "named":
        return get_config(get_weights(found.text).variant)
    assert found.path is not None
    path = standing(found.path) / CONFIG
    if found.kind == "file" or "resnets" not in read_json(path):
        return load_bundle(reference).config
    try:
        return config_from_dict(read_config(path)["resnets"]["config"])
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"config.json must describe a network; {path}: {error}; write the folder again") from None


def open_folder(folder: Path | str) -> Bundle:
    """The bundle of a model folder, of ours or of timm's.

    Raises:
        WeightsError: as `read_folder` and `read_timm_folder`.
    """
    place = standing(Path(folder))
    values = read_json(place / CONFIG)
    return read_folder(folder) if "resnets" in values else read_timm_folder(place, values)[0]


def load_named(name: str) -> tuple[Network, LoadReport]:
    """The network of named weights, from the cache or else from where they are published.

    Raises:
        UnknownNameError: no such weights.
        WeightsError: no connection, or a file that is not what it should be.
    """
    weights = get_weights(name)
    return import_weights(fetch(weights.url, weights.sha256), variant=weights.variant)


def _from_named(name: str) -> Bundle:
    weights = get_weights(name)
    model, report = load_named(name)
    provenance = {"weights": name, "url": weights.url, "sha256": weights.sha256, "import": report.to_dict()}
    if weights.top1 is not None:
        provenance["figures"] = {"imagenet top-1": weights.top1 / 100}
    return Bundle(
        model=model,
        preprocessing=weights.preprocessing,
        classes=tuple(map(str, range(model.num_classes))),
        name=weights.variant,
        license=weights.license,
        provenance=provenance,
    )


def _from_file(path: Path) -> Bundle:
    model, report = import_weights(path)
    preprocessing = assumed_preprocessing(model.config, report.dialect, path)
    return Bundle(
        model=model,
        preprocessing=preprocessing,
        classes=tuple(map(str, range(model.num_classes))),
        name=report.variant,
        provenance={
            "weights": str(path),
            "import": report.to_dict(),
            "note": "the file names neither classes nor preprocessing: classes are numbered, "
            f"and preprocessing is assumed from the {report.dialect} dialect",
        },
    )


def assumed_preprocessing(config: NetworkConfig, dialect: str, path: Path) -> Preprocessing:
    """What the networks of a dialect are trained with, for a file that does not say.

    Raises:
        WeightsError: input channels that are no image's.
    """
    if config.in_chans not in (1, 3):
        raise WeightsError(
            f"a weights file does not tell how its input is made; {path} takes {config.in_chans} channels; "
            "use import_weights and make a Bundle with the right Preprocessing"
        )
    small = config.img_size < 64  # such networks take their images whole
    size = (config.img_size, config.img_size)
    preprocessing = Preprocessing(size=size, crop_pct=1.0) if small else Preprocessing(size=size)
    if config.in_chans == 1:
        return replace(preprocessing, channels="L", mean=GREY_MEAN, std=GREY_STD)
    return replace(preprocessing, **get_dialect(dialect).preprocessing_for(config))


def _starter() -> Reference:
    if not is_model_folder(STARTER):
        raise WeightsError(f"`starter` comes with the package; {STARTER} is not there; install resnets again")
    return Reference(text="starter", kind="starter", path=STARTER)


def _is_variant(text: str) -> bool:
    try:
        get_config(text)
    except UnknownNameError:
        return False
    return True


def _is_path(text: str) -> bool:
    return "/" in text or os.sep in text or text.startswith((".", "~")) or text.endswith(SUFFIXES)
