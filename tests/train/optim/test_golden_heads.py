"""Pools, classifiers and classification losses against torchreid, fast-reid, reid-strong-baseline and VOC-ReID."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from resnets.arch.nodes import GlobalPool, Linear
from resnets.nn.build import build
from resnets.train.config.options import LossConfig
from resnets.train.optim.losses import ClassificationLoss
from tests.golden.reid import rules
from tests.train.optim.test_embedding_losses import Case, cases, check

POOLS: dict[str, Any] = {
    "fastreid_avgmax": "sumavgmax",
    "fastreid_clipavg": "clipavg",
    "fastreid_gem": "gem",
    "fastreid_gem_trained": "gem",
    "vocreid_gem": "gem",
}
SMOOTHED = ("torchreid_crossentropy", "strongbaseline_crossentropy", "fastreid_crossentropy")


@pytest.mark.parametrize(("name", "number", "golden", "case"), list(cases(POOLS)))
def test_pools(name: str, number: int, golden: dict[str, Any], case: Case) -> None:
    x = torch.from_numpy(rules.normal(case["seed"], case["shape"])).double()
    x = (x if case.get("relu") is False else x.clamp(min=0)).requires_grad_(True)
    pool = build(GlobalPool(name="avgpool", kind=POOLS[name])).double()
    out = pool(x)
    np.testing.assert_allclose(out.detach().numpy().ravel(), golden[f"{number}:out"].ravel(), rtol=1e-5, atol=1e-6)
    loss = (out * torch.from_numpy(rules.normal(case["seed"] + 3, tuple(out.shape)))).mean()
    loss.backward()
    trained: dict[str, Any] = {"p": pool.p} if case.get("train_p") else {}
    check(golden, number, loss.detach(), {"x": x} | trained)


@pytest.mark.parametrize(("name", "number", "golden", "case"), list(cases(SMOOTHED)))
def test_cross_entropy(name: str, number: int, golden: dict[str, Any], case: Case) -> None:
    """fast-reid shares eps among the K - 1 other classes: ours with eps * K / (K - 1), which all K share."""
    if case["eps"] < 0:
        pytest.skip("fast-reid's smoothing by the predicted probability is not offered")
    n, classes, eps = case["n"], case["classes"], case["eps"] * case.get("smooth", True)
    if name.startswith("fastreid"):
        eps *= classes / (classes - 1)
    x = torch.from_numpy(rules.normal(case["seed"], (n, classes), scale=case.get("scale", 3.0))).double()
    x.requires_grad_(True)
    y = torch.from_numpy(rules.labels(case["seed"] + 1, n, classes))
    loss = torch.nn.functional.cross_entropy(x, y, label_smoothing=eps)
    ours = ClassificationLoss(LossConfig(label_smoothing=eps))(x.detach(), y)  # in float32
    assert float(ours) == pytest.approx(float(loss.detach()), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    check(golden, number, loss.detach(), {"x": x})


@pytest.mark.parametrize(("name", "number", "golden", "case"), list(cases(("fastreid_focal",))))
def test_focal_loss(name: str, number: int, golden: dict[str, Any], case: Case) -> None:
    """fast-reid's has a constant factor alpha, which a learning rate or `id_weight` can hold."""
    n, classes = case["n"], case["classes"]
    x = torch.from_numpy(rules.normal(case["seed"], (n, classes), scale=3.0)).requires_grad_(True)
    y = torch.from_numpy(rules.labels(case["seed"] + 1, n, classes))
    focal = ClassificationLoss(LossConfig(loss="focal", label_smoothing=0.0, focal_gamma=case["gamma"]))
    loss = case["alpha"] * focal(x, y)
    loss.backward()
    check(golden, number, loss.detach(), {"x": x})


@pytest.mark.parametrize(("name", "number", "golden", "case"), list(cases(("fastreid_linear",))))
def test_linear_classifier(name: str, number: int, golden: dict[str, Any], case: Case) -> None:
    n, dim, classes, seed = case["n"], case["dim"], case["classes"], case["seed"]
    layer = build(Linear(name="fc", in_features=dim, out_features=classes, bias=False)).double()
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rules.normal(seed + 1, (classes, dim))))
    x = torch.from_numpy(rules.normal(seed, (n, dim))).double().requires_grad_(True)
    out = layer(x) * case["s"]
    loss = (out * torch.from_numpy(rules.normal(seed + 3, (n, classes)))).mean()
    loss.backward()
    check(golden, number, loss.detach(), {"x": x, "weight": layer.weight})
