"""Variants of the CPU train step, each against our own step (alternating A B, B A, ...).

A ratio above 1 means that our step is faster than the variant. Results and conclusions: docs/performance.md.

    python bench/train_step_tries.py [VARIANT ...] [--batch N] [--steps N] [--rounds N] [--json]

It prints images per second of both and their ratio for each variant.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from _pairs import HEAD, compare, machine
from resnets.nn.model import ResNet
from resnets.train.config.options import OptimConfig
from resnets.train.optim.optimizers import build_optimizer
from train_step import DECAY, LR, MOMENTUM, bare_step, fixed_batch, our_network, our_step, repeated

Step = Callable[[], float]


def step_of(model: nn.Module, batch: int, *, layout: torch.memory_format = torch.channels_last, **sgd: bool) -> Step:
    """A step of `model`; default: our optimizer and layout."""
    groups = build_optimizer(model, OptimConfig(momentum=MOMENTUM, weight_decay=DECAY)).param_groups
    kinds = {"fused": True} | ({"fused": False} | sgd if sgd else {})
    optimizer = torch.optim.SGD(
        [{"params": group["params"], "weight_decay": group["weight_decay"]} for group in groups],
        lr=LR, momentum=MOMENTUM, nesterov=True, **kinds,
    )  # fmt: skip
    x, y = fixed_batch(batch)
    return bare_step(model, optimizer, x.contiguous(memory_format=layout), y, None)


def inside(manager: Callable[[], object], step: Step) -> Step:
    """The step within a context manager that is entered for every call."""

    def run() -> float:
        with manager():  # type: ignore[attr-defined]
            return step()

    return run


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def no_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def bfloat16_inside_convolutions() -> Iterator[None]:
    settings = torch.backends.mkldnn.conv  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def not_in_place() -> ResNet:
    model = our_network()
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = not module.inplace
    return model


def keeping_gradients(batch: int) -> Step:
    model = our_network()
    optimizer = build_optimizer(model, OptimConfig(momentum=MOMENTUM, weight_decay=DECAY))
    zero = optimizer.zero_grad
    optimizer.zero_grad = lambda set_to_none=True: zero(set_to_none=False)  # type: ignore[method-assign]
    x, y = fixed_batch(batch)
    return bare_step(model, optimizer, x.contiguous(memory_format=torch.channels_last), y, None)


VARIANTS: dict[str, Callable[[int], Step]] = {
    "NCHW": lambda n: step_of(
        our_network().to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
        n,
        layout=torch.contiguous_format,
    ),
    "NCHW images, channels-last weights": lambda n: step_of(our_network(), n, layout=torch.contiguous_format),
    "foreach SGD": lambda n: step_of(our_network(), n, foreach=True),
    "SGD, one tensor at a time": lambda n: step_of(our_network(), n, foreach=False),
    "torch.compile": lambda n: step_of(cast(nn.Module, torch.compile(our_network())), n),
    "ReLU, in-place inverted": lambda n: step_of(not_in_place(), n),
    "zero_grad(set_to_none=False)": keeping_gradients,
    "half the batch": lambda n: our_step(n // 2),
    "twice the batch": lambda n: our_step(2 * n),
    "one thread": lambda n: inside(lambda: threads(1), our_step(n)),
    "denormals flushed": lambda n: inside(no_denormals, our_step(n)),
    "bfloat16 inside convolutions (oneDNN)": lambda n: inside(bfloat16_inside_convolutions, our_step(n)),
    "bfloat16 autocast": lambda n: our_step(n, torch.bfloat16),
}
BATCHES = {"half the batch": 0.5, "twice the batch": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variants", nargs="*", help=f"(default: all): {', '.join(VARIANTS)}")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=6, help="steps of each turn")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    pairs = {}
    if not options.json:
        print(", ".join(f"{key} {value}" for key, value in machine().items()))
        print(f"resnet20_cifar, batch {options.batch}, images per second\n{HEAD}")
    for name in options.variants or VARIANTS:
        images = int(options.batch * BATCHES.get(name, 1.0))
        try:
            other = repeated(VARIANTS[name](options.batch), options.steps, images)
            pair = compare(
                repeated(our_step(options.batch), options.steps, options.batch), other, rounds=options.rounds
            )
        except Exception as error:  # such as torch.compile without a compiler: run the other variants
            reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
            print(f"{name:44}failed: {reason}", file=sys.stderr)
            continue
        pairs[name] = pair.to_dict()
        if not options.json:
            print(pair.line(name), flush=True)
    if options.json:
        print(json.dumps({"machine": machine(), "batch": options.batch, "pairs": pairs}, indent=2))


if __name__ == "__main__":
    main()
