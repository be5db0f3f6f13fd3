"""`resnets recipes`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from resnets.train.config.recipes import list_recipes, load_recipe
from tests.conftest import Command


def test_recipes_are_listed(command: Command) -> None:
    result = command("recipes")
    assert (result.code, result.err) == (0, "")
    head, _, *lines = result.out.splitlines()
    assert head.split() == ["name", "epochs", "optimizer", "loss", "batch", "about"]
    assert [line.split()[0] for line in lines] == list_recipes()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert rows["imagenet-a1"][:4] == ["600", "lamb", "bce", "2048"]
    assert rows["finetune"][:5] == ["20", "sgd", "ce", "by", "data"]


def test_the_list_as_json(command: Command) -> None:
    rows = json.loads(command("recipes", "--json").out)
    assert [row["name"] for row in rows] == list_recipes()
    row = next(row for row in rows if row["name"] == "reid")
    assert (row["epochs"], row["opt"], row["loss"], row["batch_size"], row["model"]) == (
        120,
        "adamw",
        "ce",
        64,
        "resnet50",
    )
    assert all(row["about"] and row["follows"] and row["source"] for row in rows)
    assert rows[0]["batch_size"] is None


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_is_shown_as_a_file_to_edit(name: str, command: Command, tmp_path: Path) -> None:
    result = command("recipes", name)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"# {name}\n#\n# about: ")
    assert yaml.safe_load(result.out) == load_recipe(name).settings
    mine = tmp_path / "my.yaml"
    mine.write_text(result.out, encoding="utf-8")
    again = command("recipes", mine)
    assert again.code == 0
    assert yaml.safe_load(again.out) == load_recipe(name).settings


def test_a_recipe_as_json(command: Command) -> None:
    row = json.loads(command("recipes", "torchvision-v2", "--json").out)
    assert row["settings"] == load_recipe("torchvision-v2").settings
    assert row["published"][0]["value"] == "80.86 %"
    assert row["changes"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {momentun: 0.9}", "unknown training option; got 'optim.momentun'; did you mean optim.momentum"),
        ("epochs: 0", "epochs must be a whole number of at least 1; got 0"),
        ("lr: 1\nlr: 2", "lr is repeated"),
    ],
)
def test_a_users_file_is_validated(text: str, message: str, command: Command, tmp_path: Path) -> None:
    mine = tmp_path / "my.yaml"
    mine.write_text(text, encoding="utf-8")
    result = command("recipes", mine)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: ")
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def test_an_unknown_name(command: Command) -> None:
    result = command("recipes", "imagenet-a")
    assert (result.code, result.out) == (1, "")
    assert "unknown recipe; got 'imagenet-a'; did you mean imagenet-a" in result.err


@pytest.mark.parametrize("words", [[], ["--json"], ["imagenet-a1"]], ids=["list", "json", "one"])
def test_neither_torch_nor_numpy_is_imported(words: list[str]) -> None:
    code = f"import sys; from resnets.cli import main; assert main(['recipes', *{words!r}]) == 0\n"
    code += "print(*({'torch', 'numpy', 'pydantic', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


def test_the_page_of_the_documentation_has_the_same_recipes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == list_recipes()


def test_the_examples_of_the_documentation_are_valid(command: Command, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        mine = tmp_path / "mine.yaml"
        mine.write_text(block, encoding="utf-8")
        assert command("recipes", mine).code == 0
