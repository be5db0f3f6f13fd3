"""The process of `peer.py`, as a queue of jobs: the peer builds the next network while this one is compared."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Peer"]

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("PEERS", ROOT / ".venv-peers")) / "bin" / "python"  # `make peers`
STUB = ROOT.parent / "shared" / "peers"  # lets torchvision import where torch is a CPU build


class Peer:
    """A process in the peers' environment (the variable PEERS, or .venv-peers) that answers jobs in order."""

    def __init__(self) -> None:
        if not PYTHON.is_file():
            raise SystemExit(f"the comparison needs timm and torchvision; {PYTHON} is missing; run `make peers`")
        self.process = subprocess.Popen(
            [str(PYTHON), str(Path(__file__).with_name("peer.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # warnings of the libraries; errors are in the answers
            text=True,
            env={**os.environ, "PYTHONPATH": str(STUB), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )
        self.queue = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.queue.shutdown(wait=kind is None, cancel_futures=True)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def submit(self, op: str, **job: Any) -> Future[dict[str, Any]]:
        """Queue a job; its result is the answer, with the key `error` if it failed."""
        return self.queue.submit(self._ask, {"op": op, **job})

    def ask(self, op: str, **job: Any) -> dict[str, Any]:
        """Queue a job and wait for its answer."""
        return self.submit(op, **job).result()

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer's process ended at {job}")
        answer: dict[str, Any] = json.loads(line)
        return answer
