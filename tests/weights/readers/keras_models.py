"""Keras models for tests, written without Keras: the JSON of their description, and the arrays of their layers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["KerasBuilder", "head_of_windows", "residual_model"]

Settings = dict[str, Any]


class KerasBuilder:
    """A functional model under construction: each method adds a layer and returns its name."""

    def __init__(self, side: int | None = 64, *, keras3: bool = False) -> None:
        self.generator = np.random.default_rng(0)
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.layers: list[Settings] = []
        self.channels: dict[str, int] = {}
        self.keras3 = keras3
        shape = [None, side, side, 3]
        self.add("InputLayer", "images", [], 3, batch_input_shape=shape)

    def add(self, kind: str, name: str, inputs: list[str], channels: int, **settings: Any) -> str:
        nodes: list[Any] = [[[one, 0, 0, {}] for one in inputs]] if inputs else []
        if self.keras3 and inputs:
            history = [{"class_name": "__keras_tensor__", "config": {"keras_history": [one, 0, 0]}} for one in inputs]
            nodes = [{"args": history if len(inputs) == 1 else [history], "kwargs": {"training": False}}]
        config = {"name": name, **settings}
        self.layers.append({"class_name": kind, "config": config, "name": name, "inbound_nodes": nodes})
        self.channels[name] = channels
        return name

    def layer(self, kind: str, x: str, **settings: Any) -> str:
        """A layer without weights."""
        return self.add(kind, f"{kind.lower()}_{len(self.layers)}", [x], self.channels[x], **settings)

    def conv(self, name: str, x: str, out: int, kernel: int, **settings: Any) -> str:
        shape = (kernel, kernel, self.channels[x], out)
        self.arrays[f"{name}/kernel"] = self.generator.normal(0, (kernel**2 * shape[2]) ** -0.5, shape).astype("f")
        self.arrays[f"{name}/bias"] = self.generator.normal(0, 0.1, out).astype("f")
        defaults = {"kernel_size": [kernel, kernel], "strides": [1, 1], "padding": "valid", "use_bias": True}
        return self.add("Conv2D", name, [x], out, **{**defaults, "activation": "linear", **settings})

    def norm(self, name: str, x: str) -> str:
        size = self.channels[x]
        for variable, low, high in (("gamma", 0.5, 1), ("beta", -0.3, 0.3), ("moving_mean", -0.3, 0.3)):
            self.arrays[f"{name}/{variable}"] = self.generator.uniform(low, high, size).astype("f")
        self.arrays[f"{name}/moving_variance"] = self.generator.uniform(0.5, 1.5, size).astype("f")
        return self.add("BatchNormalization", name, [x], size, axis=[3], epsilon=1e-3)

    def dense(self, name: str, x: str, features: int, out: int, activation: str | None = "softmax") -> str:
        self.arrays[f"{name}/kernel"] = self.generator.normal(0, features**-0.5, (features, out)).astype("f")
        self.arrays[f"{name}/bias"] = self.generator.normal(0, 0.1, out).astype("f")
        return self.add("Dense", name, [x], out, activation=activation, use_bias=True)

    def description(self, output: str) -> Settings:
        ends: Settings = {"input_layers": [["images", 0, 0]], "output_layers": [[output, 0, 0]]}
        return {"class_name": "Functional", "config": {"name": "model", "layers": self.layers, **ends}}

    def write(self, path: Path, output: str, change: Callable[[Settings], None] = lambda layer: None) -> Path:
        """Write the `.h5` file; `change` is called with each layer of the description before."""
        import h5py

        description = json.loads(json.dumps(self.description(output)))
        for layer in description["config"]["layers"]:
            change(layer)
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(description)
            root = file.create_group("model_weights")
            names = list(dict.fromkeys(name.split("/")[0] for name in self.arrays))
            root.attrs["layer_names"] = [name.encode() for name in names]
            for name in names:
                own = [key for key in self.arrays if key.startswith(f"{name}/")]
                group = root.create_group(name)
                group.attrs["weight_names"] = [f"{key}:0".encode() for key in own]
                for key in own:
                    group[f"{key}:0"] = self.arrays[key]
        return path


def head_of_windows(build: KerasBuilder, x: str) -> str:
    """The head of the tutorials: 2x2 windows, flattened."""
    pooled = build.layer("AveragePooling2D", x, pool_size=[2, 2], strides=[2, 2], padding="valid")
    return build.dense("fc6", build.layer("Flatten", pooled), build.channels[x], 6)


def residual_model(
    head: Callable[[KerasBuilder, str], str] = head_of_windows,
    start: Callable[[KerasBuilder, str], str] = lambda build, x: x,
    *,
    side: int | None = 64,
    keras3: bool = False,
) -> tuple[KerasBuilder, str]:
    """A narrow ResNet of the Keras tutorials, with one block in each stage; and the name of its output."""
    build = KerasBuilder(side, keras3=keras3)
    x = build.layer("ZeroPadding2D", start(build, "images"), padding=[[3, 3], [3, 3]])
    x = build.norm("bn_conv1", build.conv("conv1", x, 8, 7, strides=[2, 2]))
    x = build.layer("Activation", x, activation="relu")
    x = build.layer("MaxPooling2D", x, pool_size=[3, 3], strides=[2, 2], padding="valid")
    for stage, width in enumerate((4, 8, 16, 32), start=2):
        strides = [1, 1] if stage == 2 else [2, 2]
        y = build.norm(f"bn{stage}a_branch2a", build.conv(f"res{stage}a_branch2a", x, width, 1, strides=strides))
        y = build.conv(
            f"res{stage}a_branch2b", build.layer("Activation", y, activation="relu"), width, 3, padding="same"
        )
        y = build.layer("Activation", build.norm(f"bn{stage}a_branch2b", y), activation="relu")
        y = build.norm(f"bn{stage}a_branch2c", build.conv(f"res{stage}a_branch2c", y, 4 * width, 1))
        x = build.norm(f"bn{stage}a_branch1", build.conv(f"res{stage}a_branch1", x, 4 * width, 1, strides=strides))
        x = build.add("Add", f"sum_{stage}", [y, x], 4 * width)
        x = build.layer("Activation", x, activation="relu")
    return build, head(build, x)
