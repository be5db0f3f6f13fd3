from __future__ import annotations

import math

import pytest

from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from resnets.train.optim import build_optimizer
from resnets.train.options import OptimConfig
from resnets.train.schedule import Schedule


def test_norms_and_biases_are_not_decayed() -> None:
    model = build_model(get_config("resnet20_cifar"))
    decayed, free = build_optimizer(model, OptimConfig(weight_decay=5e-4)).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert decayed["weight_decay"] == 5e-4
    assert free["weight_decay"] == 0
    assert {names[id(p)].rsplit(".", 1)[0].rpartition(".")[2][:2] for p in free["params"]} == {"bn", "fc"}
    assert all(names[id(p)].endswith("weight") for p in decayed["params"])
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
    assert decayed["nesterov"]
    assert decayed["fused"]


def test_schedule_by_hand() -> None:
    schedule = Schedule(kind="cosine", peak=0.4, warmup_steps=3, total_steps=11)
    assert [schedule(step) for step in range(4)] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert schedule(7) == pytest.approx(0.2)  # half way down
    assert schedule(10) == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert schedule(11) == pytest.approx(0)
    constant = Schedule(kind="constant", peak=0.4, warmup_steps=3, total_steps=11)
    assert [constant(step) for step in (3, 10)] == [0.4, 0.4]
