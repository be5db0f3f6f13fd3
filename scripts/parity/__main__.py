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
    """A cell of a network, and the peer's answer to come."""

    key: str
    cell: Cell
    network: Network
    made: Future[dict[str, Any]]
    shapes: dict[str, Any] | None


def jobs(keys: list[str], peer: Peer, folder: Path, *, quick: bool) -> Iterator[Job]:
    """Every cell of every network; the peer starts on a job when it is drawn from here."""
    for key in keys:
        library, name = key.split("/")
        about = peer.ask("about", library=library, name=name)
        large = about["params"] > MAX_PARAMS
        for index, cell in enumerate(CELLS[library][:1] if quick else CELLS[library]):
            args = dict(cell.args)
            deep = name.endswith("_bit") and not large  # timm has no option for the depth of its BiT networks
            if (cell.short or large) and library == "timm" and about["layers"] and not deep:
                args["layers"] = [min(count, 1 if about["params"] > 2 * MAX_PARAMS else 2) for count in about["layers"]]
            network = Network(library=library, name=name, args=args, folder=folder / f"{name}-{index}")
            made = peer.submit("make", library=library, name=name, args=args, folder=str(network.folder))
            yield Job(
                key=key,
                cell=cell,
                network=network,
                made=made,
                shapes=about["shapes"] if large and not index else None,
            )


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PATTERN", help="networks to compare: `timm/resnet50*`, `ours/vgg*`")
    parser.add_argument("--quick", action="store_true", help="compare whole networks alone, without options")
    parser.add_argument("--update", action="store_true", help="with --only or --quick: write into the existing table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with Peer() as peer:
        listed = peer.ask("list")
        every = [
            f"{lib}/{name}" for lib, files in listed["networks"].items() for names in files.values() for name in names
        ]
        keys = [key for key in every if args.only is None or fnmatch.fnmatch(key, args.only)]
        outcomes = sweep(keys, peer, quick=args.quick)
        exports = {} if args.quick else write_ours(peer, args.only)
    whole = args.only is None and not args.quick
    if whole or args.update:
        table: dict[str, Any] = {} if whole else read_table()
        merged = table.get("outcomes", {})
        for key, cells in outcomes.items():
            merged[key] = {**merged.get(key, {}), **cells}
        table |= {
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "make parity",
            "versions": listed["versions"],
            "networks": listed["networks"],
            "outcomes": {key: merged[key] for key in every if key in merged},
            "exports": {**table.get("exports", {}), **exports},
        }
        write_table(table)
        PAGE.write_text(page(table), encoding="utf-8")
        print(f"wrote {DATA} and {PAGE}")
    wrong = wrong_cells(outcomes, exports)
    print("\n".join([f"{len(wrong)} silently wrong", *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
