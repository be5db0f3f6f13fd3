"""The loss of re-identification: identities, distances between embeddings, and centres, from one forward pass.

Legend: N batch, D pooled features, E embedding, K identities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from resnets.nn.model import ResNet
from resnets.train.config.reid_options import ReidConfig
from resnets.train.optim.embedding_losses import (
    center_loss,
    circle_loss,
    contrastive_loss,
    pairwise_cosface_loss,
    triplet_loss,
)
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.margin_logits import margin_logits

__all__ = ["ReidLoss", "ReidNetwork", "ReidOutputs"]

STUCK = 0.02  # relative distance of a triplet loss to that of embeddings that are all the same


class ReidOutputs(NamedTuple):
    """Outputs of `ReidNetwork`: pooled features before the neck (N, D), embeddings (N, E), and logits (N, K)."""

    before: Tensor
    after: Tensor
    logits: Tensor


class ReidNetwork(nn.Module):
    """A network that outputs what `ReidLoss` takes. (N, C, H, W) -> `ReidOutputs`."""

    def __init__(self, model: ResNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> ReidOutputs:
        before, after = self.model.forward_neck(self.model.forward_features(x))
        with torch.autocast(x.device.type, enabled=False):  # margins need more digits than bfloat16 has
            logits = self.model.classify(after.float())
        return ReidOutputs(before, after, logits)


class ReidLoss(nn.Module):
    """Weighted sum of the losses that `ReidConfig` names. (`ReidOutputs`, labels) -> scalar.

    Args:
        config: the losses and their weights.
        id_loss: of logits and labels, with label smoothing.
        num_classes: K.
        num_features: D.
        scale: factor of the cosine similarities in the logits; 1 for a linear classifier.
        instances: images of each identity in a batch, 0 if they are drawn one by one.

    Attributes:
        centers: (K, D) of the centre loss, or (0, D). Not trained by the optimizer: each step moves them.
        sums: (3,) sums over the images of an epoch: identity loss, metric loss, and their number.
        fewest_images: of a micro-batch, for it to hold two identities.
    """

    centers: Tensor
    sums: Tensor

    def __init__(
        self,
        config: ReidConfig,
        id_loss: ClassificationLoss,
        num_classes: int,
        num_features: int,
        *,
        scale: float = 1.0,
        instances: int = 0,
    ) -> None:
        super().__init__()
        self.fewest_images = 2 * max(instances, 1)
        self.config, self.id_loss, self.scale = config, id_loss, scale
        centers = torch.randn(num_classes if config.center_weight else 0, num_features)
        self.register_buffer("centers", centers)
        self.register_buffer("sums", torch.zeros(3))
        self._recorded: list[Tensor] = []  # of the micro-batches of this step
        self._seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, outputs: ReidOutputs, labels: Tensor) -> Tensor:
        config = self.config
        logits = outputs.logits.float()
        features = (outputs.before if config.metric_features == "before" else outputs.after).float()
        if config.id_margin != "none":
            logits = margin_logits(
                logits / self.scale, labels, config.id_margin, scale=self.scale, margin=config.id_margin_value
            )
        identity = self.id_loss(logits, labels)
        metric = self._metric(features, labels)
        self._recorded.append(len(labels) * torch.stack([identity.detach(), metric.detach(), torch.ones_like(metric)]))
        total: Tensor = config.id_weight * identity + config.metric_weight * metric
        if config.center_weight:
            before = outputs.before.float()
            total = total + config.center_weight * center_loss(before, labels, self.centers)
            self._seen.append((before.detach(), labels))
        return total

    def _metric(self, x: Tensor, labels: Tensor) -> Tensor:
        config, margin = self.config, self.config.margin
        match config.metric_loss:
            case "triplet":
                return triplet_loss(x, labels, margin=margin, distance=config.metric_distance, mining=config.mining)
            case "circle":
                return circle_loss(x, labels, margin=margin or 0.0, gamma=config.circle_gamma)
            case "cosface_pairs":
                return pairwise_cosface_loss(x, labels, margin=margin or 0.0, gamma=config.circle_gamma)
            case "contrastive":
                return contrastive_loss(x, labels, margin=margin or 0.0)
            case _:
                return x.sum() * 0

    def normalizer(self, labels: Tensor) -> Tensor | int:
        """As `ClassificationLoss.normalizer`."""
        return len(labels)

    def of_uniform_predictions(self, classes: int) -> float:
        """The loss of a network that finds all identities equally likely and all embeddings equally far."""
        config = self.config
        metric = {"triplet": config.margin if config.margin is not None else math.log(2)}.get(config.metric_loss)
        if metric is None and config.metric_loss != "none":
            return 0.0  # unknown: no warning
        if config.id_margin != "none" or config.center_weight:
            return 0.0
        return config.id_weight * self.id_loss.of_uniform_predictions(classes) + config.metric_weight * (metric or 0.0)

    def begin_step(self) -> None:
        """Before a step, or when it is run again: forget what its micro-batches recorded."""
        self._recorded.clear()
        self._seen.clear()

    @torch.no_grad()
    def end_step(self, all_reduce_sum: Callable[..., None]) -> None:
        """After a step: add its losses to `sums`, and move the centres of its identities (Wen et al. 2016)."""
        for one in self._recorded:
            self.sums += one.to(self.sums)
        if self.config.center_weight:
            moves, counts = torch.zeros_like(self.centers), torch.zeros_like(self.centers[:, 0])
            for x, labels in self._seen:
                moves.index_add_(0, labels, x - self.centers[labels])
                counts += torch.bincount(labels, minlength=len(counts))
            all_reduce_sum(moves, counts)
            self.centers += self.config.center_lr * moves / (1 + counts)[:, None]
        self.begin_step()

    def logits(self, outputs: ReidOutputs) -> Tensor:
        """(N, K)."""
        return outputs.logits

    def state(self, all_reduce_sum: Callable[..., None]) -> dict[str, Tensor]:
        """What a checkpoint holds, over all processes."""
        sums = self.sums.clone()
        all_reduce_sum(sums)
        return {"centers": self.centers.clone(), "sums": sums}

    def load_state(self, state: Mapping[str, Tensor], *, is_main_process: bool) -> None:
        """Restore what `state` returned; the sums go on in the main process."""
        self.begin_step()
        self.centers.copy_(state["centers"])
        self.sums.copy_(state["sums"] * is_main_process)

    def end_epoch(self, all_reduce_sum: Callable[..., None]) -> str | None:
        """Begin the sums anew; returns a warning if the triplet loss is that of embeddings that are all the same."""
        sums = self.sums.clone()
        all_reduce_sum(sums)
        self.sums.zero_()
        return self._stuck_message(float(sums[1] / sums[2].clamp(min=1)))

    def _stuck_message(self, metric: float) -> str | None:
        config = self.config
        if config.metric_loss != "triplet" or not config.metric_weight:
            return None
        collapsed = math.log(2) if config.margin is None else config.margin
        if not collapsed or abs(metric - collapsed) > STUCK * collapsed:
            return None
        kind = "soft margin" if config.margin is None else f"margin {config.margin:g}"
        remedies = ["a lower --lr", "more warmup_epochs", "pretrained weights"]
        remedies += ["--set mining=soft"] if config.mining == "hard" else []
        return (
            f"warning: the triplet loss sticks at {metric:.4f}, that of embeddings that are all the same ({kind}); try "
            f"{', '.join(remedies[:-1])} or {remedies[-1]}"
        )
