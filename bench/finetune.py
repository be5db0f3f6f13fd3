"""Ants and bees four ways: from the starter's weights and from nothing, frozen then unfrozen and all at once.

Whole runs of `resnets.train` on the folder `hymenoptera256` of the test data (244 training and 153 validation
images), for several seeds. What is compared is the last epoch's accuracy, since the best of many epochs flatters
a set so small. Prints a table with mean, standard deviation and range over the seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import resnets

WAYS: dict[str, dict[str, Any]] = {
    "starter, frozen then unfrozen": {
        "pretrained": "starter", "freeze": "backbone", "freeze_epochs": 6, "lr": 0.05, "unfreeze_lr": 0.005,
    },
    "starter, all at once": {"pretrained": "starter", "lr": 0.01},
    "scratch, frozen then unfrozen": {
        "model": "resnet20_cifar", "freeze": "backbone", "freeze_epochs": 6, "lr": 0.05, "unfreeze_lr": 0.05,
    },
    "scratch, all at once": {"model": "resnet20_cifar", "lr": 0.05},
}  # fmt: skip


def folder() -> Path:
    """Where the images are; the program ends, saying so, where they are not."""
    data = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[2] / "shared" / "data") / "hymenoptera256"
    if not data.is_dir():
        raise SystemExit(f"skipped: no images in {data}; set RESNETS_DATA")
    return data


def accuracy(way: dict[str, Any], seed: int, epochs: int, size: int, output: str) -> tuple[float, float]:
    """The last epoch's share of right validation images, and the seconds that the run took."""
    started = time.perf_counter()
    run = resnets.train(
        folder(),
        epochs=epochs,
        img_size=size,
        batch_size=32,
        seed=seed,
        output=output,
        quiet=True,
        **way,
    )
    return float(run.results[-1]["val_top1"] or 0.0), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--size", type=int, default=48, help="pixels a side")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), help="by default all")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = {}
    for name in options.ways:
        with tempfile.TemporaryDirectory() as output:
            runs = [accuracy(WAYS[name], s, options.epochs, options.size, output) for s in range(options.seeds)]
        shares, seconds = [share for share, _ in runs], [second for _, second in runs]
        spread = statistics.stdev(shares) if len(shares) > 1 else 0.0
        table[name] = {"mean": statistics.mean(shares), "stdev": spread, "runs": shares, "seconds": seconds}
        low, high = min(shares), max(shares)
        line = (
            f"{name:30} {100 * table[name]['mean']:6.2f} ± {100 * spread:4.2f} %  ({100 * low:.1f} to {100 * high:.1f})"
        )
        print(
            f"{line}  {statistics.median(seconds):5.0f} s a run",
            file=sys.stderr if options.json else sys.stdout,
            flush=True,
        )
    if options.json:
        print(json.dumps({"epochs": options.epochs, "size": options.size, "ways": table}, indent=2))


if __name__ == "__main__":
    main()
