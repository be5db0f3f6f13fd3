"""Cost of data-parallel training: two processes that train one network against two independent ones.

Both run the training loop of `resnets.train` (ResNet-20 on 32x32 noise in memory: shuffling, pad-crop-flip, train step,
metrics) with the same number of images per process and step, one thread each, on a core each where there are two. The
data-parallel side averages gradients over gloo in every step, and its processes agree on whether to stop or to write
a checkpoint, as in a run. The sides alternate (A B, B A, ...) in the same two processes, which start each turn
together. Target: at least 0.93 of the summed throughput of the independent processes.

    python bench/ddp.py [--batch N] [--steps N] [--rounds N] [--amp bf16] [--json]

It prints images per second of both sides and their ratio; it starts torchrun itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from _pairs import HEAD, Pair, machine
from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import get_config
from resnets.data.augment.config import AugmentConfig
from resnets.data.dataset import ImageSet
from resnets.data.loader import make_batches
from resnets.data.sources.digits import ArraySource
from resnets.nn.model import build_model
from resnets.runtime.device import pick_layout
from resnets.runtime.processes import Processes, join_processes
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.epoch import run_epoch
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer

PROCESSES = 2
TARGET = 0.93
CPU = torch.device("cpu")


def loop(processes: Processes, batch: int, steps: int, amp: torch.dtype | None) -> Callable[[], int]:
    """An epoch of `steps` steps of `batch` images in this process; returns the number of images."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    count = batch * steps * processes.world_size
    images = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = generator.integers(0, 10, count)
    split = ImageSet(source=ArraySource("noise", images), rows=np.arange(count), labels=labels)
    batches = make_batches(
        split,
        Preprocessing(size=(32, 32), crop_pct=1.0),
        augment=AugmentConfig(pad=4, pad_mode="reflect", hflip=True),
        batch_size=batch * processes.world_size,
        shard=processes.shard,
    )
    model = build_model(get_config("resnet20_cifar"))
    layout = pick_layout(model, CPU, True)
    model = model.to(memory_format=layout).train()  # type: ignore[call-overload]
    train_step = TrainStep(
        model,
        build_optimizer(model, OptimConfig()),
        lambda step: 0.01,
        ClassificationLoss(LossConfig(label_smoothing=0.1)),
        network=processes.wrap_model(model),
        amp=amp,
        layout=layout,
        processes=processes,
    )
    number = 0

    def epoch() -> int:
        nonlocal number
        number += 1
        run_epoch(
            train_step,
            batches,
            number,
            after_step=lambda done: processes.any_nonblocking(False, False)[0],  # stop? checkpoint? as in a run
        )
        return batch * steps

    return epoch


def pin(local_rank: int) -> str:
    """Pin this process to its own core if there are enough."""
    if not hasattr(os, "sched_setaffinity"):
        return "cores: not pinned"
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < PROCESSES:
        return f"both processes on core {cores[0]}: the ratio covers communication, not waiting"
    os.sched_setaffinity(0, {cores[local_rank]})
    return f"one core each: {cores[0]} and {cores[1]}"


def throughput(processes: Processes, run: Callable[[], int], *, summed: bool) -> float:
    """Images per second of all processes in one turn."""
    processes.all_gather(None)  # start together
    started = time.perf_counter()
    done = run()
    turns = processes.all_gather((done, time.perf_counter() - started))
    if summed:
        return sum(images / seconds for images, seconds in turns)
    return sum(images for images, _ in turns) / max(seconds for _, seconds in turns)


def work(options: argparse.Namespace) -> None:
    """The work of each of the two processes."""
    torch.set_num_threads(1)
    amp = torch.bfloat16 if options.amp == "bf16" else None
    with join_processes("cpu") as processes:
        cores = pin(processes.local_rank)
        together = loop(processes, options.batch, options.steps, amp)
        apart = loop(Processes(), options.batch, options.steps, amp)
        together(), apart()
        speeds: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                speeds[which].append(throughput(processes, (together, apart)[which], summed=which == 1))
        if processes.is_main_process:
            report(options, cores, *speeds)


def report(options: argparse.Namespace, cores: str, together: list[float], apart: list[float]) -> None:
    """Print the medians and the ratio with its quartiles."""
    ratios = sorted(one / other for one, other in zip(together, apart, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    pair = Pair(
        statistics.median(together), statistics.median(apart), statistics.median(ratios), low, high, len(ratios)
    )
    if options.json:
        print(json.dumps({"machine": machine(), "cores": cores, "batch": options.batch, "pair": pair.to_dict()}))
        return
    print(", ".join(f"{key} {value}" for key, value in machine().items()))
    print(f"resnet20_cifar, {options.batch} images per process and step, {options.amp}; {cores}\n{HEAD}")
    print(pair.line("data-parallel (gloo) against independent", TARGET))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128, help="images per process and step")
    parser.add_argument("--steps", type=int, default=10, help="steps of each turn")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--amp", choices=["off", "bf16"], default="off")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if "WORLD_SIZE" in os.environ:
        work(options)
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    raise SystemExit(subprocess.run([*command, *sys.argv], env=environment).returncode)


if __name__ == "__main__":
    main()
