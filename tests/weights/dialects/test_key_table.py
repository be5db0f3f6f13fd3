"""Key tables: rows are read in both directions, the first that matches decides."""

from __future__ import annotations

import pytest

from resnets.weights.dialects.key_table import KeyTable, depths_of

TABLE = KeyTable(
    (
        ("fc", "head"),
        ("fc", "predictions"),
        ("layer{s}.{b}.bn1", "stage{s-1}/{b+1}/preact"),
        ("layer{s}.{b}.bn{n}", "stage{s-1}/{b+1}/norm{n-1}"),
        ("layer{s}.{b}.conv{n}", "stage{s-1}/{b+1}/{n-1:letter}"),
        ("layer{s}.{b}.se.{rest}", "stage{s-1}/{b+1}/gate/{rest}"),
    )
)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("fc", "head"),
        ("layer1.0.bn1", "stage0/1/preact"),
        ("layer2.10.bn3", "stage1/11/norm2"),
        ("layer1.0.conv2", "stage0/1/b"),
        ("layer1.3.se.fc.0", "stage0/4/gate/fc.0"),
    ],
)
def test_rows_in_both_directions(ours: str, theirs: str) -> None:
    assert TABLE.theirs(ours) == theirs
    assert TABLE.ours(theirs) == ours


def test_further_spellings_are_read() -> None:
    assert TABLE.ours("predictions") == "fc"


def test_paths_without_a_row() -> None:
    assert TABLE.ours("stem") is None
    assert TABLE.theirs("layer1.0.downsample.0") is None
    assert TABLE.ours("stage0/0/preact") is None  # block -1
    assert TABLE.theirs("layer1.0.conv30") is None  # no such letter
    assert KeyTable(keep=True).ours("stem") == "stem"
    assert KeyTable((("fc", "head"),), keep=True).theirs("conv1") == "conv1"


def test_scopes() -> None:
    table = KeyTable((("layer{s}.{b}", "block{s}/unit_{b+1}"), ("fc", "logits")), scope="net_50/")
    assert table.theirs("layer1.0") == "net_50/block1/unit_1"
    for scope in ("", "net_50/", "outer/net/"):
        assert table.ours(f"{scope}block1/unit_1") == "layer1.0"
        assert table.ours(f"{scope}logits") == "fc"


def test_counted_blocks() -> None:
    table = KeyTable((("layer{s}.{b}", "res{s+1}{b:caffe}"),))
    assert [table.theirs(f"layer3.{block}") for block in (0, 1, 22)] == ["res4a", "res4b1", "res4b22"]
    assert table.ours("res4b22") == "layer3.22"


def test_depths() -> None:
    assert depths_of(["conv1.weight", "layer1.0.conv1.weight", "layer2.0.bn1.bias", "layer2.1.bn1.bias"]) == (1, 2)
    assert depths_of(["stages.0.blocks.0.conv1.weight"]) == ()
