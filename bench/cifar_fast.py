"""Training time of the recipe `cifar-fast` relative to 30 epochs of ResNet-20 on CIFAR-10 without a recipe.

Whole runs take over an hour, during which the speed of a shared machine changes: their accuracy is in
docs/performance.md, the ratio of their times is measured here. Each side runs a miniature of its run on one thread:
the same fraction of the steps and of the validation of every image size. The sides alternate (A B, B A, ...). Loading
the images, which is the same for both, and the report are excluded. Target: a ratio of at most 0.5.

    python bench/cifar_fast.py [--images N] [--rounds N] [--json]

It prints the ratio and its quartiles. Data: `cifar10_parquet` in the folder RESNETS_DATA (default: ../shared/data).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from _pairs import compare, machine
from resnets.data.dataset import Dataset
from resnets.runtime.console import Console
from resnets.train.config.recipes import load_recipe
from resnets.train.config.resolve import resolve_config
from resnets.train.config.train_config import TrainConfig
from resnets.train.loop.trainer import Trainer
from resnets.train.run_folder.manifest import open_data
from resnets.train.run_folder.paths import RunFolder

TARGET = 0.5
PLAIN: dict[str, Any] = {"model": "resnet20_cifar", "epochs": 30, "lr": 0.2, "label_smoothing": 0.0}
DATA = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[2] / "shared" / "data") / "cifar10_parquet"


def miniature(
    config: TrainConfig, dataset: Dataset, images: int, epochs_for_one: int, folder: Path
) -> Callable[[], int]:
    """Each call runs one epoch on `images` images per `epochs_for_one` epochs of the run, and as much validation."""
    train, val = dataset.splits["train"], dataset.splits["val"]
    share = images / len(train)
    few = replace(
        dataset, splits={"train": train.subset(range(images)), "val": val.subset(range(int(share * len(val))))}
    )
    resolved = resolve_config(config, few)
    console = Console(silent=True)
    trainer = Trainer(RunFolder(folder), resolved, few, console)
    numbers = range(0, config.epochs, epochs_for_one)

    def run() -> int:
        for epoch in numbers:
            trainer.train_epoch(epoch)
            with trainer.averaged_weights(epoch):
                trainer.validate(trainer.model)
        return 1

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2560, help="images of a miniature epoch, of 45,000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not DATA.is_dir():
        raise SystemExit(f"this benchmark needs CIFAR-10; {DATA} does not exist; set RESNETS_DATA")
    torch.set_num_threads(1)
    fast = TrainConfig.from_options(load_recipe("cifar-fast").settings, {"data": str(DATA), "recipe": "cifar-fast"})
    plain = TrainConfig.from_options({"data": str(DATA), **PLAIN})
    dataset = open_data(plain)
    with tempfile.TemporaryDirectory() as folder:
        sides = [miniature(config, dataset, options.images, 6, Path(folder)) for config in (plain, fast)]
        pair = compare(*sides, rounds=options.rounds)  # runs per second: the ratio plain / fast is fast's relative time
    if options.json:
        print(json.dumps({"machine": machine(), "images": options.images, "pair": pair.to_dict()}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    verdict = "met" if pair.ratio <= TARGET else "MISSED"
    print(
        f"cifar-fast: {pair.ratio:.3f} of the time of 30 plain epochs "
        f"(quartiles {pair.low:.3f} to {pair.high:.3f} over {pair.rounds} rounds; target {TARGET}: {verdict})"
    )


if __name__ == "__main__":
    main()
