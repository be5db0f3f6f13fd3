"""The model card: the README of a model folder, with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import yaml

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.shapes import trace
from resnets.arch.vgg import VGGConfig
from resnets.errors import ShapeError
from resnets.weights.folder.bundle import Bundle

__all__ = ["model_card"]


def model_card(bundle: Bundle, folder: str) -> str:
    """The card as Markdown: network, input, metrics, training, provenance, classes, usage, license.

    Args:
        bundle: the model that is saved.
        folder: the folder's name, for the examples.
    """
    matter = {
        "license": bundle.license.lower(),
        "library_name": "resnets",
        "pipeline_tag": "image-classification" if bundle.classes else "image-feature-extraction",
        "tags": ["image-classification" if bundle.classes else "feature-extraction", "resnet", "pytorch"],
    }
    provenance = bundle.provenance
    metrics, training, phases = (provenance.get(key) for key in ("metrics", "training", "phases"))
    own, trained = ["metrics"], ""
    if isinstance(training, Mapping) and training:  # a summary; config.json has the options
        own += ["training", "phases", "recipe"]
        trained = f"## How it was trained\n\n{_training(training, phases)}"
    rest = {key: value for key, value in provenance.items() if key not in own}
    sections = [
        f"---\n{yaml.safe_dump(matter, sort_keys=False)}---",
        f"# {bundle.name}",
        _summary(bundle),
        *([f"## Metrics\n\n{_table(metrics)}"] if isinstance(metrics, Mapping) and metrics else []),
        *([trained] if trained else []),
        *([f"## Provenance\n\n{_entries(rest)}"] if rest else []),
        *([f"## Classes\n\n{_classes(bundle.classes)}"] if bundle.classes else []),
        f"## Usage\n\n{_usage(folder)}",
        f"## License\n\n{bundle.license}",
    ]
    return "\n\n".join(sections) + "\n"


def _summary(bundle: Bundle) -> str:
    config, preprocessing = bundle.config, bundle.preprocessing
    height, width = preprocessing.size
    output = f"{config.num_classes} classes" if config.num_classes else f"embeddings of {bundle.model.num_features}"
    blocks = "VGG blocks" if isinstance(config, VGGConfig) else f"{config.block} blocks"
    cost = f"{sum(tensor.numel() for tensor in bundle.model.parameters()):,} parameters"
    with suppress(ShapeError):  # an input that is too small for the network has no MACs
        cost += f", {trace(bundle.model.plan, (config.in_chans, height, width))[0].macs:,} multiply-adds per image"
    return (
        f"A network for {output}: {'-'.join(map(str, config.depths))} {blocks}, {cost}.\n\n"
        f"Input: {_channels(preprocessing)} at {height}x{width} ({preprocessing.crop_mode} crop, "
        f"crop_pct {preprocessing.crop_pct:g}, {preprocessing.interpolation}), values in "
        f"[{preprocessing.value_range[0]:g}, {preprocessing.value_range[1]:g}], "
        f"mean {_numbers(preprocessing.mean)}, std {_numbers(preprocessing.std)}."
    )


def _channels(preprocessing: Preprocessing) -> str:
    bands = f"{preprocessing.channels} bands" if isinstance(preprocessing.channels, int) else preprocessing.channels
    return bands if preprocessing.dtype == "uint8" else f"{bands} of {preprocessing.dtype}"


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _table(metrics: Mapping[str, Any]) -> str:
    rows = [f"| {_cell(name)} | {_cell(_value(value))} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def _training(summary: Mapping[str, Any], phases: object) -> str:
    text = _entries(summary)
    if isinstance(phases, list) and phases and all(isinstance(phase, Mapping) for phase in phases):
        lines = [[_cell(_value(value)) for value in phase.values()] for phase in phases]
        table = [[_cell(name) for name in phases[0]], ["---"] * len(phases[0]), *lines]
        text += "\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in table)
    return text


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(item) for item in value)
    return str(value)


def _entries(values: Mapping[str, Any]) -> str:
    return "\n".join(f"- **{key}**: {_cell(_value(value))}" for key, value in values.items())


def _classes(classes: tuple[str, ...]) -> str:
    shown = ", ".join(classes[:100])
    return shown if len(classes) <= 100 else f"{shown} and {len(classes) - 100} more (see `config.json`)"


def _usage(folder: str) -> str:
    return (
        f"```bash\nresnets predict --model {shlex.quote(folder)} image.jpg\n```\n\n"
        f"```python\nimport resnets\n\nbundle = resnets.load({folder!r})\n"
        'print(bundle.predict(["image.jpg"]))\n```'
    )
