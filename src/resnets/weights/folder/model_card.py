"""The model card: the README of a model folder, with the front matter that the Hugging Face hub reads.

`model_card.md.jinja` is its text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from html import escape
from pathlib import Path

import yaml

from resnets.arch.shapes import trace
from resnets.arch.vgg import VGGConfig
from resnets.errors import ShapeError, printable
from resnets.weights.folder.bundle import Bundle

__all__ = ["model_card"]

SYNTAX = re.compile(r"[\\`*\[\]|~]|(?<!\w)_|_(?!\w)")  # of Markdown; an underscore inside a word is none
START = re.compile(r"^(\d*)([#+.)-])(?=[\s#]|$)")  # of a heading or a list, at the start of a line
TEMPLATE = Path(__file__).with_suffix(".md.jinja")


def model_card(bundle: Bundle, folder: str) -> str:
    """The card as Markdown: network, input, metrics, training, provenance, classes, usage, license.

    Args:
        bundle: the model that is saved.
        folder: the folder's name, for the examples.
    """
    import jinja2  # only saving needs it

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    environment.filters |= {"cell": _cell, "markdown": _markdown, "number": "{:g}".format}
    config, images, provenance = bundle.config, bundle.preprocessing, bundle.provenance
    bands = f"{images.channels} bands" if isinstance(images.channels, int) else images.channels
    cost = f"{sum(tensor.numel() for tensor in bundle.model.parameters()):,} parameters"
    with suppress(ShapeError):  # an input that is too small for the network has no MACs
        cost += f", {trace(bundle.model.plan, (config.in_chans, *images.size))[0].macs:,} multiply-adds per image"
    metrics, training, phases = (provenance.get(key) for key in ("metrics", "training", "phases"))
    trained = isinstance(training, Mapping) and bool(training)  # a summary; config.json has the options
    shown = ("metrics", "training", "phases", "recipe") if trained else ("metrics",)
    tabular = isinstance(phases, list) and all(isinstance(phase, Mapping) for phase in phases)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        front_matter=_front_matter(bundle),
        name=bundle.name,
        config=config,
        output=f"{config.num_classes} classes" if config.num_classes else f"embeddings of {bundle.model.num_features}",
        blocks="VGG blocks" if isinstance(config, VGGConfig) else f"{config.block} blocks",
        cost=cost,
        images=images,
        channels=bands if images.dtype == "uint8" else f"{bands} of {images.dtype}",
        metrics=metrics if isinstance(metrics, Mapping) else {},
        training=training if trained else {},
        phases=phases if tabular else [],
        provenance={key: value for key, value in provenance.items() if key not in shown},
        classes=bundle.classes,
        shell_folder=shlex.quote(folder),
        python_folder=repr(folder),
        license=bundle.license,
    )


def _front_matter(bundle: Bundle) -> str:
    matter = {
        "license": bundle.license.lower(),
        "library_name": "resnets",
        "pipeline_tag": "image-classification" if bundle.classes else "image-feature-extraction",
        "tags": ["image-classification" if bundle.classes else "feature-extraction", "resnet", "pytorch"],
    }
    return yaml.safe_dump(matter, sort_keys=False)


def _cell(value: object) -> str:
    """A value in a cell of a Markdown table."""
    return _markdown(_text(value))


def _markdown(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line."""
    text = SYNTAX.sub(r"\\\g<0>", escape(printable(" ".join(text.split())), quote=False))
    return START.sub(r"\1\\\2", text)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return str(value)
