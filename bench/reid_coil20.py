"""Re-identification on COIL-20: objects never seen in training, found again from another side.

20 objects, 24 views each, one every 15 degrees. The camera of a view is its quadrant, so that a match must turn the
object. Three splits of 13 or 14 training and 6 or 7 test objects; each image of a test object is a query, compared with
all others but those of its own quadrant. The floor is the cosine similarity of the raw pixels, evaluated by the same
code. `--tricks` switches each part of the recipe off, or another one on, in turn, on the first split, where raw pixels
are weakest.

    python bench/reid_coil20.py COIL20 [--tricks] [--epochs 20] [--seeds 0 1 2 3 4] [--out bench/reid_coil20.jsonl]

Each run is a line of the output file; runs that it has are not repeated. `--table` prints the tables of a file.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnets import api
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.metrics import RetrievalMetrics
from resnets.retrieve.reid import ReidOptions, reid_eval

SPLITS = {"first": range(1, 8), "middle": range(8, 15), "last": range(15, 21)}  # test objects
SIZE = 32  # of the starter
STARTS: dict[str, dict[str, Any]] = {"starter": {"pretrained": "starter"}, "scratch": {"model": "resnet20_cifar"}}
TRICKS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "last_stride 2": {"last_stride": 2},
    "without neck": {"neck": "none"},
    "without triplet loss": {"metric_loss": "none"},
    "without identity loss": {"id_weight": 0},
    "without label smoothing": {"label_smoothing": 0},
    "without random erasing": {"random_erasing": 0},
    "without padded crops": {"pad": 0},
    "without flips": {"hflip": False},
    "without warm-up": {"warmup_epochs": 0},
    "P x K off, identity loss alone": {"num_instances": 0, "metric_loss": "none"},
    "soft margin": {"soft_margin": True},
    "triplet after the neck": {"metric_features": "after"},
    "circle loss": {"metric_loss": "circle"},
    "contrastive loss": {"metric_loss": "contrastive"},
    "centre loss": {"center_weight": 0.0005},
    "ArcFace": {"id_margin": "arcface"},
    "CosFace": {"id_margin": "cosface"},
    "GeM": {"global_pool": "gem"},
    "SE": {"attention": "se"},
    "IBN-a": {"ibn": "a,a,"},
}


def images_of(folder: Path) -> list[tuple[Path, int, int]]:
    """(path, object, quadrant) of each image."""
    found = []
    for path in sorted(folder.glob("obj*__*.png")):
        name = re.fullmatch(r"obj(\d+)__(\d+)", path.stem)
        assert name is not None
        found.append((path, int(name[1]), int(name[2]) // 18))
    return found


def evaluate(features: np.ndarray[Any, Any], rows: list[tuple[Path, int, int]]) -> RetrievalMetrics:
    ids, cameras = (np.array([row[place] for row in rows], np.int64) for place in (1, 2))
    metrics = reid_eval(None, Embeddings(features=features, ids=ids, cameras=cameras), ReidOptions()).metrics
    assert metrics is not None
    return metrics


def pixels(rows: list[tuple[Path, int, int]]) -> np.ndarray[Any, Any]:
    small = [Image.open(path).resize((SIZE, SIZE), Image.Resampling.BILINEAR) for path, _, _ in rows]
    return np.stack([np.asarray(image, np.float32).ravel() for image in small])


def train(table: Path, seed: int, epochs: int, options: dict[str, Any], rows: list[tuple[Path, int, int]]) -> Any:
    with tempfile.TemporaryDirectory() as runs:
        result = api.train(
            str(table), task="reid", seed=seed, epochs=epochs, img_size=SIZE, val_fraction=0, output=runs, device="cpu",
            quiet=True, **options,
        )  # fmt: skip
        return evaluate(api.load(result.best).embed([path for path, _, _ in rows]), rows)


def plan(with_tricks: bool, seeds: list[int]) -> Iterator[tuple[str, str, str, int, dict[str, Any]]]:
    """(split, start, trick, seed, options) of each run."""
    for seed in seeds:
        for start, options in STARTS.items():
            for split in SPLITS:
                yield split, start, "the recipe", seed, options
        for trick, changes in TRICKS.items() if with_tricks else ():
            if changes:
                yield "first", "starter", trick, seed, STARTS["starter"] | changes


def table(lines: list[dict[str, Any]]) -> Iterator[str]:
    """Mean and standard deviation over seeds, of mAP and rank-1 in percent."""
    yield "| | " + " | ".join(f"{split}: mAP | rank-1" for split in SPLITS) + " | mean mAP |"
    yield "|---|" + "---|---|" * len(SPLITS) + "---|"
    kinds = dict.fromkeys((line["start"], line["trick"]) for line in lines)
    for start, trick in kinds:
        cells, means = [], []
        for split in SPLITS:
            own = [one for one in lines if (one["start"], one["trick"], one["split"]) == (start, trick, split)]
            for name in ("map", "rank1"):
                values = [100 * one[name] for one in own]
                spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
                cells.append(f"{statistics.mean(values):.1f}{spread}" if values else "")
                means += [statistics.mean(values)] if values and name == "map" else []
        yield f"| {start}, {trick} | " + " | ".join(cells) + f" | {statistics.mean(means):.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tricks", action="store_true")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", type=Path, default=Path("bench/reid_coil20.jsonl"))
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    done = [json.loads(line) for line in chosen.out.read_text().splitlines()] if chosen.out.exists() else []
    if chosen.table:
        print("\n".join(table(done)))
        return
    images = images_of(chosen.folder.resolve())
    keys = {(one["split"], one["start"], one["trick"], one["seed"]) for one in done}

    def record(split: str, start: str, trick: str, seed: int, metrics: RetrievalMetrics) -> None:
        line = {
            "split": split, "start": start, "trick": trick, "seed": seed, "epochs": chosen.epochs,
            "map": metrics.map, "rank1": float(metrics.cmc[0]), "minp": metrics.minp,
        }  # fmt: skip
        with chosen.out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        tables = {}
        for split, objects in SPLITS.items():
            tables[split] = Path(folder) / f"{split}.csv"
            with tables[split].open("w") as file:
                csv.writer(file).writerows(
                    [("path", "id", "camera"), *(row for row in images if row[1] not in objects)]
                )
            if (split, "raw pixels", "none", 0) not in keys:
                rows = [row for row in images if row[1] in objects]
                record(split, "raw pixels", "none", 0, evaluate(pixels(rows), rows))
        for split, start, trick, seed, options in plan(chosen.tricks, chosen.seeds):
            if (split, start, trick, seed) not in keys:
                rows = [row for row in images if row[1] in SPLITS[split]]
                record(split, start, trick, seed, train(tables[split], seed, chosen.epochs, options, rows))


if __name__ == "__main__":
    main()
