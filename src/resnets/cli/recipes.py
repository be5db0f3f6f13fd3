"""`resnets recipes`: list and show training recipes and their options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.completion import completer, recipe_names
from resnets.cli.flags import Json
from resnets.cli.output import Column, print_json, print_table, print_text

if TYPE_CHECKING:
    from resnets.train.config.recipes import Recipe

OPTION_COLUMNS = (Column("option"), Column("default", wrap=True), Column("description", wrap=True))
COLUMNS = (
    Column("name"),
    Column("epochs", right=True),
    Column("optimizer"),
    Column("loss"),
    Column("batch", right=True),
    Column("about", wrap=True),
)


def run(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A recipe to show, or a YAML file to validate.",
            autocompletion=completer(recipe_names),
        ),
    ] = None,
    options: Annotated[bool, typer.Option("--options", help="List all options of recipes and --set.")] = False,
    as_json: Json = False,
) -> None:
    """List the training recipes, or show one.

    The output is a file to edit: `resnets recipes cifar > my.yaml`, then `resnets train DATA --recipe my.yaml`.
    """
    if options:
        _print_options(as_json)
        return
    from resnets.train.config.recipes import check_recipe, list_recipes, load_recipe, recipe_yaml

    if name is None:
        recipes = [load_recipe(one) for one in list_recipes()]
        if as_json:
            print_json([summary(recipe) for recipe in recipes])
        else:
            print_table(COLUMNS, [_cells(summary(recipe)) for recipe in recipes])
        return
    recipe = load_recipe(name)
    if name not in list_recipes():
        check_recipe(recipe)  # included recipes are validated by tests
    if as_json:
        from dataclasses import asdict

        print_json(asdict(recipe))
    else:
        print_text(recipe_yaml(recipe))


def _print_options(as_json: bool) -> None:
    from resnets.train.config.train_config import grouped_options

    rows = [
        {"name": one.name, "group": group, "default": one.default, "text": one.help}
        for group, options in grouped_options().items()
        for one in options
    ]
    if as_json:
        print_json(rows)
        return
    print_table(
        OPTION_COLUMNS, [[f"{row['group']}.".lstrip(".") + row["name"], row["default"], row["text"]] for row in rows]
    )


def summary(recipe: Recipe) -> dict[str, Any]:
    """Listing of an included recipe; `batch_size` is `None` where it depends on the data."""
    settings = recipe.settings
    return {
        "name": recipe.name,
        "epochs": settings["epochs"],
        "opt": settings["optim"]["opt"],
        "loss": settings["loss"]["loss"],
        "batch_size": settings.get("batch_size"),
        "model": settings.get("model"),
        "about": recipe.about,
        "follows": recipe.follows,
        "source": recipe.source,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    batch = row["batch_size"] or "by data"
    return [row["name"], str(row["epochs"]), row["opt"], row["loss"], str(batch), row["about"]]
