"""Networks of this library, written for timm and torchvision: each opens there, with equal outputs, or is refused here.

They are every network of ours by name, relatives that differ in one option, and random ones. Where timm or torchvision
have no such network, the tensors would often load there, strictly, into one that computes something else.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from judge import verdict
from peer_process import Peer
from safetensors.torch import load_file, save_file

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import VARIANTS, get_config
from resnets.errors import ResnetsError
from resnets.nn.model import Network, build_model
from resnets.weights.dialects import timm_networks
from resnets.weights.export import call_for, save_weights
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.folder.timm_folder import save_timm_folder

__all__ = ["WAYS", "compare_exports", "exported_networks"]

WAYS = ("timm", "torchvision", "our folder", "timm folder")
BASES = ("resnet50", "resnet18", "resnet50d", "seresnet50", "resnetv2_50", "vgg11")
RANDOM_BASES = (
    "resnet18", "resnet26", "resnet18d", "resnet14t", "resnext50_32x4d", "seresnet18", "resnetblur18", "resnetaa50",
    "ecaresnetlight", "resnetv2_18", "resnetv2_18d", "resnetv2_50d_gn", "legacy_seresnet18", "resnetrs50",
    "resnet50_gn",
)  # fmt: skip
RANDOM_COUNT = 120

# Values to change, one at a time, and up to three together in a random network.
VALUES: dict[str, tuple[Any, ...]] = {
    "depths": ((1, 2, 1, 1), (1, 1, 1)),
    "widths": ((32, 64, 128, 256), (64, 64, 64)),
    "groups": (2,),
    "group_width": (32,),
    "reduce_first": (2,),
    "kernel": (5,),
    "stride_in": ("1x1",),
    "stride_unit": ("last",),
    "stem": ("3x3", "deep", "tiered"),
    "stem_width": (32,),
    "stem_act": (False,),
    "stem_pool": ("max_ceil", "max_same", "max_zero", "max_valid", "max2", "avg2", "conv", "none"),
    "antialias": (True,),
    "shortcut": ("A", "C", "D", "first", "subsample"),
    "shortcut_kernel": (3,),
    "shortcut_norm": (False,),
    "conv_bias": ("all",),
    "padding": ("same",),
    "standardised": (True,),
    "attention": ("se", "eca", "cbam"),
    "attention_reduction": (8,),
    "se_form": ("linear",),
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
    "in_chans": (1, 4),
    "drop_rate": (0.5,),
}
PAIRS: tuple[dict[str, Any], ...] = (
    {"output_stride": 8, "dilation_rule": "detectron"},
    {"antialias": True, "antialias_filter": "average"},
    {"global_pool": "none", "num_classes": 0},
    {"attention": "se", "attention_reduction": 8},
    {"attention": "se", "se_form": "linear"},
)


def exported_networks() -> Iterator[tuple[str, Any]]:
    """Every network to write, with a name for the table."""
    for name in VARIANTS:
        yield name, get_config(name)
    single: list[dict[str, Any]] = [{field: value} for field, values in VALUES.items() for value in values]
    for name in BASES:
        for options in (*single, *PAIRS):
            yield from _network(name, get_config(name), options)
    draw = random.Random(0)
    for _ in range(RANDOM_COUNT):
        base = draw.choice(RANDOM_BASES)
        fields = draw.sample(sorted(VALUES), draw.choice((2, 3)))
        options = {field: draw.choice(VALUES[field]) for field in fields}
        yield from _network(f"timm's {base}", timm_networks.NETWORKS[base], options)


def _network(name: str, base: Any, options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    try:
        config = base.with_overrides(**options)
    except ResnetsError:  # no such network here
        return
    yield f"{name}, {', '.join(f'{field}={value!r}' for field, value in options.items())}", config


def compare_exports(peer: Peer, folder: Path, only: Callable[[str], bool]) -> Iterator[tuple[str, dict[str, str]]]:
    """The outcome of each network in each way, as `judge` words them.

    Args:
        peer: where it is opened.
        folder: for files, which are deleted.
        only: whether a name is to be compared.
    """
    for name, config in exported_networks():
        if not only(f"ours/{name}"):
            continue
        outcomes = {}
        try:
            model = randomized(config)
            inputs = model_inputs(model)
        except (ResnetsError, RuntimeError):  # a network that no image fits
            continue
        for way in WAYS:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                outcomes[way] = _export(model, inputs, way, peer, folder)
            except ResnetsError as refusal:
                outcomes[way] = f"refused: {_reason(refusal)}"
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        yield name, outcomes


def _reason(refusal: ResnetsError) -> str:
    """What a dialect cannot represent, without the rule and the remedy that are the same in every such message."""
    text = " ".join(str(refusal).split())
    found = re.search(r"cannot represent this one: (.*?); save a model folder", text)
    return found[1] if found else text


def randomized(config: Any) -> Network:
    """A network of random tensors; statistics are of a batch, so that a wrong epsilon or activation shows."""
    model = build_model(config, init=False).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    normed = any("running_var" in name for name in model.state_dict())
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            tensor.fill_(7)
        elif tensor.ndim >= 2:
            scale = (2 / tensor[0].numel()) ** 0.5 * (0.3 if normed else 1)
            tensor.normal_(0, 1, generator=generator).mul_(scale)
        elif name.endswith(("weight", "running_var")):
            tensor.uniform_(0.25, 0.75, generator=generator)
        else:
            tensor.normal_(0, 0.2, generator=generator)
            if name.endswith(".p"):  # the power of a generalised mean
                tensor.abs_().add_(3)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    size = config.img_size if config.img_size < 64 else 64
    with torch.no_grad():
        model.train()(torch.randn(4, config.in_chans, size, size, generator=generator))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        assert norm.running_var is not None
        norm.running_var.add_(1e-3)
    return model.eval()


def model_inputs(model: Network) -> dict[str, torch.Tensor]:
    """Square images, and ones of odd size where the network takes them (an average filter rounds down)."""
    chans, small = model.config.in_chans, model.config.img_size < 64
    found = {}
    for index, size in enumerate(((32, 32),) if small else ((64, 64), (75, 59))):
        x = torch.randn(2, chans, *size, generator=torch.Generator().manual_seed(index))
        try:
            with torch.no_grad():
                model(x)
        except RuntimeError:
            continue
        found[f"x{index}"] = x
    return found


def _export(model: Network, inputs: dict[str, torch.Tensor], way: str, peer: Peer, folder: Path) -> str:
    files = {name: str(folder / f"{name}.safetensors") for name in ("weights", "inputs", "outputs")}
    save_file(inputs, files["inputs"])
    if way in ("timm", "torchvision"):
        save_weights(model, files["weights"], dialect=way)
        call = call_for(model.config, way)
        assert call is not None
        text = call.call
        answer = peer.ask("open", call=text, **files)
    else:
        chans, classes = model.config.in_chans, tuple(map(str, range(model.num_classes)))
        channels: Any = "L" if chans == 1 else "RGB" if chans == 3 else chans
        half = (0.5,) * chans
        preprocessing = Preprocessing(size=(64, 64), channels=channels, mean=half, std=half)
        bundle = Bundle(model=model, preprocessing=preprocessing, classes=classes)
        text = str((save_bundle if way == "our folder" else save_timm_folder)(bundle, folder / "model"))
        answer = peer.ask("open_folder", folder=text, inputs=files["inputs"], outputs=files["outputs"])
        text = "timm.create_model('local-dir:FOLDER', pretrained=True)"
    if "error" in answer:
        return f"fails there: {text}: {answer['error']}"
    with torch.no_grad():
        expected = {f"{name}.0": model(x) for name, x in inputs.items()}
    outcome = verdict(load_file(files["outputs"]), expected)
    return f"{outcome} with {text}" if outcome.startswith("WRONG") else outcome
