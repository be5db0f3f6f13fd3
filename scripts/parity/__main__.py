"""Compare every network of timm's and torchvision's residual network files with ours, and write the table of the docs.

    make parity                                             the whole sweep: docs/parity.json and docs/parity.md
    .venv/bin/python scripts/parity --only 'timm/resnet50*' some networks; prints, writes nothing
    .venv/bin/python scripts/parity --only PATTERN --update the same, into the existing table
    .venv/bin/python scripts/parity --quick                 the whole networks alone, without options

It needs the environment of `make peers`. The exit code is 1 if a network gave other outputs without an error.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cells import CELLS, MAX_PARAMS, Cell
from exports import compare_exports
from judge import Network, judge, structure
from peer_process import Peer
from table import DATA, PAGE, page, read_table, write_table, wrong_cells

Outcomes = dict[str, dict[str, dict[str, str]]]  # network -> cell -> way -> outcome


@dataclass(kw_only=True)
class Job:
    """A cell of a network, and the peer's answer to come; or the network that has the `same` outcome."""

    key: str
    cell: Cell
    network: Network | None = None
    made: Future[dict[str, Any]] | None = None
    shapes: dict[str, Any] | None = None
    same: str = ""


def group_of(library: str, name: str, shapes: dict[str, Any] | None) -> tuple[Any, ...]:
    """Networks of a group differ in nothing but their depth: the name without it, and the tensors of short stages."""
    return library, re.sub(r"\d{2,}", "#", name, count=1), json.dumps(shapes)


def jobs(keys: list[str], peer: Peer, folder: Path, *, quick: bool) -> Iterator[Job]:
    """Every cell of every network; the peer starts on a job when it is drawn from here.

    timm's networks that differ in nothing but their depth share the cells of options: the first of them has them.
    """
    first: dict[tuple[Any, ...], str] = {}
    for key in keys:
        library, name = key.split("/")
        about = peer.ask("about", library=library, name=name)
        large = about["params"] > MAX_PARAMS
        cells = CELLS[library][:1] if quick else CELLS[library]
        same = key
        if library == "timm" and not quick:
            layers = {"layers": _short(about)} if about["layers"] else {}
            short = peer.ask("about", library=library, name=name, args=layers).get("shapes") if layers else None
            same = first.setdefault(group_of(library, name, short), key)
        for index, cell in enumerate(cells):
            if index and same != key:
                yield Job(key=key, cell=cell, same=same)
                continue
            args = dict(cell.args)
            deep = name.endswith("_bit") and not large  # timm has no option for the depth of its BiT networks
            if (cell.short or large) and library == "timm" and about["layers"] and not deep:
                args["layers"] = _short(about)
            network = Network(library=library, name=name, args=args, folder=folder / f"{name}-{index}")
            made = peer.submit("make", library=library, name=name, args=args, folder=str(network.folder))
            yield Job(
                key=key,
                cell=cell,
                network=network,
                made=made,
                shapes=about["shapes"] if large and not index else None,
            )


def _short(about: dict[str, Any]) -> list[int]:
    """Blocks of each stage of a short network."""
    return [min(count, 1 if about["params"] > 2 * MAX_PARAMS else 2) for count in about["layers"]]


def one_ahead(all_jobs: Iterator[Job]) -> Iterator[Job]:
    """The same jobs; the next is drawn before the last is used."""
    waiting = None
    for job in all_jobs:
        if waiting is not None:
            yield waiting
        waiting = job
    if waiting is not None:
        yield waiting


def run(job: Job, peer: Peer) -> dict[str, str]:
    """The outcomes of a job, whose folder is deleted."""
    if job.network is None or job.made is None:
        return dict.fromkeys(job.cell.ways, f"as {job.same}")
    answer = job.made.result()
    if "error" in answer:
        return dict.fromkeys(job.cell.ways, f"peer: {answer['error']}")
    try:
        outcomes = judge(job.network, job.cell, peer)
    finally:
        shutil.rmtree(job.network.folder, ignore_errors=True)
    if job.shapes is not None and outcomes.get("named") == "exact":
        outcomes["named"] = structure(job.network, job.shapes)
    return outcomes


def sweep(keys: list[str], peer: Peer, *, quick: bool) -> Outcomes:
    """Compare networks, printing a line for each."""
    found: Outcomes = {}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        for job in one_ahead(jobs(keys, peer, Path(folder), quick=quick)):
            outcomes = found.setdefault(job.key, {})[job.cell.title] = run(job, peer)
            text = ", ".join(f"{way} {outcome}" for way, outcome in outcomes.items())
            print(f"{time.perf_counter() - start:6.0f} s  {job.key:32}{job.cell.title:20}{text}", flush=True)
    return found


def write_ours(peer: Peer, pattern: str | None) -> dict[str, dict[str, str]]:
    """Write networks of ours for the libraries, printing a line for each."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        only = (lambda key: fnmatch.fnmatchcase(key, pattern)) if pattern else (lambda key: True)
        for name, outcomes in compare_exports(peer, Path(folder) / "export", only):
            found[name] = outcomes
            text = ", ".join(f"{way} {outcome}" for way, outcome in outcomes.items())
            print(f"ours/{name:60}{text}", flush=True)
    return found


def record(
    listed: dict[str, Any],
    keys: list[str],
    outcomes: Outcomes,
    exports: dict[str, dict[str, str]],
    *,
    start_anew: bool,
) -> None:
    """Write the table and its page; outcomes of other networks are kept unless it is to `start_anew`."""
    table = {} if start_anew else read_table()
    merged: Outcomes = table.get("outcomes", {})
    for key, cells in outcomes.items():
        merged[key] = {**merged.get(key, {}), **cells}
    table = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "make parity",
        **listed,
        "outcomes": {key: merged[key] for key in keys if key in merged},
        "exports": {**table.get("exports", {}), **exports},
    }
    write_table(table)
    PAGE.write_text(page(table), encoding="utf-8")
    print(f"wrote {DATA} and {PAGE}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", help="networks to compare: `timm/resnet50*`, `ours/vgg*`")
    parser.add_argument("--quick", action="store_true", help="compare whole networks alone, without options")
    parser.add_argument("--update", action="store_true", help="with --only or --quick: write into the existing table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = args.only is None and not args.quick
    with Peer() as peer:
        listed = peer.ask("list")
        keys = [f"{lib}/{n}" for lib, files in listed["networks"].items() for names in files.values() for n in names]
        chosen = [key for key in keys if args.only is None or fnmatch.fnmatchcase(key, args.only)]
        outcomes = sweep(chosen, peer, quick=args.quick)
        if whole or args.update:
            record(listed, keys, outcomes, {}, start_anew=whole)
        exports = {} if args.quick else write_ours(peer, args.only)
    if whole or args.update:
        record(listed, keys, outcomes, exports, start_anew=whole)
    wrong = wrong_cells(outcomes, exports)
    print("\n".join([f"{len(wrong)} silently wrong", *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
