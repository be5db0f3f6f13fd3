"""Values against declarations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen
from typing_extensions import Doc

from resnets.errors import ConfigError, UnknownNameError
from resnets.options.declarations import DefaultText, ImageSize, hints_of, options_of
from resnets.options.grammar import Quoted
from resnets.options.validate import Options, convert, convert_fields, validate

Share = Annotated[float, Interval(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Inner(Options):
    epochs: Annotated[int, Ge(1), Doc("Number of epochs.")]
    freeze: str = "none"


@dataclass(frozen=True, kw_only=True)
class Group(Options):
    """Options of a test."""

    lr: Annotated[float, Gt(0), Doc("Peak learning rate. More about it.")] = 0.1
    betas: Annotated[tuple[Share, Share], Doc("Decay rates (Kingma et al. 2014). More.")] = (0.9, 0.999)
    opt: Annotated[Literal["sgd", "adamw"], Doc("Optimizer.")] = "sgd"
    amp: Literal["auto", "off"] = "auto"
    stride: Literal[1, 2] | None = None
    size: Annotated[ImageSize | None, Doc("Size."), DefaultText("by the images")] = None
    flag: bool = False
    name: str | None = None
    depths: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (1,)
    extra: dict[str, Any] | None = None
    phases: tuple[Inner, ...] = ()

    def check_rules(self) -> None:
        if self.flag and self.name is None:
            raise ConfigError(f"flag requires name; got {self.name}; pass name=x")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("lr", "5e-4", 5e-4),
        ("lr", 1, 1.0),
        ("betas", "0.9,0.99", (0.9, 0.99)),
        ("betas", "(0.9, 0.99)", (0.9, 0.99)),
        ("betas", [0, 0.5], (0.0, 0.5)),
        ("amp", "off", "off"),
        ("amp", False, "off"),
        ("amp", "no", "off"),
        ("stride", "1", 1),
        ("stride", "none", None),
        ("stride", 2, 2),
        ("size", "64", 64),
        ("size", "64x32", (64, 32)),
        ("size", [64, 32], (64, 32)),
        ("size", "null", None),
        ("flag", "yes", True),
        ("flag", "0", False),
        ("flag", 1, True),
        ("name", "none", None),
        ("name", Quoted("none"), "none"),
        ("name", "2024", "2024"),
        ("name", "a, b", "a, b"),
        ("depths", "3", (3,)),
        ("depths", 3, (3,)),
        ("depths", "(1,1,1)", (1, 1, 1)),
        ("depths", [2.0], (2,)),
        ("extra", "{a: 1}", {"a": "1"}),
        ("phases", "[{epochs: 3, freeze: stem}]", (Inner(epochs=3, freeze="stem"),)),
        ("phases", [{"epochs": "3"}], (Inner(epochs=3),)),
    ],
)
def test_text_and_values_become_their_types(name: str, value: Any, expected: Any) -> None:
    found = convert_fields(hints_of(Group), {name: value})[name]
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("lr", 0, "a number above 0"),
        ("lr", "fast", "a number above 0"),
        ("lr", math.nan, "a number above 0"),
        ("lr", True, "a number above 0"),
        ("betas", "0.9", "2 numbers of at least 0 and below 1"),
        ("betas", [0.9, 1.0], "2 numbers of at least 0 and below 1"),
        ("opt", "adam", "sgd or adamw"),
        ("opt", None, "sgd or adamw"),
        ("stride", 3, "1, 2 or none"),
        ("stride", True, "1, 2 or none"),
        ("size", "big", "a size such as 224 or 256x128 or none"),
        ("size", 0, "a size such as 224 or 256x128 or none"),
        ("flag", "maybe", "true or false"),
        ("flag", (0, 1), "true or false"),
        ("name", 3, "text or none"),
        ("depths", "()", "a non-empty list of whole numbers of at least 1"),
        ("depths", "1,0", "a non-empty list of whole numbers of at least 1"),
        ("depths", 2.5, "a non-empty list of whole numbers of at least 1"),
        ("extra", 3, "a mapping or none"),
        ("phases", 3, "a list of mappings of epochs or freeze"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_of_one_line(name: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigError) as caught:
        convert_fields(hints_of(Group), {name: value}, "group")
    message = str(caught.value)
    assert message.startswith(f"group.{name} must be {rule}; got {value!r}")
    assert "\n" not in message


def test_the_nearest_choice_is_named() -> None:
    with pytest.raises(ConfigError, match="did you mean adamw"):
        convert(hints_of(Group)["opt"], "adam", "opt")


@pytest.mark.parametrize("values", [{"lr": "0.1"}, {"flag": 1}, {"amp": False}, {"stride": "1"}, {"size": "64"}])
def test_construction_does_not_read_text(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        Group(**values)


def test_construction_makes_equal_options_equal() -> None:
    assert Group(depths=[1, 2], lr=1) == Group(depths=(1, 2), lr=1.0)  # type: ignore[arg-type]
    assert isinstance(Group(lr=1).lr, float)


def test_nested_options_are_named_by_their_path() -> None:
    for phases, path in (([{"epochs": 1}, {"epochs": 0}], "phases.1.epochs"), ([{}], "phases.0.epochs")):
        with pytest.raises(ConfigError, match=f"^group.{path} must be a whole number of at least 1; got"):
            validate(Group, {"phases": phases}, "group")
    with pytest.raises(ConfigError, match=r"^phases\.0 must be a mapping of epochs or freeze; got 3"):
        validate(Group, {"phases": [3]})


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'group\.betsa'.*group\.betas"):
        validate(Group, {"betsa": 1}, "group")


def test_rules_between_fields() -> None:
    with pytest.raises(ConfigError, match="flag requires name"):
        validate(Group, {"flag": "yes"})
    assert validate(Group, {"flag": "yes", "name": "x"}).flag


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "words"),
    [
        ((Ge(2),), 2, 1, "of at least 2"),
        ((Gt(2),), 3, 2, "above 2"),
        ((Le(2),), 2, 3, "of at most 2"),
        ((Lt(2),), 1, 2, "below 2"),
        ((Interval(gt=0, le=2),), 2, 0, "above 0 and at most 2"),
        ((Interval(ge=0, lt=math.inf),), 5, math.inf, "of at least 0 and below inf"),
    ],
)
def test_bounds(bounds: tuple[Any, ...], inside: float, outside: float, words: str) -> None:
    hint: Any = Annotated[float, *bounds]
    assert convert(hint, inside, "x", text=False) == inside
    with pytest.raises(ConfigError, match="x must be a number") as caught:
        convert(hint, outside, "x", text=False)
    assert words in str(caught.value)


def test_options_list_documentation_and_defaults() -> None:
    found = {one.name: one for one in options_of(Group)}
    assert list(found) == list(hints_of(Group))
    assert found["lr"].help == "Peak learning rate. More about it."
    assert found["lr"].summary() == "Peak learning rate (default: 0.1)."
    assert found["betas"].summary() == "Decay rates (Kingma et al. 2014) (default: (0.9, 0.999))."
    assert found["opt"].summary(list_choices=True) == "Optimizer: sgd or adamw (default: sgd)."
    assert found["size"].summary() == "Size (default: by the images)."
    assert (found["flag"].default, found["name"].default, found["depths"].default) == ("false", "none", "(1)")
    assert [one.default for one in options_of(Inner)] == ["", "none"]


def test_an_array_is_no_truth_value() -> None:
    with pytest.raises(ConfigError, match="flag must be true or false"):
        convert_fields(hints_of(Group), {"flag": np.array([0.9, 0.99])}, "group")
