"""Networks of this library, written for timm and torchvision: each opens there, with equal outputs, or is refused here.

The cells are named after what the network differs in. Those that timm or torchvision have no network for must be
refused: their tensors would load there, strictly, into a network that computes something else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from judge import verdict
from peer_process import Peer
from safetensors.torch import load_file, save_file

import resnets
from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import ResnetsError
from resnets.nn.model import Network
from resnets.weights.export import call_for, save_weights

__all__ = ["LIBRARIES", "compare_exports", "exported_networks"]

LIBRARIES = ("timm", "torchvision")
BASES = ("resnet50", "resnet18", "resnet50d", "seresnet50", "resnetv2_50", "vgg11")
OPTIONS: tuple[dict[str, Any], ...] = (
    {"stem_act": False},
    {"padding": "same"},
    {"last_stride": 1},
    {"output_stride": 16},
    {"output_stride": 8},
    {"output_stride": 8, "dilation_rule": "detectron"},
    {"global_pool": "max"},
    {"global_pool": "gem"},
    {"global_pool": "none", "num_classes": 0},
    {"num_classes": 0},
    {"num_classes": 7},
    {"in_chans": 4},
    {"stem_pool": "max_ceil"},
    {"stem_pool": "max_same"},
    {"stem_pool": "max_zero"},
    {"stem_pool": "max_valid"},
    {"stem_pool": "max2"},
    {"stem_pool": "none"},
    {"stem": "3x3"},
    {"antialias": True},
    {"stride_in": "1x1"},
    {"stride_unit": "last"},
    {"shortcut": "C"},
    {"shortcut": "D"},
    {"shortcut": "subsample"},
    {"shortcut_kernel": 3},
    {"norm_eps": 1e-3},
    {"norm": "group"},
    {"global_pool": "avgmax"},
    {"global_pool": "catavgmax"},
    {"antialias": True, "antialias_filter": "average"},
    {"branch_act": True},
    {"norm": "frozen_batch"},
    {"conv_bias": "all"},
    {"ibn": ("a", "a", "a", "")},
    {"attention": "eca"},
    {"attention": "se", "se_form": "linear"},
    {"attention": "cbam"},
    {"attention_reduction": 8, "attention": "se"},
    {"depths": (1, 2, 1, 1)},
    {"widths": (32, 64, 128, 256)},
    {"kernel": 5},
    {"act": "silu"},
    {"act": "leaky_relu"},
    {"drop_rate": 0.5},
)


def exported_networks() -> Iterator[tuple[str, Any]]:
    """Every network of ours by name, and relatives that differ in one option."""
    for name in VARIANTS:
        yield name, get_config(name)
    for name in BASES:
        for options in OPTIONS:
            try:
                config = get_config(name, **options)
            except ResnetsError:  # no such network here
                continue
            yield f"{name}, {', '.join(f'{key}={value!r}' for key, value in options.items())}", config


def compare_exports(peer: Peer, folder: Path, only: Any) -> Iterator[tuple[str, dict[str, str]]]:
    """The outcome of each network by library, as `judge` words them.

    Args:
        peer: where written files are opened.
        folder: for files, which are deleted.
        only: whether a name is to be compared.
    """
    for name, config in exported_networks():
        if not only(f"ours/{name}"):
            continue
        model = randomized(config)
        outcomes = {}
        for library in LIBRARIES:
            try:
                outcomes[library] = _export(model, library, peer, folder)
            except ResnetsError as refusal:
                outcomes[library] = f"refused: {' '.join(str(refusal).split()).replace(str(folder), 'FOLDER')}"
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        yield name, outcomes


def randomized(config: Any) -> Network:
    """A network whose statistics are of a batch, and random otherwise."""
    torch.manual_seed(0)
    model = resnets.create_model(config)
    assert isinstance(model, Network)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 1 and name.endswith("weight"):
                tensor.uniform_(0.25, 0.75)
            elif tensor.ndim == 1:
                tensor.normal_(0, 0.2)
            elif any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()):
                tensor.mul_(0.3)  # a wrong epsilon shows where variances are small
        norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 1.0
        model.train()(torch.randn(4, config.in_chans, config.img_size // 4 * 2, config.img_size // 4 * 2))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            assert norm.running_var is not None
            norm.running_var.mul_(torch.rand_like(norm.running_var) * 0.7 + 0.7).add_(1e-3)
    return model.eval()


def _export(model: Network, library: str, peer: Peer, folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    written, inputs, outputs = (folder / f"{part}.safetensors" for part in ("written", "inputs", "outputs"))
    save_weights(model, written, dialect=library)
    call = call_for(model.config, library)
    assert call is not None
    size = model.config.img_size if model.config.img_size < 64 else 75
    x = torch.randn(2, model.config.in_chans, size, size, generator=torch.Generator().manual_seed(1))
    save_file({"x0": x}, inputs)
    answer = peer.ask("open", call=call.call, weights=str(written), inputs=str(inputs), outputs=str(outputs))
    if "error" in answer:
        return f"fails there: {call.call}: {answer['error']}"
    with torch.no_grad():
        expected = model(x)
    found = load_file(outputs)["x0.0"]
    outcome = verdict({"x0.0": found}, {"x0.0": expected})
    return f"{outcome} with {call.call}" if outcome.startswith("WRONG") else outcome
