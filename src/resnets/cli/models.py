"""`resnets models`: list the named networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.arch.config import ResNetConfig
from resnets.arch.describe import totals
from resnets.arch.networks import NetworkConfig
from resnets.arch.variants import VARIANTS, get_config, list_models
from resnets.arch.vgg import VGGConfig
from resnets.cli.flags import Json, Markdown
from resnets.cli.output import Column, markdown, print_json, print_table, print_text
from resnets.errors import UnknownNameError
from resnets.runtime.formatting import format_count

if TYPE_CHECKING:
    from resnets.weights.registry import NamedWeights

COLUMNS: tuple[Column, ...] = (
    Column("name"),
    Column("params", right=True),
    Column("MACs", right=True),
    Column("input", right=True),
    Column("classes", right=True),
    Column("blocks", wrap=True),
)


WEIGHTS_COLUMNS: tuple[Column, ...] = (
    Column("name"),
    Column("top-1 %", right=True),
    Column("params", right=True),
    Column("input", right=True),
    Column("licence"),
)


def run(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help="Part of a name, or a pattern such as 'resnet*_cifar'.")
    ] = "*",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="List the published weights instead: accuracy, size and licence.")
    ] = False,
    as_json: Json = False,
    as_markdown: Markdown = False,
) -> None:
    """List the named networks with their parameters and MACs.

    MACs are multiply-adds for one image of the input size; FLOPs are twice that. CIFAR networks also exist at depths
    that are not listed: resnet38_cifar is a valid name.
    """
    from resnets.weights.registry import NAMED_WEIGHTS, list_pretrained

    names = list_pretrained(pattern) if pretrained else list_models(pattern)
    if not names:
        kind, known = ("named weights", NAMED_WEIGHTS) if pretrained else ("model", VARIANTS)
        raise UnknownNameError(kind, pattern, known)
    if pretrained:
        rows = [weights_row(NAMED_WEIGHTS[name]) for name in names]
        columns, cells = WEIGHTS_COLUMNS, [_weights_cells(row) for row in rows]
    else:
        rows = [model_row(name, VARIANTS[name]) for name in names]
        columns, cells = COLUMNS, [_cells(row) for row in rows]
    if as_json:
        print_json(rows)
    elif as_markdown:
        print_text(markdown(columns, cells))
    else:
        print_table(columns, cells)


def weights_row(weights: NamedWeights) -> dict[str, Any]:
    """Accuracy, size and licence of published weights; `top1` in percent on ImageNet-1k, perhaps `None`."""
    params, _ = totals(get_config(weights.variant))
    return {
        "name": weights.name,
        "top1": weights.top1,
        "params": params,
        "img_size": weights.preprocessing.size[0],
        "license": weights.license,
        "url": weights.url,
    }


def _weights_cells(row: dict[str, Any]) -> list[str]:
    top1 = "-" if row["top1"] is None else f"{row['top1']:.2f}"
    return [row["name"], top1, format_count(row["params"]), str(row["img_size"]), row["license"]]


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
