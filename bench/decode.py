"""From photographs to normalised batches of random resized crops, on one core: torchvision against resnets.

torchvision: Pillow decodes a file, RandomResizedCrop, RandomHorizontalFlip, ToTensor, Normalize, and the images of a
batch are stacked. It runs in the peers' environment (`make peers`); without one, its steps are written out on Pillow.
resnets: `resnets.data.loader` streaming in this process, from the same files and from a packed folder of them
(`resnets data pack`, shorter side 256). One thread each, in turn, A B B A. First the crops of both are compared: the
same boxes of the same files must agree to 0.5 of 255 in the mean over images that are decoded at full size.

The photographs are those of shared/data/photos (RESNETS_DATA says where the data lie), or of `--photos`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _pairs import HEAD, Pair, compare, machine
from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig
from resnets.data.augment.geometric import crop_box, crop_draws
from resnets.data.augment.random_crop import random_resized_crop
from resnets.data.dataset import Dataset, ImageSet
from resnets.data.files import walk_images
from resnets.data.loader import make_batches
from resnets.data.pack import pack
from resnets.data.sources.folder import FolderSource
from resnets.data.sources.packed import open_packed

FILES, PACKED = 2.2, 8.0  # targets
ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"  # `make peers`
STUB = ROOT.parent / "shared" / "peers"  # lets torchvision import where torch is a CPU build
PREPROCESSING, CROP = Preprocessing(size=(224, 224)), AugmentConfig(scale=(0.08, 1.0))


class Peer:
    """torchvision in a separate process, which waits while resnets is measured."""

    def __init__(self, images: ImageSet, batch: int) -> None:
        python = str(PEERS) if PEERS.is_file() else sys.executable
        paths = [images.name(i) for i in range(len(images))]
        self.images, self.epoch = images, 0
        self.process = subprocess.Popen(
            [
                python,
                str(Path(__file__).with_name("_torchvision_crop.py")),
                str(PREPROCESSING.size[0]),
                str(batch),
                *paths,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(STUB)},
        )
        self.who = self._read_line()

    def _read_line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peer's process ended; run bench/_torchvision_crop.py by hand to see why")
        return line.strip()

    def request(self, line: str) -> str:
        """Send a line; the line that the process returns."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._read_line()

    def __call__(self) -> int:
        self.epoch += 1
        self.request(f"epoch {self.epoch}")
        return len(self.images)

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate()


def check_same(images: ImageSet, peer: Peer, folder: Path) -> float:
    """Mean absolute difference, in levels of 255, of the same crops cut by both."""
    draws = crop_draws(0, 0, np.arange(len(images)))
    shapes = [images.image(i, "RGB").shape for i in range(len(images))]
    boxes = [crop_box(height, width, CROP, row) for (height, width, _), row in zip(shapes, draws, strict=True)]
    (folder / "boxes.json").write_text(json.dumps(boxes), "utf-8")
    peer.request(f"boxes {folder / 'boxes.json'}")
    theirs = np.load(folder / "boxes.json.npy").astype(np.int64)
    ours = [random_resized_crop(images, i, PREPROCESSING, CROP, row) for i, row in enumerate(draws)]
    full = [i for i, box in enumerate(boxes) if min(box[2:]) < 2 * PREPROCESSING.size[0]]
    difference = float(np.mean([np.abs(theirs[i] - ours[i]).mean() for i in full]))
    if difference > 0.5:
        raise SystemExit(f"the crops differ: {difference:.2f} of 255 in the mean over {len(full)} images")
    return difference


def epochs(images: ImageSet, batch: int) -> Callable[[], int]:
    """Each call loads an epoch with resnets."""
    batches = make_batches(images, PREPROCESSING, batch_size=batch, augment=CROP, workers=0)
    epoch = itertools.count()
    return lambda: sum(len(item.y) for item in batches.epoch(next(epoch)))


def measure(images: ImageSet, batch: int, rounds: int) -> tuple[dict[str, Pair], dict[str, Any]]:
    """Both comparisons, by name, and the facts of the run."""
    with tempfile.TemporaryDirectory() as name:
        folder, peer = Path(name), Peer(images, batch)
        difference = check_same(images, peer, folder)
        # A data set must have two classes; their names do not matter here.
        done = pack(Dataset(name="photos", classes=("a", "b"), splits={"train": images}), folder / "packed", workers=1)
        packed = open_packed(folder / "packed").splits["train"]
        pairs = {
            "from files": compare(epochs(images, batch), peer, rounds=rounds),
            "from a packed folder": compare(epochs(packed, batch), peer, rounds=rounds),
        }
        peer.close()
    facts = {"peer": peer.who, "photographs": len(images), "mean_difference": difference, "packed_bytes": done.bytes}
    return pairs, facts


def photographs(folder: Path, limit: int | None) -> ImageSet:
    """All images below a folder."""
    if not folder.is_dir():
        raise SystemExit(f"photographs are needed; {folder} is absent; pass --photos or set RESNETS_DATA")
    names = walk_images(folder)[:limit]
    count = np.arange(len(names), dtype=np.int64)
    return ImageSet(source=FolderSource(folder, names), rows=count, labels=count % 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("RESNETS_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--photos", type=Path, default=data / "photos")
    parser.add_argument("--limit", type=int, help="take so many photographs only")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15, help="epochs of each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs, facts = measure(photographs(options.photos, options.limit), options.batch, options.rounds)
    if options.json:
        results = {name: pair.to_dict() for name, pair in pairs.items()}
        print(json.dumps({"machine": machine(), **facts, "pairs": results}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in {**machine(), **facts}.items()))
    print(f"random resized crops to 224, images a second\n{HEAD}")
    for (name, pair), target in zip(pairs.items(), (FILES, PACKED), strict=True):
        print(pair.line(name, target))


if __name__ == "__main__":
    main()
