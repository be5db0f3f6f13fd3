"""Losses of embeddings and their identities: triplet, circle, pairwise CosFace, contrastive, centre and instance loss.

Legend: N batch, D embedding, K identities.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.errors import ConfigError

__all__ = [
    "Mining", "PairDistance", "center_loss", "circle_loss", "contrastive_loss", "instance_loss",
    "pairwise_cosface_loss", "triplet_loss",
]  # fmt: skip

PairDistance = Literal["euclidean", "normalized", "cosine"]
Mining = Literal["hard", "weighted", "soft"]
MASKED = -99999999.0  # a logit that exp() makes 0


def pair_distances(x: Tensor, kind: PairDistance) -> Tensor:
    """(N, D) -> (N, N): `euclidean`, `normalized` (Euclidean of unit vectors), or `cosine` (2 - 2 cos, no root)."""
    if kind not in get_args(PairDistance):
        raise ConfigError(f"a distance is one of {', '.join(get_args(PairDistance))}; got {kind!r}")
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x  # the sums below need more bits
    if kind != "euclidean":
        x = F.normalize(x, dim=1)
    if kind == "cosine":
        return 2 - 2 * x @ x.T
    squares = x.square().sum(1)
    return (squares[:, None] + squares - 2 * x @ x.T).clamp(min=1e-12).sqrt()


def triplet_loss(
    x: Tensor,
    labels: Tensor,
    *,
    margin: float | None = 0.3,
    distance: PairDistance = "euclidean",
    mining: Mining = "hard",
) -> Tensor:
    """Mean triplet loss over all anchors (Hermans et al. 2017).

    An anchor is one of its own positives, at distance 0. An anchor without negatives has no loss.

    Args:
        x: (N, D) embeddings.
        labels: (N,) identities.
        margin: by which a negative should be farther than a positive; `None` for the soft margin log(1 + exp(p - n)).
        distance: of `pair_distances`.
        mining: `hard` takes the farthest positive and the nearest negative. `soft` takes means weighted by softmax and
            softmin of the distances (VOC-ReID's `batch_soft`). `weighted` is fast-reid's form of it (`hard_mining`
            off): its weights of negatives are relative to distance 0, with 1e-6 added to their sum, and vanish where
            all negatives are far.
    """
    if mining not in get_args(Mining):
        raise ConfigError(f"mining is one of {', '.join(get_args(Mining))}; got {mining!r}")
    d = pair_distances(x, distance)
    same = labels[:, None] == labels
    if mining == "hard":
        positive = d.masked_fill(~same, 0).amax(1)
        negative = d.masked_fill(same, float("inf")).amin(1)
    elif mining == "soft":
        lowest = torch.finfo(d.dtype).min  # not infinity, whose softmax in a row without negatives is NaN
        positive = (d.masked_fill(~same, lowest).softmax(1) * d).sum(1)
        negative = ((-d).masked_fill(same, lowest).softmax(1) * d).sum(1)
    else:
        positive, negative = _fastreid_mean(d * same, same), -_fastreid_mean(-d * ~same, ~same)
    valid = ~same.all(1)
    gap = (positive - negative)[valid]
    losses = F.softplus(gap) if margin is None else F.relu(gap + margin)
    return losses.sum() / len(x)


def _fastreid_mean(d: Tensor, mask: Tensor) -> Tensor:
    """(N,) means of masked distances, weighted by their exponentials relative to the largest one or 0."""
    weights = torch.exp(d - d.amax(1, keepdim=True)) * mask
    return (d * weights / (weights.sum(1, keepdim=True) + 1e-6)).sum(1)


def circle_loss(
    x: Tensor, labels: Tensor, *, margin: float = 0.25, gamma: float = 64.0, over: Literal["anchor", "batch"] = "anchor"
) -> Tensor:
    """Circle loss of cosine similarities (Sun et al. 2020).

    Args:
        x: (N, D) embeddings.
        labels: (N,) identities.
        margin: relaxation m.
        gamma: scale.
        over: `anchor` has one term for the pairs of each anchor and takes their mean, as fast-reid does; `batch` has
            one term for all pairs of the batch, as the paper's code and layumi's do.
    """
    s = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T
    same = labels[:, None] == labels
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    positive = -gamma * (1 + margin - s.detach()).clamp(min=0) * (s - (1 - margin))
    negative = gamma * (s.detach() + margin).clamp(min=0) * (s - margin)
    return _pairs_loss(positive, negative, same & ~itself, ~same, over)


def pairwise_cosface_loss(x: Tensor, labels: Tensor, *, margin: float = 0.25, gamma: float = 64.0) -> Tensor:
    """The loss of `circle_loss` with constant weights and the margin on negatives, as in fast-reid."""
    s = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T
    same = labels[:, None] == labels
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return _pairs_loss(-gamma * s, gamma * (s + margin), same & ~itself, ~same, "anchor")


def _pairs_loss(positive: Tensor, negative: Tensor, is_positive: Tensor, is_negative: Tensor, over: str) -> Tensor:
    """softplus(logsumexp of positive logits + logsumexp of negative logits); one without pairs makes it 0."""
    positive = positive.masked_fill(~is_positive, MASKED)
    negative = negative.masked_fill(~is_negative, MASKED)
    if over == "batch":  # each pair once
        above = torch.ones_like(is_positive).triu(1)
        positive, negative = positive[above & is_positive], negative[above & is_negative]
        if not len(positive) or not len(negative):
            return positive.sum() * 0 + negative.sum() * 0
        return F.softplus(positive.logsumexp(0) + negative.logsumexp(0))
    return F.softplus(positive.logsumexp(1) + negative.logsumexp(1)).mean()


def contrastive_loss(x: Tensor, labels: Tensor, *, margin: float = 0.3) -> Tensor:
    """Sum of 1 - s over positive pairs and of s over negative pairs with s > margin, divided by N (VOC-ReID).

    s is the cosine similarity; each pair counts from both sides, an image and itself not at all.
    """
    s = F.normalize(x, dim=1) @ F.normalize(x, dim=1).T
    same = labels[:, None] == labels
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    return ((1 - s)[same & ~itself].sum() + s[~same & (s > margin)].sum()) / len(x)


def center_loss(x: Tensor, labels: Tensor, centers: Tensor) -> Tensor:
    """Mean squared distance of embeddings to the centre of their identity (Wen et al. 2016).

    As in reid-strong-baseline, it is not halved, and squared distances are at least 1e-12, also those of the other
    centres, which adds (K - 1) * 1e-12.

    Args:
        x: (N, D) embeddings.
        labels: (N,) identities.
        centers: (K, D).
    """
    own = (x - centers[labels]).square().sum(1).clamp(1e-12, 1e12)
    return own.mean() + (len(centers) - 1) * 1e-12


def instance_loss(x: Tensor, labels: Tensor | None = None, *, gamma: float = 64.0) -> Tensor:
    """Cross-entropy of scaled cosine similarities, each embedding being a class of its own (Zheng et al. 2020).

    With labels, the embeddings of an identity are replaced by their mean; a batch of one identity has no loss.
    """
    if labels is not None:
        names, owner = torch.unique(labels, return_inverse=True)
        sums = torch.zeros(len(names), x.shape[1], dtype=x.dtype, device=x.device).index_add(0, owner, x)
        x = sums / owner.bincount()[:, None]
    x = x / (x.norm(dim=1, keepdim=True) + 1e-8)
    return F.cross_entropy(gamma * x @ x.T, torch.arange(len(x), device=x.device))
