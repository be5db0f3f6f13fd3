"""`resnets models`."""

from __future__ import annotations

import json

import pytest

import resnets
from resnets.arch.describe import describe
from resnets.arch.variants import VARIANTS
from tests.conftest import Command, assert_one_line_error


def test_every_network_is_listed(command: Command) -> None:
    result = command("models")
    assert (result.code, result.err) == (0, "")
    head, rule, *lines = result.out.splitlines()
    assert head.split() == ["name", "params", "MACs", "input", "classes", "blocks"]
    assert set(rule) == {"-"}
    assert [line.split()[0] for line in lines] == list(VARIANTS)
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert rows["resnet50"] == "25.6M 4.09G 224 1000 50 layers, bottleneck"
    assert rows["resnet20_cifar"] == "270k 40.6M 32 10 20 layers, basic, shortcut A"
    assert rows["resnet1202_cifar"] == "19.4M 2.83G 32 10 1202 layers, basic, shortcut A"
    assert rows["resnext50_32x4d"].endswith("50 layers, bottleneck, 32 groups of 4")
    assert rows["resnet50_v1"].endswith("stride in 1x1")
    assert rows["plain34"].endswith("34 layers, basic, no shortcuts")
    assert rows["wide_resnet50_2"].endswith("wide x2")
    assert rows["resnetv2_50"].endswith("pre-activation")


def test_numbers_are_aligned(command: Command) -> None:
    """Each number ends in the column where its heading ends."""
    head, _, *lines = command("models").out.splitlines()
    ends = [head.index(title) + len(title) for title in ("params", "MACs", "input", "classes")]
    for line in lines:
        assert [line[end - 1].isspace() or line[end].isspace() for end in ends] == [True] * 4
        assert [line[:end].split()[-1] for end in ends] == line.split()[1:5]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("wide", ["wide_resnet50_2", "wide_resnet101_2"]), ("resnet??", ["resnet18", "resnet34", "resnet50"])],
)
def test_patterns(command: Command, pattern: str, names: list[str]) -> None:
    assert [line.split()[0] for line in command("models", pattern).out.splitlines()[2:]] == names


def test_json_has_exact_counts(command: Command) -> None:
    rows = json.loads(command("models", "--json").out)
    assert [row["name"] for row in rows] == list(VARIANTS)
    by_name = {row["name"]: row for row in rows}
    assert by_name["resnet50"] == {
        "name": "resnet50",
        "params": 25_557_032,
        "macs": 4_089_184_256,
        "img_size": 224,
        "num_classes": 1000,
        "layers": 50,
        "block": "bottleneck",
        "depths": [3, 4, 6, 3],
        "traits": [],
    }
    table = describe("resnet1202_cifar")
    assert (by_name["resnet1202_cifar"]["params"], by_name["resnet1202_cifar"]["macs"]) == (table.params, table.macs)


def test_number_of_layers_is_in_the_name(command: Command) -> None:
    for row in json.loads(command("models", "--json").out):
        if row["name"] != "senet154":  # its name counts the three convolutions of the stem
            assert str(row["layers"]) in row["name"], row["name"]


def test_markdown(command: Command) -> None:
    lines = command("models", "plain18", "--markdown").out.splitlines()
    assert lines == [
        "| name | params | MACs | input | classes | blocks |",
        "|---|---:|---:|---:|---:|---|",
        "| plain18 | 11.5M | 1.79G | 224 | 1000 | 18 layers, basic, no shortcuts |",
    ]


@pytest.mark.parametrize(
    ("pattern", "near"), [("resnet5O", "resnet50"), ("reznet*", "resnet"), ("wide_resnt", "wide_")]
)
def test_unknown_name_suggests_the_nearest(command: Command, pattern: str, near: str) -> None:
    assert_one_line_error(command("models", pattern), f"got '{pattern}'; did you mean {near}")


def test_published_weights_are_listed(command: Command) -> None:
    result = command("models", "--pretrained", "resnet50.")
    head, _, *lines = result.out.splitlines()
    assert head.split() == ["name", "top-1", "%", "params", "input", "licence"]
    assert lines[0].split() == ["resnet50.tv_in1k", "76.16", "25.6M", "224", "BSD-3-Clause"]
    rows = json.loads(command("models", "--pretrained", "--json").out)
    assert [row["name"] for row in rows] == resnets.list_pretrained()
    assert {row["top1"] for row in rows if "ibn_b" in row["name"]} == {None}
    assert "| resnet50_ibn_b.ibnnet_in1k | - |" in command("models", "--pretrained", "--markdown").out
    assert_one_line_error(command("models", "--pretrained", "nosuch"), "see `resnets models --pretrained`")
    assert max(map(len, command("models", "--pretrained").out.splitlines())) <= 80
