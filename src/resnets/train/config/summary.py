"""Summary of a run's settings, for the report, the model card and TensorBoard."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from resnets.errors import ResnetsError
from resnets.evaluate.report.curves import Span
from resnets.evaluate.report.page import format_value
from resnets.train.config.recipes import load_recipe
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.freeze.phases import NONE, Phase

__all__ = ["describe_freeze", "describe_recipe", "phase_rows", "phase_spans", "run_summary"]

SECTIONS = {  # field of `ResolvedConfig` -> heading
    "optim": "Optimizer",
    "schedule": "Learning rate schedule",
    "loss": "Loss",
    "augment": "Augmentation",
    "mix": "Mixup and CutMix",
    "sampling": "Sampling",
    "average": "Weight averaging",
    "reid": "Losses of re-identification",
    "cache": "Feature cache",
    "save": "Checkpoints and early stopping",
}
ALWAYS = ("opt", "lr", "weight_decay", "sched", "loss", "metric_loss")  # listed even where they are the defaults


def run_summary(config: ResolvedConfig) -> dict[str, dict[str, Any]]:
    """Options of a run by heading: the main ones, and all others that differ from their defaults.

    Returns:
        Heading -> option -> value, in the types of JSON. The last heading lists what differs from the recipe.
    """
    network = config.network
    run = {
        **({"task": config.task} if config.task != "classify" else {}),
        "recipe": _without_folder(config.recipe),
        "pretrained": _without_folder(config.pretrained),
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "train_sizes": [list(step) for step in config.train_sizes],
        **{one.name: getattr(network, one.name) for one in fields(network) if one.name.startswith("drop_")},
    }
    summary: dict[str, dict[str, Any]] = {"Run": {name: value for name, value in run.items() if value}}
    for group, heading in SECTIONS.items():
        if group == "reid" and config.task != "reid":
            continue
        options = getattr(config, group)
        values = {one.name: (getattr(options, one.name), one.default) for one in fields(options)}
        values.pop("lr_batch", None)  # already applied to `lr`
        summary[heading] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, (value, default) in values.items()
            if name in ALWAYS or value != default
        }
    summary["Changed from the recipe"] = {
        name: f"{format_value(_without_folder(value))} (recipe: {format_value(recipe)})"
        for name, (value, recipe) in config.recipe_changes.items()
    }
    return {heading: values for heading, values in summary.items() if values}


def _without_folder(value: Any) -> Any:
    """An absolute path by its last part: model cards are published, and need not tell where files lay."""
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def describe_recipe(config: ResolvedConfig) -> str:
    """What the run's recipe is for and whom it follows; empty without a recipe, or if its file no longer exists."""
    if config.recipe is None:
        return ""
    try:
        recipe = load_recipe(config.recipe)
    except ResnetsError:
        return ""
    return f"{recipe.about}. After: {recipe.follows}." if recipe.about and recipe.follows else recipe.about


def describe_freeze(phase: Phase) -> str:
    """What is frozen in a phase."""
    return "nothing frozen" if phase.freeze == NONE else f"frozen up to {phase.freeze}"


def phase_rows(config: ResolvedConfig) -> list[dict[str, Any]]:
    """Table of the phases, without columns that hold only defaults; empty if nothing is ever frozen or changed."""
    rows: list[dict[str, Any]] = []
    for phase in config.phases:
        first, last = phase.first_epoch + 1, phase.first_epoch + phase.epochs
        rows.append(
            {
                "epochs": str(first) if first == last else f"{first} to {last}",
                "frozen": "nothing" if phase.freeze == NONE else f"up to {phase.freeze}",
                "peak learning rate": phase.lr,
                "warm-up epochs": phase.warmup_epochs,
                "layer decay": phase.layer_decay,
                "BN statistics": phase.bn_stats,
                "BN weights": phase.bn_affine,
            }
        )
    defaults = {
        "warm-up epochs": config.schedule.warmup_epochs,
        "layer decay": 1.0,
        "BN statistics": "auto",
        "BN weights": "auto",
    }
    omitted = [name for name, value in defaults.items() if all(row[name] == value for row in rows)]
    if len(rows) == 1 and len(omitted) == len(defaults) and config.phases[0].freeze == NONE:
        return []
    return [{name: value for name, value in row.items() if name not in omitted} for row in rows]


def phase_spans(config: ResolvedConfig) -> list[Span]:
    """Phases as spans of epochs, for the plots."""
    return [
        Span(
            first=phase.first_epoch + 1,
            last=phase.first_epoch + phase.epochs,
            names=(describe_freeze(phase), "all" if phase.freeze == NONE else phase.freeze),
            shaded=phase.freeze != NONE,
        )
        for phase in config.phases
    ]
