"""Layers of options: a later layer overrides an earlier one, and drops what no longer fits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Nested", "overlay"]

Nested = dict[str, Any]
"""Options by group: `{"epochs": 3, "optim": {"lr": 0.1}}`."""


def overlay(lower: Nested, layer: Nested) -> Nested:
    """`lower` overridden by `layer`.

    - A learning rate is used unscaled, unless the same layer names `lr_batch` too.
    - Epochs or freezing replace the phases of an earlier layer, and the other way round. A learning rate also replaces
      phases whose learning rates are shares of an earlier peak.
    - A schedule other than `step` has no milestones; `unfreeze_lr` replaces `unfreeze_lr_share`, and vice versa.
    """
    optim, schedule, freeze = (layer.get(group, {}) for group in ("optim", "schedule", "freeze"))
    dropped: set[tuple[str, str]] = set()
    if "lr" in optim and "lr_batch" not in optim:
        layer = {**layer, "optim": {**optim, "lr_batch": None}}
    if schedule.get("sched", "step") != "step":
        dropped.add(("schedule", "milestones"))
    for one, other in (("unfreeze_lr", "unfreeze_lr_share"), ("unfreeze_lr_share", "unfreeze_lr")):
        if freeze.get(one) is not None:
            dropped.add(("freeze", other))
    lr_shares = lower.get("freeze", {}).get("unfreeze_lr_share") is not None and "lr" in optim
    replaced = "epochs" if layer.get("phases") else "phases" if "epochs" in layer or freeze or lr_shares else None
    merged: Nested = {}
    for key in (*lower, *(key for key in layer if key not in lower)):
        if key == replaced and key not in layer:
            continue
        below, value = lower.get(key, {}), layer.get(key, lower.get(key))
        if key in layer and isinstance(value, Mapping) and isinstance(below, Mapping):
            value = {**{name: one for name, one in below.items() if (key, name) not in dropped}, **value}
        merged[key] = value
    return merged
