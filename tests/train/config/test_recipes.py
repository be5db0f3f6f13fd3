"""Named recipes: their settings are those of the publications, and valid training options."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resnets.arch.parts import freeze_points
from resnets.arch.plan import plan
from resnets.arch.variants import get_config
from resnets.data.augment.config import AugmentConfig
from resnets.errors import ConfigError, TrainingError, UnknownNameError
from resnets.train.config import recipes
from resnets.train.config.recipes import Recipe, check_recipe, config_of, list_recipes, load_recipe, recipe_yaml
from resnets.train.config.train_config import TrainConfig, nested, write_args
from resnets.train.freeze.phases import make_phases

RANDOM_RESIZED = {"augment.scale": [0.08, 1.0], "augment.hflip": True}
STRIKES_BACK = {  # Wightman et al. 2021, Table 2, what all three have
    "batch_size": 2048,
    "img_size": 224,
    "crop_pct": 0.95,
    "interpolation": "bicubic",
    "optim.opt": "lamb",
    "schedule.sched": "cosine",
    "schedule.warmup_epochs": 5,
    "loss.loss": "bce",
    "augment.policy": "randaugment",
    "augment.policy_std": 0.5,
    "mix.cutmix": 1.0,
    **RANDOM_RESIZED,
}
PUBLISHED: dict[str, dict[str, Any]] = {
    "imagenet-a1": STRIKES_BACK
    | {
        "epochs": 600, "optim.lr": 5e-3, "optim.weight_decay": 0.01, "loss.label_smoothing": 0.1, "mix.mixup": 0.2,
        "augment.policy_magnitude": 7, "model_args.drop_path_rate": 0.05, "sampling.repeats": 3,
    },
    "imagenet-a2": STRIKES_BACK
    | {
        "epochs": 300, "optim.lr": 5e-3, "optim.weight_decay": 0.02, "loss.label_smoothing": 0.0, "mix.mixup": 0.1,
        "augment.policy_magnitude": 7, "model_args.drop_path_rate": 0.05, "sampling.repeats": 3,
    },
    "imagenet-a3": STRIKES_BACK
    | {
        "epochs": 100, "optim.lr": 8e-3, "optim.weight_decay": 0.02, "loss.label_smoothing": 0.0, "mix.mixup": 0.1,
        "augment.policy_magnitude": 6, "train_sizes": [[0, 160]],
    },
    "torchvision-v2": {  # the command line of torchvision's reference scripts
        "epochs": 600, "batch_size": 1024, "optim.opt": "sgd", "optim.lr": 0.5, "optim.weight_decay": 2e-5,
        "optim.nesterov": False, "optim.decay_norms": False, "schedule.sched": "cosine", "schedule.warmup_epochs": 5,
        "loss.loss": "ce", "loss.label_smoothing": 0.1, "mix.mixup": 0.2, "mix.cutmix": 1.0,
        "augment.random_erasing": 0.1,
        "augment.policy": "trivialaugment", "train_sizes": [[0, 176]], "img_size": 224, "sampling.repeats": 4,
        "average.ema_every": 32, **RANDOM_RESIZED,
    },
    "imagenet-90": {  # Goyal et al. 2017, section 5.1
        "epochs": 90, "batch_size": 256, "optim.lr": 0.1, "optim.momentum": 0.9, "optim.weight_decay": 1e-4,
        "schedule.milestones": [30, 60, 80], "schedule.gamma": 0.1, "img_size": 224, "loss.label_smoothing": 0.0,
        **RANDOM_RESIZED,
    },
    "cifar": {  # He et al. 2015, section 4.2, but for the schedule and the decay
        "model": "resnet20_cifar", "batch_size": 128, "optim.lr": 0.1, "optim.momentum": 0.9, "augment.pad": 4,
        "augment.hflip": True, "loss.label_smoothing": 0.0,
    },
    "reid": {  # Luo et al. 2019, section 2
        "epochs": 120, "batch_size": 64, "optim.lr": 3.5e-4, "optim.weight_decay": 5e-4, "img_size": [256, 128],
        "schedule.milestones": [40, 70], "schedule.gamma": 0.1, "schedule.warmup_epochs": 10,
        "loss.label_smoothing": 0.1, "augment.pad": 10, "augment.random_erasing": 0.5,
        "augment.erasing_scale": [0.02, 0.4], "model_args.last_stride": 1, "model_args.neck": "bn",
        "sampling.num_instances": 4, "reid.metric_margin": 0.3, "reid.center_weight": 5e-4,
    },
}  # fmt: skip


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_recipe_file_is_listed() -> None:
    assert sorted(list_recipes()) == sorted(path.stem for path in recipes.FILES.glob("*"))


@pytest.mark.parametrize("name", list_recipes())
def test_an_included_recipe_is_complete_and_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.follows
    assert recipe.source
    assert recipe.published
    assert recipe.changes
    assert 0 < len(recipe.about) <= 110
    assert "\n" not in recipe.about
    config = check_recipe(recipe)
    assert config == TrainConfig.from_options(recipe.settings, data="digits")
    AugmentConfig(**config.augment)
    assert {"epochs", "optim", "schedule", "loss"} <= set(recipe.settings)  # which the table lists
    assert json.loads(json.dumps(nested(recipe.settings))) == recipe.settings  # every option is in its group
    assert "lr_batch" in recipe.settings["optim"]
    if config.model:
        network = get_config(config.model).with_overrides(**config.model_args)
        make_phases(config.freeze, config.epochs, freeze_points(plan(network)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_match_the_publication(name: str) -> None:
    settings = load_recipe(name).settings
    for key, value in PUBLISHED[name].items():
        group, _, option = key.partition(".")
        found = settings[group][option] if option else settings[group]
        assert found == value, key


def test_options_absent_from_a_procedure_are_off() -> None:
    for name in ("imagenet-a1", "imagenet-a2", "imagenet-a3"):
        config = check_recipe(load_recipe(name))
        assert (config.average.ema, config.augment.get("random_erasing", 0)) == (0, 0)
    assert check_recipe(load_recipe("imagenet-a3")).sampling.repeats == 1
    assert check_recipe(load_recipe("imagenet-90")).optim.decay_norms


@pytest.mark.parametrize("name", ["imagenet-a1", "imagenet-a2", "imagenet-a3"])
def test_eps_and_clip_grad_are_scaled_for_a_sum_over_classes(name: str) -> None:
    """timm's LAMB has an eps of 1e-6 and clips to a length of 1, for the mean over the 1000 classes."""
    optim = check_recipe(load_recipe(name)).optim
    assert (optim.eps, optim.clip_grad) == (1e-3, 1000)


def test_ema_decay_follows_torchvisions_adjustment() -> None:
    config = check_recipe(load_recipe("torchvision-v2"))
    assert config.batch_size == 1024
    expected = 1 - (1 - 0.99998) * 1024 * config.average.ema_every / config.epochs
    assert config.average.ema == pytest.approx(expected, abs=2e-5)


def test_learning_rates_by_batch_size() -> None:
    ninety, a2 = (check_recipe(load_recipe(name)).optim for name in ("imagenet-90", "imagenet-a2"))
    assert ninety.lr_for(256) == pytest.approx(0.1)
    assert ninety.lr_for(8192) == pytest.approx(3.2)  # Goyal et al. 2017
    assert a2.lr_for(2048) == pytest.approx(5e-3)
    assert a2.lr_for(512) == pytest.approx(2.5e-3)


def test_finetune_trains_the_classifier_first() -> None:
    config = check_recipe(load_recipe("finetune"))
    network = freeze_points(plan(get_config("resnet18")))
    first, second = make_phases(config.freeze.with_peak_lr(config.optim.lr), config.epochs, network)
    assert (first.freeze, first.epochs, first.lr) == ("backbone", 4, None)
    assert (second.freeze, second.epochs) == ("none", 16)
    assert second.lr == pytest.approx(0.008)
    assert first.epochs > config.cache.views  # otherwise caching features would not pay
    assert config.cache.cache == "auto"
    assert not config.train_sizes
    assert not config.mix.active(0)


@pytest.mark.parametrize("name", list_recipes())
def test_a_shown_recipe_can_be_loaded(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    shown = recipe_yaml(recipe)
    again = load_recipe(write(tmp_path, shown))
    assert again.settings == recipe.settings
    assert check_recipe(again) == check_recipe(recipe)
    comments = [line for line in shown.splitlines() if line.startswith("#")]
    assert all(len(line) <= 120 or "http" in line for line in comments)
    prose = " ".join(" ".join(comments).replace("#", " ").split())
    for text in (
        recipe.about,
        recipe.follows,
        recipe.source,
        *recipe.changes,
        *(one.value for one in recipe.published),
    ):
        assert " ".join(text.replace("#", " ").split()) in prose


def test_a_file_with_options_only(tmp_path: Path) -> None:
    path = write(tmp_path, "lr: 0.02\noptim.opt: adamw\nfreeze: layer3\nname: run7\naugment: {random_erasing: 0.25}\n")
    recipe = load_recipe(path)
    assert recipe == Recipe(name="mine", settings=recipe.settings)
    config = check_recipe(recipe)
    assert (config.optim.lr, config.optim.opt, config.freeze.freeze) == (0.02, "adamw", "layer3")
    assert (config.name, config.output) == (None, "runs")  # which are a run's
    assert config.augment == {"random_erasing": 0.25}


def test_a_file_in_the_full_form(tmp_path: Path) -> None:
    text = "name: pets\nabout: Cats\nchanges: [longer]\nsettings:\n  epochs: 5\npublished:\n"
    text += "- {metric: Top-1, value: 9 %, network: ResNet-18, data: pets, reference: here}\n"
    recipe = load_recipe(str(write(tmp_path, text, "x.yml")))
    assert (recipe.name, recipe.about, recipe.changes, recipe.settings) == ("pets", "Cats", ("longer",), {"epochs": 5})
    assert recipe.published[0].value == "9 %"
    assert check_recipe(recipe).epochs == 5


def test_names_and_paths_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "epochs: 3\n", "cifar")
    write(tmp_path, "epochs: 4\n", "cifar.yaml")
    assert load_recipe("cifar").settings["epochs"] == 200
    assert load_recipe(tmp_path / "cifar").settings["epochs"] == 3
    assert load_recipe("cifar.yaml").settings["epochs"] == 4


def test_args_of_a_run_are_a_recipe(tmp_path: Path) -> None:
    config = TrainConfig.from_options(load_recipe("reid").settings, data="digits", epochs=80)
    write_args(tmp_path / "args.yaml", config)
    assert check_recipe(load_recipe(tmp_path / "args.yaml")) == config


def test_the_run_folder_is_dropped_from_a_recipe(tmp_path: Path) -> None:
    config = TrainConfig.from_options(data="digits", name="first", output="there", recipe="cifar")
    write_args(tmp_path / "args.yaml", config)
    recipe = load_recipe(tmp_path / "args.yaml")
    assert not {"name", "output"} & set(recipe.settings)
    assert load_recipe(write(tmp_path, "settings: {name: first, epochs: 3}")).settings == {"epochs": 3}


@pytest.mark.parametrize("text", ["recipe: finetune\nepochs: 3", "settings: {recipe: finetune, epochs: 3}"])
def test_a_recipe_cannot_name_another(text: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"mine\.yaml has recipe: finetune"):
        load_recipe(write(tmp_path, text))


def test_off_is_a_choice_in_a_recipe(tmp_path: Path) -> None:
    for text in (
        "cache: off\npolicy: off\namp: off",
        "settings: {cache: {cache: off}, augment: {policy: off}, amp: off}",
    ):
        config = check_recipe(load_recipe(write(tmp_path, text)))
        assert (config.cache.cache, config.augment["policy"], config.amp) == ("off", "none", "off")


def test_options_override_the_recipe() -> None:
    settings = load_recipe("imagenet-a2").settings
    config = TrainConfig.from_options(settings, {"epochs": 3, "mixup": 0.4}, {"lr": 0.001}, data="x")
    assert (config.epochs, config.mix.mixup, config.mix.cutmix) == (3, 0.4, 1.0)
    assert config.optim.lr_for(64) == 0.001  # a named learning rate is not scaled
    assert config.optim.opt == "lamb"
    assert load_recipe("imagenet-a2").settings == settings  # layering changes no recipe


@pytest.mark.parametrize(("name", "near"), [("imagenet", "imagenet-90"), ("cifr", "cifar"), ("finetuning", "finetune")])
def test_an_unknown_name_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown recipe") as caught:
        load_recipe(name)
    assert near in caught.value.nearest


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("lrr: 0.1", "lr"),
        ("optim: {weight_decai: 0.1}", "optim.weight_decay"),
        ("settings: {mix.mixupp: 0.1}", "mix.mixup"),
        ("setings: {epochs: 1}\nepochs: 1", None),
    ],
)
def test_an_unknown_option_names_the_nearest(text: str, near: str | None, tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, text))
    with pytest.raises(UnknownNameError, match="unknown training option") as caught:
        check_recipe(recipe)
    assert near is None or near in caught.value.nearest


@pytest.mark.parametrize(
    "text", ["lr: -1", "optim: {opt: adamm}", "epochs: many", "sched: step", "augment: {random_erasing: 2}"]
)
def test_an_invalid_value_is_an_error(text: str, tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, text))
    with pytest.raises(ConfigError) as caught:
        check_recipe(recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mapping of options"),
        ("- epochs", "mapping of options"),
        ("epochs: [1", "must be YAML"),
        ("lr: 0.1\nepochs: 3\nlr: 0.2", "lr is repeated"),
        ("optim: {lr: 0.1, lr: 0.2}", "lr is repeated"),
        ("about: Cats\nepochs: 3", "with about requires settings"),
        ("settings: 3", "settings must be a mapping; got 3"),
        ("settings: {}\nabout: [Cats]", "about must be text"),
        ("settings: {}\nchanges: {a: b}", "changes must be a list of texts"),
        ("settings: {}\nchanges: [3]", r"changes must be a list of texts; got \[3\]"),
        ("settings: {}\npublished: [{metric: Top-1}]", r"published\.0\.value must be text; got nothing"),
        ("settings: {}\npublished: [91]", r"published\.0 must be a mapping of metric, value"),
    ],
)
def test_invalid_files(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_an_unknown_key_of_the_full_form(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="source") as caught:
        load_recipe(write(tmp_path, "settings: {}\nsorce: x"))
    assert "unknown key of a recipe" in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="No such file"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(TrainingError, match="Is a directory"):
        load_recipe(tmp_path)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainingError, match="must be YAML"):
        load_recipe(tmp_path / "bytes.yaml")


def test_pretrained_weights_are_fine_tuned_by_default() -> None:
    finetune = check_recipe(load_recipe("finetune"))
    given: dict[str, Any] = {"data": "x", "pretrained": "starter"}
    config = config_of(given)
    assert (config.recipe, config.optim, config.freeze, config.epochs) == (
        "finetune", finetune.optim, finetune.freeze, finetune.epochs,
    )  # fmt: skip
    assert config_of({**given, "recipe": "finetune"}) == config
    plain = TrainConfig.from_options(given)
    for other in ({"recipe": "none"}, {"recipe": "None"}, {"freeze": "none"}, {"freeze.freeze": "none"}):
        assert config_of(given | other) == plain
    assert config_of({"data": "x"}) == config_of({"data": "x", "pretrained": "none"}) == TrainConfig(data="x")
    assert config_of({**given, "recipe": "cifar"}).recipe == "cifar"
    phases = {**given, "phases": [{"epochs": 1}]}
    assert config_of(phases) == TrainConfig.from_options(phases)


@pytest.mark.parametrize(("epochs", "frozen"), [(1, 1), (2, 1), (4, 1), (9, 2), (10, 2), (20, 4), (40, 4)])
@pytest.mark.parametrize("kind", [int, str])
def test_short_runs_freeze_as_large_a_part_as_the_recipe(epochs: int, frozen: int, kind: Any) -> None:
    for start in ({"pretrained": "starter"}, {"recipe": "finetune"}):
        config = config_of({"data": "x", "epochs": kind(epochs), **start})
        assert (config.epochs, config.freeze.freeze_epochs) == (epochs, frozen)
        own = config_of({"data": "x", "epochs": kind(epochs), "freeze_epochs": 1, **start})
        assert own.freeze.freeze_epochs == 1


def test_freezing_of_the_default_recipe_is_changed_option_by_option() -> None:
    given: dict[str, Any] = {"data": "x", "pretrained": "starter"}
    finetune = config_of(given).freeze
    changes: dict[str, Any] = {"bn_stats": "frozen", "layer_decay": 0.5, "unfreeze": "stages", "freeze_epochs": 2}
    for name, value in changes.items():
        assert config_of({**given, name: value}).freeze == replace(finetune, **{name: value})
    lasting = config_of({**given, "freeze": "layer1"}).freeze
    assert lasting == replace(finetune, freeze="layer1", freeze_epochs=None)
    assert config_of({**given, "freeze": "layer1", "freeze_epochs": 3}).freeze.freeze_epochs == 3


def test_a_run_without_freezing_is_a_recipe_for_fewer_epochs(tmp_path: Path) -> None:
    write_args(tmp_path / "args.yaml", TrainConfig.from_options(data="x", epochs=9))
    config = config_of({"data": "x", "recipe": tmp_path / "args.yaml", "epochs": "2"})
    assert (config.epochs, config.freeze.freeze_epochs) == (2, None)
    own = write(tmp_path, "epochs: 9\nfreeze: backbone\nfreeze_epochs: '5'\n")
    assert config_of({"data": "x", "recipe": own, "epochs": 6}).freeze.freeze_epochs == 5
