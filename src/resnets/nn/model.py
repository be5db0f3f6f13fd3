"""The network in torch. Its children are torchvision's, in torchvision's order; its methods are timm's.

Shape letters: N batch, C channels, H height, W width, D embedding, s the reduction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Chain
from resnets.arch.plan import plan
from resnets.arch.shapes import trace
from resnets.errors import ConfigError, ShapeError
from resnets.nn.build import init_weights, named

__all__ = ["FeatureExtractor", "ResNet", "build_model"]


def build_model(config: ResNetConfig, *, init: bool = True) -> ResNet:
    """The network of `config`, in evaluation-neutral training mode as torch builds things.

    Args:
        init: draw first weights from torch's global generator; else every tensor is on the meta device, to be
            assigned from a file: nothing is drawn only to be overwritten.
    """
    with torch.device("meta"):
        model = ResNet(config)
    if init:
        model.to_empty(device="cpu")
        init_weights(model, model.plan)
    return model


class ResNet(nn.Module):
    """A residual network built from `plan(config)`. (N, in_chans, H, W) -> logits (N, num_classes).

    With `num_classes=0` it answers embeddings (N, D), and with `global_pool="none"` too, the last map.

    Attributes:
        config: what it was built from.
        plan: the tree it was built from.
        num_features: D, channels of the last map.
        feature_info: channels, reduction and module of each map that `forward_intermediates` answers.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.plan = plan(config)
        self._stem, self._stages, self._last, self._head = _parts(self.plan)
        for name, module in named(self.plan.nodes).items():
            self.add_module(name, module)
        self.feature_info = _feature_info(self.plan, config)
        self.num_features: int = self.feature_info[-1]["num_chs"]

    @property
    def num_classes(self) -> int:
        """Logits that come out; 0 where embeddings do."""
        return self.config.num_classes

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the last map, (N, D, H/s, W/s)."""
        self._check(x)
        for name in (*self._stem, *self._stages, *self._last):
            x = self.get_submodule(name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The last map -> logits (N, num_classes), or with `pre_logits` the embedding (N, D) before them."""
        x = self.get_submodule("avgpool")(x)  # (N, D, 1, 1)
        if self.config.global_pool == "none":
            return x
        x = x.flatten(1)
        if pre_logits:
            return x
        if self.config.drop_rate:
            x = F.dropout(x, self.config.drop_rate, self.training)
        return self.get_submodule("fc")(x)  # type: ignore[no-any-return]

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> Any:
        """Maps inside the network, as timm answers them.

        Args:
            x: (N, C, H, W).
            indices: which of `feature_info` (0 the stem before its pool, 1.. the stages; negative from the end);
                an int takes the last so many; `None` takes all.
            norm: apply a pre-activation network's last norm and activation to the last map.
            stop_early: do not run past the last map that is asked for (needs `intermediates_only`).
            intermediates_only: answer the maps alone.

        Returns:
            The list of maps, or `(last map, maps)`.

        Raises:
            ConfigError: an index that does not exist, or `stop_early` without `intermediates_only`.
        """
        if stop_early and not intermediates_only:
            raise ConfigError("stop_early leaves no last map to answer; pass intermediates_only=True with it")
        self._check(x)
        wanted = self._wanted(indices)
        maps: dict[int, Tensor] = {}
        for index, names in enumerate(self._runs()):
            for name in names:
                x = self.get_submodule(name)(x)
                if index == 0 and name == "act1" and 0 in wanted:
                    maps[0] = x
            maps |= {index: x} if index in wanted and index else {}
            if stop_early and index == max(wanted):
                break
        else:
            for name in self._last:
                x = self.get_submodule(name)(x)
            if norm and len(self._stages) in wanted:
                maps[len(self._stages)] = x
        ordered = [maps[index] for index in wanted]
        return ordered if intermediates_only else (x, ordered)

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        """Every named map: `stem`, `layer1`.. , `pre_logits` (N, D) and `logits`, from one pass."""
        last, maps = self.forward_intermediates(x)
        points = dict(zip(("stem", *self._stages), maps, strict=True))
        if self.config.global_pool != "none":
            points["pre_logits"] = self.forward_head(last, pre_logits=True)
            if self.num_classes:
                points["logits"] = self.forward_head(last)
        return points

    def get_classifier(self) -> nn.Module:
        """The layer that answers logits: `fc`, an identity where there is none."""
        return self.get_submodule("fc")

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh head of `num_classes` logits (0: embeddings) on the same device; `global_pool` as in the config."""
        changes: dict[str, Any] = {"num_classes": num_classes}
        if global_pool is not None:
            changes["global_pool"] = global_pool
        config = self.config.with_overrides(**changes)
        tensor = next(self.parameters())
        self.config, self.plan = config, plan(config)
        head = self.plan.nodes[-1]
        assert isinstance(head, Chain)
        for name, module in named(head.nodes).items():
            setattr(self, name, module.to(tensor.device, tensor.dtype))
        for node in head.nodes:
            if node.name == "fc" and num_classes:
                fresh = self.get_submodule("fc")
                assert isinstance(fresh, nn.Linear)
                fresh.reset_parameters()

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.config.in_chans:
            raise ShapeError(
                f"the network takes (N, {self.config.in_chans}, H, W); got {tuple(x.shape)}; "
                "set in_chans or add the batch axis"
            )

    def _runs(self) -> Iterator[tuple[str, ...]]:
        yield self._stem[:-1]
        yield (self._stem[-1], self._stages[0])  # the stem's pool runs after the map of index 0
        for stage in self._stages[1:]:
            yield (stage,)

    def _wanted(self, indices: int | Sequence[int] | None) -> list[int]:
        count = len(self.feature_info)
        if indices is None:
            return list(range(count))
        chosen = list(range(count - indices, count)) if isinstance(indices, int) else list(indices)
        if not 0 < len(chosen) <= count or any(not -count <= index < count for index in chosen):
            raise ConfigError(f"out_indices must be among 0..{count - 1}; got {indices}")
        return [index % count for index in chosen]


class FeatureExtractor(nn.Module):
    """A network without its head that answers a list of maps. (N, C, H, W) -> [(N, C_i, H/s_i, W/s_i), ...].

    Attributes:
        out_indices: which maps, as in `ResNet.forward_intermediates`.
        feature_info: channels (`num_chs`), reduction and module of each, in order.
    """

    def __init__(self, model: ResNet, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        model.reset_classifier(0, "none")
        self.model = model
        self.out_indices = tuple(model._wanted(out_indices))
        self.feature_info = [model.feature_info[index] for index in self.out_indices]

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            x, self.out_indices, stop_early=True, intermediates_only=True
        )
        return maps


def _parts(tree: Chain) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """The names at the top level: of the stem, the stages, the last norm, the head."""
    roles: dict[str, list[str]] = {"stem": [], "stage": [], "group": [], "head": []}
    for part in tree.nodes:
        assert isinstance(part, Chain)
        names: Iterable[str] = [part.name] if part.name else [node.name for node in part.nodes if node.name]
        roles[part.role].extend(names)
    return tuple(roles["stem"]), tuple(roles["stage"]), tuple(roles["group"]), tuple(roles["head"])


def _feature_info(tree: Chain, config: ResNetConfig) -> list[dict[str, Any]]:
    records = trace(tree, (config.in_chans, 256, 256))
    stages = [r for r in records if isinstance(r.node, Chain) and r.node.role == "stage"]
    stem = next(r for r in records if r.path == "act1")
    return [{"num_chs": r.result.shape[0], "reduction": r.result.stride, "module": r.path} for r in (stem, *stages)]
