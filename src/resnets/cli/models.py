"""`resnets models`: list the named networks."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from resnets.arch.config import ResNetConfig
from resnets.arch.describe import totals
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VARIANTS, list_models
from resnets.arch.vgg import VGGConfig
from resnets.cli.flags import Json, Markdown
from resnets.cli.output import Column, markdown, print_json, print_table, print_text
from resnets.errors import UnknownNameError
from resnets.runtime.formatting import format_count

COLUMNS = (
    Column("name"),
    Column("params", right=True),
    Column("MACs", right=True),
    Column("input", right=True),
    Column("classes", right=True),
    Column("blocks", wrap=True),
)


def run(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Part of a name, or a pattern such as 'resnet*_cifar'.")
    ] = "*",
    as_json: Json = False,
    as_markdown: Markdown = False,
) -> None:
    """List the named networks with their parameters and MACs.

    MACs are multiply-adds for one image of the input size; FLOPs are twice that. CIFAR networks also exist at depths
    that are not listed: resnet38_cifar is a valid name.
    """
    names = list_models(pattern)
    if not names:
        raise UnknownNameError("model", pattern, VARIANTS)
    rows = [model_row(name, VARIANTS[name]) for name in names]
    if as_json:
        print_json(rows)
    elif as_markdown:
        print_text(markdown(COLUMNS, [_cells(row) for row in rows]))
    else:
        print_table(COLUMNS, [_cells(row) for row in rows])


def model_row(name: str, config: NetworkConfig) -> dict[str, Any]:
    """Size and structure of a network; `macs` for one image of `img_size`."""
    params, macs = totals(config)
    if isinstance(config, VGGConfig):
        block, layers = "VGG", sum(config.depths) + 3
    else:
        block, layers = config.block, sum(config.depths) * (2 if config.block == "basic" else 3) + 2
    return {
        "name": name,
        "params": params,
        "macs": macs,
        "img_size": config.img_size,
        "num_classes": config.num_classes,
        "layers": layers,
        "block": block,
        "depths": list(config.depths),
        "traits": _traits(config),
    }


def _traits(config: NetworkConfig) -> list[str]:
    """Differences from the default network of the family, such as `pre-activation` or `attention se`."""
    if isinstance(config, VGGConfig):
        return ["batch norm"] if config.norm == "batch" else []
    default = ResNetConfig()
    traits = {
        "pre-activation": config.pre_activation,
        f"{config.groups} groups of {config.group_width}": config.groups > 1,
        f"wide x{config.group_width // 64}": config.groups == 1 and config.group_width > 64,
        f"IBN {''.join(config.ibn)}": bool(config.ibn),
        "anti-aliased": config.antialias,
        "standardised convolutions": config.standardised,
    }
    differences = [trait for trait, present in traits.items() if present]
    for field in ("stem", "shortcut", "stride_in", "stride_unit", "attention", "norm"):
        value = getattr(config, field)
        if value != getattr(default, field) and not (field == "stem" and value == "3x3"):
            differences.append("no shortcuts" if value == "none" else f"{field.replace('_', ' ')} {value}")
    return differences


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        format_count(row["params"]),
        format_count(row["macs"]),
        str(row["img_size"]),
        str(row["num_classes"]),
        ", ".join([f"{row['layers']} layers, {row['block']}", *row["traits"]]),
    ]
