"""Pitfalls for users of other trainers: misspelt options, and options with an unexpected meaning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resnets.errors import ConfigError, ResnetsError, UnknownNameError
from resnets.options.grammar import parse_settings
from resnets.train.config.recipes import check_recipe, list_recipes, load_recipe
from resnets.train.config.train_config import TrainConfig, nested, option_names, read_args, write_args
from tests.conftest import Command


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        ("epoch", "epochs"),
        ("optim.lrs", "optim.lr"),
        ("mixupp", "mixup"),
        ("optim.mixup", None),
        ("smooting", "label_smoothing"),
    ],
)
def test_an_unknown_option_names_the_nearest_everywhere(
    wrong: str, near: str | None, command: Command, tmp_path: Path, images: Path
) -> None:
    group, _, name = wrong.partition(".")
    layers: list[dict[str, Any]] = [{wrong: 1}]
    if name:
        layers.append({group: {name: 1}})
    for layer in layers:
        with pytest.raises(UnknownNameError) as caught:
            TrainConfig.from_options({"data": "digits"}, layer)
        assert near is None or near in str(caught.value)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"{group}: {{{name}: 1}}\n" if name else f"{wrong}: 1\n")
    for words in (("--set", f"{wrong}=1"), ("--recipe", recipe)):
        done = command("train", images, "--output", tmp_path / "runs", *words)
        assert done.code == 1
        assert done.err.strip().count("\n") == 0
        assert near is None or near in done.err
    args = tmp_path / "args.yaml"
    args.write_text("data: digits\n" + recipe.read_text())
    with pytest.raises(ResnetsError, match=r"args\.yaml") as failed:
        read_args(args)
    assert near is None or near in str(failed.value)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_flag_names_the_nearest(command: Command) -> None:
    done = command("train", "digits", "--batchsize", "3")
    assert done.code == 2
    assert "--batch-size" in done.err


def test_bare_and_full_names_are_equal() -> None:
    plain = TrainConfig(data="digits")
    for bare, full in option_names().items():
        if full in ("data", "phases") or bare == full:
            continue
        group, name = full.split(".")
        value = getattr(getattr(plain, group), name) if group != "augment" else None
        if group == "augment":
            value = {"pad": 3, "policy": "randaugment"}.get(name)
        if value is None:
            continue
        one, two = (TrainConfig.from_options({"data": "digits", key: value}) for key in (bare, full))
        three = TrainConfig.from_options({"data": "digits", group: {name: value}})
        assert one == two == three, full


def test_the_same_on_the_command_line() -> None:
    def read(*settings: str) -> dict[str, Any]:
        return nested(parse_settings(settings))

    for text in ("lr=0.3", "optim.lr=0.3", "optim={lr: 0.3}"):
        assert read(text) == {"optim": {"lr": 0.3}}
    assert read("betas=0.9,0.99") == {"optim": {"betas": (0.9, 0.99)}}
    assert read("ema=0.9", "ema_every=2") == {"average": {"ema": 0.9, "ema_every": 2}}


@pytest.mark.parametrize(
    ("words", "group", "name", "value"),
    [
        (("--set", "cache=off"), "cache", "cache", "off"),
        (("--set", "policy=off"), "augment", "policy", "none"),
        (("--opt", "adamw"), "optim", "weight_decay", 0.05),
        (("--set", "balanced=true"), "sampling", "balanced", True),
    ],
)
def test_options_take_effect(
    words: tuple[str, ...], group: str, name: str, value: Any, command: Command, images: Path
) -> None:
    done = command("train", images, "--dry-run", "--json", *words)
    assert done.code == 0, done.err
    assert json.loads(done.out)["args"][group][name] == value


@pytest.mark.parametrize(
    "words",
    [
        ("--freeze-epochs", "3"),
        ("--recipe", "imagenet-90", "--epochs", "30"),
        ("--set", "train_sizes=[[0,0]]"),
        ("--set", "phases=[{epochs: 3, frezze: backbone}]"),
        ("--set", "color_jitter=0.4"),
        ("--opt", "adam"),
    ],
)
def test_contradictory_options_are_one_line_and_start_no_run(
    words: tuple[str, ...], command: Command, images: Path, tmp_path: Path
) -> None:
    done = command("train", images, "--output", tmp_path / "runs", *words)
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "options",
    [
        {"ema": 0.9, "swa_epochs": 2},
        {"sched": "step"},
        {"milestones": [3]},
        {"folds": 5, "fold": 5},
        {"train_sizes": [[0.2, 8]]},
        {"opt": "adam"},
        {"lr": "fast"},
        {"label_smoothing": 1.5},
        {"class_weights": [0.0, 0.0]},
        {"policy": "randomaugment"},
    ],
)
def test_invalid_options_are_errors_of_one_line(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_options({"data": "digits"}, options)
    assert "\n" not in str(caught.value)
    assert "got" in str(caught.value)


def test_options_override_the_recipe_and_the_recipe_the_defaults() -> None:
    recipe = {"data": "digits", "optim": {"lr": 0.5, "lr_batch": 256, "momentum": 0.8}, "label_smoothing": 0.2}
    config = TrainConfig.from_options(recipe, {"momentum": 0.7})
    assert (config.optim.lr, config.optim.lr_batch, config.optim.momentum) == (0.5, 256, 0.7)
    assert config.loss.label_smoothing == 0.2
    assert config.optim.weight_decay == TrainConfig(data="digits").optim.weight_decay


@pytest.mark.parametrize("name", list_recipes())
def test_a_named_learning_rate_is_not_scaled(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name).settings
    config = TrainConfig.from_options({"data": "digits", **recipe}, {"lr": 0.123, "batch_size": 7})
    assert config.optim.lr_for(7) == 0.123
    scaled = TrainConfig.from_options({"data": "digits", **recipe}, {"lr": 0.123, "lr_batch": 14, "batch_size": 7})
    assert scaled.optim.lr_for(7) < 0.123


@pytest.mark.parametrize("name", list_recipes())
def test_args_of_every_recipe_round_trip(name: str, tmp_path: Path) -> None:
    config = replace(check_recipe(load_recipe(name)), recipe=name)
    write_args(tmp_path / "args.yaml", config)
    assert read_args(tmp_path / "args.yaml") == config
