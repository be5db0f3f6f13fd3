"""What a description must keep to: types by its annotations, and rules between fields."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from resnets.errors import ConfigError

if TYPE_CHECKING:
    from resnets.arch.config import ResNetConfig

__all__ = ["check_norm", "check_resnet", "check_types"]


def check_types(config: object, hints: Mapping[str, Any]) -> None:
    """Hold every field against its annotation.

    Whole numbers are at least 1, or 0 for `num_classes`.

    Raises:
        ConfigError: a value of another type, or not among the choices.
    """
    for name, hint in hints.items():
        _check(name, hint, getattr(config, name))


def _check(name: str, hint: Any, value: object) -> None:
    kinds = get_args(hint)
    if NoneType in kinds:
        if value is not None:
            _check(name, kinds[0], value)
    elif get_origin(hint) is Literal:
        if value not in kinds:
            raise ConfigError(f"{name} must be one of {', '.join(kind or 'empty' for kind in kinds)}; got {value!r}")
    elif get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            raise ConfigError(f"{name} must be a tuple, one item a stage; got {value!r}")
        if get_origin(kinds[0]) is Literal:
            for item in value:
                _check(f"each of {name}", kinds[0], item)
        elif not value or not all(_is_count(item) for item in value):
            raise ConfigError(f"{name} must hold whole numbers of at least 1; got {value}")
    elif hint is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"{name} must be true or false; got {value!r}")
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name} must be a number; got {value!r}")
    elif not _is_count(value, least := 0 if name == "num_classes" else 1):
        raise ConfigError(f"{name} must be a whole number of at least {least}; got {value!r}")


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_norm(eps: float, momentum: float) -> None:
    """The rule of a batch norm's two numbers.

    Raises:
        ConfigError: one of them is outside it.
    """
    if not eps > 0 or not 0 <= momentum <= 1:
        raise ConfigError(f"norm_eps must be above 0 and norm_momentum in [0, 1]; got {eps} and {momentum}")


def check_resnet(config: ResNetConfig) -> None:
    """The rules between the fields of a residual network.

    Raises:
        ConfigError: fields that contradict each other.
    """
    if len(config.depths) != len(config.widths):
        raise ConfigError(f"depths and widths name the same stages; got {len(config.depths)} and {len(config.widths)}")
    for name in ("drop_path_rate", "drop_rate"):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"{name} is a probability in [0, 1); got {getattr(config, name)}")
    check_norm(config.norm_eps, config.norm_momentum)
    if config.global_pool == "none" and config.num_classes:
        raise ConfigError(
            f"a classifier needs pooled features; got global_pool='none' with num_classes={config.num_classes}; "
            "pass num_classes=0 for maps"
        )
    _check_stem(config)
    _check_blocks(config)
    _check_shortcut(config)
    _check_attention(config)
    _check_group_norm(config)
    _check_strides(config)


def _check_stem(config: ResNetConfig) -> None:
    part = {"deep": 2, "tiered": 8}.get(config.stem, 1)
    if config.stem_width % part:
        raise ConfigError(
            f"a {config.stem} stem's stem_width must be a multiple of {part}; got {config.stem_width}; "
            f"the nearest is {max(round(config.stem_width / part), 1) * part}"
        )
    if not config.stem_act and config.pre_activation:
        raise ConfigError("stem_act belongs to a post-activation stem; got pre_activation; leave stem_act on")
    if config.antialias and config.stem_pool not in ("max", "none"):
        raise ConfigError(
            f"antialias has a pool of its own in the stem; got stem_pool={config.stem_pool!r}; use 'max' or 'none'"
        )


def _check_blocks(config: ResNetConfig) -> None:
    for name in ("kernel", "shortcut_kernel"):
        if getattr(config, name) % 2 == 0:
            raise ConfigError(f"{name} must be odd; got {getattr(config, name)}")
    if config.block == "basic" and (config.groups, config.group_width) != (1, 64):
        raise ConfigError(
            f"groups and group_width shape the 3x3 of a bottleneck; got {config.groups} and {config.group_width} "
            "with basic blocks; use block='bottleneck'"
        )
    if config.block == "basic" and config.stride_in == "1x1":
        raise ConfigError("stride_in='1x1' places a bottleneck's stride; got basic blocks; leave it '3x3'")
    if config.ibn and len(config.ibn) != len(config.depths):
        raise ConfigError(f"ibn names every stage or none; got {len(config.ibn)} for {len(config.depths)} stages")
    if any(config.ibn) and config.pre_activation:
        raise ConfigError("ibn belongs to post-activation blocks; got pre_activation; drop one of them")


def _check_shortcut(config: ResNetConfig) -> None:
    if config.shortcut == "none":
        for name in ("pre_activation", "drop_path_rate", "zero_init_last"):
            if getattr(config, name):
                raise ConfigError(
                    f"a plain network (shortcut='none') has no residual branch; got {name}={getattr(config, name)}; "
                    "drop it"
                )
    if config.shortcut_kernel != 1 and config.shortcut in ("A", "A_after", "D", "none"):
        raise ConfigError(
            f"shortcut_kernel is that of a projection that strides; got shortcut={config.shortcut!r}; drop it"
        )
    if not config.shortcut_norm:
        if config.pre_activation:
            raise ConfigError("shortcut_norm is a post-activation network's; got pre_activation; leave it on")
        if config.shortcut in ("A", "A_after", "none"):
            raise ConfigError(f"shortcut_norm is a projection's; got shortcut={config.shortcut!r}; leave it on")


def _check_attention(config: ResNetConfig) -> None:
    if config.se_form != "conv" and config.attention != "se":
        raise ConfigError(
            f"se_form shapes squeeze and excitation; got attention={config.attention!r}; "
            "pass attention='se' or leave se_form 'conv'"
        )
    if config.attention_reduction != 16 and config.attention not in ("se", "cbam"):
        raise ConfigError(
            f"attention_reduction is that of se and cbam; got attention={config.attention!r}; pass one of them or "
            "leave it 16"
        )


def _check_group_norm(config: ResNetConfig) -> None:
    if config.norm != "group":
        return
    for width in (config.stem_width, *config.widths):
        if width % config.norm_groups:
            raise ConfigError(
                f"norm_groups must divide every width; got {config.norm_groups} for a width of {width}; "
                "lower norm_groups"
            )


def _check_strides(config: ResNetConfig) -> None:
    if config.last_stride not in (None, 1, 2):
        raise ConfigError(f"last_stride must be 1 or 2; got {config.last_stride}")
    if config.last_stride is not None and len(config.depths) == 1:
        raise ConfigError("last_stride belongs to a later stage; got a network of one stage")
    if config.output_stride is None:
        return
    stem = config.stem_reduction
    natural = stem * 2 ** (len(config.depths) - 1)
    allowed = [stem * 2**step for step in range(len(config.depths))]
    if config.output_stride not in allowed:
        raise ConfigError(f"output_stride must be one of {', '.join(map(str, allowed))}; got {config.output_stride}")
    if config.last_stride == 2 and config.output_stride < natural:
        raise ConfigError(
            f"last_stride=2 keeps the output stride at {natural}; got output_stride={config.output_stride}; "
            "drop one of them"
        )
    if config.last_stride == 1 and config.output_stride == natural:
        raise ConfigError(
            f"last_stride=1 makes the output stride {natural // 2}; got output_stride={config.output_stride}; "
            "drop one of them"
        )
