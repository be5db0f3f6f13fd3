"""The peer of `decode.py`: torchvision's path from a photograph to a batch, run in the peers' environment.

Usage: _torchvision_crop.py SIZE BATCH PATH...; it prints the peer's name, then one line per line of stdin: `epoch N`
runs an epoch and prints its seconds; `boxes FILE` crops the boxes in the JSON file (one [top, left, height, width] per
image), saves the pixels beside it as `.npy` and prints `saved`.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

with suppress(ImportError, AttributeError):  # the stub needs torchvision, which may be absent
    import torchvision_stub  # type: ignore[import-not-found]  # noqa: F401  lets torchvision import where torch is a CPU build

try:
    import torchvision  # type: ignore[import-not-found]
    from torchvision import transforms

    WHO = f"torchvision {torchvision.__version__}"
except (ImportError, RuntimeError):
    transforms = None
    WHO = "torchvision's steps, reimplemented here"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(path: str) -> Image.Image:
    """Load an image as torchvision's ImageFolder does."""
    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


def crop(image: Image.Image, box: tuple[int, int, int, int], size: int) -> Image.Image:
    """Crop (top, left, height, width) and resize to `size` pixels a side."""
    top, left, height, width = box
    return image.crop((left, top, left + width, top + height)).resize((size, size), Image.Resampling.BILINEAR)


def written_out(size: int) -> Callable[[Image.Image], Tensor]:
    """RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize on Pillow images."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))

    def box(width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = width * height * random.uniform(0.08, 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return random.randint(0, height - h), random.randint(0, width - w), h, w
        side = min(width, height)
        return (height - side) // 2, (width - side) // 2, side, side

    def transform(image: Image.Image) -> Tensor:
        image = crop(image, box(*image.size), size)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return x.sub_(mean).div_(std)

    return transform


def main() -> None:
    size, batch, paths = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    torch.set_num_threads(1)
    transform: Callable[[Any], Tensor]
    if transforms is None:
        transform = written_out(size)
    else:
        steps = [transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        transform = transforms.Compose([*steps, transforms.Normalize(MEAN, STD)])
    print(WHO, flush=True)
    for line in sys.stdin:
        command, argument = line.split(maxsplit=1)
        if command == "boxes":
            with open(argument.strip(), encoding="utf-8") as file:
                boxes = json.load(file)
            crops = [np.asarray(crop(load(path), box, size)) for path, box in zip(paths, boxes, strict=True)]
            np.save(argument.strip() + ".npy", np.stack(crops))
            print("saved", flush=True)
            continue
        random.seed(int(argument))
        torch.manual_seed(int(argument))
        start = time.perf_counter()
        for first in range(0, len(paths), batch):
            torch.stack([transform(load(path)) for path in paths[first : first + batch]])
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
