"""The table of `make parity`: every network of timm's and torchvision's files is in it, and none is silently wrong."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from resnets.weights.dialects import timm_networks, torchvision_networks

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts" / "parity"
TABLE: dict[str, Any] = json.loads((ROOT / "docs" / "parity.json").read_text(encoding="utf-8"))
OUTCOMES: dict[str, dict[str, dict[str, str]]] = TABLE["outcomes"]
CELLS = runpy.run_path(str(SCRIPTS / "cells.py"))["CELLS"]
OPENED = ("exact", "close")
# What timm and torchvision 0.28 have in these files; another release may have more.
COUNTS = {
    "timm": {"resnet.py": 81, "resnetv2.py": 20, "senet.py": 9, "vgg.py": 8},
    "torchvision": {"resnet.py": 10, "vgg.py": 8},
}
SUPPORTED = [
    *(f"timm/{name}" for name in timm_networks.NETWORKS),
    *(f"torchvision/{name}" for name in torchvision_networks.NETWORKS),
]


def test_every_network_of_the_libraries_is_compared_in_every_cell() -> None:
    found = {lib: {file: len(names) for file, names in files.items()} for lib, files in TABLE["networks"].items()}
    assert found == COUNTS
    listed = {f"{lib}/{n}" for lib, files in TABLE["networks"].items() for names in files.values() for n in names}
    assert OUTCOMES.keys() == listed
    for key, cells in OUTCOMES.items():
        expected = {cell.title: set(cell.ways) for cell in CELLS[key.partition("/")[0]]}
        assert {title: set(ways) for title, ways in cells.items()} == expected, key


def test_the_tables_of_networks_are_complete() -> None:
    unsupported = {f"timm/{name}" for name in timm_networks.UNSUPPORTED}
    assert {*SUPPORTED, *unsupported} == OUTCOMES.keys()
    assert unsupported.isdisjoint(SUPPORTED)


def test_networks_that_share_the_cells_of_options_name_one_that_has_them() -> None:
    for cells in OUTCOMES.values():
        for title, ways in cells.items():
            for way, outcome in ways.items():
                if outcome.startswith("as "):
                    assert title != "whole"
                    assert not OUTCOMES[outcome.removeprefix("as ")][title][way].startswith("as ")


def test_nothing_is_silently_wrong() -> None:
    known = (*OPENED, "as ", "assumed ", "refused: ", "peer: ", "fails there: ")
    cells = [(f"{key}, {title}", ways) for key, cells in OUTCOMES.items() for title, ways in cells.items()]
    for where, ways in (*cells, *TABLE["exports"].items()):
        for way, outcome in ways.items():
            assert outcome.startswith(known), (where, way)


@pytest.mark.parametrize("key", SUPPORTED)
def test_supported_networks_are_exact(key: str) -> None:
    for way in ("named", "folder", "export"):
        # The largest are compared with fewer blocks, which timm's functions for BiT cannot be told.
        shallow = way == "export" and key.endswith("_bit") and "depths" in OUTCOMES[key]["whole"][way]
        if way in OUTCOMES[key]["whole"] and not shallow:
            assert OUTCOMES[key]["whole"][way].startswith(OPENED), way
    assert OUTCOMES[key]["whole"]["auto"].startswith((*OPENED, "assumed "))


@pytest.mark.parametrize("name", timm_networks.UNSUPPORTED)
def test_unsupported_networks_are_refused_by_name_with_the_reason(name: str) -> None:
    for title, ways in OUTCOMES[f"timm/{name}"].items():
        for way, outcome in ways.items():
            # Of test_resnet the first stages can be built, and are exact where nothing else is asked for.
            few = "exact" if title.startswith("out_indices") else "refused: "
            assert outcome.startswith(("refused: ", "peer: ", "as ", few)), (title, way)
            if way in ("named", "folder") and outcome.startswith("refused: "):
                assert name in outcome
                assert timm_networks.UNSUPPORTED[name] in outcome


def test_the_page_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    page = runpy.run_path(str(SCRIPTS / "table.py"))["page"]
    assert (ROOT / "docs" / "parity.md").read_text(encoding="utf-8") == page(TABLE)
