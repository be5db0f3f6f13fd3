"""Package a finished CIFAR-10 run as the starter model. Usage: scripts/package_starter.py RUN TEST_DATA.

The run is selected on its validation images; the test images are evaluated only here, once, for the model card.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from resnets.api import evaluate, load
from resnets.evaluate.evaluation import Evaluation
from resnets.weights.resolve import STARTER

COMMAND = "resnets train cifar10_parquet --model resnet20_cifar --epochs 30 --lr 0.2 --label-smoothing 0"


def main(run: Path, test_data: Path) -> None:
    """Save the run's best model as the starter, with its metrics."""
    bundle = load(run / "best")
    held_out, test = evaluate(run), evaluate(run, test_data, split="test")
    provenance = bundle.provenance | {
        "data": "CIFAR-10 (Krizhevsky 2009), training images: 45,000 to train on, 5,000 held out for validation",
        "recipe": {"command": COMMAND, **bundle.provenance["recipe"]},
        "metrics": bundle.provenance["metrics"] | _metrics("val", held_out) | _metrics("test_sample", test),
    }
    print(replace(bundle, provenance=provenance, license="Apache-2.0").save(STARTER))


def _metrics(name: str, evaluation: Evaluation) -> dict[str, float]:
    low, high = evaluation.top1_interval
    return {
        f"{name}_top1": evaluation.top1,
        f"{name}_top1_low": round(low, 4),
        f"{name}_top1_high": round(high, 4),
        f"{name}_images": len(evaluation),
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
