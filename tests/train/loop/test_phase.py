"""What a frozen part answers, kept: where it is, what is measured on it, and why it sometimes is not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from resnets.train.loop.engine import Engine
from torch import nn
from torch.utils.hooks import RemovableHandle

from resnets.data.loader import make_batches
from resnets.data.open import open_dataset
from resnets.errors import TrainingError
from resnets.evaluate.loop import evaluate_model
from resnets.nn.split import SuffixModule
from resnets.runtime.console import Console
from resnets.runtime.processes import Processes
from resnets.train.config.resolve import settle
from resnets.train.config.train_config import TrainConfig
from resnets.train.freeze.feature_cache import CachedFeatureBatches, FeatureCache
from resnets.train.loop.train_step import is_out_of_memory
from tests.images import write_images

TINY = {"depths": (1, 1, 1), "widths": (8, 8, 8), "stem_width": 8}
WIDE = {"depths": (1, 1, 1), "widths": (16, 16, 24), "stem_width": 16}
COUNT = 21


class Heard(Console):
    """Remembers what was said."""

    def __init__(self) -> None:
        super().__init__(quiet=True, silent=True)
        self.lines: list[str] = []

    def say(self, text: str, *, always: bool = False) -> None:
        self.lines.append(text)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("stage") / "colours", {"train": COUNT // 3, "val": 5})


def make(data: Path, folder: Path, **options: Any) -> Engine:
    settings: dict[str, Any] = {
        "freeze": "layer1", "epochs": 3, "batch_size": 4, "lr": 0.05, "model_args": TINY, "amp": "off", "device": "cpu",
    }  # fmt: skip
    dataset = open_dataset(data)
    settled = settle(TrainConfig.from_options(data=str(data), **(settings | options)), dataset)
    return Engine(
        settled, dataset, Processes(), Heard(), folder, epoch=0, fresh=True, say=lambda text: None, stop=lambda: False
    )


def said(engine: Engine) -> list[str]:
    assert isinstance(engine.console, Heard)
    return engine.console.lines


def shown(engine: Engine, see: Callable[[torch.Size], None]) -> RemovableHandle:
    """Tell `see` the shape of every batch that the network is shown."""
    first = engine.model.conv1
    assert isinstance(first, nn.Conv2d)
    return first.register_forward_hook(lambda module, args, answer: see(args[0].shape))


def run(engine: Engine, epoch: int) -> None:
    engine.run(epoch, 0, lambda: False)
    engine.frozen.verify()
    engine.close(epoch)


@pytest.mark.parametrize(("epochs", "asked", "views"), [(2, 4, 1), (3, 4, 2), (3, 3, 2), (3, 2, 2), (6, 4, 4)])
def test_short_phases_keep_fewer_views(images: Path, tmp_path: Path, epochs: int, asked: int, views: int) -> None:
    engine = make(images, tmp_path, epochs=epochs, views=asked)
    engine.keep_answers()
    assert isinstance(engine.stage.batches, CachedFeatureBatches)
    counted = "1 view" if views == 1 else f"{views} views"
    assert said(engine) == [f"frozen up to layer1: its answers are kept, {counted} of each image, 0 MiB in memory"]
    for epoch in range(2):
        run(engine, epoch)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"freeze_epochs": 1}, "it is frozen for one epoch"),
        ({"bn_stats": "train"}, "its batch norms move"),
        ({"bn_affine": "train"}, "its batch norms move"),
        ({"mixup": 0.2}, "images are mixed"),
        ({"train_sizes": [[0, 8], [0.5, 12]]}, "images change their size"),
        (
            {"cache_memory_gb": 0, "cache_disk_gb": 1e-6},
            "they take 0 MiB; see cache_memory_gb, cache_disk_gb, views and cache_16bit",
        ),
    ],
)
def test_why_answers_are_not_kept(images: Path, tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    engine = make(images, tmp_path, **options)
    engine.keep_answers()
    assert engine.stage.suffix is None
    assert engine.train_step.network is engine.model
    assert said(engine) == [f"frozen up to layer1: its answers are not kept, each epoch computes them anew: {reason}"]


@pytest.mark.parametrize("options", [{"cache": "off"}, {"freeze": "none"}])
def test_what_nobody_wants_is_not_spoken_of(images: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    engine = make(images, tmp_path, **options)
    engine.keep_answers()
    assert engine.stage.suffix is None
    assert said(engine) == []


def test_several_processes_say_so(images: Path, tmp_path: Path) -> None:
    engine = make(images, tmp_path)
    engine.processes = Processes(0, 2)
    engine.keep_answers()
    assert said(engine)[0].endswith("several processes train")


def test_a_full_disk_is_the_plain_way(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    engine = make(images, tmp_path, cache_memory_gb=0)
    engine.keep_answers()
    assert engine.stage.suffix is None
    assert "needs 0 MiB in" in said(engine)[0]
    assert "No space left on device" in said(engine)[0]
    run(engine, 0)


def test_memory_that_cannot_be_had_is_the_plain_way(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is more than the machine has, and so is what is asked for."""
    monkeypatch.setattr(FeatureCache, "bytes_for", staticmethod(lambda *_: 2**59))
    engine = make(images, tmp_path, cache_memory_gb=2**30)
    engine.keep_answers()
    assert engine.stage.suffix is None
    assert "MiB of memory; cpu has less" in said(engine)[0]
    run(engine, 0)
    with pytest.raises(TrainingError, match="keep fewer views"):
        FeatureCache(1, 1, (1,))
    with pytest.raises(RuntimeError) as other:
        FeatureCache(1, 1, (1,), device="nowhere")
    assert not is_out_of_memory(other.value)


def test_images_of_an_update_are_shown_to_the_frozen_part_by_the_batch(images: Path, tmp_path: Path) -> None:
    """What is kept is of each image alone."""
    shapes: list[torch.Size] = []
    kept: list[torch.Tensor] = []
    for accumulate in (1, 3):
        engine = make(images, tmp_path, accumulate=accumulate)
        hook = shown(engine, shapes.append)
        engine.keep_answers()
        hook.remove()
        rows = {int(i): row for b in engine.stage.batches.epoch(0) for i, row in zip(b.indices, b.x, strict=True)}
        kept.append(torch.stack([rows[place] for place in range(COUNT)]))
        assert engine.stage.batches.bounds[0] == (0, 4 * accumulate)
    assert max(shape[0] for shape in shapes) <= 5  # a single image that is left over joins the batch before it
    torch.testing.assert_close(kept[0], kept[1], rtol=1e-5, atol=1e-6)


def measure(engine: Engine, data: Path, *, plain: bool = False) -> Any:
    dataset = open_dataset(data)
    batches = make_batches(dataset.splits["val"], engine.settings.preprocessing, batch_size=4, device="cpu", workers=0)
    model, given = (engine.model, batches.epoch(0)) if plain else engine.to_measure(engine.model, batches)
    return evaluate_model(model, given, dataset.classes)


NETWORKS = (TINY, WIDE, WIDE | {"drop_rate": 0.5, "drop_path_rate": 0.3}, WIDE | {"ibn": ("a", "a", "")})
CASES = [(place, network, {"ema": 0.9}) for place in ("stem", "layer2", "backbone") for network in NETWORKS]


@pytest.mark.parametrize(
    ("freeze", "network", "average"), [*CASES, ("layer2", WIDE, {}), ("layer2", WIDE, {"swa_epochs": 2})]
)
def test_validation_on_kept_answers_is_validation_to_the_bit(
    images: Path, tmp_path: Path, freeze: str, network: dict[str, Any], average: dict[str, Any]
) -> None:
    """Of narrow networks in NCHW and wider ones in channels last, in mixed precision."""
    engine = make(images, tmp_path, freeze=freeze, model_args=network, amp="bf16", **average)
    engine.keep_answers()
    for epoch in range(3):
        run(engine, epoch)
        seen: list[torch.Size] = []
        hook = shown(engine, seen.append)
        with engine.measured(epoch):
            seen.clear()
            modes = [module.training for module in engine.model.modules()]
            kept = measure(engine, images)
            assert sum(shape[0] for shape in seen) == (0 if epoch else 15)
            assert [module.training for module in engine.model.modules()] == modes
            expected = measure(engine, images, plain=True)
        hook.remove()
        assert kept.logits.tobytes() == expected.logits.tobytes()
        assert (kept.labels == expected.labels).all()
        assert (kept.indices == expected.indices).all()
    assert len(said(engine)) == 1


def test_another_network_is_measured_whole(images: Path, tmp_path: Path) -> None:
    engine = make(images, tmp_path)
    engine.keep_answers()
    batches = make_batches(engine.images, engine.settings.preprocessing, batch_size=4, device="cpu")
    other = nn.Identity()
    assert engine.to_measure(other, batches)[0] is other  # type: ignore[arg-type]
    assert isinstance(engine.to_measure(engine.model, batches)[0], SuffixModule)
    compiled = make(images, tmp_path)
    compiled.keep_answers()
    object.__setattr__(compiled.config, "compile", "default")
    assert compiled.to_measure(compiled.model, batches)[0] is compiled.model


def test_no_room_for_validation_is_the_plain_way(images: Path, tmp_path: Path) -> None:
    """The limits hold for both together."""
    engine = make(images, tmp_path, freeze="backbone", views=1, cache_memory_gb=COUNT * 8 * 4 / 2**30, cache_disk_gb=0)
    engine.keep_answers()
    for epoch in range(2):
        run(engine, epoch)
        with engine.measured(epoch):
            assert measure(engine, images).logits.tobytes() == measure(engine, images, plain=True).logits.tobytes()
    assert said(engine)[1:] == [
        "what the frozen part answers to validation images is not kept: cache_memory_gb and cache_disk_gb have no "
        "room for it"
    ]
    file = make(images, tmp_path, freeze="backbone", views=1, cache_memory_gb=COUNT * 8 * 4 / 2**30)
    file.keep_answers()
    run(file, 0)
    with file.measured(0):
        assert measure(file, images).logits.tobytes() == measure(file, images, plain=True).logits.tobytes()
    assert file.stage.measured is not None
    assert len(said(file)) == 1


def test_an_average_that_has_not_come_to_the_frozen_part_is_measured_whole(images: Path, tmp_path: Path) -> None:
    """All trains, then layer1 is frozen: its mean is still on its way."""
    phases = [{"epochs": 1, "freeze": "none"}, {"epochs": 2, "freeze": "layer1"}]
    engine = make(images, tmp_path, freeze="none", phases=phases, ema=0.9)
    run(engine, 0)
    assert engine.enter(1)
    engine.keep_answers()
    run(engine, 1)
    assert not engine.average.frozen_is_current
    with engine.measured(1):
        kept, expected = measure(engine, images), measure(engine, images, plain=True)
    assert engine.stage.measured is None
    assert kept.logits.tobytes() == expected.logits.tobytes()


def test_a_change_between_epochs_is_found(images: Path, tmp_path: Path) -> None:
    engine = make(images, tmp_path)
    run(engine, 0)
    with torch.no_grad():
        next(engine.model.parameters())[0, 0, 0, 0] += 1e-6
    with pytest.raises(TrainingError, match=r"1 of \d+ changed, first conv1\.weight"):
        run(engine, 1)


def test_statistics_of_averaged_epochs_see_the_images_and_parts_of_training(images: Path, tmp_path: Path) -> None:
    options = {"train_sizes": [[0, 8]], "swa_epochs": 2, "epochs": 2, "accumulate": 2}
    engine = make(images, tmp_path, freeze="none", **options)
    run(engine, 0)
    shapes: set[torch.Size] = set()
    hook = shown(engine, shapes.add)
    with engine.measured(0):
        pass
    hook.remove()
    assert {shape[2:] for shape in shapes} == {(8, 8)}
    assert max(shape[0] for shape in shapes) == 4
