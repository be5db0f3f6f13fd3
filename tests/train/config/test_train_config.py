from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnets.data.augment.config import AugmentConfig
from resnets.errors import ConfigError, TrainingError, UnknownNameError
from resnets.options.grammar import parse_settings
from resnets.train.config.train_config import GROUPS, TrainConfig, grouped_options, option_names, read_args, write_args


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("label_smoothing", 1.0),
        ("val_fraction", 1.0),
        ("seed", -1),
        ("amp", "int8"),
        ("name", "a/b"),
        ("name", ".."),
    ],
)
def test_values_out_of_bounds(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^(\w+\.)?{field}(:| must be)"):
        TrainConfig.from_options(data="digits", **{field: value})


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="epochs"):
        TrainConfig.from_options(data="digits", epoch=3)


def test_args_round_trip(tmp_path: Path) -> None:
    config = TrainConfig.from_options(data="bilder/größe", model_args={"shortcut": "B"}, lr=0.1, epochs=3)
    write_args(tmp_path / "args.yaml", config)
    assert read_args(tmp_path / "args.yaml") == config


def test_args_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text("data: x\nlr: 5e-4\nepochs: '3'\nimg_size: [48, 64]\n")  # YAML's 5e-4 is text
    config = read_args(tmp_path / "args.yaml")
    assert (config.optim.lr, config.epochs, config.size) == (0.0005, 3, (48, 64))


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False), ("True", True), ("FALSE", False)])
def test_truth_values_in_a_file(text: str, value: bool, tmp_path: Path) -> None:
    names = [name for name, full in option_names().items() if isinstance(_default(full), bool)]
    assert {"hflip", "nesterov", "ema_warmup", "cache_16bit", "balanced", "skip_bad"} <= set(names)
    (tmp_path / "args.yaml").write_text("data: x\ntask: reid\n" + "".join(f"{name}: {text}\n" for name in names))
    config = read_args(tmp_path / "args.yaml")
    parsed = parse_settings(f"{name}={text}" for name in names)
    for one in (config, TrainConfig.from_options({"data": "x", "task": "reid"}, parsed)):
        assert {_value(one, option_names()[name]) for name in names} == {value}


def _value(config: TrainConfig, full: str) -> Any:
    group, _, name = full.partition(".")
    found = getattr(config, group)
    return found if not name else found.get(name) if isinstance(found, dict) else getattr(found, name)


def _default(full: str) -> Any:
    group, _, name = full.partition(".")
    return getattr(AugmentConfig(), name) if group == "augment" else _value(TrainConfig(data="x"), full)


@pytest.mark.parametrize("word", ["off", "'off'", "none", "false", "no"])
def test_off_is_a_choice(word: str, tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text(f"data: x\namp: {word}\ncompile: {word}\ncache: {word}\npolicy: {word}\n")
    parsed = parse_settings([f"amp={word}", f"compile={word}", f"cache={word}", f"policy={word}"])
    meant = {"amp": False, "compile": False, "cache": False, "policy": False}  # in Python
    for config in (
        read_args(tmp_path / "args.yaml"),
        TrainConfig.from_options({"data": "x"}, parsed),
        TrainConfig.from_options({"data": "x"}, meant),
    ):
        assert (config.amp, config.compile, config.cache.cache) == ("off", "off", "off")
        assert config.augment["policy"] == "none"


def test_a_repeated_key_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text("data: x\nlr: 0.1\nlr: 0.2\n")
    with pytest.raises(TrainingError, match=r"args\.yaml"):
        read_args(tmp_path / "args.yaml")


def test_learning_rate_and_weight_decay_depend_on_the_optimizer() -> None:
    found = {}
    for opt in ("sgd", "muon", "adamw", "lamb"):
        optim = TrainConfig.from_options(data="x", opt=opt).optim
        found[opt] = (optim.lr, optim.lr_batch, optim.weight_decay)
    assert found == {
        "sgd": (0.1, 128, 5e-4), "muon": (0.1, 128, 0.01), "adamw": (1e-3, 128, 0.05), "lamb": (5e-3, 2048, 0.02),
    }  # fmt: skip
    named = TrainConfig.from_options({"data": "x", "weight_decay": 0.1}, opt="lamb", lr=0.02).optim
    assert (named.lr, named.lr_for(64), named.weight_decay) == (0.02, 0.02, 0.1)
    recipe = TrainConfig.from_options({"data": "x", "lr": 0.3, "lr_batch": 64}, opt="adamw").optim
    assert (recipe.lr, recipe.lr_batch) == (0.3, 64)


def test_an_invalid_line_is_named(tmp_path: Path) -> None:
    for text, pattern in (
        ("data: x\nepoch: 3\n", "unknown training option; got 'epoch'; did you mean epochs"),
        ("data: x\nepochs: many\n", "epochs must be a whole number of at least 1; got 'many'"),
        ("data: x\nepochs: 0\n", "epochs must be a whole number of at least 1; got 0"),
    ):
        (tmp_path / "args.yaml").write_text(text)
        with pytest.raises(TrainingError, match=pattern):
            read_args(tmp_path / "args.yaml")


@pytest.mark.parametrize("text", ["data: x\nepoch: 3\n", "data: x\nepochs: many\n", "- a\n", "{", "", "\x00", "3: 4"])
def test_args_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "args.yaml").write_text(text)
    with pytest.raises(TrainingError, match=r"args\.yaml"):
        read_args(tmp_path / "args.yaml")


PHASES = [{"epochs": 2, "freeze": "backbone"}, {"epochs": 3, "lr": 0.01}]


def test_phases_determine_the_epochs() -> None:
    config = TrainConfig.from_options({"data": "x", "epochs": 7}, {"phases": PHASES})
    assert config.epochs == 5
    assert [phase.freeze for phase in config.phases] == ["backbone", "none"]
    assert TrainConfig.from_options(data="x", phases=PHASES, epochs=5).epochs == 5
    with pytest.raises(ConfigError, match=r"epochs .* phases, 5; got 6; "):
        TrainConfig.from_options(data="x", phases=PHASES, epochs=6)


@pytest.mark.parametrize(
    "later", [{"epochs": 4}, {"freeze": "none"}, {"freeze": "layer1"}, {"layer_decay": 0.5}, {"bn_stats": "frozen"}]
)
def test_later_options_replace_phases(later: dict[str, Any]) -> None:
    config = TrainConfig.from_options({"data": "x", "phases": PHASES}, later)
    assert config.phases == ()
    assert TrainConfig.from_options({"data": "x"}, later) == config
    again = TrainConfig.from_options({"data": "x", "phases": PHASES}, later, {"phases": PHASES})
    assert (len(again.phases), again.epochs) == (2, 5)
    assert TrainConfig.from_options({"data": "x", "epochs": 7}, {"phases": []}).epochs == 7
    assert len(TrainConfig.from_options({"data": "x", "phases": PHASES}, {"lr": 0.5, "ema": 0.9}).phases) == 2


@pytest.mark.parametrize("wrong", ["frezze", "epoch", "warmup_epoch"])
def test_an_unknown_key_of_a_phase_names_the_nearest(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=rf"'phases\.1\.{wrong}'.* phases\.1\.{wrong[:3]}"):
        TrainConfig.from_options(data="x", phases=[{"epochs": 3}, {"epochs": 3, wrong: 1}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"opt": "adam"}, "optim.opt must be sgd, adamw, lamb or muon; got 'adam'; did you mean adamw?"),
        ({"sched": "cosin"}, "schedule.sched must be cosine, linear, step, onecycle or constant; got 'cosin'"),
        (
            {"class_weights": "ballanced"},
            "loss.class_weights must be none, balanced or a non-empty list of numbers of at least 0; got 'ballanced'; "
            "did you mean balanced?",
        ),
        ({"color_jitter": 0.4}, "augment.color_jitter must be 4 values: "),
        ({"color_jitter": [0.4, 0.1]}, "augment.color_jitter must be 4 values: "),
        ({"channels": [3]}, "channels must be RGB, L, a whole number of at least 1 or none; got [3]"),
        ({"epochs": 2.5}, "epochs must be a whole number of at least 1; got 2.5"),
        ({"hflip": "maybe"}, "augment.hflip must be true or false; got 'maybe'"),
        ({"train_sizes": 8}, "train_sizes must be a list of lists of 2 values: a number of at least 0 and below 1,"),
        ({"model_args": 3}, "model_args must be a mapping; got 3"),
        ({"model_args": {"depht": 3}}, "unknown model option; got 'depht'; did you mean depths"),
        ({"model_args": {"depths": 0}}, "depths must be a non-empty list of whole numbers of at least 1; got 0"),
        ({"img_size": "big"}, "img_size must be a size such as 224 or 256x128 or none; got 'big'"),
        ({"phases": [{"epochs": 1}, {"epochs": 1, "bn_stats": "trian"}]},
         "phases.1.bn_stats must be auto, train or frozen; got 'trian'; did you mean train?"),
        ({"phases": [{"freeze": "stem"}]}, "phases.0.epochs must be a whole number"),
        ({"phases": 3}, "phases must be a list of mappings of epochs, freeze, "),
        ({"phases": [3]}, "phases.0 must be a mapping of epochs, freeze, "),
        ({"train_sizes": [[0, 0]]}, "train_sizes must be a list of lists of 2 values: "),
        ({"train_sizes": [[0, 8], [0, 9]]}, "train_sizes must start at 0 and rise; got ((0.0, 8), (0.0, 9))"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_named_in_the_words_of_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig.from_options({"data": "x"}, options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_missing_data_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"^data must be text; got nothing$"):
        TrainConfig.from_options(epochs=3)


def test_milestones_go_with_their_schedule() -> None:
    stepped = {"data": "x", "sched": "step", "milestones": [10, 20]}
    assert TrainConfig.from_options(stepped, sched="cosine").schedule.milestones == ()
    assert TrainConfig.from_options(stepped, sched="step").schedule.milestones == (10, 20)
    with pytest.raises(ConfigError, match="sched=step and milestones"):
        TrainConfig.from_options(stepped, sched="cosine", milestones=[3])


@pytest.mark.parametrize(
    "idle", [{"freeze_epochs": 3}, {"unfreeze_lr": 0.1}, {"unfreeze_lr_share": 0.1}, {"unfreeze": "stages"}]
)
def test_unfreezing_requires_a_frozen_part(idle: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{next(iter(idle))} .*; got .* add freeze=backbone"):
        TrainConfig.from_options({"data": "x"}, {"epochs": 9, **idle})
    TrainConfig.from_options({"data": "x", **idle}, epochs=9)  # of a recipe, may wait
    TrainConfig.from_options({"data": "x", "freeze": "layer1"}, idle)
    TrainConfig.from_options({"data": "x", "freeze": "none", **idle})  # as args.yaml has it


def test_unfreeze_lr_and_its_share_replace_each_other() -> None:
    share, rate = {"freeze": "backbone", "unfreeze_lr_share": 0.1}, {"freeze": "backbone", "unfreeze_lr": 0.002}
    one = TrainConfig.from_options({"data": "x", **share}, unfreeze_lr=0.003).freeze
    two = TrainConfig.from_options({"data": "x", **rate}, unfreeze_lr_share=0.2).freeze
    assert (one.unfreeze_lr, one.unfreeze_lr_share) == (0.003, None)
    assert (two.unfreeze_lr, two.unfreeze_lr_share) == (None, 0.2)
    with pytest.raises(ConfigError, match="leave one out"):
        TrainConfig.from_options({"data": "x"}, {**share, **rate})


DOCUMENTED = [group for group in GROUPS if group != "freeze"]  # for the lead: all of GROUPS once phases.py is merged


@pytest.mark.parametrize("group", ["", *DOCUMENTED])
def test_every_option_declares_its_documentation(group: str) -> None:
    options = grouped_options()[group]
    assert [one.name for one in options if not one.help.endswith(".")] == []
    assert [one.name for one in options if not one.default] == (["data"] if group == "" else [])
    assert max(len(one.summary()) for one in options) < 160


@pytest.mark.parametrize("opt", ["sgd", "muon", "adamw", "lamb"])
def test_listed_defaults_by_optimizer_are_those_that_are_used(opt: str) -> None:
    listed = {one.name: one.default for one in grouped_options()["optim"]}
    used = TrainConfig.from_options(data="x", opt=opt).optim
    for name in ("lr", "lr_batch", "weight_decay"):
        first, *others = listed[name].split("; ")
        shown = dict(other.split(" ") for other in others).get(opt, first)
        assert float(shown) == getattr(used, name)
