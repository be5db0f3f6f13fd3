"""Writes `golden.json` anew: `python -m tests.arch.regenerate`. Read the difference before committing it."""

from __future__ import annotations

import json
from pathlib import Path

from resnets.arch.describe import describe
from resnets.arch.variants import VARIANTS

GOLDEN = Path(__file__).with_name("golden.json")


def rows() -> dict[str, dict[str, int]]:
    """Parameters and MACs of every variant, at the size that it is meant for."""
    tables = {name: describe(name) for name in VARIANTS}
    return {
        name: {"img_size": table.config.img_size, "params": table.params, "macs": table.macs}
        for name, table in tables.items()
    }


if __name__ == "__main__":
    lines = (f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows().items())
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"wrote {GOLDEN}")
