"""One grammar: the same spelling of an option means the same wherever it is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from resnets.arch.networks import config_from_dict, convert_overrides
from resnets.arch.variants import get_config
from resnets.errors import ConfigError
from resnets.options.grammar import parse_settings
from resnets.train.config.recipes import load_recipe
from resnets.train.config.train_config import TrainConfig, read_args
from tests.conftest import Command

SPELLINGS: list[tuple[str, str, Any]] = [  # field of a network, text, value
    ("last_stride", "none", None),
    ("last_stride", "null", None),
    ("last_stride", "1", 1),
    ("shortcut", "none", "none"),
    ("shortcut", "B", "B"),
    ("zero_init_last", "true", True),
    ("zero_init_last", "yes", True),
    ("zero_init_last", "ON", True),
    ("zero_init_last", "no", False),
    ("zero_init_last", "off", False),
    ("depths", "1,1,1,1", (1, 1, 1, 1)),
    ("depths", "(1,1,1,1)", (1, 1, 1, 1)),
    ("depths", "[1, 1, 1, 1]", (1, 1, 1, 1)),
    ("norm_eps", "1e-3", 1e-3),
    ("norm_eps", "0.5", 0.5),
    ("drop_rate", "0", 0.0),
    ("norm", "'batch'", "batch"),
    ("norm", "batch", "batch"),
]


def by_train(field: str, text: str, folder: Path) -> Any:
    return TrainConfig.from_options({"data": "x"}, parse_settings([f"{field}={text}"])).model_args[field]


def by_full_name(field: str, text: str, folder: Path) -> Any:
    return TrainConfig.from_options({"data": "x"}, parse_settings([f"model_args.{field}={text}"])).model_args[field]


def by_mapping_text(field: str, text: str, folder: Path) -> Any:
    settings = parse_settings(
        [f"model_args={{{field}: {text if ',' not in text or text[0] in '([' else f'[{text}]'}}}"]
    )
    return TrainConfig.from_options({"data": "x"}, settings).model_args[field]


def by_recipe(field: str, text: str, folder: Path) -> Any:
    (folder / "mine.yaml").write_text(f"model_args:\n  {field}: {text}\n")
    return TrainConfig.from_options({"data": "x"}, load_recipe(folder / "mine.yaml").settings).model_args[field]


def by_args_file(field: str, text: str, folder: Path) -> Any:
    (folder / "args.yaml").write_text(f"data: x\nmodel_args:\n  {field}: {text}\n")
    return read_args(folder / "args.yaml").model_args[field]


def by_overrides(field: str, text: str, folder: Path) -> Any:
    return convert_overrides(parse_settings([f"{field}={text}"]))[field]


@pytest.mark.parametrize("entry", [by_train, by_full_name, by_mapping_text, by_recipe, by_args_file, by_overrides])
@pytest.mark.parametrize(("field", "text", "value"), SPELLINGS)
def test_a_field_of_a_network(
    entry: Callable[[str, str, Path], Any], field: str, text: str, value: Any, tmp_path: Path
) -> None:
    found = entry(field, text, tmp_path)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("field", "text", "value"), SPELLINGS)
def test_a_field_of_a_network_on_the_command_line(field: str, text: str, value: Any, command: Command) -> None:
    result = command("info", "resnet18", "--set", f"{field}={text}", "--json")
    assert result.code == 0, result.err
    assert config_from_dict(json.loads(result.out)["config"]) == get_config("resnet18", **{field: value})


def test_convert_reads_fields_and_foreign_options_by_the_same_grammar(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resnets.weights.convert

    given: dict[str, Any] = {}

    def capture(source: str, output: str | None, **options: Any) -> None:
        given.update(options["options"])
        raise ConfigError("captured")

    monkeypatch.setattr(resnets.weights.convert, "convert", capture)
    words = [word for field, text, _ in SPELLINGS for word in ("--set", f"{field}={text}")]
    words += ["--set", "include_root_block=yes", "--set", "layers=(3, 4)", "--set", "pooling=null", "--set", "x='none'"]
    assert command("convert", "weights.npz", *words).err.strip() == "error: captured"
    last = {field: value for field, _, value in SPELLINGS}
    assert given == {"include_root_block": True, "layers": (3, 4), "pooling": None, "x": "none"} | last


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("clip_grad", "none", None),
        ("clip_grad", "null", None),
        ("clip_grad", "2", 2.0),
        ("betas", "0.9,0.99", (0.9, 0.99)),
        ("betas", "(0.9,0.99)", (0.9, 0.99)),
        ("betas", "[0.9, 0.99]", (0.9, 0.99)),
        ("nesterov", "off", False),
        ("nesterov", "no", False),
        ("lr", "5e-4", 5e-4),
        ("lr_batch", "none", None),
    ],
)
def test_an_option_of_training(name: str, text: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text(f"data: x\n{name}: {text}\n")
    settings = parse_settings([f"{name}={text}"])
    for config in (TrainConfig.from_options({"data": "x"}, settings), read_args(tmp_path / "args.yaml")):
        assert getattr(config.optim, name) == value


@pytest.mark.parametrize(
    ("text", "size"),
    [("24", 24), ("24x16", (24, 16)), ("24,16", (24, 16)), ("(24, 16)", (24, 16)), ("none", None)],
)
def test_sizes(text: str, size: int | tuple[int, int] | None, tmp_path: Path, command: Command, images: Path) -> None:
    (tmp_path / "args.yaml").write_text(f"data: x\nimg_size: {text}\n")
    for config in (
        TrainConfig.from_options({"data": "x"}, parse_settings([f"img_size={text}"])),
        TrainConfig.from_options({"data": "x"}, img_size=text),
        TrainConfig.from_options({"data": "x"}, img_size=size),
        read_args(tmp_path / "args.yaml"),
    ):
        assert config.img_size == size
    if size is None:
        return
    height, width = (size, size) if isinstance(size, int) else size
    result = command("info", "resnet20_cifar", "--img-size", text, "--json")
    assert json.loads(result.out)["input"] == [3, height, width]
    assert command("data", "pack", images, tmp_path / "packed", "--size", text).code == 0
    result = command("train", images, "--img-size", text, "--dry-run", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["args"]["preprocessing"]["size"] == [height, width]


def test_yaml_of_a_written_value_reads_back(tmp_path: Path) -> None:
    config = TrainConfig.from_options({"data": "x", "betas": "(0.9, 0.99)", "train_sizes": "((0, 8), (0.5, 16))"})
    (tmp_path / "args.yaml").write_text(
        yaml.safe_dump({"data": "x", "train_sizes": [[0, 8], [0.5, 16]], "betas": [0.9, 0.99]})
    )
    assert read_args(tmp_path / "args.yaml") == config
