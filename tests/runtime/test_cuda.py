"""What only a CUDA GPU can show: `make test-cuda`. Other tests do not see a GPU, since they fork processes."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnets.api import load
from resnets.arch.variants import get_config, list_models
from resnets.nn.model import build_model
from resnets.train.config.options import LossConfig, OptimConfig
from resnets.train.loop.train_step import TrainStep
from resnets.train.optim.losses import ClassificationLoss
from resnets.train.optim.optimizers import build_optimizer
from resnets.train.run import resume, verify
from tests.images import write_images
from tests.train.runs import same_outcome, start, stop_at, without_report

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and make test-cuda")

__all__ = ["without_report"]


@pytest.mark.parametrize("name", [name for name in list_models() if "1202" not in name])
def test_outputs_and_gradients_are_those_of_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    model = build_model(get_config(name)).double().eval()
    x = torch.randn(2, model.config.in_chans, 64, 64, generator=torch.Generator().manual_seed(1)).double()
    results = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad(set_to_none=True)
        output = model(x.to(device))
        output.square().mean().backward()
        gradients = torch.cat(
            [parameter.grad.cpu().flatten() for parameter in model.parameters() if parameter.grad is not None]
        )
        results.append((output.detach().cpu(), gradients))
    for one, other in zip(*results, strict=True):
        assert (one - other).norm() <= 1e-7 * one.norm()


@pytest.mark.parametrize(
    "options",
    [
        {}, {"amp": "bf16"}, {"amp": "fp16", "clip_grad": 1.0}, {"ema": 0.9}, {"opt": "muon"}, {"opt": "lamb"},
        {"mixup": 0.2, "cutmix": 1.0}, {"freeze": "layer1", "freeze_epochs": 2}, {"freeze": "backbone"},
        {"accumulate": 2}, {"swa_epochs": 1}, {"workers": 2, "img_size": 32},
    ],
    ids=str,
)  # fmt: skip
def test_a_resumed_run_equals_one_that_was_not_stopped(
    options: dict[str, Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(images, tmp_path, name="whole", **options).folder
    stopped = stop_at(images, tmp_path, 4, monkeypatch, **options)
    resume(stopped)
    same_outcome(whole, stopped)
    assert verify(whole).identical


@pytest.mark.parametrize("size", [160, 224])
def test_photographs_are_trained_on_deterministically(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ResNet-18 at the size of photographs, whose convolutions have other kernels than those of tiny networks."""
    images = write_images(tmp_path / "photographs", {"train": 12, "val": 2}, size=256)
    options: dict[str, Any] = {"model_args": {}, "model": "resnet18", "img_size": size, "amp": "auto", "batch_size": 8}
    whole = start(images, tmp_path, name="whole", **options).folder
    stopped = stop_at(images, tmp_path, 7, monkeypatch, **options)
    resume(stopped)
    same_outcome(whole, stopped)


def test_memory_that_runs_out_doubles_the_micro_batches() -> None:
    model = build_model(get_config("resnet50")).cuda().train()
    messages: list[str] = []
    step = TrainStep(
        model, build_optimizer(model, OptimConfig()), lambda step: 0.01, ClassificationLoss(LossConfig()),
        amp=torch.bfloat16, on_message=messages.append,
    )  # fmt: skip
    x, y = torch.randn(96, 3, 224, 224, device="cuda"), torch.arange(96, device="cuda")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(4 * 2**30 / torch.cuda.get_device_properties(0).total_memory)
    try:
        losses = [float(step(x, y)[0]) for _ in range(2)]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
    assert step.micro_batches > 1
    assert "out of memory at step 1" in messages[0]
    assert all(np.isfinite(losses))


def test_a_model_answers_the_same_on_both_devices_and_from_several_threads(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    folder = start(images, tmp_path, name="run", epochs=1).folder
    bundle = load(folder / "best")
    paths = sorted((images / "val").rglob("*.png"))
    expected = bundle.predict(paths, device="cpu")
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda _: bundle.predict(paths, device="cuda"), range(8)):
            for one, other in zip(expected, answers, strict=True):
                assert one.label == other.label
                assert one.confidence == pytest.approx(other.confidence, abs=1e-5)
    on_gpu, on_cpu = (bundle.embed(paths, device=device) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(on_gpu, on_cpu, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("default")  # torch.compile has its own
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_training(mode: str, images: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"compile": mode, "amp": "auto", "deterministic": False}
    result = start(images, tmp_path, name=mode, **options)
    losses = [row["train_loss"] or 0.0 for row in result.results]
    assert losses[-1] < losses[0]


def test_a_launched_process_synchronises_batch_norm(images: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "resnets",
        "train", str(images), "--model", "resnet20_cifar", "--epochs", "1", "--batch-size", "16",
        "--set", "sync_bn=true", "--output", str(tmp_path), "--name", "run",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best").exists()
