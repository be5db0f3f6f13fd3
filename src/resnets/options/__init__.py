"""Options: one grammar for KEY=VALUE and sizes, and one place that validates values. Imports no torch.

`grammar` parses text, `declarations` reads types, bounds and documentation off a dataclass, `validate` checks values
against them, `yaml_text` reads YAML. To declare options, annotate each field of a frozen dataclass:

    from annotated_types import Gt, Interval
    from typing_extensions import Doc

    @dataclass(frozen=True, kw_only=True)
    class OptimConfig(Options):
        \"""Optimizer of a run.\"""

        lr: Annotated[float, Gt(0), Doc("Peak learning rate. Longer text follows the first sentence.")] = 0.1
        betas: Annotated[tuple[Beta, Beta], Doc("Decay rates of both moments.")] = (0.9, 0.999)
        clip_grad: Annotated[float | None, Gt(0), Doc("Maximum gradient norm."), DefaultText("no clipping")] = None

        def check_rules(self) -> None:  # rules between fields only
            ...

`Beta = Annotated[float, Interval(ge=0, lt=1)]` bounds each item of a tuple. Bounds do not apply to `None`. Help pages
show the first sentence of `Doc` and the default, or `DefaultText` where the default needs explanation.
Constructing the dataclass checks types and bounds; `validate` also accepts text, as files and command lines have it.
"""
