"""Losses and gradients against torchreid, fast-reid, reid-strong-baseline, layumi's code and VOC-ReID."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.errors import ConfigError
from resnets.train.optim.embedding_losses import (
    center_loss,
    circle_loss,
    contrastive_loss,
    instance_loss,
    pairwise_cosface_loss,
    triplet_loss,
)
from resnets.train.optim.margin_logits import cosine_similarities, margin_logits
from tests.golden.reid import rules
from tests.retrieve.golden import files, meta_of, read

Case = dict[str, Any]


def soft(margin: Any) -> float | None:
    return float(margin) if margin else None


def torchreid_triplet(x: Tensor, y: Tensor, case: Case) -> Tensor:
    return triplet_loss(x, y, margin=case["margin"])


def fastreid_triplet(x: Tensor, y: Tensor, case: Case) -> Tensor:
    distance: Any = "cosine" if case["norm_feat"] else "euclidean"
    mining: Any = "hard" if case["hard_mining"] else "weighted"
    return triplet_loss(x, y, margin=soft(case["margin"]), distance=distance, mining=mining)


def strongbaseline_triplet(x: Tensor, y: Tensor, case: Case) -> Tensor:
    distance: Any = "normalized" if case["normalise"] else "euclidean"
    return triplet_loss(x, y, margin=soft(case["margin"]), distance=distance)


def vocreid_triplet(x: Tensor, y: Tensor, case: Case) -> Tensor:
    distance: Any = "normalized" if case["normalise"] else "euclidean"
    mining: Any = case["mining"].removeprefix("batch_")
    return triplet_loss(x, y, margin=soft(case["margin"]), distance=distance, mining=mining)


OF_EMBEDDINGS: dict[str, Callable[[Tensor, Tensor, Case], Tensor]] = {
    "torchreid_triplet": torchreid_triplet,
    "fastreid_triplet": fastreid_triplet,
    "strongbaseline_triplet": strongbaseline_triplet,
    "vocreid_triplet": vocreid_triplet,
    "fastreid_circle": lambda x, y, case: circle_loss(x, y, margin=case["m"], gamma=case["gamma"]),
    "layumi_circle": lambda x, y, case: circle_loss(x, y, margin=case["m"], gamma=case["gamma"], over="batch"),
    "fastreid_pairwise_cosface": lambda x, y, case: pairwise_cosface_loss(x, y, margin=case["m"], gamma=case["gamma"]),
    "layumi_instance": lambda x, y, case: instance_loss(x, y if case["labelled"] else None, gamma=case["gamma"]),
    "vocreid_contrastive": lambda x, y, case: contrastive_loss(x, y, margin=case["margin"]),
}
OF_LOGITS: dict[str, tuple[Any, bool]] = {  # the kind of margin, and whether ArcFace bends
    "fastreid_arcsoftmax": ("arcface", False),
    "fastreid_cossoftmax": ("cosface", False),
    "fastreid_circlesoftmax": ("circle", False),
    "vocreid_amsoftmax": ("cosface", True),
    "vocreid_arcface": ("arcface", True),
    "vocreid_cosface": ("cosface", True),
    "vocreid_circle": ("circle", True),
}


def cases(names: Any) -> Iterator[Any]:
    """Each case of the goldens of these names: the outputs that begin with its number, and its options."""
    for path in files("loss"):
        if (name := path.stem.removeprefix("loss__")) in names:
            golden = read(path)
            for number, case in enumerate(meta_of(golden)["cases"]):
                yield pytest.param(name, number, golden, case, id=f"{name}-{number}")


def check(golden: dict[str, Any], number: int, loss: Tensor, leaves: dict[str, Tensor]) -> None:
    """Compare loss, gradients and their norms."""
    expected = float(golden[f"{number}:loss"])
    assert float(loss) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        gradient = leaf.grad.double().numpy()
        reference = golden[f"{number}:grad:{name}"]
        ours = rules.probe(gradient, 256) if reference.size < gradient.size else gradient.reshape(reference.shape)
        largest = max(float(np.abs(reference).max()), 1e-9)
        np.testing.assert_allclose(ours, reference, rtol=0, atol=1e-4 * largest)
        np.testing.assert_allclose(np.linalg.norm(gradient), golden[f"{number}:gradnorm:{name}"], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize(("name", "number", "golden", "case"), list(cases(OF_EMBEDDINGS)))
def test_losses_of_embeddings(name: str, number: int, golden: dict[str, Any], case: Case) -> None:
    if case.get("uneven"):
        y = rules.labels(case["seed"] + 1, case["n"], case["p"])
    else:
        y = rules.identities(case["p"], case["k"], case.get("shuffle"))
    x = torch.from_numpy(rules.embeddings(case["seed"], y, case["dim"], case.get("spread", 1.0))).double()
    x.requires_grad_(True)
    loss = OF_EMBEDDINGS[name](x, torch.from_numpy(y), case)
    loss.backward()  # type: ignore[no-untyped-call]
    check(golden, number, loss.detach(), {"x": x})


@pytest.mark.parametrize(("name", "number", "golden", "case"), list(cases(OF_LOGITS)))
def test_logits_with_a_margin(name: str, number: int, golden: dict[str, Any], case: Case) -> None:
    seed, n, dim, classes = case["seed"], case["n"], case["dim"], case["classes"]
    x = torch.from_numpy(rules.normal(seed, (n, dim))).double().requires_grad_(True)
    weight = torch.from_numpy(rules.normal(seed + 1, (classes, dim))).double().requires_grad_(True)
    y = rules.labels(seed + 2, n, classes)
    y[: case.get("foreign", 0)] = -1
    kind, bend = OF_LOGITS[name]
    similarities = cosine_similarities(x, weight)
    logits = margin_logits(similarities, torch.from_numpy(y), kind, scale=case["s"], margin=case["m"], bend=bend)
    np.testing.assert_allclose(
        logits.detach().numpy(), golden[f"{number}:out"].reshape(n, classes), atol=1e-5 * case["s"]
    )
    loss = (logits * torch.from_numpy(rules.normal(seed + 3, (n, classes)))).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    check(golden, number, loss.detach(), {"x": x, "weight": weight})


@pytest.mark.parametrize(("name", "number", "golden", "case"), list(cases(["strongbaseline_centre"])))
def test_centre_loss(name: str, number: int, golden: dict[str, Any], case: Case) -> None:
    seed, n, dim, classes = case["seed"], case["n"], case["dim"], case["classes"]
    centers = torch.from_numpy(rules.normal(seed + 1, (classes, dim))).double().requires_grad_(True)
    x = torch.from_numpy(rules.normal(seed, (n, dim))).double().requires_grad_(True)
    loss = center_loss(x, torch.from_numpy(rules.labels(seed + 2, n, classes)), centers)
    loss.backward()  # type: ignore[no-untyped-call]
    check(golden, number, loss.detach(), {"x": x, "centres": centers})


def test_an_anchor_without_a_partner_has_no_loss() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    one = torch.zeros(4, dtype=torch.long)
    each = torch.arange(4)
    losses: list[Callable[[Tensor, Tensor], Tensor]] = [
        lambda x, y: triplet_loss(x, y),
        lambda x, y: triplet_loss(x, y, margin=None, mining="soft"),
        lambda x, y: triplet_loss(x, y, mining="weighted"),
        circle_loss,
        lambda x, y: circle_loss(x, y, over="batch"),
    ]
    for loss in losses:
        for y in (one, each):
            value = loss(x, y)
            gradient = torch.autograd.grad(value, x)[0]
            assert torch.isfinite(value)
            assert torch.isfinite(gradient).all()
        assert float(loss(x, one).detach()) == 0
    assert float(instance_loss(x, one).detach()) == 0


def test_half_precision_embeddings_have_a_finite_gradient() -> None:
    x = (100 * torch.randn(8, 64)).bfloat16().requires_grad_(True)
    triplet_loss(x, torch.arange(8) // 2, margin=None).backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


def test_arcface_at_the_ends_of_its_range() -> None:
    similarities = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], requires_grad=True)
    labels = torch.tensor([0, 0])
    for bend in (True, False):
        logits = margin_logits(similarities, labels, "arcface", scale=1, margin=0.5, bend=bend)
        gradient = torch.autograd.grad(F.cross_entropy(logits, labels), similarities)[0]
        assert torch.isfinite(gradient).all()
    with pytest.raises(ConfigError, match="sphere"):
        margin_logits(similarities, labels, "sphere", scale=1, margin=0.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="manhattan"):
        triplet_loss(similarities, labels, distance="manhattan")  # type: ignore[arg-type]
