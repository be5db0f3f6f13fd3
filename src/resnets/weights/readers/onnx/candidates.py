"""Configs that a graph may be of: the guess, with every choice of stride and dilation that tensors do not show."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from resnets.arch.nodes import Conv
from resnets.arch.plan import plan
from resnets.errors import ConfigError, WeightsError
from resnets.weights.identify import identify
from resnets.weights.readers.onnx.file import UnknownGraphError
from resnets.weights.readers.onnx.graph import Graph
from resnets.weights.readers.onnx.network import Guess, Guesser, geometry
from resnets.weights.readers.onnx.structure import Structure, structure_of_plan

__all__ = ["candidates"]


def candidates(graph: Graph, found: Structure) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Configs that a graph may be of, the likeliest first, each with the facts that lead to it.

    Raises:
        UnknownGraphError: the graph is of another structure; the message names the first node.
    """
    guess = Guesser(graph, found).guess() if found.blocks else _vgg(graph, found)
    reason: Exception | None = None
    any_fits = False
    for strides in _stride_facts(graph, found, guess):
        for shortcut in _shortcut_facts(guess):
            facts = guess.facts | strides | shortcut
            try:
                config = identify(guess.shapes, "onnx", "auto", {}, "the graph", facts).config
                plan(config)
            except (WeightsError, ConfigError) as error:
                reason = reason or error
                continue
            any_fits = True
            yield config, facts
    if not any_fits:
        raise UnknownGraphError(str(reason) if reason else "it has no residual blocks")


def _shortcut_facts(guess: Guess) -> list[dict[str, Any]]:
    return [{}] if "shortcut" in guess.facts else [{}, {"shortcut": "subsample"}]


def _stride_facts(graph: Graph, found: Structure, guess: Guess) -> list[dict[str, Any]]:
    """Options of stride and dilation, those with the graph's strides and dilations first."""
    if not found.blocks:
        return [{}]
    seen = [geometry(block.convs) for block in found.blocks]
    total = int(np.prod([stride for stride, _ in seen]))
    dilated = any(dilation > 1 for _, steps in seen for dilation in steps)
    options: list[dict[str, Any]] = [{}, {"stride_unit": "last"}]
    if dilated:
        pooled = 1 if guess.facts["stem_pool"] == "none" else 2
        stem = 1 if guess.shapes.get("conv1.weight", (0, 0, 7))[2] == 3 else 2
        rules = ("torchvision", "detectron")
        options = [
            {"output_stride": stem * pooled * total, "dilation_rule": rule, "stride_unit": unit}
            for rule, unit in product(rules, ("first", "last"))
        ]
    elif len({key.partition(".")[0] for key in guess.shapes if key.startswith("layer")}) > 1:
        options += [{"last_stride": 1}, {"stride_unit": "last", "last_stride": 1}]
    return sorted(options, key=lambda option: -_agreement(option, seen, guess))


def _agreement(option: dict[str, Any], seen: list[tuple[int, list[int]]], guess: Guess) -> int:
    """How many blocks of a candidate have the graph's strides and dilations."""
    try:
        config = identify(guess.shapes, "onnx", "auto", {}, "the graph", guess.facts | option).config
        tree = structure_of_plan(plan(config))
    except (WeightsError, ConfigError):
        return -1
    agreeing = 0
    for block, wanted in zip(tree.blocks, seen, strict=False):
        convs = [node for _, node in block.body if isinstance(node, Conv)]
        agreeing += (int(np.prod([conv.stride for conv in convs])), [conv.dilation for conv in convs]) == wanted
    return agreeing


def _vgg(graph: Graph, found: Structure) -> Guess:
    """A network without blocks: convolutions, max pools, and three linear layers or none, as a VGG has them."""
    guess, number = Guess(facts={"norm_eps": 1e-5}), 0
    linears = [op for op in found.segments[0] if op.kind == "Linear"]
    ops = found.segments[0]
    convs = [op for op in ops if op.kind == "Conv"]
    if not convs or len(linears) not in (0, 3) or sum(op.kind == "MaxPool" for op in ops) < 2:
        where = ops[0].where if ops else "the graph"
        raise UnknownGraphError(f"{where} begins a network without sums of two paths, which is no VGG either")
    normed = any(op.kind in ("BatchNormalization", "Affine") for op in ops)
    for op in ops:
        if op.kind == "Conv":
            kernel = graph.constant(op, 1)
            if kernel is None:
                raise UnknownGraphError(f"{op.where} has a kernel that depends on the image")
            shape, channels = kernel.shape, kernel.shape[:1]
            guess.shapes |= {f"features.{number}.weight": shape, f"features.{number}.bias": channels}
            if normed:
                names = ("weight", "bias", "running_mean", "running_var")
                guess.shapes |= {f"features.{number + 1}.{name}": channels for name in names}
            number += 3 if normed else 2
        elif op.kind == "MaxPool":
            number += 1
        if op.kind == "BatchNormalization":
            guess.facts["norm_eps"] = float(f"{float(np.float32(op.attributes.get('epsilon', 1e-5))):.6g}")
    for name, op in zip(("0", "3", "6"), linears, strict=False):
        shape = op.attributes["weight"].shape
        guess.shapes |= {f"classifier.{name}.weight": shape, f"classifier.{name}.bias": shape[:1]}
    return guess
