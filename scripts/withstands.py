"""Write docs/withstands.md: hostile inputs and faults, with what the command did, its time and its memory.

    python scripts/withstands.py [TEXT]     only cases whose description contains TEXT, printed and not written

Each command runs in a process group of its own in an empty folder, with 8 GiB of address space and a minute of time. It
fails if its exit code or message is not the expected one, or if it hangs, prints a traceback or an escape sequence. The
file `attacked`, which a hostile pickle would make, must not exist.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from withstands_cases import CASES, Case

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "withstands.md"
ADDRESS_SPACE = 8 * 2**30
SECONDS = 60.0

HEAD = """\
# What it withstands

Inputs made to do harm, and faults while a command runs. Each row is a command that was run with 8 GiB of address space
and a minute of time; `python scripts/withstands.py` runs all of them and writes this page. Time and memory include the
start of Python and torch: about 2 seconds and 250 MiB. Errors are shown as they are printed, on one line.

"""


@dataclass(frozen=True)
class Outcome:
    """What a command did; `fault` says what is wrong with that, or is empty."""

    case: Case
    code: int | None
    last: str
    seconds: float
    mib: int
    fault: str


def limits() -> None:
    """Limits of the child process."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


def run(case: Case) -> Outcome:
    """Make the files of a case in a new folder and run its command there."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.getcwd()
        os.chdir(folder)
        try:
            case.make()
        finally:
            os.chdir(before)
        paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        environment = os.environ | {"PATH": paths, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}
        started = time.perf_counter()
        with open(Path(folder) / ".stderr", "w+b") as errors:
            process = subprocess.Popen(
                ["bash", "-c", case.command], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True, preexec_fn=limits,
            )  # fmt: skip
            code, used = wait(process, started + SECONDS)
            seconds = time.perf_counter() - started
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        attacked = (Path(folder) / "attacked").exists()
    last = next((line for line in reversed(lines) if line.startswith("error")), lines[-1] if lines else "")
    fault = ""
    if code is None:
        fault = f"ran longer than {SECONDS:.0f} s"
    elif attacked:
        fault = "the file ran a command"
    elif any("Traceback" in line for line in lines):
        fault = "printed a traceback"
    elif code != case.code:
        fault = f"exit code {code}, not {case.code}"
    elif case.says and not re.search(case.says, last):
        fault = f"does not say {case.says!r}"
    elif any("\x1b" in line for line in lines):
        fault = "printed an escape sequence"
    return Outcome(case, code, last.replace(folder + "/", ""), seconds, used, fault)


def wait(process: subprocess.Popen[bytes], until: float) -> tuple[int | None, int]:
    """Exit code, `None` if it had to be killed, and the peak resident memory in MiB of it and its children."""
    while time.perf_counter() < until:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_maxrss // 1024
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = -signal.SIGKILL
    return None, used.ru_maxrss // 1024


def page(outcomes: list[Outcome]) -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for group in dict.fromkeys(outcome.case.group for outcome in outcomes):
        parts.append(f"## {group}\n\n| input or fault | exit code | last line | s | MiB |\n|---|---:|---|---:|---:|\n")
        for one in outcomes:
            if one.case.group == group:
                said = f"`{one.last.replace('|', '/')}`" if one.case.says else "succeeds"
                parts.append(f"| {one.case.what} | {one.code} | {said} | {one.seconds:.1f} | {one.mib:,} |\n")
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    outcomes = []
    for case in CASES:
        if wanted in case.what:
            outcomes.append(run(case))
            one = outcomes[-1]
            print(
                f"{one.seconds:5.1f} s {one.mib:6,} MiB  {case.what}: {one.fault or 'ok'}\n    {one.last}", flush=True
            )
    faults = [one for one in outcomes if one.fault]
    print(f"{len(outcomes)} cases, {len(faults)} faults")
    if not wanted and not faults:
        PAGE.write_text(page(outcomes), encoding="utf-8")
        print(f"wrote {PAGE}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
