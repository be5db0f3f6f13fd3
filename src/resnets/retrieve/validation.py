"""Validation while embeddings are trained: each image of identities that are not trained on is a query.

Legend: N images, B images of a batch, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from resnets.data.dataset import ImageSet
from resnets.errors import DataError
from resnets.evaluate.loop import NotFiniteLogitsError
from resnets.nn.model import Network
from resnets.nn.modes import evaluation_mode
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.metrics import RetrievalMetrics
from resnets.retrieve.reid import ReidOptions, reid_eval

__all__ = ["ReidValidation", "validate_reid"]

Rows = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(frozen=True, kw_only=True)
class ReidValidation:
    """Metrics of the validation images, by cosine distance, without re-ranking.

    Args:
        metrics: of the ranking; images of the query's camera are left out where there are cameras.
        images: number of images.
        identities: number of identities.
    """

    metrics: RetrievalMetrics
    images: int
    identities: int

    @property
    def score(self) -> tuple[float, float]:
        """What the best epoch is chosen by: mAP, then rank-1."""
        return self.metrics.map, float(self.metrics.cmc[0])

    def __len__(self) -> int:
        return self.images

    def summary(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        return {"images": self.images, "identities": self.identities, **self.metrics.summary()}


def validate_reid(
    model: Network,
    batches: Iterable[tuple[Tensor, Tensor, Any]],
    images: ImageSet,
    *,
    device: torch.device | str = "cpu",
    gather: Callable[[Rows], list[Rows]] = lambda rows: [rows],
) -> ReidValidation:
    """Embed all images and compare each with all others, in evaluation mode and float32.

    Args:
        model: on `device`.
        batches: (images (B, C, H, W), labels (B,), indices (B,)) of this process.
        images: the N images, with their identities as labels, and perhaps cameras.
        gather: collects (embeddings, indices) of all processes.

    Raises:
        DataError: no image has a match, or not all images were embedded.
        ResnetsError: NaN or infinite embeddings.
    """
    features, indices = [np.empty((0, model.num_features), np.float32)], [np.empty(0, np.int64)]
    with evaluation_mode(model), torch.inference_mode():
        for x, _, index in batches:
            output = model.forward_head(model.forward_features(x.to(device, non_blocking=True)), pre_logits=True)
            rows = output.float().cpu().numpy()
            if not np.isfinite(rows).all():
                raise NotFiniteLogitsError(
                    "embeddings must be finite; got NaN or infinity; evaluate an earlier checkpoint"
                )
            features.append(rows)
            indices.append(torch.as_tensor(index).to("cpu", torch.int64).numpy().copy())
    parts = gather((np.concatenate(features), np.concatenate(indices)))
    found, at = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
    if not np.array_equal(np.sort(at), np.arange(len(images))):
        raise DataError(f"validation needs each of the {len(images):,} images once; got {len(at):,}")
    ordered = np.empty_like(found)
    ordered[at] = found
    gallery = Embeddings(features=ordered, ids=images.labels, cameras=images.cameras, what="validation set")
    result = reid_eval(None, gallery, ReidOptions(metric="cosine"))
    assert result.metrics is not None
    return ReidValidation(metrics=result.metrics, images=len(images), identities=len(np.unique(images.labels)))
