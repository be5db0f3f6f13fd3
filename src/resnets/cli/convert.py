"""`resnets convert`: weights from anywhere to a model folder, or to another codebase's names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.arch.networks import convert_overrides, network_options
from resnets.cli.output import print_json, print_text
from resnets.options.grammar import parse_settings, parse_value

if TYPE_CHECKING:
    from resnets.weights.convert import Conversion

READING, EXAMPLES = "What the file does not say", 3

# Fields that tensors do not tell, and what a wrong one does. The tensors fit all the same.
WHY = {
    "stride_in": "where a bottleneck strides, its first 1x1 or its 3x3: some points of accuracy",
    "stride_unit": "which block of a stage strides: every map after it differs",
    "norm_eps": "added to each variance: small channels change most",
    "norm_groups": "which channels are normalised together",
    "stem_pool": "how the first pool pads: maps shift or lose an edge",
    "stem_act": "an activation in the stem, or none",
    "stem": "how the input is first subsampled",
    "padding": "SAME pads after, not on both sides: every map shifts",
    "shortcut": "how a shortcut without weights changes shape",
    "attention_reduction": "how a gate squeezes",
    "antialias": "whether subsampling blurs first",
    "pre_activation": "whether norms stand before their convolutions",
    "global_pool": "how the last map becomes an embedding",
    "kernel": "cells a side of the middle convolution",
    "conv_bias": "which convolutions have a bias",
}


def run(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="A weights file, a model folder (ours, timm's) or named weights.")
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="PATH", help="The model folder, or with --to the file; else only a report."
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="DIALECT", help="Write the names of torchvision, timm, ... to a file instead.")
    ] = None,
    dialect: Annotated[
        str, typer.Option(metavar="NAME", help="Whose naming the file follows.", rich_help_panel=READING)
    ] = "auto",
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="Which network it is.", rich_help_panel=READING)
    ] = "auto",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="An option, as its codebase or ours spells it.", rich_help_panel=READING
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Class names, a line each or a JSON list.", rich_help_panel=READING),
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Another number of classes: a fresh classifier; 0 for none.")
    ] = None,
    map: Annotated[str | None, typer.Option(metavar="FILE.json", help="Write where every key went.")] = None,
    min_filled: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Refuse a file that gives less of the network.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="The report, for programs.")] = False,
) -> None:
    """Open weights from anywhere, say what was understood, and write a model folder.

    With --to, write a .safetensors or .npz file in another codebase's names; what came from there is the same again.
    """
    from resnets.weights.convert import convert

    if to is not None and output is None:
        raise typer.BadParameter("name the file to write, such as weights.safetensors", param_hint="-o")
    done = convert(
        source,
        output,
        dialect=dialect,
        variant=variant,
        to=to,
        num_classes=num_classes,
        labels=labels,
        map=map,
        min_filled=min_filled,
        options=_options(settings or []),
    )
    if as_json:
        print_json({"source": source, **done.to_dict()})
    else:
        print_text("\n".join(_lines(source, done, to)))


def _options(settings: Iterable[str]) -> dict[str, Any]:
    """KEY=VALUE texts: fields of a network configuration in their types, options of other codebases as they read."""
    texts, known = parse_settings(settings, "stride_in=1x1"), network_options()
    foreign = {key: parse_value(text) for key, text in texts.items() if key not in known}
    return foreign | convert_overrides({key: text for key, text in texts.items() if key in known})


def _lines(source: str, done: Conversion, to: str | None) -> Iterable[str]:
    from resnets.arch.variants import name_of

    params = sum(tensor.numel() for tensor in done.model.parameters())
    config = done.model.config
    name = done.report.variant if done.report else name_of(config) or "custom"
    yield f"{source}: {name}, {config.num_classes} classes, {config.in_chans} channels, {params:,} parameters"
    if done.report is not None:
        yield from _report(done)
    if done.adapted is not None:
        yield from (f"  adapted   {note}" for note in done.adapted.notes)
        yield from _listed("fresh", done.adapted.fresh)
        yield from _listed("dropped", done.adapted.dropped)
    if done.written is None:
        yield "nothing is written; -o FOLDER writes a model folder"
    else:
        yield f"wrote {done.written}" + (f" in {to}'s names" if to else "")
    if done.map is not None:
        yield f"wrote {done.map}"


def _report(done: Conversion) -> Iterable[str]:
    from resnets.weights.dialects import get_dialect

    report = done.report
    assert report is not None
    yield f"  dialect   {report.dialect}: {get_dialect(report.dialect).description}"
    yield f"  filled    {report.filled:.2%}"
    if report.assumed:
        yield "  assumed   as the dialect has it, for tensors do not tell; --set says otherwise"
        for name, value in report.assumed.items():
            yield f"            {f'{name}={value}':<24}{WHY.get(name, 'the same tensors fit another value')}"
    if done.preprocessing_assumed and done.preprocessing is not None:
        preprocessing = done.preprocessing
        size, mean = "x".join(map(str, preprocessing.size)), ", ".join(f"{value:g}" for value in preprocessing.mean)
        yield f"  images  {preprocessing.channels} {size}, mean {mean}: usual for {report.dialect}, not in the file"
    yield from _listed("renamed", [f"{theirs} -> {ours}" for theirs, ours in report.renames.items()])
    yield from _listed("missing", report.missing)
    yield from _listed("left over", report.unexpected)
    yield from _listed("dropped", report.dropped)
    yield from (f"  note      {note}" for note in report.notes)


def _listed(title: str, items: Iterable[str]) -> Iterable[str]:
    """A count and the first few."""
    every = list(items)
    if every:
        more = f", and {len(every) - EXAMPLES} more" if len(every) > EXAMPLES else ""
        yield f"  {title:<10}{len(every)}: {', '.join(every[:EXAMPLES])}{more}"
