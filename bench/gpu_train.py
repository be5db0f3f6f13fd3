"""Throughput of ResNet-50 train steps on a GPU: ours against torchvision and timm, random images on the device.

Each runs in a process of its own, alternating (A B C, C B A, ...), on the same GPU and batch:

- ours: the train step of `resnets.train`, channels last, bfloat16, fused SGD: eager (also with
  deterministic kernels), compiled, with CUDA graphs, and autotuned.
- torchvision: network and step of its training reference: NCHW, float16 with a gradient scaler, SGD.
- timm: channels last, mixed precision, SGD with Nesterov momentum, eager and with torch.compile.

Targets for our fastest: 2 times timm eager, 1.3 times timm compiled.

    make peers; python bench/gpu_train.py [--batch N] [--steps N] [--rounds N] [--precision fp16] [--ways TEXT] [--json]

It prints images per second and the ratios. The peers are left out where neither `make peers` nor this environment has
them, and everything without CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
if not PEERS.exists() and all(map(find_spec, ("timm", "torchvision"))):
    PEERS = Path(sys.executable)
STUB = ROOT.parent / "shared" / "peers"
TARGETS = {"timm, eager channels last": 2.0, "timm, compiled": 1.3}

# The program of a process; prints images per second. Arguments: batch, steps, precision.
TIMER = """
import sys, time, torch
batch, steps = int(sys.argv[1]), int(sys.argv[2])
kind = {"bf16": torch.bfloat16, "fp16": torch.float16}[sys.argv[3]]
torch.backends.cudnn.benchmark = True
torch.manual_seed(0)
x, y = torch.randn(batch, 3, 224, 224, device="cuda"), torch.randint(0, 1000, (batch,), device="cuda")
def timed(step):
    for _ in range(12):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    print(batch * steps / (time.perf_counter() - start))
"""
OURS = (
    TIMER
    + """
from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from resnets.runtime.device import choose_kernels
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.train_step import TrainStep
model = build_model(get_config("resnet50")).to("cuda", memory_format=torch.channels_last).train()
if {mode!r} != "off":
    model.compile(mode={mode!r})
loss = ClassificationLoss(LossConfig())
train_step = TrainStep(model, build_optimizer(model, OptimConfig()), lambda step: 0.1, loss, amp=kind)
x = x.contiguous(memory_format=torch.channels_last)
with choose_kernels(x.device, deterministic={deterministic}):
    timed(lambda: train_step(x, y))
"""
)
TORCHVISION = (
    TIMER
    + """
try:
    import torchvision_stub
except ImportError:
    pass
import torchvision
model = torchvision.models.resnet50().cuda().train()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
scaler, criterion = torch.amp.GradScaler("cuda"), torch.nn.CrossEntropyLoss()
def step():
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
timed(step)
"""
)
TIMM = (
    TIMER
    + """
try:
    import torchvision_stub
except ImportError:
    pass
import timm
model = timm.create_model("resnet50").cuda().to(memory_format=torch.channels_last).train()
run = torch.compile(model) if {compiled} else model
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
criterion, x = torch.nn.CrossEntropyLoss(), x.contiguous(memory_format=torch.channels_last)
scaler = torch.amp.GradScaler("cuda", enabled=kind == torch.float16)
def step():
    with torch.autocast("cuda", kind):
        loss = criterion(run(x), y)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
timed(step)
"""
)


def ours(mode: str, *, deterministic: bool = False) -> str:
    """The program of our step with a mode of `torch.compile`."""
    return OURS.replace("{mode!r}", repr(mode)).replace("{deterministic}", repr(deterministic))


WAYS = {
    "ours, autotuned": (sys.executable, ours("max-autotune")),
    "ours, CUDA graphs": (sys.executable, ours("reduce-overhead")),
    "ours, compiled": (sys.executable, ours("default")),
    "ours, eager": (sys.executable, ours("off")),
    "ours, deterministic": (sys.executable, ours("off", deterministic=True)),
    "torchvision's reference": (str(PEERS), TORCHVISION),
    "timm, eager channels last": (str(PEERS), TIMM.replace("{compiled}", "False")),
    "timm, compiled": (str(PEERS), TIMM.replace("{compiled}", "True")),
}


def throughput(python: str, program: str, batch: int, steps: int, precision: str) -> float:
    """Images per second of one process; if it fails, NaN and the reason on stderr."""
    paths = os.pathsep.join(filter(None, (str(STUB) if python == str(PEERS) else "", os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [python, "-c", program, str(batch), str(steps), precision],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1:], file=sys.stderr)
        return float("nan")
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("bf16", "fp16"), default="bf16")
    parser.add_argument("--ways", default="", help="only those whose name contains this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("skipped: this benchmark needs a CUDA GPU; torch finds none")
        return
    ways = {name: way for name, way in WAYS.items() if Path(way[0]).exists() and options.ways in name}
    if not PEERS.exists():
        print(f"note: without the peers, as {PEERS} does not exist; run make peers", file=sys.stderr)
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.rounds):
        for name in list(ways) if turn % 2 == 0 else reversed(list(ways)):
            speeds[name].append(throughput(*ways[name], options.batch, options.steps, options.precision))
            print(f"round {turn + 1}, {name}: {speeds[name][-1]:.0f} images/s", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max((value for name, value in medians.items() if name.startswith("ours")), default=float("nan"))
    gpu = torch.cuda.get_device_name()
    if options.json:
        print(json.dumps({"gpu": gpu, "batch": options.batch, "images_per_second": medians}, indent=2))
        return
    print(f"ResNet-50, 224 pixels, batch {options.batch}, {options.precision}, {gpu}, torch {torch.__version__}")
    for name, value in medians.items():
        target = TARGETS.get(name)
        met = "" if target is None else f"  (target {target:g}: {'met' if best / value >= target else 'MISSED'})"
        print(f"{name:28}{value:9.0f} images/s   our best: {best / value:5.2f} times{met}")


if __name__ == "__main__":
    main()
