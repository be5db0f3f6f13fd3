"""Loading a ResNet-152 file with `import_weights`, compared with a lower bound and with timm.

Lower bound: `safetensors.torch.load_file` or `torch.load`, plus construction of the module on the meta device. Beyond
that, `import_weights` detects dialect and network, maps and checks every tensor, and reports. timm: `create_model`,
which draws initial weights, then `load_state_dict`. The file is in the page cache. Each pair runs in turn, A B B A, and
the ratio is taken pair by pair. Tensors are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from resnets.arch.variants import get_config
from resnets.nn.model import build_model
from resnets.weights.load import import_weights

LIMIT = 1.5
NAME = "resnet152"
ROOT = Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"  # `make peers`
STUB = ROOT.parent / "shared" / "peers"  # lets torchvision import where torch is a CPU build

# Program of the peer's process: prints the seconds of each round. Arguments: the file, the number of rounds.
TIMM = """
import sys, time, torch
try:
    import torchvision_stub
except ImportError:
    pass
import timm
from safetensors.torch import load_file
torch.set_num_threads(1)
for _ in range(int(sys.argv[2]) + 1):
    start = time.perf_counter()
    model = timm.create_model("resnet152")
    path = sys.argv[1]
    model.load_state_dict(load_file(path) if path.endswith("s") else torch.load(path, weights_only=True))
    print(time.perf_counter() - start)
"""


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(ours: Callable[[], object], other: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median ratio of ours / other."""
    pairs = []
    for index in range(rounds + 1):
        first, second = (ours, other) if index % 2 else (other, ours)
        times = seconds(first), seconds(second)
        pairs.append(times if index % 2 else times[::-1])
    pairs = pairs[1:]  # the first fills caches
    mine, theirs = zip(*pairs, strict=True)
    return statistics.median(mine), statistics.median(theirs), statistics.median(a / b for a, b in pairs)


def timm_seconds(path: Path, rounds: int) -> float | None:
    """Median seconds of timm in the peers' environment; `None` where there is none."""
    if not PEERS.is_file():
        return None
    command = [str(PEERS), "-c", TIMM, str(path), str(rounds)]
    environment = {**os.environ, "PYTHONPATH": str(STUB)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        return None
    return statistics.median([float(line) for line in done.stdout.split()][1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    config = get_config(NAME)
    torch.manual_seed(0)
    state = build_model(config).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        safe, torch_file = Path(folder) / "w.safetensors", Path(folder) / "w.pth"
        save_file(state, safe)
        torch.save(state, torch_file)
        raw: dict[Path, Callable[[], dict[str, torch.Tensor]]] = {
            safe: lambda: load_file(safe),
            torch_file: lambda: torch.load(torch_file, weights_only=True),
        }
        for path in raw:
            model, report = import_weights(path)
            assert (report.variant, report.filled) == (NAME, 1), report
            assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
        print(f"{'loading ' + NAME + ', median of ' + str(rounds):40}{'ours, s':>9}{'other, s':>10}{'ratio':>8}")
        for path, load in raw.items():
            mine, theirs, ratio = compare(
                lambda path=path: import_weights(path),  # type: ignore[misc]
                lambda load=load: (load(), build_model(config, init=False)),  # type: ignore[misc]
                rounds,
            )
            verdict = "" if ratio < LIMIT else f"  over the limit of {LIMIT}"
            print(
                f"{path.suffix + ': loaded, and the module on meta':40}{mine:9.3f}{theirs:10.3f}{ratio:8.2f}{verdict}"
            )
        for path in raw:
            mine = statistics.median(seconds(lambda path=path: import_weights(path)) for _ in range(rounds))  # type: ignore[misc]
            peer = timm_seconds(path, rounds)
            if peer is None:
                print(f"{path.suffix + ': created, then loaded, as timm':40}{mine:9.3f}{'no .venv-peers':>18}")
            else:
                print(f"{path.suffix + ': created, then loaded, as timm':40}{mine:9.3f}{peer:10.3f}{mine / peer:8.2f}")
        ours = lambda: import_weights(safe)  # noqa: E731
        drawn = lambda: build_model(config).load_state_dict(load_file(safe))  # noqa: E731
        mine, theirs, ratio = compare(ours, drawn, max(rounds // 5, 1))
        print(f"{'.safetensors: created, then loaded, ours':40}{mine:9.3f}{theirs:10.3f}{ratio:8.2f}")


if __name__ == "__main__":
    main()
