"""Opening a peer's network in each way that users have, and the outcome of each.

| outcome | meaning |
|---|---|
| `exact` | every output agrees to 1e-5, relative to the largest value |
| `close E` | to E, at most 1e-3, and in float64 to 1e-9: rounding alone, in a deep network |
| `assumed FIELDS` | read from the file alone, and what differs stands in the report's `assumed` |
| `refused: REASON` | an error |
| `peer: REASON` | the library itself does not build, or does not run, such a network |
| `fails there: REASON` | the library does not open what was written for it |
| `WRONG: HOW` | other outputs, without an error |
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cells import Cell
from peer_process import Peer
from safetensors.torch import load_file
from torch import Tensor, nn

import resnets
from resnets.errors import ResnetsError
from resnets.nn.model import FeatureExtractor
from resnets.weights.export import call_for, save_weights
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.folder.timm_folder import save_timm_folder

__all__ = ["Network", "judge", "structure", "verdict"]

EXACT, CLOSE, EXACT_IN_FLOAT64 = 1e-5, 1e-3, 1e-9
ORDER = ("named", "folder", "auto", "export", "saved", "timm folder")  # later ones use what earlier ones opened
IMPLIED_BY = {"antialias_filter": "antialias"}  # a field without effect at another's default
OF_TENSORS = ("num_classes", "in_chans")  # options that the file shows


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network of a library.

    Args:
        library, name: as the library has them.
        args: the options that the peer built it with.
        folder: where it wrote the network, its inputs and its outputs.
    """

    library: str
    name: str
    args: dict[str, Any]
    folder: Path


def judge(network: Network, cell: Cell, peer: Peer) -> dict[str, str]:
    """The outcome of each way of a cell; deletes nothing."""
    outcomes, models = dict[str, str](), dict[str, Any]()
    for way in sorted(cell.ways, key=ORDER.index):
        try:
            if way == "export":
                outcomes[way] = _export(network, peer, models.get("named"))
                continue
            if way in ("saved", "timm folder"):
                outcomes[way] = _saved(network, peer, models.get("folder"), way)
                continue
            opened, report = _open(network, way)
            models[way], model = opened, getattr(opened, "model", opened) if way == "folder" else opened
            outcomes[way] = _outcome(model, network, peer)
        except ResnetsError as refusal:
            outcomes[way] = f"refused: {_one_line(refusal, network)}"
            continue
        except Exception as crash:
            outcomes[way] = f"WRONG: {type(crash).__name__}: {_one_line(crash, network)}"
            continue
        if way == "auto" and outcomes[way].startswith("WRONG"):
            right = next(
                (models[w] for w in ("named", "folder") if outcomes.get(w, "").startswith(("exact", "close"))), None
            )
            outcomes[way] = _assumption(model, right, report.assumed, outcomes[way])
    return {way: outcomes[way] for way in cell.ways}


def _open(network: Network, way: str) -> tuple[Any, Any]:
    if way == "folder":
        return resnets.load(network.folder), None
    args = {key: value for key, value in network.args.items() if key not in OF_TENSORS or value == 0}
    file = network.folder / "model.safetensors"
    if way == "auto":
        kept = {key: value for key, value in args.items() if key in ("features_only", "out_indices")}
        return resnets.import_weights(file, **kept)
    return resnets.import_weights(file, dialect=network.library, variant=network.name, **args)


def _outcome(model: nn.Module, network: Network, peer: Peer) -> str:
    """Compare outputs in float32, and where that leaves a doubt in float64."""
    folder = network.folder
    error = compare(_outputs(model, folder), load_file(folder / "outputs.safetensors"))
    if isinstance(error, float) and EXACT < error <= CLOSE:
        theirs = folder / "float64.safetensors"
        arguments = {"library": network.library, "name": network.name, "args": network.args, "folder": str(folder)}
        answer = peer.ask("double", **arguments, outputs=str(theirs))
        if "error" not in answer:
            exact = compare(_outputs(copy.deepcopy(model).double(), folder), load_file(theirs))
            if isinstance(exact, float) and exact <= EXACT_IN_FLOAT64:
                return f"close {error:.1e}"
    return _verdict(error)


def verdict(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """`exact` or `WRONG: HOW`, of outputs by name."""
    return _verdict(compare(found, expected))


def _verdict(error: float | str) -> str:
    if isinstance(error, str):
        return f"WRONG: {error}"
    return "exact" if error <= EXACT else f"WRONG: {error:.1e}"


def _outputs(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """Outputs by name, as the peer names its own."""
    found: dict[str, Tensor] = {}
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        for name, x in load_file(folder / "inputs.safetensors").items():
            outputs = model(x.to(dtype))
            for index, output in enumerate(outputs if isinstance(model, FeatureExtractor) else [outputs]):
                found[f"{name}.{index}"] = output
    return found


def compare(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float | str:
    """The largest difference of an output, relative to its largest value; or what else differs."""
    if found.keys() != expected.keys():
        return f"{len(found) // 2} outputs for {len(expected) // 2}"
    worst = 0.0
    for name, theirs in expected.items():
        ours = found[name]
        if ours.shape != theirs.shape:
            return f"output {name} is {tuple(ours.shape)} for {tuple(theirs.shape)}"
        if not bool(theirs.isfinite().all()) or (theirs.numel() > 1 and float(theirs.std()) == 0):
            return f"output {name} of the peer shows nothing"
        error = float((ours - theirs).abs().max() / theirs.abs().max())
        worst = max(worst, error) if error == error else float("inf")
    return worst


def _assumption(model: Any, right: Any, assumed: Mapping[str, Any], wrong: str) -> str:
    """Whether everything that differs from the network itself was reported as assumed."""
    if right is None:
        return f"{wrong}; assumed: {', '.join(assumed) or 'nothing'}"
    ours, theirs = (getattr(each, "model", each).config for each in (model, right))
    names = [name for name, value in vars(theirs).items() if vars(ours).get(name) != value]
    unsaid = [name for name in names if name not in assumed and IMPLIED_BY.get(name) not in assumed]
    if not unsaid and names:
        return f"assumed {', '.join(names)}"
    return f"{wrong}; not reported as assumed: {', '.join(unsaid) or 'nothing differs'}"


def _export(network: Network, peer: Peer, model: Any) -> str:
    """Write what was opened in the peer's naming, and run it there."""
    if model is None:
        return "refused: not opened"
    written, outputs = network.folder / "written.safetensors", network.folder / "theirs.safetensors"
    save_weights(model, written, dialect=network.library)
    call = call_for(model.config, network.library)
    assert call is not None
    inputs = network.folder / "inputs.safetensors"
    return _back(
        peer.ask("open", call=call.call, weights=str(written), inputs=str(inputs), outputs=str(outputs)), network
    )


def _saved(network: Network, peer: Peer, bundle: Any, way: str) -> str:
    """Save what was opened as a folder, of ours or as timm writes it, and open that in timm."""
    if bundle is None:
        return "refused: not opened"
    folder, outputs = network.folder / way.replace(" ", "_"), network.folder / "theirs.safetensors"
    (save_bundle if way == "saved" else save_timm_folder)(bundle, folder)
    inputs = network.folder / "inputs.safetensors"
    return _back(peer.ask("open_folder", folder=str(folder), inputs=str(inputs), outputs=str(outputs)), network)


def _back(answer: Mapping[str, Any], network: Network) -> str:
    """The outcome of what the peer opened."""
    if "error" in answer:
        return f"fails there: {answer['error']}"
    expected = load_file(network.folder / "outputs.safetensors")
    return _verdict(compare(load_file(network.folder / "theirs.safetensors"), expected))


def structure(network: Network, shapes: Mapping[str, Any]) -> str:
    """The outcome of opening a network too large to run: every tensor has a place of its shape."""
    tensors = {
        name: torch.zeros((), dtype=getattr(torch, kind)).expand(shape) for name, (shape, kind) in shapes.items()
    }
    try:
        resnets.import_weights(tensors, dialect=network.library, variant=network.name)
    except ResnetsError as refusal:
        return f"refused: {_one_line(refusal, network)}"
    return "exact"


def _one_line(error: Exception, network: Network) -> str:
    text = " ".join(str(error).split())
    for path in (network.folder / "model.safetensors", network.folder):
        text = text.replace(str(path), "FILE")
    return text
