"""Freezing the first part of a network: parameters, batch-norm statistics and random layers, with a check of it."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from resnets.arch.nodes import Norm, walk
from resnets.arch.parts import freeze_points, group_of, layer_groups, parts
from resnets.errors import TrainingError
from resnets.nn.model import Network
from resnets.train.freeze.phases import NONE, Phase, check_freeze

__all__ = ["FrozenPart", "apply_phase", "lr_scales"]


def apply_phase(model: Network, phase: Phase) -> FrozenPart:
    """Freeze what `phase` freezes and unfreeze everything else.

    Sets `requires_grad` of every parameter. Frozen parameters lose their gradient, so that no optimizer changes them,
    by momentum or weight decay either. Call `train_mode` of the result before training.

    Raises:
        UnknownNameError: the network has no such part.
        TrainingError: no parameter is left to train.
    """
    groups = parts(model.plan)
    names = tuple(groups)
    check_freeze(phase.freeze, freeze_points(model.plan))
    frozen = names[: names.index(phase.freeze) + 1] if phase.freeze != NONE else ()
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    affine = {f"{name}.{key}" for name, norm in norms.items() for key, _ in norm.named_parameters(recurse=False)}
    never = {f"{path}.bias" for path, node in walk(model.plan) if isinstance(node, Norm) and node.fixed_bias}
    for name, parameter in model.named_parameters():
        is_frozen = group_of(name, groups) in frozen
        if name in affine and phase.bn_affine != "auto":
            is_frozen = phase.bn_affine == "frozen"
        is_frozen |= name in never
        parameter.requires_grad_(not is_frozen)
        if is_frozen:
            parameter.grad = None
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise TrainingError(
            f"at least one parameter must train; got freeze={phase.freeze} for a network without a classifier; "
            "freeze less"
        )
    if phase.bn_stats == "auto":
        fixed = tuple(name for name in norms if group_of(name, groups) in frozen)
    else:
        fixed = tuple(norms) if phase.bn_stats == "frozen" else ()
    return FrozenPart(model, tuple(path for name in frozen for path in groups[name]), fixed)


class FrozenPart:
    """The frozen part of a network.

    Attributes:
        model: the whole network.
        paths: modules that are frozen entirely, from the input on.
        fixed_stats: batch norms whose running statistics are not updated.
    """

    def __init__(self, model: Network, paths: tuple[str, ...], fixed_stats: tuple[str, ...]) -> None:
        self.model, self.paths, self.fixed_stats = model, paths, fixed_stats
        self._recorded: dict[str, str] | None = None

    def train_mode(self) -> None:
        """Set training mode, but evaluation mode in the frozen part (no dropout or stochastic depth there).

        Batch norms follow `fixed_stats`.
        """
        self.model.train()
        for path in self.paths:
            self.model.get_submodule(path).eval()
        for name, module in self.model.named_modules():
            if isinstance(module, _BatchNorm):
                module.train(name not in self.fixed_stats)

    @property
    def cacheable(self) -> bool:
        """Whether the features of the frozen part depend on the image alone, so that they can be computed once."""
        names = [f"{path}.{name}" for path in self.paths for name in self.model.get_submodule(path).state_dict()]
        return bool(self.paths) and set(names) <= set(self.tensors())

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that must not change: parameters that do not train, and buffers except updated statistics."""
        found: dict[str, Tensor] = {
            name: parameter for name, parameter in self.model.named_parameters() if not parameter.requires_grad
        }
        for path, module in self.model.named_modules():
            if isinstance(module, _BatchNorm) and path not in self.fixed_stats:
                continue
            found |= {f"{path}.{name}".lstrip("."): buffer for name, buffer in module.named_buffers(recurse=False)}
        return found

    def fingerprint(self) -> dict[str, str]:
        """Hash of dtype, shape and bytes of each of `tensors`."""
        return {name: _hash(tensor) for name, tensor in self.tensors().items()}

    def record_fingerprint(self) -> None:
        """Record the fingerprint for `verify`, before the first step of the phase; later calls do nothing."""
        if self._recorded is None:
            self._recorded = self.fingerprint()

    def verify(self) -> None:
        """Check that no frozen tensor has changed since `record_fingerprint`.

        Raises:
            TrainingError: a frozen tensor has changed, appeared or disappeared; names the first and their number.
        """
        before, after = self._recorded, self.fingerprint()
        assert before is not None
        changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if changed:
            raise TrainingError(
                f"frozen tensors must not change; {len(changed)} of {len(before)} changed, first {changed[0]}; "
                "do not use these weights, return to an earlier checkpoint"
            )


def lr_scales(model: Network, phase: Phase) -> dict[str, float]:
    """Scale of each parameter's learning rate under layer-wise decay; 1 for the head.

    A parameter of layer group i of n, from the input on, has `layer_decay ** (n - 1 - i)`, as in timm. The groups are
    the stem, each residual block (in a VGG, each convolution) and the head, see `arch.parts.layer_groups`.
    """
    groups = layer_groups(model.plan)
    scales = {path: phase.layer_decay ** (len(groups) - 1 - i) for i, paths in enumerate(groups) for path in paths}
    modules = {path: (path,) for path in scales}
    return {name: scales[group_of(name, modules)] for name, _ in model.named_parameters()}


def _hash(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.blake2b(f"{tensor.dtype} {tuple(tensor.shape)} ".encode(), digest_size=16)
    digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()
