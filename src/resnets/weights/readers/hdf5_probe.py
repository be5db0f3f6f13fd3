"""Trial reading of an HDF5 file in a process of its own, since damaged files crash the HDF5 library or never end in it.

This file is also that process's program: it visits the links, attributes and headers that `keras.py` reads, no data.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["probe_hdf5"]

SECONDS = 30  # the headers of ResNet-152's 1,500 tensors take 0.2
MEMORY = 2**31  # bytes of address space, in which Python and the library take 0.4 GiB
NO_LIBRARY = 77


def probe_hdf5(source: Path | bytes) -> str | None:
    """What goes wrong when the structure of a file is read; `None` if nothing does.

    Args:
        source: the file, or its content.
    """
    name, content = ("-", source) if isinstance(source, bytes) else (str(source), b"")
    single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__, name],
            input=content,
            capture_output=True,
            timeout=SECONDS,
            env={**os.environ, **single},
        )
    except subprocess.TimeoutExpired:
        return f"reading its structure takes more than {SECONDS} s"
    except OSError:  # no process can be started: the file is read without a trial
        return None
    if done.returncode in (0, NO_LIBRARY):
        return None
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return words[-1][:100] if done.returncode == 1 and words else "the HDF5 library crashes on it"


def _visit(name: str) -> None:
    try:
        import h5py
    except ImportError:
        sys.exit(NO_LIBRARY)
    import io

    with h5py.File(io.BytesIO(sys.stdin.buffer.read()) if name == "-" else name, "r") as file:
        dict(file.attrs)
        file.visititems_links(lambda name, link: None)
        file.visititems(lambda name, item: dict(item.attrs) and None)


if __name__ == "__main__":
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    except (ImportError, ValueError, OSError):  # Windows, or a lower limit
        pass
    _visit(sys.argv[1])
