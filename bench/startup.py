"""How long `import resnets` and the verbs that need no torch take, each in a fresh process.

Every command is run in turn, round after round, so that a busy machine slows all alike; medians are printed. Bare
Python and `import torch` give the scale.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LIMIT = 0.5  # seconds for a verb, on a machine where bare Python takes some 0.02

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
    """Wall time of one fresh process."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, arguments in COMMANDS.items():
            times[name].append(seconds(arguments))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}  # the first fills the disk cache
    bare = medians["python -c pass"]
    print(f"{'median of ' + str(rounds):32}{'seconds':>9}{'beyond bare python':>20}")
    for name, median in medians.items():
        late = "  over the limit" if name.startswith("resnets") and median > LIMIT else ""
        print(f"{name:32}{median:9.3f}{median - bare:20.3f}{late}")


if __name__ == "__main__":
    main()
