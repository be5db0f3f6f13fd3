"""Key maps of users, the one that an error proposes, and classifiers found by their shape."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

import resnets
from resnets.errors import ConfigError, WeightsError
from resnets.weights.key_map import read_key_map, rename_keys
from tests.conftest import Command, assert_one_line_error
from tests.weights.networks import randomized, randomized_network, same_weights

LINES = {"conv_1": "conv1", "bn_1": "bn1", "stage_": "layer"}


def renamed(name: str, lines: dict[str, str], **options: Any) -> tuple[Any, dict[str, Tensor]]:
    """A network, and its tensors with our starts of names replaced by others."""
    model = randomized_network(name, **options)
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        theirs = next((theirs + key.removeprefix(ours) for theirs, ours in lines.items() if key.startswith(ours)), key)
        state[theirs] = tensor.contiguous()
    return model, state


def test_three_lines_open_a_file_of_unknown_names(command: Command, tmp_path: Path) -> None:
    model, state = renamed("resnet20_cifar", LINES)
    torch.save(state, tmp_path / "w.pth")  # safetensors files do not keep the order
    (tmp_path / "map.yaml").write_text("".join(f"{old}: {new}\n" for old, new in LINES.items()))
    result = command("convert", tmp_path / "w.pth")
    assert_one_line_error(result, "--map map.yaml")
    proposed = re.search(r"write (\{.*\}) to map\.yaml", result.err)
    assert proposed is not None
    (tmp_path / "proposed.yaml").write_text(proposed[1])
    for name in ("map.yaml", "proposed.yaml"):
        arguments = ("convert", tmp_path / "w.pth", "--variant", "resnet20_cifar")
        code, out, err = command(*arguments, "-o", tmp_path / name.partition(".")[0], "--map", tmp_path / name)
        assert (code, err) == (0, "")
        assert "were renamed by the key map" in out
        assert same_weights(resnets.load(tmp_path / name.partition(".")[0]).model, model)


def test_a_map_is_proposed_for_other_classes_and_channels() -> None:
    names = {"s1.": "layer1.", "b": "bn1", "c": "conv1", "out.": "fc."}
    model, state = renamed("resnet18", names, num_classes=7, in_chans=1)
    with pytest.raises(WeightsError, match=r"map\.yaml") as caught:
        resnets.import_weights(state)
    proposed = re.search(r"write (\{.*\}) to", str(caught.value))
    assert proposed is not None
    found, _ = resnets.import_weights(state, key_map=yaml.safe_load(proposed[1]))
    assert same_weights(found, model)
    with pytest.raises(WeightsError, match="known dialect") as caught:
        resnets.import_weights(dict(reversed(state.items())))
    assert "map.yaml" not in str(caught.value)


def test_exact_start_and_pattern() -> None:
    lines = {"a.weight": "x.weight", "a.": "y.", r"^(\d+)\.bn": r"\1.norm", "gone.": None}
    names = ["a.weight", "a.bias", "12.bn.weight", "gone.b", "kept"]
    assert rename_keys(names, lines, "w") == {
        "a.weight": "x.weight", "a.bias": "y.bias", "12.bn.weight": "12.norm.weight", "gone.b": None, "kept": "kept",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has none"),
        ("- a", "has none"),
        ("a: [1]", "quotes"),
        ("1: b", "quotes"),
        ("a: b\na: c", "repeated"),
        ("^(: b", "regular expression"),
        (r"^a: \2", "regular expression"),
        ("^" + "a" * 300 + ": b", "at most 200"),
        ("{", "key map"),
    ],
)
def test_damaged_maps(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_key_map(tmp_path / "map.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "message"), [({"nothing.": "x"}, "renames none"), ({"a.": "c.", "b.": "c."}, "both become c.w")]
)
def test_maps_that_do_not_fit(lines: dict[str, str | None], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rename_keys(["a.w", "b.w"], lines, "w")


HEADS = ("fc.1.", "fc.0.2.", "classifier.0.", "head.", "head.fc.", "last_linear.")


@pytest.mark.parametrize("head", HEADS)
def test_a_classifier_is_found_by_its_shape(head: str) -> None:
    model, state = renamed("resnet18", {head: "fc."}, num_classes=5)
    found, report = resnets.import_weights(state)
    assert (found.config, report.filled) == (model.config, 1)
    assert same_weights(found, model)
    headless, report = resnets.import_weights(state, num_classes=0, dialect=report.dialect)
    assert headless.num_classes == 0
    assert {f"{head}weight", f"{head}bias"} <= {*report.dropped}


@pytest.mark.parametrize("head", ["fc", "classifier", "projection"])
def test_a_head_of_several_layers_is_refused_by_name(head: str) -> None:
    _, state = renamed("resnet18", {}, num_classes=0)
    mlp = nn.Sequential(nn.Linear(512, 16), nn.ReLU(), nn.Linear(16, 5))
    state |= {f"{head}.{key}": tensor for key, tensor in mlp.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"{head}\.0\.weight"):
        resnets.import_weights(state, variant="resnet18")


def test_fbresnet_and_a_classifier_named_last_linear() -> None:
    """Cadene's fbresnet152 has a bias in every convolution."""
    config = resnets.get_config("resnet152", depths=(1, 1, 1, 1), conv_bias="all", num_classes=5)
    model = randomized(config)
    state = {key.replace("fc.", "last_linear."): tensor for key, tensor in model.state_dict().items()}
    found, report = resnets.import_weights(state)
    assert (found.config, report.dialect) == (config, "cadene")
    assert same_weights(found, model)


def test_squeeze_and_excitation_by_1x1_convolutions_with_ibn() -> None:
    config = resnets.get_config("se_resnet50_ibn_a", depths=(1, 1, 1, 1), num_classes=5)
    model = randomized(config)
    state = {key: t[:, :, None, None] if ".se.fc." in key else t for key, t in model.state_dict().items()}
    found, _ = resnets.import_weights(state)
    assert found.config == config
    assert same_weights(found, model)


def test_an_application_of_keras_with_another_classifier(tmp_path: Path) -> None:
    """A nested base, a global pool, dropout and `Dense`, as transfer learning makes them."""
    h5py = pytest.importorskip("h5py")
    from resnets.weights.export import foreign_tensors

    model = randomized_network("keras_resnet50", depths=(1, 1, 1, 1), num_classes=4)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        names: dict[str, list[str]] = {"resnet50": [], "dense_3": []}
        for name, tensor in foreign_tensors(model, "keras").items():
            group = "dense_3" if "predictions" in name else "resnet50"
            name = name.replace("predictions", "dense_3")
            file.create_dataset(f"{group}/{name}:0", data=tensor.numpy())
            names[group].append(f"{name}:0")
        file.attrs["layer_names"] = [b"resnet50", b"global_average_pooling2d", b"dropout", b"dense_3"]
        file.create_group("global_average_pooling2d").attrs["weight_names"] = np.array([], "S1")
        file.create_group("dropout").attrs["weight_names"] = np.array([], "S1")
        for group, listed in names.items():
            file[group].attrs["weight_names"] = [name.encode() for name in listed]
    found, report = resnets.import_weights(tmp_path / "w.h5")
    assert (report.dialect, report.filled, found.num_classes) == ("keras", 1, 4)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(found(x), model.eval()(x))


def test_slim_classifies_every_cell() -> None:
    from resnets.weights.export import foreign_tensors

    model = randomized_network("resnet_v2_50", depths=(1, 1, 1, 1), num_classes=5).eval()
    tensors = foreign_tensors(model, "slim")
    dense, _ = resnets.import_weights(tensors, dialect="slim", global_pool=False, output_stride=8)
    pooled, _ = resnets.import_weights(tensors, dialect="slim", output_stride=8)
    x = torch.randn(1, 3, 64, 64)
    assert dense(x).shape == (1, 5, 8, 8)
    torch.testing.assert_close(dense(x).mean((2, 3)), pooled(x), rtol=1e-4, atol=1e-5)
    assert dense.forward_head(dense.forward_features(x), pre_logits=True).shape == (1, 2048, 8, 8)
