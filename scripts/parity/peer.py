"""The peer of `scripts/parity`: builds networks of timm and torchvision, in an environment that has them.

It reads one JSON object per line from stdin and answers with one per line on stdout:

    {"op": "list"}                                           every network of the compared files, and versions
    {"op": "about", "library", "name"}                       number of parameters, blocks of each stage, all shapes
    {"op": "make", "library", "name", "args", "folder"}      a network with random weights: its folder, inputs, outputs
    {"op": "double", "library", "name", "args", "folder"}    the outputs of a network that was made, in float64
    {"op": "open", "call", "weights", "inputs", "outputs"}   evaluate `call`, load strictly, run

An error is answered as `{"error": text}`.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

with suppress(ImportError, AttributeError):  # lets torchvision import where torch is a CPU build
    import torchvision_stub  # type: ignore[import-not-found]  # noqa: F401

import timm  # type: ignore[import-not-found]
import torchvision  # type: ignore[import-not-found]

FILES = {
    "timm": {"resnet.py": "resnet", "resnetv2.py": "resnetv2", "senet.py": "senet", "vgg.py": "vgg"},
    "torchvision": {"resnet.py": torchvision.models.resnet, "vgg.py": torchvision.models.vgg},
}
SIZES = ((2, 64, 64), (1, 75, 59))  # N, H, W of the inputs; odd sizes show how strides and pools pad
EVEN = (1, 96, 160)  # for networks that fail on odd sizes
POOL = 262_139  # a prime, so that no two channels of a convolution are alike
GENERATOR = torch.Generator().manual_seed(0)
NORMAL, UNIFORM = torch.randn(POOL, generator=GENERATOR), torch.rand(POOL, generator=GENERATOR)


def list_networks() -> dict[str, Any]:
    """Every network by library and source file."""
    found: dict[str, dict[str, list[str]]] = {"timm": {}, "torchvision": {}}
    for file, module in FILES["timm"].items():
        found["timm"][file] = timm.list_models(module=module)
    for file, module in FILES["torchvision"].items():
        names = [name for name in torchvision.models.list_models() if _source(name) == module.__name__]
        found["torchvision"][file] = names
    versions = {"timm": timm.__version__, "torchvision": torchvision.__version__, "torch": torch.__version__}
    return {"networks": found, "versions": versions}


def _source(name: str) -> str:
    return str(torchvision.models.get_model_builder(name).__module__)


def build(library: str, name: str, args: dict[str, Any]) -> nn.Module:
    """A network as a user of the library builds it."""
    if library == "timm" and name.endswith("_bit") and "layers" in args:
        model = _shortened_bit(name, **args)
    elif library == "timm":
        model = timm.create_model(name, pretrained=False, **args)
    else:
        model = torchvision.models.get_model(name, weights=None, **args)
    assert isinstance(model, nn.Module)
    return model


def _shortened_bit(name: str, layers: list[int], **args: Any) -> nn.Module:
    """A BiT network of other depth, which timm gives no option for."""
    module = timm.models.resnetv2
    create = module._create_resnetv2_bit
    module._create_resnetv2_bit = lambda *given, **fields: create(*given, **fields | {"layers": layers})
    try:
        return timm.create_model(name, pretrained=False, **args)  # type: ignore[no-any-return]
    finally:
        module._create_resnetv2_bit = create


def about(library: str, name: str, args: dict[str, Any] | None = None) -> dict[str, Any]:
    """Size and structure of a network, which is not allocated."""
    with torch.device("meta"):
        model = build(library, name, args or {})
    shapes = {key: [list(t.shape), str(t.dtype).removeprefix("torch.")] for key, t in model.state_dict().items()}
    params = sum(parameter.numel() for parameter in model.parameters())
    return {"params": params, "layers": [len(stage) for stage in _stages(model)], "shapes": shapes}


def _stages(model: nn.Module) -> Iterator[Any]:
    children = dict(model.named_children())
    if "stages" in children:
        for stage in children["stages"].children():
            yield dict(stage.named_children()).get("blocks", [])
    else:
        yield from (children[f"layer{index}"] for index in range(1, 5) if f"layer{index}" in children)


_known: dict[str, Tensor] = {}  # tensors of the network that was made last
_known_of = ""


def make(library: str, name: str, args: dict[str, Any], folder: str) -> dict[str, Any]:
    """Build a network with random weights and write a timm folder, `inputs.safetensors` and `outputs.safetensors`.

    Tensors that the networks of one name and depth share are the same, so each is drawn and calibrated once.
    """
    global _known, _known_of
    model, out = build(library, name, args), Path(folder)
    family = f"{library} {name} {args.get('layers')}"
    known = _known if family == _known_of else {}
    fresh = fill(model, known)
    chans = int(args.get("in_chans", 3))
    if fresh and not known:
        calibrate(model, chans)
        _known, _known_of = dict(model.state_dict()), family
    inputs, outputs = dict[str, Tensor](), dict[str, Tensor]()
    for index, size in enumerate(SIZES):
        key = f"x{index}"
        x = _noise(key, (size[0], chans, *size[1:]))
        try:
            found = run(model, {key: x})
        except RuntimeError:
            if not index:
                raise
            x = _noise(key, (EVEN[0], chans, *EVEN[1:]))
            found = run(model, {key: x})
        inputs[key] = x
        outputs |= found
    out.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, out / "model.safetensors")
    save_file(inputs, out / "inputs.safetensors")
    save_file(outputs, out / "outputs.safetensors")
    if library == "timm" and not args.get("features_only"):
        from timm.models._hub import save_config_for_hf  # type: ignore[import-not-found]

        stated = {key: value for key, value in args.items() if key not in ("num_classes", "in_chans")}
        save_config_for_hf(model, str(out / "config.json"), model_args=stated or None)
    return {"spread": min(float(tensor.std()) for tensor in outputs.values())}


def fill(model: nn.Module, known: dict[str, Tensor]) -> list[str]:
    """Draw every tensor that is not known; returns their names."""
    normed = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    fresh = []
    for name, tensor in model.state_dict().items():
        key = name.replace("stages_", "stages.").replace("stem_", "stem.").replace("features_", "features.")
        if key in known and known[key].shape == tensor.shape:
            tensor.copy_(known[key])
            continue
        fresh.append(name)
        if not tensor.is_floating_point():
            tensor.fill_(7)
        elif name.endswith("running_var"):
            tensor.copy_(0.5 + _draw(UNIFORM, key, tensor))
        elif tensor.ndim >= 2:  # small where a norm follows, so that a wrong epsilon shows
            scale = (2 / max(tensor[0].numel(), 1)) ** 0.5 * (0.3 if normed else 1)
            tensor.copy_(_draw(NORMAL, key, tensor) * scale)
        elif name.endswith("weight"):  # below 1, so that rounding errors do not grow with the depth
            tensor.copy_(0.25 + 0.5 * _draw(UNIFORM, key, tensor))
        else:
            tensor.copy_(0.2 * _draw(NORMAL, key, tensor))
    return fresh


def _draw(source: Tensor, name: str, like: Tensor) -> Tensor:
    start = zlib.crc32(name.encode()) % POOL
    turned, count = torch.cat([source[start:], source[:start]]), like.numel()
    return turned.repeat(-(-count // POOL))[:count].view(like.shape)


def _noise(name: str, shape: tuple[int, ...]) -> Tensor:
    return _draw(NORMAL, name, torch.empty(shape)).clone()


def calibrate(model: nn.Module, chans: int) -> None:
    """Give batch norms the statistics of a batch, randomly scaled: deep networks neither explode nor vanish."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    with torch.no_grad():
        model(_noise("calibration", (4, chans, 64, 64)))
    for index, (norm, momentum) in enumerate(zip(norms, momenta, strict=True)):
        norm.momentum = momentum
        if norm.running_var is not None:
            norm.running_var.mul_(0.7 + 0.7 * _draw(UNIFORM, f"norm {index}", norm.running_var)).add_(1e-3)
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.fill_(7)


def run(model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs in evaluation mode: `x0.0` is the first output, or the only one, of input `x0`."""
    model.eval()
    found = {}
    with torch.no_grad():
        for name, x in inputs.items():
            y = model(x)
            for index, each in enumerate(y if isinstance(y, list | tuple) else [y]):
                found[f"{name}.{index}"] = each.contiguous()
    return found


def double(library: str, name: str, args: dict[str, Any], folder: str, outputs: str) -> dict[str, Any]:
    """Run a network that was made in float64."""
    model = build(library, name, args)
    model.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=True)
    inputs = {key: x.double() for key, x in load_file(f"{folder}/inputs.safetensors").items()}
    save_file(run(model.double(), inputs), outputs)
    return {}


def open_written(call: str, weights: str, inputs: str, outputs: str) -> dict[str, Any]:
    """Run the text that builds a network (a call, or `model = CALL; ...`), load a file strictly, and run it."""
    names: dict[str, Any] = {"timm": timm, "torchvision": torchvision, "torch": torch}
    exec(call if call.startswith("model = ") else f"model = {call}", names)
    model = names["model"]
    model.load_state_dict(load_file(weights), strict=True)
    save_file(run(model, load_file(inputs)), outputs)
    return {}


def open_folder(folder: str, inputs: str, outputs: str) -> dict[str, Any]:
    """Open a model folder as timm does, and run it."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    save_file(run(model, load_file(inputs)), outputs)
    return {}


OPERATIONS = {
    "list": list_networks,
    "about": about,
    "make": make,
    "double": double,
    "open": open_written,
    "open_folder": open_folder,
}


def main() -> None:
    torch.set_num_threads(1)
    for name in dir(nn.init):  # every tensor is drawn by `fill`; initial weights would only take time
        if name.endswith("_") and not name.startswith("_"):
            setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever the libraries print
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = OPERATIONS[job.pop("op")](**job)  # type: ignore[operator]
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
