"""Logits with a margin for the image's own identity, from cosine similarities: ArcFace, CosFace and circle softmax.

Legend: N batch, D embedding, K identities.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from resnets.errors import ConfigError

__all__ = ["Margin", "cosine_similarities", "margin_logits"]

Margin = Literal["none", "arcface", "cosface", "circle"]


def cosine_similarities(x: Tensor, weight: Tensor) -> Tensor:
    """(N, D) embeddings and (K, D) class weights -> (N, K) cosine similarities."""
    return F.linear(F.normalize(x, dim=1), F.normalize(weight, dim=1))


def margin_logits(
    similarities: Tensor, labels: Tensor, kind: Margin, *, scale: float, margin: float, bend: bool = True
) -> Tensor:
    """Scaled logits, lowered by a margin for the label's class; their cross-entropy is the loss.

    Args:
        similarities: (N, K) cosine similarities.
        labels: (N,) identities; -1 for an image of none of the K, which gets no margin.
        kind: `cosface` subtracts the margin (Wang et al. 2018; AM-Softmax is the same). `arcface` adds it to the angle
            (Deng et al. 2019). `circle` weights each logit by its distance from the optimum (Sun et al. 2020). `none`.
        scale: s, factor of the logits.
        margin: m.
        bend: of ArcFace: beyond the angle pi - m, where cos(angle + m) would rise again, subtract m sin(m), as in the
            authors' code and VOC-ReID; fast-reid does not.
    """
    if kind not in get_args(Margin):
        raise ConfigError(f"a margin is one of {', '.join(get_args(Margin))}; got {kind!r}")
    own = F.one_hot(labels.clamp(min=0), similarities.shape[1]).bool() & (labels >= 0)[:, None]
    if kind == "none":
        return scale * similarities
    if kind == "circle":
        constant = similarities.detach()
        negative = (constant + margin).clamp(min=0) * (similarities - margin)
        positive = (1 + margin - constant).clamp(min=0) * (similarities - (1 - margin))
        return scale * torch.where(own, positive, negative)
    if kind == "cosface":
        return scale * (similarities - margin * own)
    cosine = similarities[own]  # one for each label
    # The derivative of acos is infinite at -1 and 1.
    angle = cosine.clamp(-1 + 1e-7, 1 - 1e-7).acos()
    lowered = (angle + margin).cos()
    if bend:
        lowered = torch.where(angle < math.pi - margin, lowered, cosine - margin * math.sin(margin))
    return scale * similarities.masked_scatter(own, lowered)
