"""The current phase of a run: its feature cache, validation on cached features, and when there is none."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from resnets.data.open import open_dataset
from resnets.errors import TrainingError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.loop import evaluate_model
from resnets.nn.split import Prefix
from resnets.runtime.failures import is_out_of_memory
from resnets.runtime.processes import Processes
from resnets.train.config.resolve import resolve_config
from resnets.train.config.train_config import TrainConfig
from resnets.train.freeze.feature_cache import CachedFeatureBatches, CacheLimits, FeatureCache
from resnets.train.loop import trainer as trainer_module
from resnets.train.loop.trainer import Trainer
from resnets.train.run_folder.paths import RunFolder
from tests.images import write_images
from tests.train.runs import Recorder

TINY = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}
WIDE = {"depths": (1, 1, 1), "widths": (16, 16, 24), "stem_width": 16}
COUNT = 21


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("stage") / "colours", {"train": COUNT // 3, "val": 5})


@pytest.fixture(autouse=True)
def _several_validation_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "VALIDATION_BATCH", 4)


def make(data: Path, folder: Path, processes: Processes | None = None, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "freeze": "layer1", "freeze_random": True,
        "epochs": 3, "batch_size": 4, "lr": 0.05, "model_args": TINY, "amp": "off", "device": "cpu",
        "workers": 0,
    }  # fmt: skip
    run = RunFolder(folder)
    run.checkpoints.mkdir(exist_ok=True)
    dataset = open_dataset(data)
    config = resolve_config(TrainConfig.from_options(data=str(data), **(settings | options)), dataset)
    return Trainer(run, config, dataset, Recorder(), processes=processes)


def messages(trainer: Trainer) -> list[str]:
    assert isinstance(trainer.console, Recorder)
    return trainer.console.lines


def on_batch(trainer: Trainer, see: Callable[[torch.Size], None]) -> RemovableHandle:
    """Call `see` with the shape of every batch of images that runs through the whole network."""
    first = trainer.model.conv1
    assert isinstance(first, nn.Conv2d)
    return first.register_forward_hook(lambda module, args, output: see(args[0].shape))


def run(trainer: Trainer, epoch: int) -> None:
    trainer.train_epoch(epoch)
    trainer.phase.frozen.verify()
    trainer.end_epoch(epoch)


@pytest.mark.parametrize(("epochs", "asked", "views"), [(2, 4, 1), (3, 4, 2), (3, 3, 2), (3, 2, 2), (6, 4, 4)])
def test_short_phases_keep_fewer_views(images: Path, tmp_path: Path, epochs: int, asked: int, views: int) -> None:
    trainer = make(images, tmp_path, epochs=epochs, views=asked)
    trainer.cache_features()
    assert isinstance(trainer.phase.batches, CachedFeatureBatches)
    counted = "1 view" if views == 1 else f"{views} views"
    assert messages(trainer) == [f"frozen up to layer1: features cached, {counted} per image, 0 MiB in memory"]
    for epoch in range(2):
        run(trainer, epoch)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"freeze_epochs": 1}, "the phase has one epoch"),
        ({"bn_stats": "train"}, "batch norms of the frozen part are updated"),
        ({"bn_affine": "train"}, "batch norms of the frozen part are updated"),
        ({"mixup": 0.2}, "mixup or CutMix is enabled"),
        ({"train_sizes": [[0, 8], [0.5, 12]]}, "train_sizes changes the image size"),
        (
            {"cache_memory_gb": 0, "cache_disk_gb": 1e-6},
            "the features need 0 MiB; cache_memory_gb and cache_disk_gb allow less; "
            "raise one of them, lower views or set cache_16bit",
        ),
    ],
)
def test_reasons_not_to_cache_features(images: Path, tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    trainer = make(images, tmp_path, **options)
    trainer.cache_features()
    assert trainer.phase.suffix is None
    assert trainer.train_step.network is trainer.model
    assert messages(trainer) == [f"frozen up to layer1: feature cache off: {reason}"]


@pytest.mark.parametrize("options", [{"cache": "off"}, {"freeze": "none"}])
def test_no_message_without_a_frozen_part_or_cache(images: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    trainer = make(images, tmp_path, **options)
    trainer.cache_features()
    assert trainer.phase.suffix is None
    assert messages(trainer) == []


def test_no_cache_with_several_processes(images: Path, tmp_path: Path) -> None:
    trainer = make(images, tmp_path)
    trainer.train_step.processes = Processes(0, 2)
    trainer.cache_features()
    assert messages(trainer)[0].endswith("several processes train")


def test_a_full_disk_trains_without_the_cache(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    trainer = make(images, tmp_path, cache_memory_gb=0)
    trainer.cache_features()
    assert trainer.phase.suffix is None
    assert "need 0 MiB in" in messages(trainer)[0]
    assert "No space left on device" in messages(trainer)[0]
    run(trainer, 0)


def test_too_little_memory_trains_without_the_cache(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the limit and the cache exceed the memory of the machine."""
    monkeypatch.setattr(Prefix, "output_shape", lambda *_: (2**48,))
    trainer = make(images, tmp_path, cache_memory_gb=2**30)
    trainer.cache_features()
    assert trainer.phase.suffix is None
    assert "MiB of memory; cpu has less" in messages(trainer)[0]
    run(trainer, 0)
    limits = CacheLimits(memory_bytes=2**60)
    with pytest.raises(TrainingError, match="MiB of memory; cpu has less; lower views"):
        FeatureCache(1, 1, (2**57,), limits=limits)
    with pytest.raises(RuntimeError) as other:
        FeatureCache(1, 1, (2**57,), limits=limits, device="nowhere")
    assert not is_out_of_memory(other.value)


def test_features_are_computed_by_the_batch_also_with_accumulation(images: Path, tmp_path: Path) -> None:
    """Cached features depend on one image only."""
    shapes: list[torch.Size] = []
    kept: list[torch.Tensor] = []
    for accumulate in (1, 3):
        trainer = make(images, tmp_path, accumulate=accumulate)
        hook = on_batch(trainer, shapes.append)
        trainer.cache_features()
        hook.remove()
        rows = {int(i): row for b in trainer.phase.batches.epoch(0) for i, row in zip(b.indices, b.x, strict=True)}
        kept.append(torch.stack([rows[place] for place in range(COUNT)]))
        assert trainer.phase.batches.bounds[0] == (0, 4 * accumulate)
    assert max(shape[0] for shape in shapes) <= 5  # a single image that is left over joins the batch before it
    torch.testing.assert_close(kept[0], kept[1], rtol=1e-5, atol=1e-6)


def validate_whole(trainer: Trainer) -> Evaluation:
    """Validation of the whole network, without cached features."""
    assert trainer.val_batches is not None
    return evaluate_model(trainer.model, trainer.val_batches.epoch(0), trainer.dataset.classes)


def validate(trainer: Trainer) -> Evaluation:
    evaluation = trainer.validate(trainer.model)
    assert isinstance(evaluation, Evaluation)
    return evaluation


NETWORKS = (TINY, WIDE, WIDE | {"drop_rate": 0.5, "drop_path_rate": 0.3}, WIDE | {"ibn": ("a", "a", "")})
CASES = [(place, network, {"ema": 0.9}) for place in ("stem", "layer2", "backbone") for network in NETWORKS]


@pytest.mark.parametrize(
    ("freeze", "network", "average"), [*CASES, ("layer2", WIDE, {}), ("layer2", WIDE, {"swa_epochs": 2})]
)
def test_validation_on_cached_features_is_exact(
    images: Path, tmp_path: Path, freeze: str, network: dict[str, Any], average: dict[str, Any]
) -> None:
    """Of narrow networks in NCHW and wider ones in channels last, in mixed precision."""
    trainer = make(images, tmp_path, freeze=freeze, model_args=network, amp="bf16", **average)
    trainer.cache_features()
    for epoch in range(3):
        run(trainer, epoch)
        seen: list[torch.Size] = []
        hook = on_batch(trainer, seen.append)
        with trainer.averaged_weights(epoch):
            seen.clear()
            modes = [module.training for module in trainer.model.modules()]
            kept = validate(trainer)
            assert sum(shape[0] for shape in seen) == (0 if epoch else 15)
            assert [module.training for module in trainer.model.modules()] == modes
            expected = validate_whole(trainer)
        hook.remove()
        assert kept.logits.tobytes() == expected.logits.tobytes()
        assert (kept.labels == expected.labels).all()
        assert (kept.indices == expected.indices).all()
    assert len(messages(trainer)) == 1


def test_another_network_and_a_compiled_one_are_validated_whole(images: Path, tmp_path: Path) -> None:
    trainer = make(images, tmp_path)
    trainer.cache_features()
    validate(trainer)
    seen: list[torch.Size] = []
    hook = on_batch(trainer, seen.append)
    validate(trainer)
    assert not seen
    hook.remove()
    other = deepcopy(trainer.model)
    seen_by_other: list[torch.Size] = []
    other.conv1.register_forward_hook(lambda module, args, output: seen_by_other.append(args[0].shape))  # type: ignore[union-attr]
    trainer.validate(other)
    assert sum(shape[0] for shape in seen_by_other) == 15
    compiled = make(images, tmp_path)
    compiled.cache_features()
    compiled.config = replace(compiled.config, compile="default")
    on_batch(compiled, seen.append)
    validate(compiled)
    assert sum(shape[0] for shape in seen) == 15


def test_no_room_for_features_of_validation(images: Path, tmp_path: Path) -> None:
    """The limits hold for both together."""
    trainer = make(images, tmp_path, freeze="backbone", views=1, cache_memory_gb=COUNT * 8 * 4 / 2**30, cache_disk_gb=0)
    trainer.cache_features()
    for epoch in range(2):
        run(trainer, epoch)
        with trainer.averaged_weights(epoch):
            assert validate(trainer).logits.tobytes() == validate_whole(trainer).logits.tobytes()
    assert len(messages(trainer)) == 2
    assert messages(trainer)[1].startswith("feature cache off for validation: ")
    assert "cache_memory_gb and cache_disk_gb" in messages(trainer)[1]
    file = make(images, tmp_path, freeze="backbone", views=1, cache_memory_gb=COUNT * 8 * 4 / 2**30)
    file.cache_features()
    run(file, 0)
    with file.averaged_weights(0):
        assert validate(file).logits.tobytes() == validate_whole(file).logits.tobytes()
    seen: list[torch.Size] = []
    on_batch(file, seen.append)
    validate(file)
    assert not seen
    assert len(messages(file)) == 1


def test_an_average_that_lags_behind_the_frozen_part_is_validated_whole(images: Path, tmp_path: Path) -> None:
    """All trains, then layer1 is frozen: its mean is still on its way."""
    phases = [{"epochs": 1, "freeze": "none"}, {"epochs": 2, "freeze": "layer1"}]
    trainer = make(images, tmp_path, freeze="none", phases=phases, ema=0.9)
    run(trainer, 0)
    trainer.enter_phase(1)
    trainer.cache_features()
    assert trainer.phase.suffix is not None
    run(trainer, 1)
    assert not trainer.average.frozen_is_current
    with trainer.averaged_weights(1):
        seen: list[torch.Size] = []
        on_batch(trainer, seen.append)
        kept = validate(trainer)
        assert sum(shape[0] for shape in seen) == 15
        expected = validate_whole(trainer)
    assert kept.logits.tobytes() == expected.logits.tobytes()


def test_a_change_between_epochs_is_found(images: Path, tmp_path: Path) -> None:
    trainer = make(images, tmp_path)
    run(trainer, 0)
    with torch.no_grad():
        next(trainer.model.parameters())[0, 0, 0, 0] += 1e-6
    with pytest.raises(TrainingError, match=r"1 of \d+ changed, first conv1\.weight"):
        run(trainer, 1)


def test_averaged_statistics_use_the_sizes_and_micro_batches_of_training(images: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"train_sizes": [[0, 8]], "swa_epochs": 2, "epochs": 2, "accumulate": 2}
    trainer = make(images, tmp_path, freeze="none", **options)
    run(trainer, 0)
    shapes: set[torch.Size] = set()
    hook = on_batch(trainer, shapes.add)
    with trainer.averaged_weights(0):
        pass
    hook.remove()
    assert {shape[2:] for shape in shapes} == {(8, 8)}
    assert max(shape[0] for shape in shapes) == 4
