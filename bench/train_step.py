"""Training throughput on the CPU: the training loop against its bare step, and our step against usual code.

Three comparisons of ResNet-20 on 32x32 images in memory, alternating (A B, B A, ...):

1. The loop of `resnets.train` (shuffling, pad-crop-flip, normalisation, train step, metrics) against the bare step
   on one constant batch. Target: at least 0.92 of it.
2. Our step (channels last, fused SGD) against ResNet-20 as it is usually written: NCHW, `foreach` SGD, module names
   as torchvision's, eager, float32. Both start from the same weights, and their losses are compared before timing.
   Target: at least 1.15 times as fast.
3. Our step in bfloat16 mixed precision against float32.

    python bench/train_step.py [--batch N] [--steps N] [--rounds N] [--threads N] [--json]

It prints images per second of both sides and their ratios.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from _pairs import HEAD, Pair, compare, machine
from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.data.augment.config import AugmentConfig
from resnets.data.dataset import ImageSet
from resnets.data.loader import make_batches
from resnets.data.sources.digits import ArraySource
from resnets.nn.model import ResNet, build_model
from resnets.runtime.device import pick_amp, pick_layout
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.epoch import run_epoch
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer

LR, MOMENTUM, DECAY = 0.1, 0.9, 5e-4
CPU = torch.device("cpu")


class PlainBlock(nn.Module):
    """Basic block with an option A shortcut: 3x3, BN, ReLU, 3x3, BN, add, ReLU."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.more = outer - inner

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.more:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        return self.relu(out + x)  # type: ignore[no-any-return]


class PlainResNet20(nn.Module):
    """ResNet-20 for 32x32 images, He et al. 2015."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(*(PlainBlock(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(PlainBlock(16, 32, 2), *(PlainBlock(32, 32, 1) for _ in range(2)))
        self.layer3 = nn.Sequential(PlainBlock(32, 64, 2), *(PlainBlock(64, 64, 1) for _ in range(2)))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def our_network() -> ResNet:
    torch.manual_seed(0)
    model = build_model(get_config("resnet20_cifar"))
    return model.to(memory_format=pick_layout(model, CPU, True)).train()  # type: ignore[call-overload, no-any-return]


def our_step(batch: int, amp: torch.dtype | None = None) -> Callable[[], float]:
    """The bare step (forward, loss, backward, update) on one batch, with the settings of our loop."""
    model = our_network()
    optimizer = build_optimizer(model, OptimConfig(momentum=MOMENTUM, weight_decay=DECAY))
    for group in optimizer.param_groups:
        group["lr"] = LR
    x, y = fixed_batch(batch)
    return bare_step(model, optimizer, x.contiguous(memory_format=torch.channels_last), y, amp)


def plain_step(batch: int) -> Callable[[], float]:
    """The step of `PlainResNet20`, from the same weights."""
    model = PlainResNet20().train()
    model.load_state_dict(our_network().state_dict())
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LR, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY, foreach=True
    )
    return bare_step(model, optimizer, *fixed_batch(batch), None)


def bare_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, amp: torch.dtype | None
) -> Callable[[], float]:
    def step() -> float:
        with torch.autocast("cpu", amp, enabled=amp is not None):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), y, label_smoothing=0.1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.item()

    return step


def fixed_batch(batch: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 3, 32, 32, generator=generator), torch.randint(0, 10, (batch,), generator=generator)


def our_loop(batch: int, steps: int, amp: torch.dtype | None) -> Callable[[], int]:
    """An epoch of `steps` batches of the loop of `resnets.train`."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (batch * steps, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, batch * steps)
    split = ImageSet(source=ArraySource("noise", images), rows=np.arange(len(labels)), labels=labels)
    preprocessing = Preprocessing(size=(32, 32), crop_pct=1.0)
    augment = AugmentConfig(pad=4, pad_mode="reflect", hflip=True)
    batches = make_batches(split, preprocessing, batch_size=batch, augment=augment)
    model = our_network()
    optimizer = build_optimizer(model, OptimConfig(momentum=MOMENTUM, weight_decay=DECAY))
    train_step = TrainStep(
        model,
        optimizer,
        lambda step: LR,
        ClassificationLoss(LossConfig(label_smoothing=0.1)),
        amp=amp,
        layout=pick_layout(model, CPU, True),
    )
    epochs: Iterator[int] = iter(range(10**6))

    def epoch() -> int:
        run_epoch(train_step, batches, next(epochs))
        return batch * steps

    return epoch


def repeated(step: Callable[[], float], steps: int, batch: int) -> Callable[[], int]:
    def run() -> int:
        for _ in range(steps):
            step()
        return steps * batch

    return run


def check_same(one: Callable[[], float], other: Callable[[], float], tolerance: float) -> None:
    """Check that the losses of three steps from the same weights agree."""
    losses = [(one(), other()) for _ in range(3)]
    if any(abs(a - b) > tolerance * abs(b) for a, b in losses):
        raise SystemExit(f"both steps must compute the same; got losses {losses}")


def measure(batch: int, steps: int, rounds: int) -> dict[str, Pair]:
    """All comparisons, by name."""
    results = {}
    precisions = {"float32": None, "bfloat16": torch.bfloat16} if pick_amp("auto", CPU) else {"float32": None}
    for name, amp in precisions.items():
        bare = repeated(our_step(batch, amp), steps, batch)
        results[f"loop against bare step, {name}"] = compare(our_loop(batch, steps, amp), bare, rounds=rounds)
    ours, plain = our_step(batch), plain_step(batch)
    check_same(ours, plain, tolerance=2e-3)
    pair = compare(repeated(ours, steps, batch), repeated(plain, steps, batch), rounds=rounds)
    results["our step against plain code, float32"] = pair
    mixed, full = our_step(batch, torch.bfloat16), our_step(batch)
    check_same(mixed, full, tolerance=0.05)
    pair = compare(repeated(mixed, steps, batch), repeated(full, steps, batch), rounds=rounds)
    results["our step, bfloat16 against float32"] = pair
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10, help="steps of each turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, help="(default: all cores)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    results = measure(options.batch, options.steps, options.rounds)
    if options.json:
        pairs = {name: pair.to_dict() for name, pair in results.items()}
        print(json.dumps({"machine": machine(), "batch": options.batch, "pairs": pairs}, indent=2))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"resnet20_cifar, batch {options.batch}, images per second\n{HEAD}")
    for name, pair in results.items():
        target = 0.92 if name.startswith("loop") else 1.15 if "plain" in name else None
        print(pair.line(name, target))


if __name__ == "__main__":
    main()
