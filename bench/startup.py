"""Start-up time of `import resnets` and of the commands that need no torch, each in a new process.

The commands run alternately, so that a busy machine affects all alike. Bare Python and `import torch` are run for
comparison. Target: at most 0.5 s per command.

    python bench/startup.py [--rounds N]

It prints the median seconds of each, in total and beyond bare Python.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LIMIT = 0.5  # seconds for a command, on a machine where bare Python takes about 0.02

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import resnets": ["-c", "import resnets"],
    "resnets --help": ["-m", "resnets", "--help"],
    "resnets models": ["-m", "resnets", "models"],
    "resnets info resnet50": ["-m", "resnets", "info", "resnet50"],
    "resnets info resnet1202_cifar": ["-m", "resnets", "info", "resnet1202_cifar"],
    "import torch": ["-c", "import torch"],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one new process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first fills the disk cache
    bare = medians["python -c pass"]
    print(f"{f'median of {rounds} rounds':32}{'seconds':>9}{'beyond bare python':>20}")
    for name, median in medians.items():
        late = "  over the limit" if name.startswith("resnets") and median > LIMIT else ""
        print(f"{name:32}{median:9.3f}{median - bare:20.3f}{late}")


if __name__ == "__main__":
    main()
