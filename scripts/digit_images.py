"""Save held-out digits of a run as PNG files, for `resnets predict`. Usage: scripts/digit_images.py RUN."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from resnets.data.open import open_dataset
from resnets.train.config.train_config import read_args


def main(run: Path) -> None:
    """Write `RUN/images/CLASS.png`, the first validation image of each class."""
    args = read_args(run / "args.yaml")
    dataset = open_dataset(args.data, val_fraction=args.val_fraction, seed=args.seed)
    held_out = dataset.splits["val"]
    (run / "images").mkdir(exist_ok=True)
    for label, name in enumerate(dataset.classes):
        index = int(np.flatnonzero(held_out.labels == label)[0])
        Image.fromarray(held_out.image(index, "L")[:, :, 0]).save(run / "images" / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
