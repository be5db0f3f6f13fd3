"""VGG's description and plan."""

from __future__ import annotations

from typing import Any

import pytest

from resnets.arch.describe import describe
from resnets.arch.networks import config_from_dict, config_to_dict
from resnets.arch.parts import feature_paths
from resnets.arch.plan import plan
from resnets.arch.variants import VARIANTS, get_config
from resnets.arch.vgg import VGGConfig
from resnets.errors import ConfigError, UnknownNameError

BAD: list[tuple[dict[str, Any], tuple[str, ...]]] = [  # fields, facts of the message
    ({"depths": 3}, ("depths", "got 3")),
    ({"depths": (1, 1)}, ("depths and widths", "got 2 and 5")),
    ({"norm": "group"}, ("norm", "none or batch", "got 'group'")),
    ({"norm_eps": 0.0}, ("norm_eps", "above 0", "got 0.0")),
    ({"drop_rate": 1.0}, ("drop_rate", "of at least 0 and below 1", "got 1.0")),
    ({"hidden": 0}, ("hidden", "at least 1", "got 0")),
    ({"global_pool": "none"}, ("got global_pool='none'", "num_classes=0")),
]


@pytest.mark.parametrize(("fields", "facts"), BAD, ids=[str(fields) for fields, _ in BAD])
def test_invalid_fields(fields: dict[str, Any], facts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        VGGConfig(**fields)
    assert [fact for fact in facts if fact not in str(caught.value)] == [], str(caught.value)


def test_overrides_are_its_own() -> None:
    assert get_config("vgg16", hidden=512).to_dict()["hidden"] == 512
    with pytest.raises(UnknownNameError, match="'groups'"):
        get_config("vgg16", groups=2)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name.startswith("vgg")])
def test_json_has_the_family(name: str) -> None:
    config = VARIANTS[name]
    values = config_to_dict(config)
    assert values["family"] == "vgg"
    assert config_from_dict(values) == config


def test_side_outputs_at_352() -> None:
    """Before each pool, as edge detection and saliency take them (Xie and Tu 2015)."""
    table = {row.name: row for row in describe("vgg16", 352).rows}
    found = [
        (name, "x".join(map(str, table[path].output)))
        for name, path in feature_paths(plan(get_config("vgg16"))).items()
    ]
    assert found == [
        ("block1", "64x352x352"),
        ("block2", "128x176x176"),
        ("block3", "256x88x88"),
        ("block4", "512x44x44"),
        ("block5", "512x22x22"),
    ]


def test_the_table() -> None:
    table = describe("vgg16_bn")
    rows = {row.name: row for row in table.select()}
    assert list(rows) == ["block1", "block2", "block3", "block4", "block5", "avgpool", "classifier"]
    assert rows["block2"].operations == (
        "layers 7-13: 3x3 128, 3x3 128, each with batch norm and ReLU, then 2x2 max pool /2"
    )
    assert rows["classifier"].operations == (
        "linear 4096, ReLU, dropout 0.5, linear 4096, ReLU, dropout 0.5, linear 1000"
    )
    assert sum(row.params for row in rows.values()) == table.params
    assert [rows[f"block{number}"].receptive_field for number in (1, 2, 3, 4, 5)] == [6, 16, 44, 100, 212]
