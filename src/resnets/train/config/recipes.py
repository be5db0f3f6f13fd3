"""Training recipes: YAML files in `recipe_files`, or the user's own.

Listing recipes does not import the training options; `check_recipe` validates a recipe's settings, as does
`TrainConfig.from_options` when a run starts.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from resnets.errors import ConfigError, TrainingError, UnknownNameError
from resnets.options.declarations import hints_of
from resnets.options.validate import build, convert_fields
from resnets.train.config.yaml_file import read_yaml
from resnets.train.freeze.phases import NONE

if TYPE_CHECKING:
    from resnets.train.config.train_config import TrainConfig

__all__ = [
    "FOR_PRETRAINED",
    "NO_RECIPE",
    "PublishedResult",
    "Recipe",
    "check_recipe",
    "config_of",
    "list_recipes",
    "load_recipe",
    "recipe_yaml",
]

FILES = Path(__file__).with_name("recipe_files")
NAMES = (  # for own images, then small benchmarks, then ImageNet from cheap to costly
    "finetune",
    "scratch-small",
    "cifar",
    "cifar-fast",
    "imagenet-90",
    "imagenet-a3",
    "imagenet-a2",
    "imagenet-a1",
    "torchvision-v2",
    "reid",
)
SUFFIXES = (".yaml", ".yml")
NO_RECIPE = "none"
FOR_PRETRAINED = "finetune"  # without another recipe
# Of task=reid without a recipe, after Luo et al. 2019.
REID_OPTIM = {"opt": "adamw", "lr": 3.5e-4, "lr_batch": 64, "weight_decay": 5e-4}


@dataclass(frozen=True, kw_only=True)
class PublishedResult:
    """A published result.

    Args:
        metric: such as `Top-1 at 224 pixels`.
        value: with its unit.
        network: that was trained.
        data: that it was evaluated on.
        reference: publication or file, and the table or section.
    """

    metric: str
    value: str
    network: str
    data: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Named options of a training run, and their source.

    Args:
        name: of the recipe.
        settings: options as `TrainConfig.from_options` takes them, without those of the run folder.
        about: its purpose, one line.
        follows: publication or code it follows, with the year.
        source: arXiv number or URL.
        published: results published with it; this recipe may not reach them, see `changes`.
        changes: differences from the publication, and why.
    """

    name: str
    settings: dict[str, Any]
    about: str = ""
    follows: str = ""
    source: str = ""
    published: tuple[PublishedResult, ...] = ()
    changes: tuple[str, ...] = ()


def list_recipes() -> list[str]:
    """Names of the included recipes."""
    return list(NAMES)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Load an included recipe by name, or a user's by path.

    A file holds either options alone, or `settings` with any of `about`, `follows`, `source`, `published` and
    `changes`. A recipe without a name is named after its file. Options are not validated here; `name` and `output` of
    the run folder are dropped, so that a run's `args.yaml` is a recipe too.

    Args:
        name_or_path: a name of `list_recipes`, or a path that ends in .yaml or .yml or has a folder.

    Raises:
        UnknownNameError: an unknown name or key; the message names the nearest.
        TrainingError: a missing file, invalid YAML, a repeated key, a recipe that names another, or no recipe.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in NAMES:
        path = FILES / f"{name}.yaml"
    elif path.suffix not in SUFFIXES and len(path.parts) == 1:
        raise UnknownNameError("recipe", name, NAMES)
    values = read_yaml(path, "a recipe", "see `resnets recipes`")
    keys = hints_of(Recipe)
    if "settings" not in values:
        if stray := [key for key in values if key in keys and key != "name"]:  # `name` is an option too
            raise TrainingError(f"a recipe with {stray[0]} requires settings; {path} has none; move its options there")
        values = {"settings": values}
    try:
        recipe = build(Recipe, {"name": path.stem} | convert_fields(keys, values, option="key of a recipe"))
    except UnknownNameError:
        raise
    except ConfigError as error:
        raise TrainingError(f"a recipe must have valid fields; {path}: {error}; correct the line") from None
    if "recipe" in recipe.settings and "data" not in recipe.settings:  # args.yaml of a run names its recipe
        other = recipe.settings["recipe"]
        raise TrainingError(
            f"a recipe cannot name another; {path} has recipe: {other}; copy its options, see `resnets recipes {other}`"
        )
    settings = {key: value for key, value in recipe.settings.items() if key not in ("name", "output")}
    return replace(recipe, settings=settings)


def config_of(options: Mapping[str, Any]) -> TrainConfig:
    """The request of a run: the defaults, the recipe if there is one, and `options`, which override.

    The recipe is the one that `options` name (`none` for none). With pretrained weights it is otherwise `finetune`,
    unless they list phases or have `freeze=none` or `task=reid`; a `freeze` of theirs then lasts, unless they have
    `freeze_epochs`.
    In a run shorter than that of an included recipe, the frozen epochs are as large a part of it.

    Args:
        options: by bare or full name, or by group, as for `TrainConfig.from_options`.

    Raises:
        UnknownNameError: an unknown recipe or option.
        ConfigError, TrainingError: as for `TrainConfig.from_options` and `load_recipe`.
    """
    from resnets.train.config.train_config import TrainConfig, nested

    given = {key: value for key, value in options.items() if key != "recipe"}
    name, asked = options.get("recipe"), nested(given)
    freezing = asked.get("freeze", {})
    reid = asked.get("task") == "reid"
    default = name is None and asked.get("pretrained") is not None and not asked.get("phases") and not reid
    if default and freezing.get("freeze") != NONE:
        name = FOR_PRETRAINED
    if name is None or str(name).lower() == NO_RECIPE:
        return TrainConfig.from_options(*([_without_recipe(asked)] if reid else []), given)
    recipe = load_recipe(name)
    config = TrainConfig.from_options(recipe.settings, {**given, "recipe": str(name)})
    frozen = config.freeze.freeze_epochs
    if "freeze_epochs" in freezing or frozen is None:
        return config
    if default and "freeze" in freezing:
        return replace(config, freeze=replace(config.freeze, freeze_epochs=None))
    if str(name) in NAMES and config.epochs < (whole := check_recipe(recipe).epochs):
        frozen = max(1, round(frozen * config.epochs / whole))
        return replace(config, freeze=replace(config.freeze, freeze_epochs=frozen))
    return config


def _without_recipe(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Options of task=reid without a recipe, beside nested options; the learning rate is for its own optimizer."""
    augment = {"augment": {"random_erasing": 0.5}}
    return augment if "opt" in asked.get("optim", {}) else augment | {"optim": dict(REID_OPTIM)}


def check_recipe(recipe: Recipe) -> TrainConfig:
    """Validate a recipe: the configuration of its settings, with defaults for the other options.

    Raises:
        UnknownNameError: an unknown option; the message names the nearest.
        ConfigError: a value of the wrong type or out of bounds.
    """
    from resnets.train.config.train_config import TrainConfig

    return TrainConfig.from_options({"data": "digits", **recipe.settings})


def recipe_yaml(recipe: Recipe) -> str:
    """The settings as YAML that `load_recipe` can read, with the prose as comments above."""
    lines = [recipe.name, ""]
    for title in ("about", "follows", "source"):
        lines += _wrapped(f"{title}: {text}") if (text := getattr(recipe, title)) else []
    if recipe.published:
        lines += ["", "published results, which this recipe may not reach:"]
        for one in recipe.published:
            lines += _wrapped(f"- {one.value}: {one.metric}; {one.network}, {one.data}; {one.reference}")
    if recipe.changes:
        lines += ["", "differences from the publication, and notes:"]
        for change in recipe.changes:
            lines += _wrapped(f"- {change}")
    comments = [f"# {line}".rstrip() for line in lines]
    settings = yaml.dump(recipe.settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return "\n".join([*comments, "", settings.rstrip()])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, width=110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


class _Dumper(yaml.SafeDumper):
    """Writes mappings in block style, lists in flow style."""


_Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True))
