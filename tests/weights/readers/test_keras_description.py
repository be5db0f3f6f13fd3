"""A Keras file that describes its network opens as this network, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from resnets.errors import ResnetsError, WeightsError
from resnets.weights.load import import_weights
from resnets.weights.open import load_bundle
from tests.weights.readers.keras_models import KerasBuilder, head_of_windows, residual_model

pytest.importorskip("h5py")
NOTE = "the network computes what the file's description does, for random images"
Head = Callable[[KerasBuilder, str], str]


def globally(kind: str) -> Head:
    return lambda build, x: build.dense("fc6", build.layer(kind, x), build.channels[x], 6)


def flattened(build: KerasBuilder, x: str) -> str:
    return build.dense("fc6", build.layer("Flatten", x), 4 * build.channels[x], 6)


def dropped_and_sigmoid(build: KerasBuilder, x: str) -> str:
    pooled = build.layer("Dropout", build.layer("GlobalAveragePooling2D", x), rate=0.5)
    return build.dense("fc1", pooled, build.channels[x], 1, "sigmoid")


HEADS: dict[str, tuple[Head, dict[str, Any]]] = {
    "windows": (head_of_windows, {"global_pool": "window", "pool_window": 2}),
    "average": (globally("GlobalAveragePooling2D"), {"global_pool": "avg"}),
    "maximum": (globally("GlobalMaxPooling2D"), {"global_pool": "max"}),
    "flattened": (flattened, {"global_pool": "window", "pool_window": 1}),
    "dropout": (dropped_and_sigmoid, {"global_pool": "avg", "num_classes": 1}),
}


@pytest.mark.parametrize("keras3", [False, True])
@pytest.mark.parametrize("name", HEADS)
def test_heads(tmp_path: Path, name: str, keras3: bool) -> None:
    head, fields = HEADS[name]
    build, output = residual_model(head, keras3=keras3)
    model, report = import_weights(build.write(tmp_path / "w.h5", output))
    assert NOTE in report.notes
    assert {field: getattr(model.config, field) for field in fields} == fields


def test_images_of_any_size(tmp_path: Path) -> None:
    build, output = residual_model(globally("GlobalAveragePooling2D"), side=None)
    assert NOTE in import_weights(build.write(tmp_path / "w.h5", output))[1].notes


def changed(kind: str, **settings: Any) -> Callable[[dict[str, Any]], None]:
    """Change the settings of all layers of a kind; `kind_` is another class, `only` the name that they contain."""
    other, only = settings.pop("kind_", kind), settings.pop("only", "")

    def change(layer: dict[str, Any]) -> None:
        if layer["class_name"] == kind and only in layer["config"]["name"]:
            layer["class_name"] = other
            layer["config"] |= settings

    return change


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "strides": (changed("Conv2D", only="res3a", strides=[1, 1]), "differ|cannot be run|where the network"),
    "dilation": (changed("Conv2D", only="res3a_branch2b", dilation_rate=[2, 2]), "differ by"),
    "padding of the stem": (changed("ZeroPadding2D", padding=[[2, 4], [2, 4]]), "differ by"),
    "a maximum for an average": (changed("AveragePooling2D", kind_="MaxPooling2D"), "differ by|mis-shaped"),
    "an average for a maximum": (changed("MaxPooling2D", kind_="AveragePooling2D"), "differ by|mis-shaped"),
    "leaky": (changed("Activation", kind_="LeakyReLU", alpha=0.3), "differ by"),
    "ReLU6": (changed("Activation", kind_="ReLU", max_value=0.5), "differ by"),
    "a missing activation": (changed("Activation", only="_4", activation="linear"), "differ by"),
    "ELU": (changed("Activation", kind_="ELU"), "is a ELU, which no network here has"),
    "a difference": (changed("Add", kind_="Subtract"), "is a Subtract, which no network here has"),
    "a product": (changed("Add", kind_="Multiply"), "differ by"),
    "an activation of logits": (changed("Dense", activation="relu"), "differ by"),
    "a lambda": (changed("Flatten", kind_="Lambda"), "is a Lambda, which no network here has"),
    "a cycle": (lambda layer: layer.update(inbound_nodes=[[[layer["name"], 0, 0, {}]]]), "reads itself"),
    "no inputs": (lambda layer: layer.update(inbound_nodes=[]), "reads from nowhere"),
    "no settings": (lambda layer: layer.update(config=5), "no settings|no layers|is not images"),
    "text for numbers": (changed("Conv2D", strides="ab"), "cannot be run"),
    "a huge image": (
        changed("InputLayer", batch_input_shape=[None, 10**6, 10**6, 3]),
        "its images are of|at most",
    ),
    "a huge padding": (changed("ZeroPadding2D", padding=[[10**6, 10**6], [10**6, 10**6]]), "cannot be run|larger than"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_description_of_another_network_is_refused(tmp_path: Path, name: str) -> None:
    change, message = CHANGES[name]
    build, output = residual_model()
    with pytest.raises(ResnetsError, match=message) as caught:
        import_weights(build.write(tmp_path / "w.h5", output, change))
    assert len(str(caught.value)) < 600


def test_what_the_caller_says_is_only_compared(tmp_path: Path) -> None:
    build, output = residual_model()
    path = build.write(tmp_path / "w.h5", output, changed("ZeroPadding2D", padding=[[2, 4], [2, 4]]))
    report = import_weights(path, last_stride=2)[1]
    assert any(note.startswith("as you have chosen it, the network is another: a Keras model") for note in report.notes)


def rescaled(build: KerasBuilder, x: str) -> str:
    return build.layer("Rescaling", build.layer("Rescaling", x, scale=1 / 255, offset=0), scale=[2, 2, 4], offset=-1)


def standardised(build: KerasBuilder, x: str) -> str:
    flipped = build.layer("RandomFlip", x)
    return build.layer("Normalization", flipped, mean=[123.0, 117.0, 104.0], variance=[3364.0, 3249.0, 3136.0])


@pytest.mark.parametrize("keras3", [False, True])
def test_normalisation_in_the_model_becomes_preprocessing(tmp_path: Path, keras3: bool) -> None:
    cases = (
        (rescaled, (127.5, 127.5, 63.75), (127.5, 127.5, 63.75)),
        (standardised, (123.0, 117.0, 104.0), (58.0, 57.0, 56.0)),
    )
    for number, (start, mean, std) in enumerate(cases):
        build, output = residual_model(globally("GlobalAveragePooling2D"), start, keras3=keras3)
        preprocessing = load_bundle(build.write(tmp_path / f"{number}.h5", output)).preprocessing
        assert list(preprocessing.value_range) == [0, 255]
        assert torch.allclose(torch.tensor(preprocessing.mean), torch.tensor(mean), rtol=1e-5)
        assert torch.allclose(torch.tensor(preprocessing.std), torch.tensor(std), rtol=1e-5)


def test_operations_of_keras_3_on_the_image(tmp_path: Path) -> None:
    def caffe(build: KerasBuilder, x: str) -> str:
        ellipsis = {"class_name": "__ellipsis__", "config": {}}
        parts = [build.layer("GetItem", x) for _ in range(3)]
        for layer, channel in zip(build.layers[-3:], (2, 1, 0), strict=True):
            layer["inbound_nodes"][0]["args"].append([ellipsis, channel])
        image = build.add("Stack", "stack", parts, 3, axis=-1)
        added = build.layer("Add", image)
        means = {"class_name": "__tensor__", "config": {"value": [[[[-104.0, -117.0, -123.0]]]]}}
        build.layers[-1]["inbound_nodes"][0]["args"].append(means)
        divided = build.layer("TrueDivide", added)
        build.layers[-1]["inbound_nodes"][0]["args"].append(2.0)
        return divided

    build, output = residual_model(globally("GlobalAveragePooling2D"), caffe, keras3=True)
    preprocessing = load_bundle(build.write(tmp_path / "w.h5", output)).preprocessing
    assert (preprocessing.channels, preprocessing.mean, preprocessing.std) == ("BGR", (104, 117, 123), (2, 2, 2))


def test_normalisation_of_a_value_is_refused(tmp_path: Path) -> None:
    def scaled(build: KerasBuilder, x: str) -> str:
        pooled = build.layer("Rescaling", build.layer("GlobalAveragePooling2D", x), scale=2.0)
        return build.dense("fc6", pooled, build.channels[x], 6)

    build, output = residual_model(scaled)
    with pytest.raises(WeightsError, match="normalises a value that is not the image"):
        import_weights(build.write(tmp_path / "w.h5", output))
