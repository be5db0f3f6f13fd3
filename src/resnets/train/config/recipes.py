"""Training recipes by name, as data: a YAML file each in `recipe_files`, or a person's own.

Reading one imports neither torch nor the training options, so that listing is quick; `check_recipe` holds the
settings against the options, and so does `TrainConfig.from_options` where a run starts.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from resnets.errors import TrainingError, UnknownNameError
from resnets.options.yaml_text import load_yaml

if TYPE_CHECKING:
    from resnets.train.config.train_config import TrainConfig

__all__ = ["Figure", "Recipe", "check_recipe", "list_recipes", "load_recipe", "recipe_yaml"]

FILES = Path(__file__).with_name("recipe_files")
NAMES = (  # own images first, then the small benchmarks, then ImageNet from plain to costly
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
PROSE = ("about", "follows", "source", "figures", "changes")  # what only the full form has; `name` is an option too
KINDS: dict[str, tuple[type, str]] = {  # of the full form; all else is text
    "settings": (dict, "a mapping of options"),
    "figures": (list, "a list"),
    "changes": (list, "a list"),
}


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A published figure.

    Args:
        what: the measure, such as `Top-1 at 224 pixels`.
        value: with its unit.
        network: what was trained.
        data: what it was measured on.
        where: publication or file, and the place in it.
    """

    what: str
    value: str
    network: str
    data: str
    where: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Options of a training run under a name, and where they come from.

    Args:
        name: of the recipe.
        settings: options as `TrainConfig.from_options` takes them, but for a run's folder.
        about: what it is for, one line.
        follows: whose publication or code, with the year.
        source: arXiv numbers or addresses.
        figures: what was published with it. No promise: see `changes`.
        changes: what differs from the publication, and why.
    """

    name: str
    settings: dict[str, Any]
    about: str = ""
    follows: str = ""
    source: str = ""
    figures: tuple[Figure, ...] = ()
    changes: tuple[str, ...] = ()


def list_recipes() -> list[str]:
    """The names of our recipes, in an order to read them."""
    return list(NAMES)


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A recipe of ours by name, or of one's own by path.

    A file holds either options alone, or `settings` and around them any of `about`, `follows`, `source`, `figures`
    and `changes`; a recipe without a name of its own is called after its file. Options are not looked at here, but a
    run's folder, `name` and `output`, is no part of a recipe and left out: a run's `args.yaml` is one.

    Args:
        name_or_path: a name of `list_recipes`; or a path, which ends in .yaml or .yml or has a folder.

    Raises:
        UnknownNameError: no recipe of that name (the nearest are named), or an unknown key.
        TrainingError: no such file, no YAML, a key twice, a recipe that names another, or something that is none.
    """
    name, path = str(name_or_path), Path(name_or_path)
    if name in NAMES:
        return _recipe(name, FILES / f"{name}.yaml")
    if path.suffix in SUFFIXES or len(path.parts) > 1:
        return _recipe(path.stem, path)
    raise UnknownNameError("recipe", name, NAMES)


def check_recipe(recipe: Recipe) -> TrainConfig:
    """The configuration that a recipe's settings make, with the defaults for all else. Imports torch.

    Raises:
        UnknownNameError: an option that there is not; the nearest are named.
        ConfigError: a value of the wrong type or against its rule.
    """
    from resnets.train.config.train_config import TrainConfig

    return TrainConfig.from_options({"data": "digits", **recipe.settings})


def recipe_yaml(recipe: Recipe) -> str:
    """The settings as YAML that `load_recipe` reads again, the prose above them as comments."""
    lines = [recipe.name, ""]
    for title in ("about", "follows", "source"):
        lines += _wrapped(f"{title}: {text}") if (text := getattr(recipe, title)) else []
    if recipe.figures:
        lines += ["", "published figures, which this recipe need not reach:"]
        for one in recipe.figures:
            lines += _wrapped(f"- {one.value}: {one.what}; {one.network}, {one.data}; {one.where}")
    if recipe.changes:
        lines += ["", "what differs from the publication, or matters:"]
        for change in recipe.changes:
            lines += _wrapped(f"- {change}")
    comments = [f"# {line}".rstrip() for line in lines]
    settings = yaml.dump(recipe.settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return "\n".join([*comments, "", settings.rstrip()])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, width=110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


class _Dumper(yaml.SafeDumper):
    """Mappings as lines, lists within one."""


_Dumper.add_representer(list, lambda dumper, items: dumper.represent_sequence("tag:yaml.org,2002:seq", items, True))


def _recipe(name: str, path: Path) -> Recipe:
    values = _read(path)
    if "settings" not in values:
        if stray := [key for key in values if key in PROSE]:
            raise TrainingError(f"a recipe with {stray[0]} needs settings; {path} has none; put its options under them")
        return Recipe(name=name, settings=_settings(values, path))
    values = {"name": name, **values}
    known = _names(Recipe)
    for key, value in values.items():
        if key not in known:
            raise UnknownNameError("key of a recipe", str(key), known)
        kind, words = KINDS.get(key, (str, "text"))
        _require(isinstance(value, kind), f"{key} of a recipe is {words}", path, value)
    values["settings"] = _settings(values["settings"], path)
    values["figures"] = tuple(_figure(one, path) for one in values.get("figures", ()))
    values["changes"] = tuple(values.get("changes", ()))
    for change in values["changes"]:
        _require(isinstance(change, str), "a change of a recipe is text", path, change)
    return Recipe(**values)


def _settings(values: dict[str, Any], path: Path) -> dict[str, Any]:
    if "recipe" in values and "data" not in values:  # in a run's args.yaml, it is for the record
        raise TrainingError(
            f"a recipe takes no options from another; {path} has recipe: {values['recipe']}; write its options out, "
            "see `resnets recipes NAME`"
        )
    return {key: value for key, value in values.items() if key not in ("name", "output")}


def _figure(values: Any, path: Path) -> Figure:
    known = _names(Figure)
    whole = (
        isinstance(values, dict) and set(values) == {*known} and all(isinstance(one, str) for one in values.values())
    )
    _require(whole, f"a figure of a recipe has {', '.join(known)}, each a text", path, values)
    return Figure(**values)


def _names(kind: type) -> list[str]:
    return [one.name for one in fields(kind)]


def _require(kept: bool, rule: str, path: Path, value: Any) -> None:
    if not kept:
        raise TrainingError(f"{rule}; {path} has {value!r}; mend the line")


def _read(path: Path) -> dict[str, Any]:
    try:
        values = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(
            f"a recipe is a name or a YAML file; {path}: {error.strerror}; see `resnets recipes`"
        ) from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise TrainingError(f"a recipe is YAML, each key once; {path}: {reason}; mend the line") from None
    if not isinstance(values, dict) or not values:
        raise TrainingError(f"a recipe is a mapping of options; {path} holds none; write NAME: VALUE lines")
    return values
