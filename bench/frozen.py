"""Training a frozen ResNet-50 on cached features against recomputing the frozen layers, on 224x224 photographs.

The baseline is the usual code: `requires_grad` off for the frozen layers, their batch norms in evaluation mode; every
epoch decodes and crops each image, runs the whole network and computes the gradient of the trained layers. Ours runs
each image through the frozen layers once per view, caches the features, and trains on them. Both read the same
batches from the same loader in the same precision, memory layout and optimiser; only the cache differs. With as many
views as epochs both would compute the same numbers; one view is measured here.

1. An epoch on the filled cache against a baseline epoch (alternating A B, B A, ...). Target with all but the
   classifier frozen: 20 times as many images per second.
2. A whole run of `--epochs` with one view: half of the baseline epochs, then ours with filling the cache, then the
   other half. Target: 6 times as fast.
3. Both again with stem to layer3 frozen, so that layer4 and the classifier train: no target.

Reading batches and train steps are timed. A run of `resnets train` also validates (on cached features, too), hashes
the frozen tensors and writes models and a checkpoint after each epoch, on either side alike; that is excluded. The
weights are untrained: only speed is measured; equal accuracy is tested elsewhere. Before timing, the losses of both
sides are compared.

    python bench/frozen.py [--model NAME] [--images N] [--epochs N] [--rounds N] [--json]

It prints images per second, seconds of a run and ratios. Data: `imagenette` in the folder RESNETS_DATA (default:
../shared/data).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from _pairs import HEAD, Pair, compare, machine
from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.data.augment.config import AugmentConfig
from resnets.data.dataset import ImageSet
from resnets.data.loader import Batches, make_batches
from resnets.data.open import open_dataset
from resnets.data.sampler import TrainSampler
from resnets.nn.model import Network, build_model
from resnets.nn.split import split_at
from resnets.runtime.device import pick_amp, pick_layout
from resnets.train.freeze.feature_cache import CachedFeatureBatches, CacheLimits, FeatureCache, fill_cache
from resnets.train.freeze.frozen_part import FrozenPart, apply_phase
from resnets.train.freeze.phases import Phase

DATA = Path(os.environ.get("RESNETS_DATA") or Path(__file__).parents[2] / "shared" / "data") / "imagenette"
TARGETS = {"epoch": 20.0, "run": 6.0}
SEED = 0
CPU = torch.device("cpu")


@dataclass(frozen=True)
class RunTimes:
    """Seconds of a whole run of both sides."""

    plain: float
    fill: float
    cached: float

    @property
    def ratio(self) -> float:
        """Speed-up of the run on the cache, including filling it."""
        return self.plain / (self.fill + self.cached)


@dataclass(frozen=True)
class Setting:
    """What both sides share: images, preprocessing, batch size, precision and model."""

    images: ImageSet
    preprocessing: Preprocessing
    batch: int
    workers: int
    amp: torch.dtype | None
    model: str


class Side:
    """One side: a network frozen up to `cut`, its batches and the function that computes logits from them."""

    def __init__(self, setting: Setting, cut: str) -> None:
        torch.manual_seed(SEED)
        self.setting, self.cut = setting, cut
        model = build_model(get_config(setting.model, num_classes=10))
        assert isinstance(model, Network)
        self.layout = pick_layout(model, CPU, True)
        self.model = model.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.frozen: FrozenPart = apply_phase(self.model, Phase(epochs=1, freeze=cut))
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.SGD(trained, 0.01, momentum=0.9, weight_decay=1e-4, nesterov=True, fused=True)
        self.images = make_batches(
            setting.images,
            setting.preprocessing,
            batch_size=setting.batch,
            augment=AugmentConfig(scale=(0.25, 1.0), hflip=True),
            seed=SEED,
            workers=setting.workers,
        )
        self.batches: Batches = self.images
        self.forward: Callable[[Tensor], Tensor] = self.model

    def use_cache(self) -> None:
        """Fill a cache of one view and train on it from here on."""
        prefix, self.forward = split_at(self.model, self.cut)
        amp = self.setting.amp
        cache = FeatureCache(
            1,
            len(self.setting.images),
            prefix.output_shape(self.setting.preprocessing.size),
            limits=CacheLimits(memory_bytes=2 * 2**30),
            dtype=amp or torch.float32,
        )
        fill_cache(cache, prefix, self.images, amp=amp, layout=self.layout)
        labels = self.setting.images.labels
        self.batches = CachedFeatureBatches(cache, labels, TrainSampler(labels, self.setting.batch, SEED))

    def step(self, x: Tensor, y: Tensor) -> float:
        """One train step; returns the loss."""
        if x.ndim == 4:
            x = x.contiguous(memory_format=self.layout)
        with torch.autocast("cpu", self.setting.amp, enabled=self.setting.amp is not None):
            logits = self.forward(x)
        loss = F.cross_entropy(logits.float(), y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.item()

    def epoch(self, number: int) -> int:
        """One epoch; returns the number of images."""
        self.frozen.train_mode()
        seen = 0
        for x, y, _ in self.batches.epoch(number):
            self.step(x, y)
            seen += len(y)
        return seen


def measure(setting: Setting, cut: str, rounds: int, epochs: int) -> tuple[Pair, RunTimes]:
    """Both comparisons with the network frozen up to `cut`."""
    check_same(setting, cut)
    numbers: Iterator[int] = iter(range(10**9))
    plain, cached = Side(setting, cut), Side(setting, cut)
    cached.use_cache()
    pair = compare(lambda: cached.epoch(next(numbers)), lambda: plain.epoch(next(numbers)), rounds=rounds)

    def seconds(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def run(side: Side, wanted: range) -> None:
        for number in wanted:
            side.epoch(number)

    ours = Side(setting, cut)
    before = seconds(lambda: run(plain, range(epochs // 2)))
    fill = seconds(ours.use_cache)
    train = seconds(lambda: run(ours, range(epochs)))
    after = seconds(lambda: run(plain, range(epochs // 2, epochs)))
    return pair, RunTimes(before + after, fill, train)


def check_same(setting: Setting, cut: str) -> None:
    """Check that the first epoch on the cache, filled with its augmented images, has the losses of the baseline."""
    few = Setting(
        setting.images.subset(range(min(2 * setting.batch, len(setting.images)))),
        setting.preprocessing,
        setting.batch,
        0,
        setting.amp,
        setting.model,
    )
    plain, cached = Side(few, cut), Side(few, cut)
    cached.use_cache()
    losses: list[list[float]] = []
    for side in (plain, cached):
        side.frozen.train_mode()
        losses.append([side.step(x, y) for x, y, _ in side.batches.epoch(0)])
    if any(abs(a - b) > 1e-3 * abs(a) for a, b in zip(*losses, strict=True)):
        raise SystemExit(f"both sides must compute the same; got losses {losses}")


def spread(images: ImageSet, count: int | None) -> ImageSet:
    """`count` images spread over all classes; `None` for all."""
    if count is None or count >= len(images):
        return images
    return images.subset([index * len(images) // count for index in range(count)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--images", type=int, help="(default: all of the training split, 600)")
    parser.add_argument("--size", type=int, default=224, help="image size in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10, help="epochs of the whole run")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of epochs")
    parser.add_argument("--freeze", nargs="+", default=["backbone", "layer3"], help="freeze up to here")
    parser.add_argument("--amp", choices=["auto", "bf16", "off"], default="auto", help="of both sides")
    parser.add_argument("--workers", type=int, default=0, help="decoding processes of both sides")
    parser.add_argument("--threads", type=int, help="(default: all cores)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not DATA.is_dir():
        print(f"skipped: {DATA} does not exist; set RESNETS_DATA", file=sys.stderr)
        return
    if options.threads:
        torch.set_num_threads(options.threads)
    setting = Setting(
        spread(open_dataset(DATA).splits["train"], options.images),
        Preprocessing(size=(options.size, options.size)),
        options.batch,
        options.workers,
        pick_amp(options.amp, CPU),
        options.model,
    )
    results = {cut: measure(setting, cut, options.rounds, options.epochs) for cut in options.freeze}
    facts = machine() | {
        "images": len(setting.images),
        "precision": str(setting.amp or torch.float32).removeprefix("torch."),
        "epochs": options.epochs,
    }
    if options.json:
        pairs = {
            cut: {"epoch": pair.to_dict(), "run": asdict(whole) | {"ratio": whole.ratio}}
            for cut, (pair, whole) in results.items()
        }
        print(json.dumps({"machine": facts, "frozen_up_to": pairs}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{options.model}, {options.size} pixels, batch {options.batch}, untrained weights\n")
    print(f"images per second, an epoch on the filled cache\n{HEAD}")
    for cut, (pair, _) in results.items():
        print(pair.line(f"frozen up to {cut}", TARGETS["epoch"] if cut == "backbone" else None))
    print(
        f"\nseconds of a run of {options.epochs} epochs, one view\n{'':44}{'plain':>9}{'fill':>9}{'cached':>9}  ratio"
    )
    for cut, (_, whole) in results.items():
        target = TARGETS["run"]
        verdict = f"  (target {target:g}: {'met' if whole.ratio >= target else 'MISSED'})" if cut == "backbone" else ""
        row = f"{whole.plain:9.1f}{whole.fill:9.1f}{whole.cached:9.2f}{whole.ratio:7.2f}"
        print(f"{f'frozen up to {cut}':44}{row}{verdict}")


if __name__ == "__main__":
    main()
