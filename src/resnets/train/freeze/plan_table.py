"""The plan of a run as a table: which parameter trains when, at which rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from torch.nn.modules.batchnorm import _BatchNorm

from resnets.arch.parts import group_of, layer_groups, parts
from resnets.nn.model import Network
from resnets.train.freeze.frozen import apply_phase, lr_scales
from resnets.train.freeze.phases import Phase

__all__ = ["PlanRow", "plan_lines", "plan_table"]


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """What some parameters do in a phase.

    Args:
        phase: which one, from 1.
        epochs: its first and last epoch, from 1.
        part: `stem`, `layer1`.., `backbone` (what stands before the classifier) or `classifier`.
        name: of the parameter, or of the layers (`layer1.0`, `layer1.1 .. layer1.3`).
        tensors, numbers: how many parameters these are, and how many numbers in them.
        lr: peak learning rate, `None` for frozen.
        norms: of the batch norms whose parameters these are: `move` or `still` statistics, `mixed`, or empty.
    """

    phase: int
    epochs: tuple[int, int]
    part: str
    name: str
    tensors: int
    numbers: int
    lr: float | None
    norms: str


def plan_table(model: Network, phases: Sequence[Phase], base_lr: float, *, parameters: bool = False) -> list[PlanRow]:
    """Rows for each phase in turn: of what trains alike within a part of the network, or of every parameter.

    The network is left under the last phase; apply the one that is to run.

    Args:
        base_lr: the run's peak learning rate, where a phase has none of its own.
        parameters: a row for every parameter.
    """
    names = parts(model.plan)
    homes = {path: (path,) for group in layer_groups(model.plan) for path in group}
    rows: list[PlanRow] = []
    first = 1
    for number, phase in enumerate(phases, start=1):
        frozen, scales = apply_phase(model, phase), lr_scales(model, phase)
        span = (first, first + phase.epochs - 1)
        first += phase.epochs
        single = []
        for name, parameter in model.named_parameters():
            path, _, _ = name.rpartition(".")
            norm = isinstance(model.get_submodule(path), _BatchNorm)
            single.append(
                PlanRow(
                    phase=number,
                    epochs=span,
                    part=group_of(name, names),
                    name=name,
                    tensors=1,
                    numbers=parameter.numel(),
                    lr=(phase.lr or base_lr) * scales[name] if parameter.requires_grad else None,
                    norms=("still" if path in frozen.still else "move") if norm else "",
                )
            )
        rows += single if parameters else _merged(single, homes)
    return rows


def plan_lines(rows: Iterable[PlanRow]) -> list[str]:
    """The table as lines of text, with a head."""
    cells = [("epochs", "part", "parameters", "tensors", "numbers", "peak lr", "BN statistics")]
    for row in rows:
        first, last = row.epochs
        rate = "frozen" if row.lr is None else f"{row.lr:.4g}"
        span = str(first) if first == last else f"{first}-{last}"
        cells.append((span, row.part, row.name, str(row.tensors), f"{row.numbers:,}", rate, row.norms))
    widths = [max(len(line[column]) for line in cells) for column in range(7)]
    right = (3, 4, 5)
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _merged(rows: list[PlanRow], homes: Mapping[str, tuple[str, ...]]) -> list[PlanRow]:
    """Rows of the same part and rate as one, in the order in which they run."""
    order = {path: place for place, path in enumerate(homes)}
    held_by = {row.name: group_of(row.name, homes) for row in rows}
    parts_in_order = list(dict.fromkeys(row.part for row in sorted(rows, key=lambda row: order[held_by[row.name]])))
    rows = sorted(rows, key=lambda row: (parts_in_order.index(row.part), row.lr is not None, order[held_by[row.name]]))
    merged = []
    for _, items in groupby(rows, key=lambda row: (row.part, row.lr)):
        group = list(items)
        held = list(dict.fromkeys(held_by[row.name] for row in group))
        norms = {row.norms for row in group} - {""}
        merged.append(
            PlanRow(
                phase=group[0].phase,
                epochs=group[0].epochs,
                part=group[0].part,
                name=held[0] if len(held) == 1 else f"{held[0]} .. {held[-1]}",
                tensors=len(group),
                numbers=sum(row.numbers for row in group),
                lr=group[0].lr,
                norms=norms.pop() if len(norms) == 1 else "mixed" if norms else "",
            )
        )
    return merged
