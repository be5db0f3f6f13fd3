"""`resnets convert`: convert weights of any known codebase to a model folder, or to another codebase's naming."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.arch.networks import convert_overrides, network_options
from resnets.arch.preprocessing import NORMALISATIONS, Preprocessing
from resnets.cli.flags import AllowNonfinite, Json
from resnets.cli.output import print_json, print_text
from resnets.options.declarations import Option, options_of
from resnets.options.grammar import parse_settings, parse_value
from resnets.runtime.formatting import format_percent

if TYPE_CHECKING:
    from resnets.weights.convert import Conversion
    from resnets.weights.report import LoadReport

MAX_LISTED = 3  # names of tensors listed per line


def _option(metavar: str, help: str, *names: str) -> Any:
    """Option for what a weights file does not contain."""
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel="Reading the file")


def run(
    source: Annotated[
        str, typer.Argument(metavar="MODEL", help="A weights file, a model folder (also timm's), or named weights.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="PATH",
            help="Model folder to write, or with --to a file (default: write nothing).",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(metavar="DIALECT", help="Write a weights file with the tensor names of torchvision, timm, ..."),
    ] = None,
    dialect: Annotated[str, _option("NAME", "Codebase whose tensor names the file uses.")] = "auto",
    variant: Annotated[str, _option("NAME", "Network of the file.")] = "auto",
    settings: Annotated[
        list[str] | None,
        _option("KEY=VALUE", "Network option, by the name of the codebase or of ResNetConfig.", "--set"),
    ] = None,
    preprocessing: Annotated[
        str | None,
        _option("NAME", f"What was done with the values of images in training: {', '.join(NORMALISATIONS)}."),
    ] = None,
    labels: Annotated[str | None, _option("FILE", "Class names: one per line, or a JSON list.")] = None,
    num_classes: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Replace the classifier by a new one for N classes; 0 removes the classifier."
        ),
    ] = None,
    map: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Rename tensors by a .yaml file, or write the mapping to .json."),
    ] = None,
    min_filled: Annotated[
        float,
        typer.Option(metavar="FRACTION", min=0, max=1, help="Minimum fraction of the network that the file must fill."),
    ] = 1.0,
    allow_nonfinite: AllowNonfinite = False,
    as_json: Json = False,
) -> None:
    """Convert weights of any known codebase to a model folder, and report how they were read.

    With --to, write a .safetensors or .npz file with the tensor names of another codebase. Converting it back
    restores the same tensors.
    """
    from resnets.weights.convert import convert

    if to is not None and output is None:
        raise typer.BadParameter("--to needs an output; pass -o weights.safetensors", param_hint="-o")
    done = convert(
        source,
        output,
        dialect=dialect,
        variant=variant,
        to=to,
        num_classes=num_classes,
        preprocessing=preprocessing,
        labels=labels,
        map=map,
        min_filled=min_filled,
        allow_nonfinite=allow_nonfinite,
        options=_options(settings or []),
    )
    if as_json:
        print_json({"source": source, **done.to_dict()})
    else:
        print_text("\n".join(_report_lines(source, done, to)))


def _options(settings: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE texts: fields of a network configuration in their types, options of other codebases as they read."""
    texts, known = parse_settings(settings, "stride_in=1x1"), network_options()
    foreign = {key: parse_value(text) for key, text in texts.items() if key not in known}
    return foreign | convert_overrides({key: text for key, text in texts.items() if key in known})


def _report_lines(source: str, done: Conversion, to: str | None) -> Iterable[str]:
    from resnets.arch.variants import name_of

    params = sum(tensor.numel() for tensor in done.model.parameters())
    config = done.model.config
    name = done.report.variant if done.report else name_of(config) or "custom"
    yield f"{source}: {name}, {config.num_classes} classes, {config.in_chans} channels, {params:,} parameters"
    if done.report is not None:
        yield from _reading_lines(done, done.report)
    if done.adapted is not None:
        yield from (_line("adapted", note) for note in done.adapted.notes)
        yield from _names("new", done.adapted.fresh)
        yield from _names("dropped", done.adapted.dropped)
    if done.written is None:
        yield "nothing written; pass -o FOLDER to write a model folder"
    else:
        yield f"wrote {done.written}" + (f" with the tensor names of {to}" if to else "")
        if done.call is not None:
            yield f"  {to} builds it with: {done.call}"
    if done.map is not None:
        yield f"wrote {done.map}"


def _reading_lines(done: Conversion, report: LoadReport) -> Iterable[str]:
    from resnets.weights.dialects import get_dialect

    yield _line("dialect", f"{report.dialect}: {get_dialect(report.dialect).description}")
    yield _line("filled", format_percent(report.filled))
    if report.assumed:
        yield _line("assumed", "not determined by the tensors; a wrong value changes the outputs; change with --set:")
        declared = {option.name: option for option in options_of(type(done.model.config))}
        for name, value in report.assumed.items():
            yield _line("", f"{name}={value}: {_meaning(declared[name], value)}")
    if done.preprocessing_assumed and done.preprocessing is not None:
        preprocessing = done.preprocessing
        why = "ImageNet's, as the graph has none" if report.dialect == "onnx" else f"usual for {report.dialect}"
        yield _line("assumed", f"{_images(preprocessing)}: {why}; change with --preprocessing")
    yield from _names("renamed", [f"{theirs} -> {ours}" for theirs, ours in report.renames.items()])
    yield from _names("missing", report.missing)
    yield from _names("unexpected", report.unexpected)
    yield from _names("dropped", report.dropped)
    yield from (_line("note", note) for note in report.notes)


def _images(preprocessing: Preprocessing) -> str:
    """The preprocessing in one line."""
    size, crop = "x".join(map(str, preprocessing.size)), f"{preprocessing.crop_pct:g} {preprocessing.crop_mode}"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    low, high = preprocessing.value_range
    return (
        f"{preprocessing.channels} images of {size} ({preprocessing.interpolation}, crop {crop}), "
        f"values {low:g}..{high:g}, mean {mean}, std {std}"
    )


def _meaning(option: Option, value: Any) -> str:
    """What the option is, what this value means, and the alternatives, from the documentation of the option."""
    meaning = re.search(rf"`{re.escape(str(value))}` \(([^)]*)\)", option.help)
    others = [choice for choice in option.choices if choice != str(value)]
    text = option.first_sentence + (f" ({meaning[1]})" if meaning else "")
    return text + (f"; alternatives: {', '.join(others)}" if others else "")


def _names(title: str, names: Sequence[str]) -> Iterable[str]:
    """Number of tensors and the first few names."""
    if names:
        more = f", and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
        yield _line(title, f"{len(names)}: {', '.join(names[:MAX_LISTED])}{more}")


def _line(title: str, text: str) -> str:
    return f"  {title:<11}{text}"
