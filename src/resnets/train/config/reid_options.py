"""Options of the losses of re-identification, for `task=reid`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval
from typing_extensions import Doc

from resnets.errors import ConfigError
from resnets.options.declarations import DefaultText
from resnets.options.validate import Options

__all__ = ["ReidConfig"]

MARGINS = {"triplet": 0.3, "circle": 0.25, "contrastive": 0.3, "cosface_pairs": 0.25, "none": 0.0}
ID_MARGINS = {"none": 0.0, "arcface": 0.5, "cosface": 0.35, "circle": 0.35}


@dataclass(frozen=True, kw_only=True)
class ReidConfig(Options):
    """Losses of re-identification: of embeddings, of identities and of centres. `label_smoothing` applies too."""

    metric_loss: Annotated[
        Literal["triplet", "circle", "contrastive", "cosface_pairs", "none"],
        Doc(
            "Loss of the embeddings of a batch. `triplet` (Hermans et al. 2017), `circle` (Sun et al. 2020), "
            "`contrastive`, `cosface_pairs` (CosFace over pairs, as fast-reid) or `none`."
        ),
    ] = "triplet"
    metric_weight: Annotated[float, Ge(0), Doc("Weight of `metric_loss`.")] = 1.0
    metric_margin: Annotated[
        float | None,
        Ge(0),
        Doc("Margin of `metric_loss`."),
        DefaultText("triplet and contrastive 0.3; circle and cosface_pairs 0.25"),
    ] = None
    soft_margin: Annotated[bool, Doc("The triplet loss is log(1 + exp(p - n)), without a margin.")] = False
    mining: Annotated[
        Literal["hard", "soft", "weighted"],
        Doc(
            "Triplets of each anchor. `hard` (farthest positive, nearest negative), `soft` (means weighted by softmax "
            "of the distances) or `weighted` (fast-reid's form of it)."
        ),
    ] = "hard"
    metric_distance: Annotated[
        Literal["euclidean", "normalized", "cosine"],
        Doc("Distance of the triplet loss. `euclidean`, `normalized` (of unit vectors) or `cosine`."),
    ] = "euclidean"
    metric_features: Annotated[
        Literal["before", "after"], Doc("Embeddings that `metric_loss` compares: before or after the neck.")
    ] = "before"
    circle_gamma: Annotated[float, Gt(0), Doc("Scale of `circle` and `cosface_pairs`.")] = 64.0
    id_weight: Annotated[float, Ge(0), Doc("Weight of the cross-entropy of identities. 0 trains without it.")] = 1.0
    id_margin: Annotated[
        Literal["none", "arcface", "cosface", "circle"],
        Doc(
            "Margin on the logit of an image's own identity: ArcFace (Deng et al. 2019), CosFace (Wang et al. 2018) or "
            "circle. Requires and sets `classifier=cosine`."
        ),
    ] = "none"
    id_margin_size: Annotated[
        float | None, Ge(0), Doc("Size of that margin."), DefaultText("arcface 0.5; cosface and circle 0.35")
    ] = None
    center_weight: Annotated[
        float, Ge(0), Doc("Weight of the centre loss (Wen et al. 2016), such as 0.0005. 0 disables it.")
    ] = 0.0
    center_lr: Annotated[
        float, Interval(gt=0, le=1), Doc("Part of the way that a step moves each centre to its images.")
    ] = 0.5

    def check_rules(self) -> None:
        triplets = (("soft_margin", False), ("mining", "hard"), ("metric_distance", "euclidean"))
        for name, usual in triplets:
            if self.metric_loss != "triplet" and getattr(self, name) != usual:
                raise ConfigError(f"{name} requires metric_loss=triplet; got {self.metric_loss}; leave one out")
        if self.soft_margin and self.metric_margin is not None:
            raise ConfigError(f"soft_margin has no margin; got metric_margin={self.metric_margin}; leave one out")
        if self.id_margin == "none" and self.id_margin_size is not None:
            raise ConfigError(f"id_margin_size requires id_margin; got {self.id_margin_size}; add id_margin=arcface")
        if self.metric_loss == "none" and not self.id_weight:
            raise ConfigError("training needs a loss; got metric_loss=none and id_weight=0; set one of them")

    @property
    def margin(self) -> float | None:
        """Margin of `metric_loss`; `None` for the soft one."""
        if self.soft_margin:
            return None
        return MARGINS[self.metric_loss] if self.metric_margin is None else self.metric_margin

    @property
    def id_margin_value(self) -> float:
        """Margin of the own identity's logit."""
        return ID_MARGINS[self.id_margin] if self.id_margin_size is None else self.id_margin_size
