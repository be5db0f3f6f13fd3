"""Accuracy of fine-tuning at several learning rates, and of the settings for training from random weights.

Each run starts from `starter` (a ResNet-20 trained on CIFAR-10) and a new classifier. Data: ants and bees
(`hymenoptera256`, 244 training and 153 validation images) and 200 training images of 10 CIFAR-10 classes, validated on
the 1,000 images of `cifar10_png/test`, of the official test set, which the starter was not trained on. Seeds change the
new classifier, the order, the augmentation and which 200 images are drawn.

    python bench/finetune_lr.py [--seeds N] [--rates 0.02 0.04 0.08] [--json]

It prints mean and standard deviation of the last epoch's validation accuracy: the best epoch would be chosen on the
same images. Data in the folder RESNETS_DATA (default: ../shared/data). 30 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from resnets.api import train

DATA = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[2] / "shared" / "data")
IMAGES = 20  # per class of the CIFAR subset


def cifar_subset(folder: Path, seed: int) -> Path:
    """A folder with links to the images of one seed."""
    root = folder / f"cifar{seed}"
    for name in sorted(os.listdir(DATA / "cifar10_png" / "train")):
        images = sorted((DATA / "cifar10_png" / "train" / name).iterdir())
        chosen = np.random.default_rng((seed, len(name))).choice(len(images), IMAGES, replace=False)
        (root / "train" / name).mkdir(parents=True)
        for index in chosen:
            (root / "train" / name / images[index].name).symlink_to(images[index])
    (root / "val").symlink_to(DATA / "cifar10_png" / "test")
    return root


def accuracy(data: Path, folder: Path, name: str, seed: int, options: dict[str, Any]) -> float:
    run = train(data, pretrained="starter", output=str(folder), name=name, seed=seed, quiet=True, **options)
    return float(run.results[-1]["val_top1"] or 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.04, 0.08, 0.16, 0.32])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    settings: dict[str, dict[str, Any]] = {"those for random weights": {"recipe": "none"}}
    for rate in arguments.rates:
        settings[f"finetune, lr {rate:g}"] = {"recipe": "finetune", "lr": rate, "lr_batch": 64}
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for seed in range(arguments.seeds):
            for data in (DATA / "hymenoptera256", cifar_subset(folder, seed)):
                for name, options in settings.items():
                    run_name = f"{data.name}-{len(found)}-{seed}-{name.replace(' ', '')}"
                    value = accuracy(data, folder / "runs", run_name, seed, options)
                    kind = "hymenoptera256" if data.name == "hymenoptera256" else "cifar, 200 images"
                    found.setdefault(kind, {}).setdefault(name, []).append(value)
                    if not arguments.json:
                        print(f"{kind}, seed {seed}, {name}: {100 * value:.1f} %", flush=True)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return
    for kind, values in found.items():
        print(f"\n{kind}")
        for name, numbers in values.items():
            spread = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
            print(f"  {name:24} {100 * statistics.mean(numbers):.1f} % (standard deviation {100 * spread:.1f})")


if __name__ == "__main__":
    main()
