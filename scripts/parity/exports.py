"""Random networks of ours, written for timm and torchvision and opened there with the call that `convert` prints.

    python scripts/parity/exports.py [--count N] [--seed N]

Each network is written as a weights file of either codebase, and as model folders of ours and of timm. Either it is
refused, or the codebase opens it strictly and computes the same, at 64 x 64 pixels and at an odd size. Exits with 1 if
one computes something else.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from networks import TOLERANCE, Peer
from safetensors.torch import save_file

import resnets
from resnets.arch.config import ResNetConfig
from resnets.errors import ResnetsError
from resnets.nn.model import build_model
from resnets.weights.dialects import get_dialect, timm_networks
from resnets.weights.export import foreign_tensors
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.folder.timm_folder import save_timm_folder
from resnets.weights.target import target_call

SIZES = ((64, 64), (75, 97))
BASES = (
    "resnet18", "resnet34", "resnet50", "wide_resnet50_2", "resnet18d", "resnet10t", "resnet14t", "resnet26", "resnext50_32x4d", "seresnet18", "resnetblur18",
    "resnetaa50", "ecaresnetlight", "resnetv2_18", "resnetv2_18d", "legacy_seresnet18", "resnetrs50", "resnet50_gn",
)  # fmt: skip
VALUES: dict[str, tuple[Any, ...]] = {
    "depths": ((1, 1, 1, 1), (1, 2, 1, 1), (1, 1, 1)),
    "widths": ((64, 128, 256, 512), (32, 64, 64, 96), (64, 64, 64)),
    "stride_in": ("1x1",),
    "stride_unit": ("last",),
    "stem": ("3x3", "deep"),
    "stem_act": (False,),
    "stem_pool": ("max_same", "max_zero", "max_ceil", "max_valid", "max2", "none", "avg2", "conv"),
    "antialias": (True,),
    "shortcut": ("A", "C", "D", "first", "subsample"),
    "shortcut_norm": (False,),
    "conv_bias": ("all",),
    "padding": ("same",),
    "attention": ("se", "eca", "cbam"),
    "attention_reduction": (8,),
    "ibn": (("a", "a", "a", ""),),
    "norm": ("group", "frozen_batch"),
    "norm_eps": (1e-3,),
    "act": ("silu", "leaky_relu", "hard_swish", "gelu"),
    "branch_act": (True,),
    "output_stride": (16, 8),
    "dilation_rule": ("detectron",),
    "last_stride": (1,),
    "global_pool": ("max", "avgmax", "catavgmax", "gem", "none"),
    "num_classes": (7, 0),
    "in_chans": (1, 5),
    "groups": (2,),
    "group_width": (32,),
    "kernel": (5,),
    "standardised": (True,),
    "reduce_first": (2,),
}


def random_config(draw: random.Random) -> ResNetConfig | None:
    """A network of timm's with up to three fields changed; None where they contradict each other."""
    base = timm_networks.NETWORKS[draw.choice(BASES)]
    assert isinstance(base, ResNetConfig)
    names = draw.sample(sorted(VALUES), draw.choice((0, 1, 1, 2, 3)))
    small = {"depths": (1,) * 4} if draw.random() < 0.5 and "depths" not in names else {}
    try:
        return base.with_overrides(**small, **{name: draw.choice(VALUES[name]) for name in names})
    except ResnetsError:
        return None


def filled(config: ResNetConfig) -> Any:
    model = build_model(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var") or (tensor.ndim == 1 and key.endswith("weight")):
                tensor.uniform_(0.5, 1.0, generator=generator)
            elif tensor.is_floating_point() and tensor.ndim == 1 and not key.endswith(".p"):
                tensor.normal_(0, 0.1, generator=generator)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, peer, counts, wrong = random.Random(arguments.seed), Peer(), Counter[str](), 0
    done = 0
    while done < arguments.count:
        config = random_config(draw)
        if config is None:
            continue
        try:
            model = filled(config)
        except ResnetsError:
            continue
        inputs, outputs = [], []
        for size in SIZES:
            x = torch.randn(2, config.in_chans, *size, generator=torch.Generator().manual_seed(1))
            # timm's average filter rounds down: at odd sizes neither network runs.
            with torch.inference_mode(), contextlib.suppress(RuntimeError):
                outputs.append(model(x))
                inputs.append(x)
        done += 1
        for kind in ("timm", "torchvision", "our folder", "timm folder"):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                pairs = {f"x{i}": x for i, x in enumerate(inputs)} | {f"y{i}": y for i, y in enumerate(outputs)}
                save_file({key: value.contiguous() for key, value in pairs.items()}, folder / "io.safetensors")
                answer, told = _open(kind, model, config, folder, peer)
            if answer is None:
                counts[f"{kind}: refused by us"] += 1
            elif not answer["ok"]:
                counts[f"{kind}: refused by the codebase"] += 1
                if kind != "our folder":
                    print(f"{kind} refuses {told}: {answer['error']}", flush=True)
                    wrong += 1
            elif answer["error"] <= TOLERANCE:
                counts[f"{kind}: exact"] += 1
            else:
                counts[f"{kind}: WRONG"] += 1
                wrong += 1
                print(f"{kind} differs by {answer['error']:.1e}: {told}; {config}", flush=True)
    for name, count in sorted(counts.items()):
        print(f"{name}: {count}")
    return 1 if wrong else 0


def _open(kind: str, model: Any, config: ResNetConfig, folder: Path, peer: Peer) -> tuple[dict[str, Any] | None, str]:
    """What the codebase says of a network that was written for it; None where it was refused here."""
    if kind in ("timm", "torchvision"):
        try:
            save_file(foreign_tensors(model, kind), folder / "state.safetensors")
            call = target_call(config, get_dialect(kind))
        except ResnetsError:
            return None, ""
        if call.positional or call.after:  # statements that the peer's side does not run
            return None, ""
        answer = peer.ask(do="check", codebase=kind, name=call.architecture, kwargs=call.arguments, folder=str(folder))
        return answer, call.call
    channels: Any = "RGB" if config.in_chans == 3 else "L" if config.in_chans == 1 else config.in_chans
    half = (0.5,) * config.in_chans
    preprocessing = resnets.Preprocessing(size=(64, 64), channels=channels, mean=half, std=half)
    classes = tuple(map(str, range(config.num_classes)))
    bundle = Bundle(model=model, preprocessing=preprocessing, classes=classes, name="resnet18")
    try:
        (save_bundle if kind == "our folder" else save_timm_folder)(bundle, folder / "model")
    except ResnetsError:
        return None, ""
    name = f"local-dir:{folder / 'model'}"
    return peer.ask(do="check", codebase="timm", name=name, kwargs={}, folder=str(folder)), name


if __name__ == "__main__":
    sys.exit(main())
