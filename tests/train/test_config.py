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
        ("sched", "step"),
        ("amp", "int8"),
        ("name", "a/b"),
        ("name", ".."),
    ],
)
def test_values_outside_their_rule(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field} must be"):
        TrainConfig(data="digits", **{field: value})


def test_unknown_option_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="epochs"):
        TrainConfig.from_options(data="digits", epoch=3)


def test_args_come_back_as_they_went(tmp_path: Path) -> None:
    config = TrainConfig(data="bilder/größe", model_args={"shortcut": "B"}, lr=0.1, epochs=3)
    write_args(tmp_path / "args.yaml", config)
    assert read_args(tmp_path / "args.yaml") == config


@pytest.mark.parametrize("text", ["data: x\nepoch: 3\n", "data: x\nepochs: many\n", "- a\n", "{", ""])
def test_args_that_are_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "args.yaml").write_text(text)
    with pytest.raises(TrainingError, match=r"args\.yaml"):
        read_args(tmp_path / "args.yaml")
