"""Accuracy of fine-tuning on ants and bees: with and without pretrained weights, with and without freezing first.

Whole runs of `resnets.train` on `hymenoptera256` (244 training and 153 validation images) for several seeds. The last
epoch's accuracy is compared: the best of many epochs is biased upwards on so few images.

    python bench/finetune.py [--seeds N] [--epochs N] [--ways NAME ...] [--json]

It prints mean, standard deviation and range of the accuracy over the seeds, and the seconds of a run. Data:
`hymenoptera256` in the folder RESNETS_DATA (default: ../shared/data).
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
        "pretrained": "starter", "recipe": "none", "freeze": "backbone", "freeze_epochs": 6, "lr": 0.05,
        "unfreeze_lr": 0.005,
    },
    "starter, all at once": {"pretrained": "starter", "recipe": "none", "lr": 0.01},
    "scratch, frozen then unfrozen": {
        "model": "resnet20_cifar", "freeze": "backbone", "freeze_epochs": 6, "lr": 0.05, "unfreeze_lr": 0.05,
        "freeze_random": True,
    },
    "scratch, all at once": {"model": "resnet20_cifar", "lr": 0.05},
}  # fmt: skip


def folder() -> Path:
    """The folder of the images; exits with a message if it is missing."""
    data = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[2] / "shared" / "data") / "hymenoptera256"
    if not data.is_dir():
        raise SystemExit(f"skipped: {data} does not exist; set RESNETS_DATA")
    return data


def accuracy(way: dict[str, Any], seed: int, epochs: int, size: int, output: str) -> tuple[float, float]:
    """Validation accuracy of the last epoch, in [0, 1], and seconds of the run."""
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
    parser.add_argument("--size", type=int, default=48, help="image size in pixels")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), help="(default: all)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    table = {}
    for name in options.ways:
        with tempfile.TemporaryDirectory() as output:
            runs = [accuracy(WAYS[name], s, options.epochs, options.size, output) for s in range(options.seeds)]
        accuracies, seconds = zip(*runs, strict=True)
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        table[name] = {"mean": statistics.mean(accuracies), "stdev": spread, "runs": accuracies, "seconds": seconds}
        low, high = min(accuracies), max(accuracies)
        line = (
            f"{name:30} {100 * table[name]['mean']:6.2f} ± {100 * spread:4.2f} %  ({100 * low:.1f} to {100 * high:.1f})"
        )
        print(
            f"{line}  {statistics.median(seconds):5.0f} s per run",
            file=sys.stderr if options.json else sys.stdout,
            flush=True,
        )
    if options.json:
        print(json.dumps({"epochs": options.epochs, "size": options.size, "ways": table}, indent=2))


if __name__ == "__main__":
    main()
