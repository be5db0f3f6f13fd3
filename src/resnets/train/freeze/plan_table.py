"""Table of a run's phases for `--dry-run`: which parameters train when, and at which learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from torch.nn.modules.batchnorm import _BatchNorm

from resnets.arch.parts import group_of, layer_groups, parts
from resnets.nn.model import Network
from resnets.train.freeze.frozen_part import apply_phase, lr_scales
from resnets.train.freeze.phases import ResolvedPhase

__all__ = ["PlanRow", "format_plan_table", "merge_plan_rows", "plan_table"]

HEADER = ("epochs", "part", "parameters", "tensors", "params", "peak lr", "BN statistics")
RIGHT_ALIGNED = ("tensors", "params", "peak lr")


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """Parameters in a phase.

    Args:
        phase: number of the phase, from 1.
        epochs: its first and last epoch, from 1.
        part: `stem`, `layer1`.., `backbone` (the modules between the last stage and the classifier) or `classifier`.
        name: of the parameter, or of the layers (`layer1.0`, `layer1.1 .. layer1.3`).
        tensors: number of parameter tensors.
        params: number of their elements.
        lr: peak learning rate; `None` if frozen.
        bn_stats: statistics of the batch norms that have these parameters: `updated`, `fixed`, `mixed` or empty.
    """

    phase: int
    epochs: tuple[int, int]
    part: str
    name: str
    tensors: int
    params: int
    lr: float | None
    bn_stats: str


def plan_table(model: Network, phases: Iterable[ResolvedPhase]) -> list[PlanRow]:
    """One row per phase and parameter. Leaves the last phase applied to the network."""
    part_paths = parts(model.plan)
    rows = []
    for number, phase in enumerate(phases, start=1):
        frozen, scales = apply_phase(model, phase), lr_scales(model, phase)
        for name, parameter in model.named_parameters():
            path = name.rpartition(".")[0]
            is_norm = isinstance(model.get_submodule(path), _BatchNorm)
            rows.append(
                PlanRow(
                    phase=number,
                    epochs=(phase.first_epoch + 1, phase.first_epoch + phase.epochs),
                    part=group_of(name, part_paths),
                    name=name,
                    tensors=1,
                    params=parameter.numel(),
                    lr=phase.lr * scales[name] if parameter.requires_grad else None,
                    bn_stats=("fixed" if path in frozen.fixed_stats else "updated") if is_norm else "",
                )
            )
    return rows


def merge_plan_rows(model: Network, rows: Iterable[PlanRow]) -> list[PlanRow]:
    """Rows of `plan_table`, with one row for all parameters that train alike within a part of the network."""
    modules = {path: (path,) for group in layer_groups(model.plan) for path in group}
    return [row for _, phase in groupby(rows, key=lambda row: row.phase) for row in _merge(list(phase), modules)]


def format_plan_table(rows: Iterable[PlanRow]) -> list[str]:
    """The table as aligned lines of text, with a header."""
    lines = [HEADER]
    for row in rows:
        first, last = row.epochs
        lr = "frozen" if row.lr is None else f"{row.lr:.4g}"
        epochs = str(first) if first == last else f"{first}-{last}"
        lines.append((epochs, row.part, row.name, str(row.tensors), f"{row.params:,}", lr, row.bn_stats))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if title in RIGHT_ALIGNED else cell.ljust(width)
            for title, cell, width in zip(HEADER, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


def _merge(rows: list[PlanRow], modules: Mapping[str, tuple[str, ...]]) -> list[PlanRow]:
    """Merge rows of the same part and learning rate, in execution order."""
    position = {path: index for index, path in enumerate(modules)}
    module_of = {row.name: group_of(row.name, modules) for row in rows}
    in_order = sorted(rows, key=lambda row: position[module_of[row.name]])
    part_order = list(dict.fromkeys(row.part for row in in_order))
    merged = []
    for _, items in groupby(
        sorted(in_order, key=lambda row: (part_order.index(row.part), row.lr is not None)),
        key=lambda row: (row.part, row.lr),
    ):
        group = list(items)
        paths = list(dict.fromkeys(module_of[row.name] for row in group))
        stats = {row.bn_stats for row in group} - {""}
        merged.append(
            replace(
                group[0],
                name=paths[0] if len(paths) == 1 else f"{paths[0]} .. {paths[-1]}",
                tensors=len(group),
                params=sum(row.params for row in group),
                bn_stats=stats.pop() if len(stats) == 1 else "mixed" if stats else "",
            )
        )
    return merged
