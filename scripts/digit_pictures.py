"""Saves a few held-out digits as PNG files, for `resnets predict`: scripts/digit_pictures.py FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from resnets.data.sources import open_dataset


def main(folder: Path, count: int = 5) -> None:
    """One picture of each of the first `count` classes, from the split that training does not see."""
    dataset = open_dataset("digits")
    held_out = dataset.splits["val"]
    folder.mkdir(parents=True, exist_ok=True)
    for label in range(count):
        index = int((held_out.labels == label).argmax())
        pixels = held_out.image(index, "L")[:, :, 0]
        Image.fromarray(pixels).save(folder / f"a_{dataset.classes[label]}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
