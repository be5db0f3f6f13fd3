"""Configuration of a residual network, and the base class that all families share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from annotated_types import Ge, Gt, Interval, MinLen
from typing_extensions import Doc

from resnets.arch.nodes import Activation
from resnets.errors import ConfigError, UnknownNameError
from resnets.options.declarations import DefaultText, hints_of, listed
from resnets.options.validate import Options

__all__ = ["BaseConfig", "ClassCount", "Count", "Eps", "Momentum", "Probability", "ResNetConfig"]

MAX_BLOCKS = 10_000  # of all stages together
MAX_COUNT = 2**20  # of channels, classes, pixels and whatever else is counted
Count = Annotated[int, Ge(1)]
ClassCount = Annotated[int, Ge(0), Doc("Number of classes. 0 returns embeddings instead of logits.")]
Probability = Annotated[float, Interval(ge=0, lt=1)]
Eps = Annotated[float, Gt(0), Doc("Added to the variance in each norm.")]
Momentum = Annotated[float, Interval(ge=0, le=1), Doc("Momentum of running statistics, as in torch.")]


@dataclass(frozen=True, kw_only=True)
class BaseConfig(Options):
    """Base of network configurations."""

    @property
    def inert(self) -> frozenset[str]:
        """Fields without effect, since another one switches off what they describe."""
        return frozenset()

    def check_sizes(self) -> None:
        """Raise ConfigError where a number is too large for any network, or there are too many blocks."""
        for name, value in vars(self).items():
            numbers = value if isinstance(value, tuple) else (value,)
            if any(isinstance(number, float) and math.isinf(number) for number in numbers):
                raise ConfigError(f"{name} must be finite; got {value}")
            if any(isinstance(number, int) and number > MAX_COUNT for number in numbers):
                raise ConfigError(f"{name} must be at most {MAX_COUNT:,}; got {value}; lower it")
            if name == "depths" and sum(numbers) > MAX_BLOCKS:
                raise ConfigError(f"a network has at most {MAX_BLOCKS:,} blocks; got {sum(numbers):,}; lower depths")

    def with_overrides(self, **overrides: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            UnknownNameError: an unknown field; the message names the nearest.
            ConfigError: an invalid value.
        """
        for name in overrides:
            if name not in hints_of(type(self)):
                raise UnknownNameError("model option", name, hints_of(type(self)))
        return replace(self, **overrides)


SHORTCUTS = ("A", "A_after", "B", "C", "D", "first", "subsample")
PROJECTIONS = ("B", "C", "D", "first", "subsample")
POOLED = ("avg", "max", "avgmax", "sumavgmax", "catavgmax", "clipavg", "gem", "window")

REQUIREMENTS: tuple[tuple[str, str, tuple[Any, ...]], ...] = (
    # field, other field, values that the other must have where the field is not at its default
    ("groups", "block", ("bottleneck",)),
    ("group_width", "block", ("bottleneck",)),
    ("stride_in", "block", ("bottleneck",)),
    ("stem_act", "pre_activation", (False,)),
    ("shortcut_norm", "pre_activation", (False,)),
    ("shortcut_norm", "shortcut", PROJECTIONS),
    ("shortcut_kernel", "shortcut", ("B", "C", "first", "subsample")),  # a projection that strides
    ("pre_activation", "shortcut", SHORTCUTS),
    ("drop_path_rate", "shortcut", SHORTCUTS),
    ("zero_init_last", "shortcut", SHORTCUTS),
    ("se_form", "attention", ("se",)),
    ("attention_reduction", "attention", ("se", "cbam")),
    ("antialias", "stem_pool", ("max", "avg2", "none")),
    ("antialias_filter", "antialias", (True,)),
    ("branch_act", "pre_activation", (False,)),
    ("non_local", "pre_activation", (False,)),
    ("non_local", "norm", ("batch", "frozen_batch")),
    ("embedding_dim", "global_pool", POOLED),
    ("neck", "global_pool", POOLED),
    ("neck_bias", "neck", ("bn", "bn_relu")),
    ("classifier", "global_pool", POOLED),
    ("classifier_scale", "classifier", ("cosine",)),
)


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(BaseConfig):
    """Frozen configuration of a residual network. Each field documents itself.

    Raises:
        ConfigError: an invalid value, or fields that contradict each other.
    """

    always_shown: ClassVar[tuple[str, ...]] = ("block", "depths", "num_classes")  # by `repr`

    block: Annotated[
        Literal["basic", "bottleneck"],
        Doc("Residual block. `basic` (two 3x3) or `bottleneck` (1x1, 3x3, 1x1 with 4 times the width)."),
    ] = "bottleneck"
    depths: Annotated[tuple[Count, ...], MinLen(1), Doc("Blocks in each stage.")] = (3, 4, 6, 3)
    widths: Annotated[
        tuple[Count, ...],
        MinLen(1),
        Doc(
            "Width of each stage. Channels of the 3x3 before `group_width` and `groups` apply; a bottleneck outputs 4 "
            "times as many."
        ),
    ] = (64, 128, 256, 512)
    pre_activation: Annotated[bool, Doc("Norm and activation before each convolution (He et al. 2016, ResNet v2).")] = (
        False
    )
    kernel: Annotated[
        Count, Doc("Kernel size of the middle convolution, odd. In a basic block, of both convolutions.")
    ] = 3
    groups: Annotated[Count, Doc("Groups of a bottleneck's 3x3, the cardinality of ResNeXt.")] = 1
    group_width: Annotated[
        Count, Doc("Channels of one group. 64 in a plain network, 4 in ResNeXt-50 32x4d, 128 in wide ResNets.")
    ] = 64
    reduce_first: Annotated[
        Count, Doc("Divisor of the first convolution's width relative to the 3x3. 2 in SENet-154.")
    ] = 1
    stride_in: Annotated[
        Literal["3x3", "1x1"],
        Doc(
            "Convolution of a bottleneck that strides. `3x3` (v1.5, torchvision) or the first `1x1` (v1, Caffe, Keras)."
        ),
    ] = "3x3"
    stride_unit: Annotated[
        Literal["first", "last"],
        Doc(
            "Block of a stage that strides. `first`, or `last` (TF-slim, Keras v2), where the last block of a stage "
            "subsamples for the next."
        ),
    ] = "first"
    stem: Annotated[
        Literal["7x7", "3x3", "deep", "tiered"],
        Doc(
            "Stem convolution. `7x7` (stride 2), `3x3` (stride 1, CIFAR networks), `deep` (three 3x3, the first of "
            "stride 2) or `tiered` (as `deep`, with 3/8, 1/2 and 1 of the width)."
        ),
    ] = "7x7"
    stem_width: Annotated[Count, Doc("Channels of the stem.")] = 64
    stem_act: Annotated[
        bool, Doc("Activation after the stem's norm. Some re-identification networks leave it out.")
    ] = True
    stem_pool: Annotated[
        Literal["max", "max_same", "max_zero", "max_ceil", "max_valid", "max2", "avg2", "conv", "none"],
        Doc(
            "Pool of the stem. `max` (3x3, stride 2, padding 1), `max_same` (TensorFlow's SAME), `max_zero` (padded "
            "with zeros instead of minus infinity: Keras, BiT), `max_ceil` (unpadded, rounded up: Caffe), `max_valid` "
            "(unpadded), `max2` (2x2, unpadded), `avg2` (2x2 average), `conv` (3x3 convolution of stride 2, norm, "
            "activation: ResNet-RS) or `none`."
        ),
    ] = "max"
    antialias: Annotated[
        bool,
        Doc(
            "Filter before each subsampling except the stem convolution's and a shortcut's (Zhang 2019, as timm). With "
            "`stem_pool=avg2` that pool is the filter of the stem."
        ),
    ] = False
    antialias_filter: Annotated[
        Literal["blur", "average"],
        Doc("Filter of `antialias`. `blur` (3x3 binomial) or `average` (2x2, timm's `aa` networks)."),
    ] = "blur"
    shortcut: Annotated[
        Literal["A", "A_after", "B", "C", "D", "first", "subsample", "none"],
        Doc(
            "Shortcut. As in He et al. 2015: `A` (subsampling, zero channels on both sides), `B` (1x1 "
            "convolution where the shape changes), `C` (1x1 convolution everywhere), `none` (a plain network); also "
            "`A_after` (zero channels after), `D` (average pool, then 1x1: ResNet-D), `first` (1x1 in the first block "
            "of every stage: TensorFlow official) and `subsample` (1x1 where channels change, else subsampling: "
            "TF-slim)."
        ),
    ] = "B"
    shortcut_kernel: Annotated[Count, Doc("Kernel size of a projection that strides, odd. 3 in SENet-154.")] = 1
    shortcut_norm: Annotated[bool, Doc("Norm after the projection of a post-activation network.")] = True
    conv_bias: Annotated[
        Literal["none", "all", "unnormed"],
        Doc("Convolutions with a bias. `none`, `all`, or `unnormed`, those without a norm after them."),
    ] = "none"
    standardised: Annotated[bool, Doc("Weight-standardised convolutions (Qiao et al. 2019, BiT).")] = False
    standardised_eps: Annotated[float, Gt(0), Doc("Added to the variance of each standardised filter.")] = 1e-8
    padding: Annotated[
        Literal["symmetric", "same"],
        Doc(
            "Padding of strided convolutions. `symmetric`, or `same`, TensorFlow's, which pads the odd cell at the end."
        ),
    ] = "symmetric"
    attention: Annotated[
        Literal["none", "se", "eca", "cbam"],
        Doc(
            "Attention at the end of each residual branch. `se` (Hu et al. 2018), `eca` (Wang et al. 2020), `cbam` "
            "(Woo et al. 2018) or `none`."
        ),
    ] = "none"
    attention_reduction: Annotated[Count, Doc("Reduction ratio of the attention's hidden channels.")] = 16
    attention_round: Annotated[Count, Doc("Round the hidden channels to a multiple of this. 8 in timm.")] = 1
    se_form: Annotated[
        Literal["conv", "linear"],
        Doc("Layers of squeeze and excitation. `conv` (1x1 convolutions with bias) or `linear` (without bias)."),
    ] = "conv"
    ibn: Annotated[
        tuple[Literal["a", "b", ""], ...],
        Doc(
            "IBN-Net variant of each stage (Pan et al. 2018). `a` (instance norm on half the channels of the first "
            "norm), `b` (instance norm after the sum of the last block, and in the stem if the first stage has it) or "
            "empty; `()` for no stage."
        ),
    ] = ()
    non_local: Annotated[
        tuple[Annotated[int, Ge(0)], ...],
        Doc(
            "Blocks at the end of each stage that are followed by a non-local layer (Wang et al. 2018), with one inner "
            "channel, as in fast-reid; (0, 2, 3, 0) in its `sbs_R50`. `()` for none."
        ),
    ] = ()
    norm: Annotated[
        Literal["batch", "group", "frozen_batch"],
        Doc("Normalisation. `frozen_batch` keeps statistics and affine parameters constant."),
    ] = "batch"
    norm_eps: Eps = 1e-5
    norm_momentum: Momentum = 0.1
    norm_groups: Annotated[Count, Doc("Groups of a group norm.")] = 32
    act: Annotated[
        Activation,
        Doc(
            "Activation. `relu`, `silu` (swish), `leaky_relu` (slope 0.01), `hard_swish` or `gelu`; ReLU in attention."
        ),
    ] = "relu"
    branch_act: Annotated[
        bool,
        Doc(
            "Activation at the end of each residual branch, before attention and sum, as in Cadene's basic SE-ResNets."
        ),
    ] = False
    zero_init_last: Annotated[
        bool,
        Doc("Initialise each residual branch to zero. Its last norm, or its last convolution if pre-activation."),
    ] = False
    output_stride: Annotated[
        Count | None,
        Doc(
            "Input pixels per cell of the last feature map. Below the network's own (32; 4 in CIFAR networks), "
            "dilation replaces the strides of the last stages."
        ),
        DefaultText("the network's own, 32 or 4"),
    ] = None
    dilation_rule: Annotated[
        Literal["torchvision", "detectron"],
        Doc(
            "Dilation of the block that would stride. `torchvision` keeps the previous dilation, `detectron` uses the "
            "new one."
        ),
    ] = "torchvision"
    last_stride: Annotated[
        Literal[1, 2] | None,
        Doc("Stride of the last stage. 1 doubles the resolution without dilation, as re-identification uses it."),
        DefaultText("2"),
    ] = None
    drop_path_rate: Annotated[
        Probability, Doc("Stochastic depth. Rises linearly over the blocks from 0 to this probability.")
    ] = 0.0
    drop_rate: Annotated[Probability, Doc("Dropout probability before the classifier.")] = 0.0
    global_pool: Annotated[
        Literal["avg", "max", "avgmax", "sumavgmax", "catavgmax", "clipavg", "gem", "window", "none"],
        Doc(
            "Global pooling. `avg`, `max`, `avgmax` (their mean), `sumavgmax` (their sum), `catavgmax` (both, twice "
            "the features), `clipavg` (average, clipped to [0, 1]), `gem` (generalised mean with learned power; "
            "Radenovic et al. 2018), `window` (average over fixed windows, flattened) or `none`: the last feature map, "
            "or with classes their logits at each of its cells."
        ),
    ] = "avg"
    embedding_dim: Annotated[
        Count | None,
        Doc("Linear layer after the pool, which sets the size of the embedding."),
        DefaultText("no such layer"),
    ] = None
    embedding_bias: Annotated[bool, Doc("Bias of that layer.")] = True
    neck: Annotated[
        Literal["none", "bn", "bn_relu"],
        Doc(
            "Layers before the classifier. `bn` (the batch norm of BNNeck, Luo et al. 2019), `bn_relu` (torchreid's "
            "fc512) or `none`. The embedding is taken after it."
        ),
    ] = "none"
    neck_bias: Annotated[bool, Doc("Train the bias of the neck's batch norm. BNNeck keeps it at 0.")] = False
    classifier: Annotated[
        Literal["linear", "cosine"],
        Doc("Classifier. `linear`, or `cosine`: cosine similarities times `classifier_scale`, as margin losses need."),
    ] = "linear"
    classifier_bias: Annotated[bool, Doc("Bias of a linear classifier. BNNeck has none.")] = True
    classifier_scale: Annotated[float, Gt(0), Doc("Factor of the cosine similarities.")] = 1.0
    pool_window: Annotated[Count, Doc("Window size of `global_pool=window`, in cells.")] = 7
    in_chans: Annotated[Count, Doc("Input channels.")] = 3
    num_classes: ClassCount = 1000
    img_size: Annotated[Count, Doc("Image size that the network is meant for, in pixels a side.")] = 224

    def check_rules(self) -> None:
        for name, other, allowed in REQUIREMENTS:
            value, got = getattr(self, name), getattr(self, other)
            if value != getattr(type(self), name) and got not in allowed:
                raise ConfigError(
                    f"{name}={value!r} requires {other}={listed(map(repr, allowed))}; got {other}={got!r}; "
                    "change one of them"
                )
        self.check_sizes()
        for broken, message in (*self._rules_of_layers(), *self._rules_of_strides()):
            if broken:
                raise ConfigError(message)

    def _rules_of_layers(self) -> Iterator[tuple[bool, str]]:
        """Whether each rule is broken, and its message."""
        stages, unit = len(self.depths), {"deep": 2, "tiered": 8}.get(self.stem, 1)
        yield (
            stages != len(self.widths),
            f"depths and widths must name the same stages; got {stages} and {len(self.widths)}",
        )
        for name in ("kernel", "shortcut_kernel"):
            yield getattr(self, name) % 2 == 0, f"{name} must be odd; got {getattr(self, name)}"
        for name in ("ibn", "non_local"):
            named = len(getattr(self, name))
            yield named not in (0, stages), f"{name} must name every stage or none; got {named} for {stages} stages"
        yield (
            any(count > depth for count, depth in zip(self.non_local, self.depths, strict=False)),
            f"non_local is at most the blocks of a stage; got {self.non_local} for depths={self.depths}",
        )
        yield (
            any(self.ibn) and self.pre_activation,
            "ibn requires post-activation blocks; got pre_activation=True; change one of them",
        )
        for width in (self.stem_width, *self.widths):
            yield (
                self.norm == "group" and width % self.norm_groups > 0,
                f"norm_groups must divide every width; got {self.norm_groups} for a width of {width}; lower it",
            )
        yield (
            self.stem_width % unit > 0,
            f"stem_width of a {self.stem} stem must be a multiple of {unit}; got {self.stem_width}; "
            f"the nearest is {max(round(self.stem_width / unit), 1) * unit}",
        )

    def _rules_of_strides(self) -> Iterator[tuple[bool, str]]:
        allowed = [self.stem_reduction * 2**stage for stage in range(len(self.depths))]
        full, wanted = allowed[-1], self.output_stride
        yield (
            self.last_stride is not None and len(self.depths) == 1,
            f"last_stride requires two or more stages; got last_stride={self.last_stride} with one stage; drop it",
        )
        if wanted is None:
            return
        yield wanted not in allowed, f"output_stride must be {listed([*map(str, allowed)])}; got {wanted}"
        yield (
            self.last_stride == 2 and wanted < full,
            f"last_stride=2 keeps the output stride at {full}; got output_stride={wanted}; drop one of them",
        )
        yield (
            self.last_stride == 1 and wanted == full,
            f"last_stride=1 makes the output stride {full // 2}; got output_stride={wanted}; drop one of them",
        )

    @property
    def inert(self) -> frozenset[str]:
        """Fields without effect, since another one switches off what they describe."""
        projects, attends = self.shortcut in PROJECTIONS, self.attention in ("se", "cbam")
        idle = {
            "stride_in": self.block == "basic",
            "groups": self.block == "basic",
            "group_width": self.block == "basic",
            "norm_groups": self.norm != "group",
            "standardised_eps": not self.standardised,
            "attention_reduction": not attends,
            "attention_round": not attends,
            "se_form": self.attention != "se",
            "antialias_filter": not self.antialias,
            "embedding_bias": self.embedding_dim is None,
            "neck_bias": self.neck == "none",
            "classifier_bias": self.classifier == "cosine",
            "classifier_scale": self.classifier == "linear",
            "pool_window": self.global_pool != "window",
            "stem_act": self.pre_activation,
            "branch_act": self.pre_activation,
            "shortcut_norm": self.pre_activation or not projects,
            "shortcut_kernel": not projects or self.shortcut == "D",
            "dilation_rule": self.output_stride is None,
        }
        return frozenset(name for name, without_effect in idle.items() if without_effect)

    @property
    def stem_reduction(self) -> int:
        """Input cells per cell of the first stage's input."""
        return (1 if self.stem == "3x3" else 2) * (1 if self.stem_pool == "none" else 2)
