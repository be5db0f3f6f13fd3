"""Options in layers: a later one has the last word, and takes back what of the earlier ones no longer fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resnets.train.config.options import BY_OPTIMISER

__all__ = ["Nested", "filled", "overlay"]

Nested = dict[str, Any]
"""Options by groups: `{"epochs": 3, "optim": {"lr": 0.1}}`."""


def overlay(lower: Nested, layer: Nested) -> Nested:
    """`lower` with `layer` on top of it.

    - Who names a rate means that rate: it is not for another batch, unless `lr_batch` is named too.
    - Who names epochs or freezing means these, in place of an earlier layer's phases; and the other way round. Phases
      whose rates are shares of the peak go with an earlier peak, too.
    - A schedule without steps has no milestones; a unfreezing rate replaces its share, and a share the rate.
    """
    optim, schedule, freeze = (layer.get(group, {}) for group in ("optim", "schedule", "freeze"))
    gone: set[tuple[str, str]] = set()
    if "lr" in optim and "lr_batch" not in optim:
        layer = {**layer, "optim": {**optim, "lr_batch": None}}
    if schedule.get("sched", "step") != "step":
        gone.add(("schedule", "milestones"))
    for one, other in (("unfreeze_lr", "unfreeze_lr_share"), ("unfreeze_lr_share", "unfreeze_lr")):
        if freeze.get(one) is not None:
            gone.add(("freeze", other))
    rates_follow = lower.get("freeze", {}).get("unfreeze_lr_share") is not None and "lr" in optim
    replaced = "epochs" if layer.get("phases") else "phases" if "epochs" in layer or freeze or rates_follow else None
    merged: Nested = {}
    for key in (*lower, *(key for key in layer if key not in lower)):
        if key == replaced and key not in layer:
            continue
        below, value = lower.get(key, {}), layer.get(key, lower.get(key))
        if key in layer and isinstance(value, Mapping) and isinstance(below, Mapping):
            value = {**{name: one for name, one in below.items() if (key, name) not in gone}, **value}
        merged[key] = value
    return merged


def filled(options: Nested) -> Nested:
    """`options` with the rate and the decay that suit their optimiser, where no layer names them."""
    optim = options.get("optim", {})
    return {**options, "optim": {**BY_OPTIMISER.get(str(optim.get("opt")), {}), **optim}}
