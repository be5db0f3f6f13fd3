"""The peers' side of `make parity`: builds networks of timm and torchvision in their own environment.

It reads a job per line from stdin and answers each with a line, both JSON:

    {"do": "build", "codebase": "timm", "name": "resnet50", "kwargs": {...}, "size": [64, 64], "folder": DIR}
        writes state.safetensors and io.safetensors (`x`, and `y0`, `y1`, ... for each output) into DIR
    {"do": "check", ..., "folder": DIR}
        loads DIR/state.safetensors strictly into that network, runs DIR/io.safetensors's `x` and compares with `y0`
    {"do": "list"}
        the names that each file of both codebases has

Weights, and statistics and affine terms of norms, are random: at their initial values many errors would not show.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3] / "shared" / "peers"))
with contextlib.suppress(ImportError):
    import torchvision_stub  # noqa: F401  # where torch is a CPU build
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

TIMM_FILES = ("resnet", "resnetv2", "senet", "vgg")
TORCHVISION_FILES = ("resnet", "vgg")


def names() -> dict[str, list[str]]:
    found = {f"timm {file}.py": sorted(timm.list_models(module=file)) for file in TIMM_FILES}
    for file in TORCHVISION_FILES:
        module = getattr(torchvision.models, file)
        public = [name for name in module.__all__ if name.islower() and "weights" not in name]
        found[f"torchvision {file}.py"] = sorted(public)
    return found


def create(codebase: str, name: str, kwargs: dict[str, Any]) -> nn.Module:
    if codebase == "timm":
        return timm.create_model(name, **kwargs).eval()
    return getattr(torchvision.models, name)(**kwargs).eval()


def randomise(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1 and key.endswith("weight"):
                tensor.uniform_(0.4, 0.8, generator=generator)
            elif tensor.ndim == 1:
                tensor.normal_(0, 0.1, generator=generator)
            else:
                fan = tensor[0].numel()
                tensor.normal_(0, (2 / fan) ** 0.5, generator=generator)


def run(model: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    with torch.inference_mode():
        y = model(x)
    return [one.contiguous().clone() for one in y] if isinstance(y, list | tuple) else [y.contiguous().clone()]


def build(job: dict[str, Any]) -> dict[str, Any]:
    torch.manual_seed(0)
    model = create(job["codebase"], job["name"], job["kwargs"])
    randomise(model, 1)
    chans = job["kwargs"].get("in_chans", 3)
    x = torch.randn(2, chans, *job["size"], generator=torch.Generator().manual_seed(2))
    outputs = run(model, x)
    folder = Path(job["folder"])
    state = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
    save_file(state, folder / "state.safetensors")
    save_file({"x": x} | {f"y{i}": y for i, y in enumerate(outputs)}, folder / "io.safetensors")
    return {"ok": True, "outputs": [list(y.shape) for y in outputs]}


def check(job: dict[str, Any]) -> dict[str, Any]:
    folder = Path(job["folder"])
    if job["name"].startswith("local-dir:"):
        model = timm.create_model(job["name"], pretrained=True, **job["kwargs"]).eval()
    else:
        model = create(job["codebase"], job["name"], job["kwargs"])
        model.load_state_dict(load_file(folder / "state.safetensors"), strict=True)
    values = load_file(folder / "io.safetensors")
    errors = []
    for key in [key for key in values if key.startswith("x")]:
        (y,), wanted = run(model, values[key]), values["y" + key[1:]]
        if y.shape != wanted.shape:
            return {"ok": True, "error": float("inf")}
        errors.append(float((y - wanted).abs().max() / wanted.abs().max().clamp(min=1e-6)))
    return {"ok": True, "error": max(errors)}


def main() -> None:
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr
    versions = {"timm": timm.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__}
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["do"] == "list":
                answer: dict[str, Any] = {"ok": True, "names": names(), "versions": versions}
            else:
                answer = build(job) if job["do"] == "build" else check(job)
        except Exception as error:  # the peer's refusal is an answer
            answer = {"ok": False, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
