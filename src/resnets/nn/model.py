"""Networks in torch, with torchvision's children in torchvision's order, and timm's methods.

Shape letters: N batch, C channels, H height, W width, D embedding, s reduction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnets.arch.aliases import aliases, blocks
from resnets.arch.config import ResNetConfig
from resnets.arch.nodes import Chain, Identity, Linear, walk
from resnets.arch.parts import NECK, feature_paths, forward_steps
from resnets.arch.plan import plan
from resnets.arch.shapes import count_params
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError
from resnets.nn.blocks import ResidualBlock
from resnets.nn.build import build_named, init_weights
from resnets.nn.checks import check_input, check_windows
from resnets.nn.feature_info import FeatureInfo, feature_info
from resnets.nn.scripting import scriptable

__all__ = ["VGG", "FeatureExtractor", "Network", "ResNet", "build_model"]


torch.fx.wrap("check_input")  # each is one operation for `torch.fx`
torch.fx.wrap("check_windows")

HEAD_FIELDS = ("embedding_dim", "neck", "neck_bias", "classifier", "classifier_scale")  # of pooled features
MAX_PARAMS = 10_000_000_000


def build_model(config: ResNetConfig | VGGConfig, *, init: bool = True) -> Network:
    """Build the network of a config, in training mode.

    Args:
        config: the network.
        init: draw initial weights from torch's global generator; else every tensor is on the meta device, to be
            assigned from a file.

    Raises:
        ConfigError: more than `MAX_PARAMS` parameters.
    """
    params = count_params(plan(config))
    if params > MAX_PARAMS:
        raise ConfigError(f"a network has at most {MAX_PARAMS:,} parameters; got {params:,}; lower its widths")
    with torch.device("meta"):
        model = VGG(config) if isinstance(config, VGGConfig) else ResNet(config)
    if init:
        model.to_empty(device="cpu")
        init_weights(model, model.plan)
    return model


class Network(nn.Module):
    """Base class of networks. (N, in_chans, H, W) -> logits (N, num_classes).

    With `num_classes=0` it outputs embeddings (N, D), and with `global_pool="none"` too, the last feature map. With
    classes and `global_pool="none"` it outputs logits over the map, (N, num_classes, H/s, W/s).

    Attributes:
        num_features: D, the size of the embedding before the classifier.
        feature_info: channels (`num_chs`), reduction and module of each map that `forward_intermediates` returns.
    """

    _config: Any

    def __init__(self, config: ResNetConfig | VGGConfig) -> None:
        super().__init__()
        self._config, tree = config, plan(config)
        for name, module in build_named(tree.nodes).items():
            self.add_module(name, module)
        self.feature_info, self.num_features = feature_info(tree, config)
        self._steps, self._taps = forward_steps(tree), feature_paths(tree)

    @property
    def config(self) -> Any:
        """The config of the network as it is, with the classes of a classifier that was assigned to it."""
        if self._config.num_classes == self.num_classes:
            return self._config
        return self._config.with_overrides(num_classes=self.num_classes)

    @config.setter
    def config(self, config: Any) -> None:
        self._config = config

    @property
    def plan(self) -> Chain:
        """The tree of nodes that the network consists of."""
        return plan(self.config)

    @property
    def num_classes(self) -> int:
        """Number of logits; 0 for a network that outputs embeddings."""
        try:
            layer = self.get_classifier()
        except AttributeError:  # the head was replaced by one without it
            return int(self._config.num_classes)
        if isinstance(layer, nn.Sequential):
            layer = next((inner for inner in reversed(layer) if isinstance(inner, nn.Linear)), layer)
        if isinstance(layer, nn.Linear) and not isinstance(layer, nn.LazyLinear):
            return layer.out_features
        return 0 if isinstance(layer, nn.Identity) else int(self._config.num_classes)

    @property
    def classifier_path(self) -> str:
        """Path of the layer that outputs logits, or of an identity."""
        return [path for path, node in walk(plan(self._config)) if isinstance(node, Linear | Identity)][-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Run stem and stages. (N, C, H, W) -> last feature map (N, D, H/s, W/s)."""
        check_input(x, self._config.in_chans)
        for name in self._steps:
            x = self.get_submodule(name)(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Run the head. Last feature map -> logits (N, num_classes), or with `pre_logits` the embedding (N, D)."""
        raise NotImplementedError

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        intermediates_only: bool = False,
    ) -> Any:
        """Feature maps inside the network, as in timm.

        Args:
            x: (N, C, H, W).
            indices: which of `feature_info` (0 the stem before its pool, 1.. the stages; negative from the end); an
                int selects that many from the end; `None` selects all.
            norm: apply a pre-activation network's last norm and activation to the last map.
            stop_early: stop behind the last selected map (requires `intermediates_only`).
            intermediates_only: return only the list of maps.

        Returns:
            The list of maps, or `(last map, maps)`.

        Raises:
            ConfigError: an index that does not exist, or `stop_early` without `intermediates_only`.
        """
        if stop_early and not intermediates_only:
            raise ConfigError(
                "stop_early computes no last feature map; got intermediates_only=False; pass intermediates_only=True"
            )
        check_input(x, self._config.in_chans)
        selected, paths = self.feature_indices(indices), list(self._taps.values())
        maps: dict[int, Tensor] = {}
        for name in self._steps:
            x = self.get_submodule(name)(x)
            if name in paths:
                maps[paths.index(name)] = x
                if stop_early and len(maps) > max(selected):
                    break
        if norm and not stop_early:
            maps[len(paths) - 1] = x
        ordered = [maps[index] for index in selected]
        return ordered if intermediates_only else (x, ordered)

    def end_points(self, x: Tensor) -> dict[str, Tensor]:
        """All named feature maps from one forward pass, by name.

        Names are `stem`, `layer1`.. (a VGG's `block1`..), `pre_logits` (N, D), `logits` (N, num_classes), the paths of
        blocks (`layer1.0`), and for the same tensors the names of slim and Keras
        (`resnet_v2_50/block1/unit_1/bottleneck_v2`, `conv2_block1_out`; see `arch/aliases.py`).
        """
        other = aliases(self.plan)
        paths, seen = {*self._taps.values(), *other.values()}, dict[str, Tensor]()
        hooks = [
            self.get_submodule(path).register_forward_hook(lambda _, __, out, path=path: seen.update({path: out}))
            for path in paths | blocks(self.plan)
        ]
        try:
            last = self.forward_features(x)
        finally:
            for hook in hooks:
                hook.remove()
        points = {name: seen[path] for name, path in self._taps.items()}
        points |= {path: seen[path] for path in sorted(blocks(self.plan), key=list(seen).index)}
        if self.config.global_pool != "none":
            points["pre_logits"] = self.forward_head(last, pre_logits=True)
            if self.num_classes:
                points["logits"] = self.forward_head(last)
        return points | {name: seen[path] for name, path in other.items()}

    def feature_indices(self, indices: int | Sequence[int] | None) -> list[int]:
        """Indices of `forward_intermediates` as non-negative numbers.

        Raises:
            ConfigError: an index that does not exist.
        """
        count = len(self.feature_info)
        if indices is None:
            return list(range(count))
        chosen = list(range(count - indices, count)) if isinstance(indices, int) else list(indices)
        if not 0 < len(chosen) <= count or any(not -count <= index < count for index in chosen):
            raise ConfigError(f"out_indices must be among 0..{count - 1}; got {indices}; see feature_info")
        return [index % count for index in chosen]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute the activations inside residual blocks again in the backward pass, instead of keeping them.

        Training takes less memory and more time; gradients and running statistics are the same. Not for
        `torch.compile`, nor for backward passes of one network in several threads.

        Raises:
            ConfigError: a network without residual blocks.
        """
        found = [module for module in self.modules() if isinstance(module, ResidualBlock)]
        if enable and not found:
            raise ConfigError("gradient checkpointing applies to residual blocks; this network has none; leave it out")
        for block in found:
            block.grad_checkpointing = enable

    def __prepare_scriptable__(self) -> nn.Module:
        """What `torch.jit.script` compiles in place of the network; see `scripting.py`."""
        return scriptable(self)

    def get_classifier(self) -> nn.Module:
        """The layer that outputs logits, or an identity."""
        return self.get_submodule(self.classifier_path)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a fresh one on the same device; inner layers of a VGG's head are kept.

        Args:
            num_classes: number of logits; 0 outputs embeddings.
            global_pool: as in the config; `None` keeps it. `none` drops embedding layer and neck, too, which need
                pooled features.
        """
        changes: dict[str, Any] = {"num_classes": num_classes}
        if global_pool is not None:
            changes["global_pool"] = global_pool
        if global_pool == "none" and isinstance(self._config, ResNetConfig):
            changes |= {name: getattr(ResNetConfig, name) for name in HEAD_FIELDS}
            for name in NECK:
                self._modules.pop(name, None)
        config = self.config.with_overrides(**changes)
        tensor, before = next(self.parameters()), self.classifier_path
        kept = {key: value for key, value in self.state_dict().items() if not key.startswith(before)}
        self._config = config
        head = plan(config).nodes[-1]
        assert isinstance(head, Chain)
        for name, module in build_named(head.nodes).items():
            setattr(self, name, module.to(tensor.device, tensor.dtype))
            own = {key.partition(".")[2]: kept[key] for key in kept if key.partition(".")[0] == name}
            module.load_state_dict({key: own.get(key, value) for key, value in module.state_dict().items()})
            module.train(self.training)


class ResNet(Network):
    """Residual network of a `ResNetConfig`: conv1, bn1, act1, maxpool, layer1.., avgpool, fc.

    A pre-activation network has norm and act before avgpool; its bn1 and act1 are identities. Networks for embeddings
    may have `embedding`, `neck` and `neck_act` before fc.
    """

    _config: ResNetConfig

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if self._config.global_pool == "none":
            x = self.get_submodule("avgpool")(x)
            if pre_logits or isinstance(self.get_submodule("fc"), nn.Identity):
                return x
            # Logits of each cell, (N, num_classes, H, W).
            return self.get_submodule("fc")(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]
        _, x = self.forward_neck(x)
        return x if pre_logits else self.classify(x)

    def forward_neck(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pool the last feature map. (N, C, H, W) -> (pooled features (N, C), embedding (N, D)).

        The embedding is the output of the neck and of the linear layer before it, and without them the pooled features.
        Losses of re-identification compare either; see `task=reid` of training.
        """
        pooled = self.get_submodule("avgpool")(x).flatten(1)
        if self._config.global_pool == "window":
            check_windows(pooled, self.num_pooled_features, self._config.img_size)
        x = pooled
        for name in NECK:
            if name in self._modules:
                x = self.get_submodule(name)(x)
        return pooled, x

    def classify(self, x: Tensor) -> Tensor:
        """Embedding (N, D) -> logits (N, num_classes)."""
        if self._config.drop_rate:
            x = F.dropout(x, self._config.drop_rate, self.training)
        return self.get_submodule("fc")(x)  # type: ignore[no-any-return]

    @property
    def num_pooled_features(self) -> int:
        """C, the size of the pooled features; `num_features` unless there is an embedding layer."""
        layer = self._modules.get("embedding")
        return layer.in_features if isinstance(layer, nn.Linear) else self.num_features


class VGG(Network):
    """VGG network of a `VGGConfig`: features, avgpool, classifier."""

    _config: VGGConfig

    def append_pooled_map(self) -> None:
        """Make the map of the last pool the last one of `forward_intermediates`, as in timm's `features_only`."""
        last = self.feature_info[-1]
        self._taps = self._taps | {"pooled": self._steps[-1]}
        pooled = last | {"reduction": 2 * last["reduction"], "module": self._steps[-1]}
        self.feature_info = FeatureInfo([*self.feature_info, pooled])

    def forward_features(self, x: Tensor) -> Tensor:
        check_input(x, self._config.in_chans)
        return self.get_submodule("features")(x)  # type: ignore[no-any-return]  # as one module, for hooks on it

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        if self._config.global_pool == "none":
            return x
        x = self.get_submodule("avgpool")(x).flatten(1)  # (N, C * 7 * 7)
        layers = self.get_submodule("classifier")
        assert isinstance(layers, nn.Sequential)
        return layers[:-1](x) if pre_logits else layers(x)  # type: ignore[no-any-return]


class FeatureExtractor(nn.Module):
    """Network without a head that outputs feature maps. (N, C, H, W) -> [(N, C_i, H/s_i, W/s_i), ...].

    Args:
        model: its head is removed.
        out_indices: which maps, as in `Network.forward_intermediates`; `None` selects all.

    Attributes:
        feature_info: channels (`num_chs`), reduction and module of each map, in order.
    """

    def __init__(self, model: Network, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        model.reset_classifier(0, "none")
        self.model = model
        self.out_indices = tuple(model.feature_indices(out_indices))
        self.feature_info = FeatureInfo(model.feature_info[index] for index in self.out_indices)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.model.forward_intermediates(
            x, self.out_indices, stop_early=True, intermediates_only=True
        )
        return maps
