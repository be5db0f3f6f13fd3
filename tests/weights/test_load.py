"""Foreign tensors into networks: what is read off them, what is asked, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.plan import plan
from resnets.arch.variants import get_config
from resnets.errors import ConfigError, UnknownNameError, WeightsError
from resnets.nn.model import build_model
from resnets.weights.load import import_weights
from resnets.weights.slots import slots
from tests.weights.networks import empty_tensors, foreign, randomized


def tensors_of(config: NetworkConfig, dialect: str = "torchvision") -> dict[str, Tensor]:
    """Random tensors of a network in a dialect."""
    return foreign(config, dialect)[0]


@pytest.mark.parametrize("name", ["resnet18", "resnext50_32x4d", "resnetv2_20_cifar", "plain20_cifar"])
def test_slots_are_the_state_dict(name: str) -> None:
    for norm in ("batch", "frozen_batch", "group"):
        config = get_config(name, norm=norm, norm_groups=8)
        state = build_model(config, init=False).state_dict()
        assert {slot.key: slot.shape for slot in slots(plan(config))} == {k: tuple(v.shape) for k, v in state.items()}


@pytest.mark.parametrize(
    "config",
    [
        ResNetConfig(block="basic", depths=(1, 2), widths=(24, 40), stem_width=8, num_classes=3),
        ResNetConfig(depths=(1, 1, 2), widths=(16, 24, 48), stem_width=12, groups=4, group_width=8, num_classes=0),
        ResNetConfig(depths=(2, 1), widths=(32, 64), shortcut="C", group_width=96, num_classes=4),
        ResNetConfig(block="basic", depths=(2,), widths=(16,), stem_width=8, in_chans=1, num_classes=2),
    ],
)
def test_networks_without_a_name(config: ResNetConfig) -> None:
    model, report = import_weights(empty_tensors(config))
    assert model.config == config
    assert report.variant == "custom"


def test_values_arrive_where_they_belong() -> None:
    config = get_config("resnet8_cifar")
    source = tensors_of(config, "akamaster")
    assert "linear.weight" in source
    model, report = import_weights({f"module.{key}": value for key, value in source.items()})
    assert (report.dialect, report.filled, report.missing) == ("akamaster", 1, ())
    assert report.renames == {"linear.weight": "fc.weight", "linear.bias": "fc.bias"}
    settled = {"stem_pool": "none", "shortcut": "A", "norm_eps": 1e-5, "antialias": False, "act": "relu"}
    assert settled.items() <= report.assumed.items()
    assert not {"depths", "widths", "stride_in", "num_classes", "drop_rate"} & report.assumed.keys()
    expected = randomized(config)
    for key, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(x), expected.eval()(x), rtol=0, atol=0)
    assert not model.training


def test_numpy_arrays_are_tensors() -> None:
    source = {key: value.numpy() for key, value in tensors_of(get_config("resnet8_cifar"), "akamaster").items()}
    for array in source.values():
        array.flags.writeable = False
    swapped = {key: array.astype(array.dtype.newbyteorder(">")) for key, array in source.items()}
    for arrays in (source, swapped):
        model, _ = import_weights(arrays)
        np.testing.assert_array_equal(model.state_dict()["fc.weight"].numpy(), source["linear.weight"])
    with pytest.raises(WeightsError, match=r"arrays of numbers; linear\.bias in "):
        import_weights(source | {"linear.bias": np.array(["a"] * 10)})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(dtype: torch.dtype) -> None:
    source = tensors_of(get_config("resnet8_cifar"), "akamaster")
    cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in source.items()}
    model, report = import_weights(cast)
    assert model.state_dict()["fc.weight"].dtype == torch.float32
    assert torch.equal(model.state_dict()["fc.weight"], cast["linear.weight"].float())
    assert any(str(dtype).removeprefix("torch.") in note for note in report.notes)


def test_missing_step_counters_are_reported_and_nothing_else_may_miss() -> None:
    source = tensors_of(get_config("resnet8_cifar"), "akamaster")
    old = {key: value for key, value in source.items() if not key.endswith("num_batches_tracked")}
    model, report = import_weights(old)
    assert len(report.missing) == 7
    assert report.filled == 1
    assert int(model.state_dict()["bn1.num_batches_tracked"]) == 0
    del old["layer2.0.bn1.running_var"], old["bn1.bias"]
    with pytest.raises(WeightsError, match=r"2 missing: bn1\.bias, layer2\.0\.bn1\.running_var;"):
        import_weights(old)


def test_unexpected_and_misshaped_tensors_are_listed() -> None:
    source = tensors_of(get_config("resnet18", num_classes=2))
    with pytest.raises(WeightsError, match=r"unexpected: layer1\.0\.extra\.weight"):
        import_weights(source | {"layer1.0.extra.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"1 mis-shaped: layer2\.1\.conv2\.weight \(128, 128, 1, 1\) for"):
        import_weights(source | {"layer2.1.conv2.weight": torch.zeros(128, 128, 1, 1)})
    with pytest.raises(WeightsError, match=r"80 missing: layer1\.2\.conv1\.weight"):
        import_weights(source, variant="resnet34")
    two = source | {f"model2.{key}": value for key, value in source.items()}
    with pytest.raises(WeightsError, match="unexpected: model2"):
        import_weights(two)


def test_a_network_beside_other_parts_is_found() -> None:
    source = tensors_of(get_config("resnet8_cifar"), "akamaster")
    wrapped = {f"module.base.{key}": value for key, value in source.items()}
    wrapped |= {"module.bottleneck.weight": torch.zeros(64), "module.classifier.weight": torch.zeros(5, 64)}
    model, report = import_weights(wrapped)
    assert report.dropped == ("bottleneck.weight", "classifier.weight")
    assert "used the part under 'base.'" in report.notes
    assert torch.equal(model.state_dict()["fc.weight"], source["linear.weight"])
    two = {f"{side}.{key}": value for key, value in source.items() for side in ("student", "teacher")}
    with pytest.raises(WeightsError, match=r"one network is read from a file; .* has student\., teacher\."):
        import_weights(two)


def test_ambiguous_tensors_list_the_options() -> None:
    bare = empty_tensors(get_config("resnet20_cifar"))
    with pytest.raises(WeightsError) as caught:
        import_weights(bare)
    message = str(caught.value)
    assert "such as resnet20_cifar or plain20_cifar" in message
    assert "shortcut= ('A' or 'A_after' or 'none')" in message
    assert "stem_pool= ('none' or 'max')" in message
    with pytest.raises(WeightsError, match="stem_pool="):
        import_weights(bare, shortcut="A")
    for variant in ("resnet20_cifar", "plain20_cifar"):
        model, report = import_weights(bare, variant=variant)
        assert (model.config, report.variant) == (get_config(variant), variant)
    model, _ = import_weights(bare, shortcut="none", stem_pool="max")
    assert (model.config.shortcut, model.config.stem_pool) == ("none", "max")


def test_groups_of_a_group_norm_are_timms_unless_passed() -> None:
    state = empty_tensors(get_config("resnet18", norm="group"))
    model, report = import_weights(state)
    assert (model.config.norm_groups, report.assumed["norm_groups"], report.dialect) == (32, 32, "timm")
    assert import_weights(state, norm_groups=16)[0].config.norm_groups == 16


@pytest.mark.parametrize(
    ("dilated", "stride"),
    [([False, False, False], None), (None, None), ((False, False, True), 16), ([False, True, True], 8)],
)
def test_torchvisions_dilation_is_translated(dilated: Any, stride: int | None) -> None:
    state = empty_tensors(get_config("resnet50"))
    for variant in ("auto", "resnet50"):
        model, _ = import_weights(state, variant=variant, replace_stride_with_dilation=dilated)
        assert model.config == get_config("resnet50", output_stride=stride)


@pytest.mark.parametrize("dilated", [[True, False, False], [False, True], "yes", 8])
def test_dilation_without_a_counterpart_is_refused(dilated: Any) -> None:
    with pytest.raises(ConfigError, match="no True before a False"):
        import_weights(empty_tensors(get_config("resnet18")), replace_stride_with_dilation=dilated)


def test_options_are_strict() -> None:
    state = empty_tensors(get_config("resnet18"))
    with pytest.raises(UnknownNameError, match="did you mean replace_stride_with_dilation"):
        import_weights(state, replace_stride_with_dilatoin=[False] * 3)
    with pytest.raises(UnknownNameError, match="akamaster option"):
        import_weights(state, dialect="akamaster", replace_stride_with_dilation=[False] * 3)
    with pytest.raises(ConfigError, match="set once"):
        import_weights(state, replace_stride_with_dilation=[False, False, True], output_stride=8)
    with pytest.raises(UnknownNameError, match="unknown dialect"):
        import_weights(state, dialect="torchvison")
    with pytest.raises(UnknownNameError, match="unknown model"):
        import_weights(state, variant="resnet19")


def test_options_that_tensors_do_not_determine() -> None:
    state = empty_tensors(get_config("resnet50"))
    model, report = import_weights(state, stride_in="1x1", last_stride=1, norm_eps=1e-3)
    assert model.config == get_config("resnet50", stride_in="1x1", last_stride=1, norm_eps=1e-3)
    assert "stride_in" not in report.assumed
    frozen, report = import_weights(state, norm="frozen_batch")
    assert "bn1.num_batches_tracked" not in frozen.state_dict()
    assert "bn1.num_batches_tracked" in report.dropped


def test_no_classes_leaves_the_classifier_out_by_name() -> None:
    state = empty_tensors(get_config("resnet18"))
    for variant in ("auto", "resnet18"):
        model, report = import_weights(state, variant=variant, num_classes=0, global_pool="none")
        assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 512, 2, 2)
        assert report.dropped == ("fc.weight", "fc.bias")
    with pytest.raises(WeightsError, match="mis-shaped: fc"):
        import_weights(state, num_classes=10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.weight": None}, "known dialect"),
        ({"linear.weight": torch.zeros(1)}, "known dialect"),
        ({"conv1.weight": torch.zeros(64, 3, 5, 5)}, "conv1 is 5x5"),
        ({"conv1.weight": torch.zeros(64, 3)}, "conv1.weight must have 4 axes"),
        ({"layer9.0.conv1.weight": torch.zeros(1)}, "stages are numbered"),
        ({"layer4.999.conv1.weight": torch.zeros(1)}, "blocks are numbered"),
        ({"layer2.1.downsample.0.weight": torch.zeros(1)}, "must have 4 axes"),
        ({"layer2.1.downsample.0.weight": torch.zeros(1, 1, 1, 1)}, "projections are in blocks"),
        ({"layer1.0.se.fc1.weight": torch.zeros(2)}, "attention squeezes all stages alike"),
        ({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 1)}, "square and not empty"),
        ({"layer4.0.conv2.weight": torch.zeros(0, 64, 3, 3)}, "square and not empty"),
        ({"features.0.weight": torch.zeros(64, 3, 3, 3)}, "one network is read"),
        ({"fc.weight": torch.zeros(3)}, "fc.weight must have 2 axes"),
    ],
)
def test_tensors_of_no_network_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    state = {k: v for k, v in (empty_tensors(get_config("resnet18")) | change).items() if v is not None}
    with pytest.raises(WeightsError, match=message) as caught:
        import_weights(state)
    assert "\n" not in str(caught.value)


def test_a_variant_far_larger_than_the_file_is_not_built() -> None:
    with pytest.raises(WeightsError, match="cannot come from"):
        import_weights(empty_tensors(get_config("resnet18")), variant=get_config("resnet18", depths=(1, 1, 1, 9000)))


def test_report_as_text() -> None:
    _, report = import_weights(tensors_of(get_config("resnet20_cifar"), "akamaster"))
    text = str(report)
    assert text.startswith("the tensors: resnet20_cifar, akamaster naming, 100.00% filled")
    assert "renamed (2): linear.weight -> fc.weight, linear.bias -> fc.bias" in text
    assert json.loads(json.dumps(report.to_dict()))["assumed"]["shortcut"] == "A"


@pytest.mark.parametrize(
    ("name", "mean", "std", "expected"),
    [
        ("akamaster/resnet20-12fca82f.th", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 912),
        ("laodaoguizhong/cifar10_resnet20.pth", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 940),
    ],
)
def test_real_weights_classify_as_published(
    shared_data: Path, name: str, mean: tuple[float, ...], std: tuple[float, ...], expected: int
) -> None:
    model, report = import_weights(shared_data / "weights" / name)
    assert report.filled == 1
    correct = 0
    for label, folder in enumerate(sorted(path for path in (shared_data / "cifar10_png" / "test").iterdir())):
        images = np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])
        x = (torch.tensor(images / np.float32(255)) - torch.tensor(mean)) / torch.tensor(std)
        with torch.inference_mode():
            correct += int((model(x.permute(0, 3, 1, 2)).argmax(1) == label).sum())
    assert correct == expected


def test_min_filled(tmp_path: Path) -> None:
    tensors, state = foreign(get_config("resnet18", num_classes=5), "torchvision")
    tensors["extra.weight"] = torch.ones(3)
    del tensors["layer4.1.conv2.weight"]
    tensors["layer4.1.bn2.weight"] = torch.ones(7)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="missing"):
        import_weights(tmp_path / "w.safetensors", min_filled=1, variant="resnet18")
    with pytest.raises(WeightsError, match=r"90\.00% of the network must come from the file; .* gives 78\.\d\d%"):
        import_weights(tmp_path / "w.safetensors", min_filled=0.9, variant="resnet18")
    part, report = import_weights(tmp_path / "w.safetensors", min_filled=0.7, variant="resnet18")
    assert report.missing == ("layer4.1.conv2.weight", "layer4.1.bn2.weight")
    assert set(report.unexpected) == {"extra.weight", "layer4.1.bn2.weight"}
    assert 0.78 < report.filled < 0.79
    assert report.notes[-1] == "2 tensors start fresh"
    assert torch.equal(part.state_dict()["layer4.1.conv1.weight"], state["layer4.1.conv1.weight"])
    assert part.state_dict()["layer4.1.bn2.weight"].unique().tolist() == [1]
    with pytest.raises(ConfigError, match=r"share in \[0, 1\]; got 1\.5"):
        import_weights(tensors, min_filled=1.5)


def test_a_name_that_means_another_network_in_the_dialect_is_reported() -> None:
    tensors = foreign(get_config("resnet_v1_50"), "slim")[0]
    model, report = import_weights(tensors, variant="resnet50")
    assert model.config == get_config("resnet50")
    assert report.assumed == {"stride_unit": "first", "stem_pool": "max", "shortcut": "B"}
    assert import_weights(tensors, dialect="slim", variant="resnet_v1_50")[1].assumed == {}


HEADS: dict[str, dict[str, tuple[int, ...]]] = {
    "two layers": {"fc.0.weight": (32, 512), "fc.0.bias": (32,), "fc.2.weight": (3, 32), "fc.2.bias": (3,)},
    "no bias": {"fc.weight": (3, 512)},
    "a norm before": {"bottleneck.weight": (512,), "bottleneck.bias": (512,), "classifier.weight": (3, 512)},
    "a second one": {"fc.weight": (3, 512), "fc.bias": (3,), "arcface.weight": (9, 512)},
    "an unusual name": {"projector.weight": (3, 512), "projector.bias": (3,)},
}


@pytest.mark.parametrize("name", HEADS)
def test_the_advice_about_another_head_works(name: str) -> None:
    trunk = {key: tensor for key, tensor in empty_tensors(get_config("resnet18")).items() if not key.startswith("fc.")}
    tensors = trunk | {key: torch.zeros(shape) for key, shape in HEADS[name].items()}
    with pytest.raises(WeightsError, match=r"the head must be one linear layer.*num_classes=0 .*key map"):
        import_weights(tensors)
    model, report = import_weights(tensors, num_classes=0)
    assert model.config == get_config("resnet18", num_classes=0)
    assert set(report.dropped) == set(HEADS[name])


def test_a_trunk_with_another_layer_is_no_matter_of_the_head() -> None:
    tensors = empty_tensors(get_config("resnet18")) | {"layer1.extra.weight": torch.zeros(64)}
    for classes in (1000, 0):
        with pytest.raises(WeightsError, match=r"1 unexpected: layer1\.extra\.weight"):
            import_weights(tensors, num_classes=classes)
