"""The table of the comparison: `docs/parity.json`, one network a line, and the page that shows it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cells import CELLS

__all__ = ["DATA", "PAGE", "page", "read_table", "wrong_cells", "write_table"]

DOCS = Path(__file__).parents[2] / "docs"
DATA, PAGE = DOCS / "parity.json", DOCS / "parity.md"

HEAD = """\
# Parity with timm and torchvision

Every network of timm's `resnet.py`, `resnetv2.py`, `senet.py` and `vgg.py` and of torchvision's `resnet.py` and
`vgg.py`, compared by outputs: the library builds it with random weights, and the file is opened here. `make parity`
(`scripts/parity`) makes this page and [`parity.json`](parity.json).

"""


def write_table(table: Mapping[str, Any]) -> None:
    """Write the data, one network a line, so that changes can be read."""
    head = {key: value for key, value in table.items() if key not in ("outcomes", "exports")}
    parts = [json.dumps(head, indent=1)[:-2]]
    for key in ("outcomes", "exports"):
        rows = [f"{json.dumps(name)}: {json.dumps(cells, ensure_ascii=False)}" for name, cells in table[key].items()]
        parts.append(f' "{key}": {{\n  ' + ",\n  ".join(rows) + "\n }")
    DATA.write_text(",\n".join(parts) + "\n}\n", encoding="utf-8")


def read_table() -> dict[str, Any]:
    """The data of the last run; empty if there is none."""
    return dict(json.loads(DATA.read_text(encoding="utf-8"))) if DATA.is_file() else {}


def wrong_cells(
    outcomes: Mapping[str, Mapping[str, Mapping[str, str]]], exports: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Cells in which other outputs came without an error, a line each."""
    cells = [(f"{key}, {title}", ways) for key, cells in outcomes.items() for title, ways in cells.items()]
    cells += [(f"ours/{name}", ways) for name, ways in exports.items()]
    return [
        f"{title}, {way}: {outcome}"
        for title, ways in cells
        for way, outcome in ways.items()
        if outcome.startswith("WRONG")
    ]


def page(table: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in table["versions"].items())
    notes: dict[str, int] = {}
    parts = [HEAD, f"Last run: {table['date']}, {versions}.\n\n", _summary(table["outcomes"]), LEGEND]
    for library, cells in CELLS.items():
        titles = [cell.title for cell in cells]
        whole = cells[0].ways
        for file, names in table["networks"][library].items():
            parts.append(f"## {library}: {file}\n\n")
            parts.append(_row(["network", *whole, *titles[1:]]) + _row(["---"] * (len(whole) + len(titles))))
            for name in names:
                found = table["outcomes"].get(f"{library}/{name}", {})
                first = [_mark({way: found.get("whole", {}).get(way, "")}, notes) for way in whole]
                rest = [_mark(found.get(title, {}), notes) for title in titles[1:]]
                parts.append(_row([f"`{name}`", *first, *rest]))
            parts.append("\n")
    parts.append(
        EXPORTS + _summary({"": table["exports"]}) + _row(["network", *WAYS]) + _row(["---"] * (1 + len(WAYS)))
    )
    for name, ways in table["exports"].items():
        if "," in name:  # relatives: in the sum above, and in the data
            continue
        parts.append(_row([f"`{name}`", *(_mark({way: ways[way]}, notes) for way in WAYS)]))
    parts.append("\n## Reasons\n\n")
    parts += [f"{number}. {text}\n" for text, number in notes.items()]
    return "".join(parts)


LEGEND = """\
`✓` means that all outputs agree to 1e-5, relative to the largest, with a square and with an odd image size. A number is
a reason in the list at the end. `-`: timm or torchvision itself has no such network.

`auto` opens the weights file alone. `named` is told the dialect, the network and its options. `folder` opens the folder
that timm saves. `export` writes the opened network back with `--to`, and the library loads it strictly. `saved` saves
it as a model folder, `timm folder` as one in timm's layout, and timm opens that. The columns after them vary one option
each, in all these ways. Networks have at most two blocks a stage there, and also where they have more than 150 million
parameters (all their tensors are then compared by shape). timm's networks that differ in nothing but their depth share
these columns: `as` names the one.

Both sides get the same tensors as input, so this page says nothing about preprocessing: `auto` and `named` report the
one that they assume, and folders state theirs.

"""


WAYS = ("timm", "torchvision", "our folder", "timm folder")
EXPORTS = """\
## Networks of this library, written for timm and torchvision

Every network of this library by name, relatives that differ in the named options, and random ones. `timm` and
`torchvision`: written with `--to` and opened there by the call that is printed. `our folder` and `timm folder`: a model
folder, of ours or in timm's layout, opened by timm. A network that the library cannot build must be refused: its
tensors may load there strictly, and compute something else. The table has the named networks; `parity.json` has all.

"""


def _summary(outcomes: Mapping[str, Mapping[str, Mapping[str, str]]]) -> str:
    kinds = Counter(
        outcome.replace(":", " ").split()[0]
        for cells in outcomes.values()
        for ways in cells.values()
        for outcome in ways.values()
    )
    names = {
        "exact": "exact",
        "as": "shared with a network of other depth",
        "close": "exact in float64, and above 1e-5 in float32",
        "assumed": "differing only in what was reported as assumed",
        "refused": "refused",
        "fails": "written, but not opened by the library",
        "peer": "not possible in the library itself",
        "WRONG": "silently wrong",
    }
    listed = [f"{kinds.get(kind, 0):,} {text}" for kind, text in names.items() if kinds.get(kind) or kind == "WRONG"]
    networks = len(outcomes) if len(outcomes) > 1 else len(outcomes[""])
    return f"{sum(kinds.values()):,} comparisons of {networks} networks: {', '.join(listed)}.\n\n"


def _row(fields: Iterable[str]) -> str:
    return f"| {' | '.join(fields)} |\n"


def _mark(ways: Mapping[str, str], notes: dict[str, int]) -> str:
    """One cell: the outcome that all ways have, or each that differs."""
    if not ways:
        return ""
    marks = {way: _short(outcome, notes) for way, outcome in ways.items()}
    if len(set(marks.values())) == 1:
        return next(iter(marks.values()))
    by_mark: dict[str, list[str]] = {}
    for way, mark in marks.items():
        by_mark.setdefault(mark, []).append(way)
    return "; ".join(f"{', '.join(names)} {mark}" for mark, names in by_mark.items() if mark != "-") or "-"


def _short(outcome: str, notes: dict[str, int]) -> str:
    kind, _, reason = outcome.partition(": ")
    if outcome == "exact":
        return "✓"
    if kind == "peer":
        return "-"
    if kind.startswith("as "):
        return f"as `{kind.partition('/')[2]}`"
    if kind in ("refused", "fails there"):
        return f"{kind} ({notes.setdefault(reason.replace('|', '/').replace('<', '&lt;'), len(notes) + 1)})"
    return f"**{outcome.replace('|', '/')}**" if kind == "WRONG" else outcome
