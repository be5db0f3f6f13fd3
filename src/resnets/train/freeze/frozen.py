"""Freezing that freezes: parameters, statistics and random layers of a network's first part, and the proof of it."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.arch.parts import CLASSIFIER, group_of, layer_groups, parts
from resnets.errors import TrainingError, UnknownNameError
from resnets.nn.model import Network
from resnets.train.freeze.phases import NONE, Phase

__all__ = ["Frozen", "apply_phase", "lr_scales"]


def apply_phase(model: Network, phase: Phase) -> Frozen:
    """Freeze what `phase` says and unfreeze all else.

    Every parameter's `requires_grad` is set; frozen ones lose their gradient, so that no optimiser touches them: not
    by momentum, not by weight decay. Modes are set by the answer's `train_mode`.

    Raises:
        UnknownNameError: the network has no such place.
        TrainingError: nothing is left that trains.
    """
    names = parts(model.plan)
    if phase.freeze not in (NONE, *(name for name in names if name != CLASSIFIER)):
        raise UnknownNameError("place to freeze up to", phase.freeze, (NONE, *names))
    frozen = tuple(names)[: tuple(names).index(phase.freeze) + 1] if phase.freeze != NONE else ()
    paths = tuple(path for name in frozen for path in names[name])
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    affine = {f"{name}.{key}" for name, norm in norms.items() for key, _ in norm.named_parameters(recurse=False)}
    for name, parameter in model.named_parameters():
        held = group_of(name, names) in frozen
        if name in affine and phase.bn_affine != "auto":
            held = phase.bn_affine == "frozen"
        parameter.requires_grad_(not held)
        if held:
            parameter.grad = None
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError(
            f"something must train; got freeze {phase.freeze!r} for a network without a classifier; freeze less"
        )
    if phase.bn_stats == "auto":
        still = {name for name in norms if group_of(name, names) in frozen}
    else:
        still = set(norms) if phase.bn_stats == "frozen" else set()
    return Frozen(model, phase, paths, tuple(name for name in norms if name in still))


class Frozen:
    """A network under a phase.

    Attributes:
        model: the network.
        phase: what was applied.
        paths: the modules that are frozen as a whole, from the input on.
        still: the batch norms whose statistics do not move.
    """

    def __init__(self, model: Network, phase: Phase, paths: tuple[str, ...], still: tuple[str, ...]) -> None:
        self.model, self.phase, self.paths, self.still = model, phase, paths, still
        self._remembered: dict[str, str] | None = None

    def train_mode(self) -> None:
        """What `model.train()` is to others: the frozen part computes as in evaluation, the rest as in training.

        Dropout and stochastic depth of the frozen part rest; batch norms do as the phase's `bn_stats` says.
        """
        self.model.train()
        for path in self.paths:
            self.model.get_submodule(path).eval()
        for name, module in self.model.named_modules():
            if isinstance(module, _BatchNorm):
                module.train(name not in self.still)

    @property
    def cacheable(self) -> bool:
        """Whether what the frozen part answers depends on the image alone, so that it can be computed once."""
        inside = {path: self.model.get_submodule(path) for path in self.paths}
        trains = any(parameter.requires_grad for module in inside.values() for parameter in module.parameters())
        moves = any(
            isinstance(module, _BatchNorm) and name not in self.still
            for path, part in inside.items()
            for name, module in part.named_modules(prefix=path)
        )
        return bool(inside) and not trains and not moves

    def tensors(self) -> dict[str, Tensor]:
        """What must not change, by name: parameters that do not train, and all buffers but statistics that move."""
        found: dict[str, Tensor] = {
            name: parameter for name, parameter in self.model.named_parameters() if not parameter.requires_grad
        }
        for path, module in self.model.named_modules():
            if isinstance(module, _BatchNorm) and path not in self.still:
                continue
            found |= {f"{path}.{name}".lstrip("."): buffer for name, buffer in module.named_buffers(recurse=False)}
        return found

    def fingerprint(self) -> dict[str, str]:
        """A hash of every tensor of `tensors`: of its type, shape and bytes."""
        return {name: _hash(tensor) for name, tensor in self.tensors().items()}

    def remember(self) -> None:
        """Take the fingerprint that `verify` holds the network against, before the first step; later calls do nothing.

        Whatever changes a frozen tensor from then on is found: a step, a validation, whoever writes models.
        """
        if self._remembered is None:
            self._remembered = self.fingerprint()

    def verify(self, before: dict[str, str] | None = None) -> None:
        """Raise unless all is as it was when `before` was taken by `fingerprint`; `None`: by `remember`.

        Raises:
            TrainingError: a frozen tensor changed, came or went; names the first and says how many.
        """
        before = self._remembered if before is None else before
        assert before is not None
        after = self.fingerprint()
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if changed:
            raise TrainingError(
                f"frozen tensors must stay as they are; {len(changed)} of {len(before)} changed, first {changed[0]}; "
                "weights after this are not to be trusted: go back to an earlier checkpoint"
            )


def lr_scales(model: Network, phase: Phase) -> dict[str, float]:
    """Every parameter's share of the learning rate under layer-wise decay, frozen or not; 1 for the head.

    A parameter of layer i of n, counted from the input on, learns at `layer_decay ** (n - 1 - i)` of the rate. Layers
    are the stem, each residual block (a VGG's convolutions) and the head, see `places.layers`: timm's rule.
    """
    groups = layer_groups(model.plan)
    shares = {path: phase.layer_decay ** (len(groups) - 1 - i) for i, paths in enumerate(groups) for path in paths}
    known = {path: (path,) for path in shares}
    return {name: shares[group_of(name, known)] for name, _ in model.named_parameters()}


def _hash(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    head = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
    digest = hashlib.blake2b(head, digest_size=16)
    digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()
