"""Small data sets that a network learns in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}


def write_images(root: Path, counts: dict[str, int], size: int = 12, seed: int = 0) -> Path:
    """Write noisy images of one colour per class to `root/SPLIT/CLASS/NUMBER.png`."""
    rng = np.random.default_rng(seed)
    for split, count in counts.items():
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 25, (size, size, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:03d}.png")
    return root
