from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from resnets.errors import ConfigError, TrainingError, UnknownNameError
from resnets.train.config import TrainConfig, read_args, write_args


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("batch_size", 0),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("weight_decay", -1.0),
        ("smoothing", 1.0),
        ("val_fraction", 1.0),
        ("seed", -1),
        ("amp", "int8"),
        ("name", "a/b"),
        ("name", ".."),
    ],
)
def test_values_outside_their_rule(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^(\w+\.)?{field}(:| must be)"):
        TrainConfig.from_options(data="digits", **{field: value})


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="epochs"):
        TrainConfig.from_options(data="digits", epoch=3)


def test_args_come_back_as_they_went(tmp_path: Path) -> None:
    config = TrainConfig.from_options(data="bilder/größe", model_args={"shortcut": "B"}, lr=0.1, epochs=3)
    write_args(tmp_path / "args.yaml", config)
    assert read_args(tmp_path / "args.yaml") == config


def test_args_that_a_person_wrote(tmp_path: Path) -> None:
    (tmp_path / "args.yaml").write_text("data: x\nlr: 5e-4\nepochs: '3'\nimg_size: [48, 64]\n")  # YAML's 5e-4 is text
    config = read_args(tmp_path / "args.yaml")
    assert (config.optim.lr, config.epochs, config.size) == (0.0005, 3, (48, 64))


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    for text, pattern in (
        ("data: x\nepoch: 3\n", "unknown training option; got 'epoch'; did you mean epochs"),
        ("data: x\nepochs: many\n", "epochs: Input should be a valid integer"),
        ("data: x\nepochs: 0\n", "epochs must be at least 1; got 0"),
    ):
        (tmp_path / "args.yaml").write_text(text)
        with pytest.raises(TrainingError, match=pattern):
            read_args(tmp_path / "args.yaml")


@pytest.mark.parametrize("text", ["data: x\nepoch: 3\n", "data: x\nepochs: many\n", "- a\n", "{", "", "\x00", "3: 4"])
def test_args_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "args.yaml").write_text(text)
    with pytest.raises(TrainingError, match=r"args\.yaml"):
        read_args(tmp_path / "args.yaml")
