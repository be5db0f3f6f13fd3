"""Every ResNet and VGG of timm and torchvision, against what this library reads from its weights.

    python scripts/parity/networks.py [--only PATTERN] [--axes NAME ...] [--write]

Each network is built by its codebase with random weights (`peer.py`, in .venv-peers: `make peers`), and its weights are
read here in three ways: by name, as a model folder, and detected from the keys alone. The outputs on random images of
64 x 64 and of odd size are compared. `--write` writes docs/data/parity.json, from which the documentation makes its
table, and exits with 1 if any output differs without an error.

| outcome | meaning |
|---|---|
| exact | all outputs within 1e-5 of the largest value |
| refused | an error of ours that names the reason |
| peer | the codebase itself does not build or run this |
| assumed | detected from keys alone, differs, and the report lists the fields that it assumed |
| WRONG | differs without an error |
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import resnets
from resnets.errors import ResnetsError
from resnets.weights.dialects import timm_networks, torchvision_networks

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "docs" / "data" / "parity.json"
SIZE = [64, 64]
TOLERANCE = 1e-5
POOLS = ("max", "avgmax", "catavgmax", "fastavg", "")

# axis -> (options of the peer, options of ours or None where the file tells)
AXES: dict[str, dict[str, dict[str, Any]]] = {
    "timm": {
        "plain": {},
        "odd size": {},
        "num_classes=7": {"num_classes": 7},
        "num_classes=0": {"num_classes": 0},
        "in_chans=1": {"in_chans": 1},
        "in_chans=5": {"in_chans": 5},
        "features_only": {"features_only": True},
        "features, no last": {"features_only": True, "out_indices": [0, 1, 2, 3]},
        "output_stride=16": {"output_stride": 16},
        "output_stride=8": {"output_stride": 8},
        **{f"global_pool={pool or 'none'}": {"global_pool": pool} for pool in POOLS},
    },
    "torchvision": {
        "plain": {},
        "odd size": {},
        "num_classes=7": {"num_classes": 7},
        "dilation 16": {"replace_stride_with_dilation": [False, False, True]},
        "dilation 8": {"replace_stride_with_dilation": [False, True, True]},
    },
}
FROM_TENSORS = ("num_classes", "in_chans", "features_only", "out_indices")


class Peer:
    """The process of `peer.py`."""

    def __init__(self) -> None:
        python = ROOT / ".venv-peers" / "bin" / "python"
        if not python.exists():
            raise SystemExit(f"{python} does not exist; run `make peers` first")
        script = Path(__file__).with_name("peer.py")
        self._process = subprocess.Popen([python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **job: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the peers' process ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def difference(model: torch.nn.Module, folder: Path) -> float:
    """The largest difference of an output, relative to its largest value."""
    values = load_file(folder / "io.safetensors")
    wanted = [values[f"y{i}"] for i in range(len(values) - 1)]
    with torch.inference_mode():
        found = model(values["x"])
    found = found if isinstance(found, list) else [found]
    if [tuple(y.shape) for y in found] != [tuple(y.shape) for y in wanted]:
        return float("inf")
    pairs = zip(found, wanted, strict=True)
    return max(float((y - w).abs().max() / w.abs().max().clamp(min=1e-6)) for y, w in pairs)


def by_name(codebase: str, name: str, kwargs: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    """Read the weights with the network's name and the options that the peer was given."""
    options = {key: value for key, value in kwargs.items() if key not in FROM_TENSORS}
    dialect = "cadene" if name.startswith("legacy_") else codebase
    if kwargs.get("num_classes") == 0:
        options["num_classes"] = 0
    if kwargs.get("features_only"):
        options |= {key: kwargs[key] for key in ("features_only", "out_indices") if key in kwargs}
    model, report = resnets.import_weights(folder / "state.safetensors", dialect=dialect, variant=name, **options)
    return model, report.assumed


def by_folder(codebase: str, name: str, kwargs: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    """Read a model folder as timm writes it."""
    config = {
        "architecture": name,
        "num_classes": kwargs.get("num_classes", 1000),
        "model_args": {key: value for key, value in kwargs.items() if key not in ("num_classes", "in_chans")},
        "pretrained_cfg": {"input_size": [kwargs.get("in_chans", 3), *SIZE]},
    }
    shutil.copy(folder / "state.safetensors", folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return resnets.load(folder).model, {}


def from_keys(codebase: str, name: str, kwargs: dict[str, Any], folder: Path) -> tuple[Any, dict[str, Any]]:
    """Read the weights alone."""
    options = {key: kwargs[key] for key in ("features_only", "out_indices") if key in kwargs}
    model, report = resnets.import_weights(folder / "state.safetensors", **options)
    return model, report.assumed


def outcome(reader: Any, codebase: str, name: str, kwargs: dict[str, Any], folder: Path) -> str:
    try:
        model, assumed = reader(codebase, name, kwargs, folder)
        error = difference(model, folder)
    except ResnetsError as problem:
        return f"refused: {' '.join(str(problem).split(str(folder)))}"
    if error <= TOLERANCE:
        return "exact"
    if reader is from_keys and assumed:
        return f"assumed: {', '.join(f'{key}={value!r}' for key, value in assumed.items())}"
    return f"WRONG: {error:.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="pattern of names")
    parser.add_argument("--axes", nargs="+", help="some of the axes")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    peer, rows, wrong = Peer(), dict[str, dict[str, dict[str, str]]](), 0
    listed = peer.ask(do="list")
    for file, names in listed["names"].items():
        codebase = file.partition(" ")[0]
        readers = {"name": by_name, "keys": from_keys} | ({"folder": by_folder} if codebase == "timm" else {})
        for name in names:
            if not fnmatch(name, arguments.only):
                continue
            cells: dict[str, dict[str, str]] = {}
            for axis, kwargs in AXES[codebase].items():
                if arguments.axes and axis not in arguments.axes:
                    continue
                with tempfile.TemporaryDirectory() as temporary:
                    folder = Path(temporary)
                    size = [75, 97] if axis == "odd size" else SIZE
                    answer = peer.ask(
                        do="build", codebase=codebase, name=name, kwargs=kwargs, size=size, folder=temporary
                    )
                    if not answer["ok"]:
                        cells[axis] = {"peer": answer["error"]}
                        continue
                    cells[axis] = {
                        how: outcome(reader, codebase, name, kwargs, folder) for how, reader in readers.items()
                    }
                for how, result in cells[axis].items():
                    wrong += result.startswith("WRONG")
                    if not result.startswith("exact") and not arguments.write:
                        print(f"{file} {name} [{axis}] {how}: {result[:230]}", flush=True)
            rows.setdefault(file, {})[name] = cells
            print(f"{file} {name} done", file=sys.stderr, flush=True)
    if arguments.write:
        TABLE.parent.mkdir(exist_ok=True)
        document = {"versions": listed["versions"], "date": date.today().isoformat(), "rows": rows}
        TABLE.write_text(json.dumps(document, indent=1) + "\n")
    known = {*timm_networks.NETWORKS, *timm_networks.UNSUPPORTED, *torchvision_networks.NETWORKS}
    unknown = [name for names in listed["names"].values() for name in names if name not in known]
    print(f"{wrong} outputs differ without an error; names without a row in our tables: {unknown or 'none'}")
    return 1 if wrong or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
