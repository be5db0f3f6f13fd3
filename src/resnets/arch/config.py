"""What a residual network is, in one frozen description. The plan is the only reader of its numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args, get_type_hints

from resnets.errors import ConfigError, UnknownNameError

__all__ = ["ResNetConfig"]


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A residual network.

    Args:
        block: `basic` (two 3x3) or `bottleneck` (1x1, 3x3, 1x1, four times wider at its end).
        depths: blocks in each stage.
        widths: width of each stage's 3x3 before `group_width` and `groups`; a bottleneck puts out four times it.
        pre_activation: norm and activation before each convolution (He et al. 2016, v2).
        stem: `7x7` (stride 2) or `3x3` (stride 1, the CIFAR networks).
        stem_width: channels of the stem.
        stem_pool: `max` (3x3, stride 2, padding 1) or `none`.
        groups: cardinality of a bottleneck's 3x3 (ResNeXt).
        group_width: width of one group, 64 being a plain network's (ResNeXt-50 32x4d has 4, wide ResNets 128).
        stride_in: which convolution of a bottleneck strides: `3x3` (v1.5, torchvision) or `1x1`, the first
            (v1, Caffe, Keras).
        shortcut: as in He et al. 2015: `A` (every other cell, padded with zero channels), `B` (1x1 convolution
            where the shape changes), `C` (1x1 convolution everywhere), or `none` (a plain network).
        norm: `batch`, `group`, or `frozen_batch` (statistics and affine terms never move).
        norm_eps, norm_momentum: as in torch; `norm_groups`: groups of a group norm.
        act: the activation.
        zero_init_last: start each residual branch at zero (last norm, or last convolution if pre-activation).
        output_stride: input cells per output cell, 32 by nature (CIFAR networks 4); less replaces the strides of
            the last stages with dilation. `None`: by nature.
        last_stride: stride of the last stage, 1 or 2; 1 keeps re-identification maps twice as fine, undilated.
        drop_path_rate: stochastic depth, rising linearly over the blocks from 0 to this probability.
        drop_rate: dropout probability before the classifier.
        global_pool: `avg`, `max`, or `none` (no pooling; only with `num_classes=0`, answers the last map).
        in_chans: channels of the input.
        num_classes: logits that come out; 0 answers embeddings.
        img_size: pixels a side that the network is meant for.

    Raises:
        ConfigError: a value outside its rule, or two that contradict each other.
    """

    block: Literal["basic", "bottleneck"] = "bottleneck"
    depths: tuple[int, ...] = (3, 4, 6, 3)
    widths: tuple[int, ...] = (64, 128, 256, 512)
    pre_activation: bool = False
    stem: Literal["7x7", "3x3"] = "7x7"
    stem_width: int = 64
    stem_pool: Literal["max", "none"] = "max"
    groups: int = 1
    group_width: int = 64
    stride_in: Literal["3x3", "1x1"] = "3x3"
    shortcut: Literal["A", "B", "C", "none"] = "B"
    norm: Literal["batch", "group", "frozen_batch"] = "batch"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    norm_groups: int = 32
    act: Literal["relu"] = "relu"
    zero_init_last: bool = False
    output_stride: int | None = None
    last_stride: int | None = None
    drop_path_rate: float = 0.0
    drop_rate: float = 0.0
    global_pool: Literal["avg", "max", "none"] = "avg"
    in_chans: int = 3
    num_classes: int = 1000
    img_size: int = 224

    def __post_init__(self) -> None:
        for name in ("depths", "widths"):
            if isinstance(getattr(self, name), list):  # as JSON has them
                object.__setattr__(self, name, tuple(getattr(self, name)))
        self._check_types()
        self._check_rules()

    def _check_types(self) -> None:
        for name, hint in _HINTS.items():
            value = getattr(self, name)
            if choices := get_args(hint) if "Literal" in str(hint) else ():
                if value not in choices:
                    raise ConfigError(f"{name} must be one of {', '.join(map(str, choices))}; got {value!r}")
            elif hint is bool:
                if not isinstance(value, bool):
                    raise ConfigError(f"{name} must be true or false; got {value!r}")
            elif hint is float:
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise ConfigError(f"{name} must be a number; got {value!r}")
            elif name in ("depths", "widths"):
                if not value or not isinstance(value, tuple) or not all(_is_count(item) for item in value):
                    raise ConfigError(f"{name} must hold whole numbers of at least 1; got {value}")
            elif value is None and name in ("output_stride", "last_stride"):
                continue
            elif not _is_count(value, least := 0 if name == "num_classes" else 1):
                raise ConfigError(f"{name} must be a whole number of at least {least}; got {value!r}")

    def _check_rules(self) -> None:
        if len(self.depths) != len(self.widths):
            raise ConfigError(f"depths and widths name the same stages; got {len(self.depths)} and {len(self.widths)}")
        if self.block == "basic" and (self.groups, self.group_width) != (1, 64):
            raise ConfigError(
                f"groups and group_width shape the 3x3 of a bottleneck; got {self.groups} and {self.group_width} "
                "with basic blocks; use block='bottleneck'"
            )
        if self.block == "basic" and self.stride_in == "1x1":
            raise ConfigError("stride_in='1x1' places a bottleneck's stride; got basic blocks; leave it '3x3'")
        if self.shortcut == "none" and (self.pre_activation or self.drop_path_rate):
            raise ConfigError(
                "a plain network (shortcut='none') has no residual branch; got pre_activation or "
                "drop_path_rate; drop them"
            )
        for name in ("drop_path_rate", "drop_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is a probability in [0, 1); got {getattr(self, name)}")
        if self.global_pool == "none" and self.num_classes:
            raise ConfigError(
                f"a classifier needs pooled features; got global_pool='none' with num_classes={self.num_classes}; "
                "pass num_classes=0 for maps"
            )
        self._check_strides()

    def _check_strides(self) -> None:
        if self.last_stride not in (None, 1, 2):
            raise ConfigError(f"last_stride must be 1 or 2; got {self.last_stride}")
        if self.last_stride is not None and len(self.depths) == 1:
            raise ConfigError("last_stride belongs to a later stage; got a network of one stage")
        if self.output_stride is None:
            return
        stem = self.stem_reduction
        natural = stem * 2 ** (len(self.depths) - 1)
        allowed = [stem * 2**step for step in range(len(self.depths))]
        if self.output_stride not in allowed:
            raise ConfigError(f"output_stride must be one of {', '.join(map(str, allowed))}; got {self.output_stride}")
        if self.last_stride == 2 and self.output_stride < natural:
            raise ConfigError(
                f"last_stride=2 keeps the output stride at {natural}; got output_stride={self.output_stride}; "
                "drop one of them"
            )
        if self.last_stride == 1 and self.output_stride == natural:
            raise ConfigError(
                f"last_stride=1 makes the output stride {natural // 2}; got output_stride={self.output_stride}; "
                "drop one of them"
            )

    @property
    def stem_reduction(self) -> int:
        """Input cells per cell where the first stage begins."""
        return (2 if self.stem == "7x7" else 1) * (2 if self.stem_pool == "max" else 1)

    def with_overrides(self, **overrides: Any) -> ResNetConfig:
        """The same network with some fields changed; an unknown field is an error that names the nearest."""
        for name in overrides:
            if name not in _HINTS:
                raise UnknownNameError("model option", name, _HINTS)
        return replace(self, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ResNetConfig:
        """What `to_dict` wrote; fields that an older version did not know keep their defaults."""
        return cls().with_overrides(**values)


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


_HINTS = get_type_hints(ResNetConfig)
