"""`resnets info`."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest

from resnets.arch.describe import describe
from resnets.arch.networks import NetworkConfig, config_from_dict
from resnets.arch.variants import VARIANTS, get_config
from resnets.cli import main
from resnets.runtime.formatting import format_count
from tests.conftest import Command, assert_one_line_error


def test_table(command: Command) -> None:
    result = command("info", "resnet50", "--img-size", "352")
    assert (result.code, result.err) == (0, "")
    header, origin, blank, head, rule, *rows, rule_again, total = result.out.splitlines()
    assert origin.startswith("resnet50 is ")
    assert header == "resnet50: 25,557,032 parameters, 10.1 GMACs (20.2 GFLOPs) for an input of 3x352x352"
    assert (blank, set(rule), set(rule_again)) == ("", {"-"}, {"-"})
    assert head.split() == ["name", "operations", "output", "stride", "RF", "params", "MACs"]
    assert total.split() == ["total", "25,557,032", "10,094,772,224"]
    stages = [row.split() for row in rows if row.startswith("layer")]
    assert [row[:1] + row[4:7] for row in stages] == [
        ["layer1", "256x88x88", "4", "35"],
        ["layer2", "512x44x44", "8", "91"],
        ["layer3", "1024x22x22", "16", "267"],
        ["layer4", "2048x11x11", "32", "427"],
    ]
    assert sum(row.startswith("  layer") for row in rows) == 16


def test_height_by_width(command: Command) -> None:
    out = command("info", "resnet34", "--img-size", "720x1280").out
    assert "for an input of 3x720x1280" in out
    for shape in ("64x180x320", "128x90x160", "256x45x80", "512x23x40"):
        assert f" {shape} " in out


def test_every_layer(command: Command) -> None:
    rows = command("info", "resnet18", "--layers").out.splitlines()
    assert any(row.startswith("    layer4.1.conv2 ") for row in rows)
    assert len(rows) > len(command("info", "resnet18").out.splitlines()) + 40


def test_identity_layers_are_left_out(command: Command) -> None:
    assert "maxpool" not in command("info", "resnet20_cifar").out
    assert "maxpool" in command("info", "resnet20_cifar", "--layers").out


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (["--num-classes", "10"], {"num_classes": 10}),
        (["--in-chans", "1"], {"in_chans": 1}),
        (["--output-stride", "8"], {"output_stride": 8}),
        (["--last-stride", "1"], {"last_stride": 1}),
        (["--shortcut", "C"], {"shortcut": "C"}),
        (["--norm", "frozen_batch"], {"norm": "frozen_batch"}),
        (["--stride-in", "1x1"], {"stride_in": "1x1"}),
        (["--set", "stem_width=32", "--set", "depths=2,2,2,2"], {"stem_width": 32, "depths": (2, 2, 2, 2)}),
        (["--set", "num_classes=3", "--num-classes", "4"], {"num_classes": 4}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_change_the_network(command: Command, options: list[str], fields: dict[str, object]) -> None:
    data = json.loads(command("info", "resnet50", *options, "--json").out)
    table = describe(get_config("resnet50", **fields))
    assert data == json.loads(json.dumps(table.to_dict()))


def test_title_of_a_changed_network(command: Command) -> None:
    assert command("info", "resnet50", "--last-stride", "1").out.startswith("resnet50 (changed): ")
    assert command("info", "resnet50", "--stride-in", "1x1").out.startswith("resnet50 (resnet50_v1): ")
    assert command("info", "resnet50", "--num-classes", "7").out.startswith("resnet50: ")
    assert command("info", "resnet38_cifar").out.startswith("resnet38_cifar: ")


@pytest.mark.parametrize("name", VARIANTS)
def test_json_of_every_network(command: Command, name: str) -> None:
    data = json.loads(command("info", name, "--json").out)
    assert data["name"] == name
    assert config_from_dict(data["config"]) == VARIANTS[name]
    assert sum(row["macs"] for row in data["rows"] if row["role"] == "layer") == data["macs"]


def test_markdown(command: Command) -> None:
    header, blank, *lines = command("info", "resnet18", "--markdown").out.splitlines()
    assert header.startswith("resnet18: 11,689,512 parameters, 1.81 GMACs")
    assert blank == ""
    assert lines[0] == "| name | operations | output | stride | RF | params | MACs |"
    assert lines[-1] == "| total |  |  |  |  | 11,689,512 | 1,814,073,344 |"
    assert "| layer4 | 2 x BasicBlock | 512x7x7 | 32 | 435 | 8,393,728 | 411,041,792 |" in lines
    assert {line.count("|") for line in lines} == {8}


def test_small_input_warns_on_stderr(command: Command) -> None:
    result = command("info", "resnet18", "--img-size", "16", "--json")
    assert result.code == 0
    assert json.loads(result.out)["warnings"]
    assert re.match("warning: .*32.*16x16.*layer3", result.err)
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["resnet5O"], "got 'resnet5O'; did you mean resnet50"),
        (["resnet21_cifar"], "21; nearest are 20 and 26"),
        (["resnet18", "--img-size", "big"], "'big'"),
        (["resnet18", "--norm", "layer"], "got 'layer'"),
        (["resnet18", "--set", "dephts=1"], "got 'dephts'; did you mean depths"),
        (["resnet18", "--output-stride", "16", "--last-stride", "2"], "last_stride=2"),
        (["resnet20_cifar", "--norm", "group"], "norm_groups"),
        (["no/such/folder"], "no/such/folder does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors(command: Command, argv: list[str], message: str) -> None:
    assert_one_line_error(command("info", *argv), message)


def model_folder(folder: Path, config: NetworkConfig) -> Path:
    folder.mkdir(parents=True)
    ours = {"schema": 1, "config": config.to_dict()}
    (folder / "config.json").write_text(json.dumps({"architecture": "x", "resnets": ours}))
    return folder


def test_folders(command: Command, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", get_config("resnet20_cifar", num_classes=7))
    assert command("info", model).out.startswith(f"{model} (resnet20_cifar): 269,527 parameters")
    run = tmp_path / "run"
    model_folder(run / "last", get_config("resnet18"))
    assert command("info", run).out.startswith(f"{run} (resnet18): ")
    model_folder(run / "best", get_config("resnet34", last_stride=1))
    assert command("info", run).out.startswith(f"{run} (custom): ")
    assert json.loads(command("info", run, "--num-classes", "3", "--json").out)["config"]["num_classes"] == 3


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"resnets": 3}', '{"resnets": {"schema": 99, "config": {}}}', '{"resnets": {"schema": 1}}']
    + [f'{{"resnets": {{"schema": 1, "config": {config}}}}}' for config in ('{"dephts": [1]}', '{"depths": 0}', "3")],
)
def test_damaged_folder(command: Command, tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert_one_line_error(command("info", tmp_path), str(tmp_path))


def test_starter_and_named_weights(command: Command) -> None:
    assert command("info", "starter").out.startswith("starter (resnet20_cifar): 269,722 parameters")
    assert command("info", "resnet50.tv_in1k").out.startswith("resnet50.tv_in1k (resnet50): 25,557,032 parameters")


class Terminal(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


def in_terminal(monkeypatch: pytest.MonkeyPatch, columns: int, *argv: str) -> list[str]:
    """The lines that the command prints in a terminal of `columns` columns."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert main(argv) == 0
    return terminal.getvalue().splitlines()


def without_colours(line: str) -> str:
    """The text of a line."""
    return re.sub(r"\033\[[0-9;]*m", "", line).rstrip()


def test_stages_are_bold_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = in_terminal(monkeypatch, 150, "info", "resnet18", "--layers")
    bold = [without_colours(line).split()[0] for line in lines if line.startswith("\033[1m")]
    assert bold == ["name", "layer1", "layer2", "layer3", "layer4", "total"]
    assert [line for line in lines if line.startswith("\033[2m")]
    assert {len(re.sub(r"\033\[[0-9;]*m", "", line)) for line in lines[2:]} == {len(without_colours(lines[3]))}


def test_table_in_a_wide_terminal_equals_the_plain_table(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    plain = [line.split() for line in command("info", "resnet18").out.splitlines() if "---" not in line]
    shown = [
        without_colours(line).split() for line in in_terminal(monkeypatch, 150, "info", "resnet18") if "──" not in line
    ]
    assert [line for line in shown if line] == [line for line in plain if line]


@pytest.mark.parametrize("columns", [20, 60, 80, 100])
def test_narrow_terminal_rounds_counts_and_truncates_nothing(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """Counts are rounded and texts wrap; each number is whole, on the first line of its row."""
    table = describe("resnet50")
    lines = [without_colours(line) for line in in_terminal(monkeypatch, columns, "info", "resnet50")]
    rows = {line.split()[0]: line.split() for line in lines[2:] if line and not line.startswith(" " * 6)}
    for row in table.rows:
        if row.role in ("stage", "block"):
            shape = "x".join(map(str, row.output))
            numbers = [shape, str(row.stride), str(row.receptive_field), format_count(row.params)]
            assert rows[row.name][-5:] == [*numbers, format_count(row.macs)]
    assert rows["total"] == ["total", "25.6M", "4.09G"]
    assert max(map(len, lines[2:])) <= max(columns, 80)
