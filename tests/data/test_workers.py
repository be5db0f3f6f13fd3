"""Any number and kind of workers give the same batches to the bit, and their memory does not grow."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset

from resnets.arch.preprocessing import Preprocessing
from resnets.data.augment.config import AugmentConfig, Sampling
from resnets.data.dataset import ImageSet
from resnets.data.loader import Batch, EpochLoader, make_batches
from resnets.data.open import open_dataset
from resnets.data.workers import WorkerKind, available_cores, map_threads, start_workers
from resnets.errors import DataError
from resnets.runtime.shard import Shard

PREPROCESSING = Preprocessing(size=(16, 12), crop_pct=1)
BASE = AugmentConfig(
    vflip=True,
    color_jitter=(0.4, 0.4, 0.4, 0.1),
    grayscale=0.3,
    random_erasing=0.7,
    erasing_fill="noise",
    erasing_count=2,
)
POLICIES = {
    "trivialaugment": AugmentConfig(**{**vars(BASE), "policy": "trivialaugment", "scale": (0.2, 1.0)}),
    "randaugment": AugmentConfig(**{**vars(BASE), "policy": "randaugment", "scale": (0.2, 1.0), "cutout": 4}),
    "autoaugment": AugmentConfig(**{**vars(BASE), "policy": "autoaugment", "pad": 2, "pad_mode": "reflect"}),
}
SAMPLINGS = (Sampling(), Sampling(balanced=True), Sampling(repeats=3))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """Two classes of uneven size, of images of many sizes."""
    root, generator = tmp_path_factory.mktemp("pets"), np.random.default_rng(0)
    for name, count in (("a", 14), ("b", 5)):
        (root / name).mkdir()
        for number in range(count):
            height, width = generator.integers(14, 40, 2)
            pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return open_dataset(root, val_fraction=0).splits["train"]


def stream(
    images: ImageSet,
    config: AugmentConfig,
    batch_size: int,
    *,
    workers: int = 0,
    sampling: Sampling | None = None,
    shard: Shard | None = None,
    kind: WorkerKind = "processes",
    on_message: Callable[[str], None] = lambda text: None,
) -> EpochLoader:
    """A loader that streams, with seed 3."""
    return make_batches(
        images,
        PREPROCESSING,
        batch_size=batch_size,
        augment=config,
        seed=3,
        workers=workers,
        workers_kind=kind,
        sampling=sampling,
        shard=shard,
        limit_bytes=0,
        on_message=on_message,
    )


def equal(one: Batch, other: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["plain", "balanced", "repeats"])
def test_workers_and_batches_change_nothing(images: ImageSet, policy: str, sampling: Sampling) -> None:
    def epochs(workers: int) -> list[Batch]:
        batches = stream(images, POLICIES[policy], 5, workers=workers, sampling=sampling)
        return [*batches.epoch(0), *batches.epoch(4, start=1, size=(10, 8))]

    alone = epochs(0)
    assert [len(batch.y) for batch in alone] == [5, 5, 5, 4, 5, 5, 4]
    for workers in (2, 7) if sampling.repeats == 1 and not sampling.balanced else (2,):
        assert all(equal(a, b) for a, b in zip(alone, epochs(workers), strict=True)), workers


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["plain", "balanced", "repeats"])
def test_an_image_is_the_same_alone_and_in_a_batch(images: ImageSet, policy: str, sampling: Sampling) -> None:
    def epoch(size: int, shard: Shard | None = None) -> torch.Tensor:
        batches = stream(images, POLICIES[policy], size, sampling=sampling, shard=shard)
        return torch.cat([batch.x for batch in batches.epoch(2)])

    alone = epoch(1)
    assert torch.equal(epoch(19), alone)
    assert torch.equal(epoch(4), alone)
    halves = [epoch(19, Shard(rank=rank, world_size=2)) for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), alone)
    assert len({image.numpy().tobytes() for image in alone}) == len(alone)  # no two vary alike


def test_an_image_in_memory_is_the_same_alone_and_in_a_batch(images: ImageSet) -> None:
    config = POLICIES["autoaugment"]
    for sampling in SAMPLINGS:
        streamed = stream(images, config, 6, workers=2, sampling=sampling)
        expected = torch.cat([batch.x for batch in streamed.epoch(1)])
        for size in (1, 6, 19):
            kept = make_batches(images, PREPROCESSING, batch_size=size, augment=config, seed=3, sampling=sampling)
            assert torch.equal(torch.cat([batch.x for batch in kept.epoch(1)]), expected)


def test_workers_do_not_draw_alike(images: ImageSet) -> None:
    """Copies of numpy's global generator in every worker would draw the same numbers (pytorch issue 5059)."""
    augment = AugmentConfig(hflip=True, scale=(0.1, 0.5))
    batches = stream(images, augment, 2, workers=4)
    np.random.seed(0)
    first = [batch.x for batch in batches.epoch(0)]
    np.random.seed(0)
    torch.manual_seed(0)
    second = [batch.x for batch in batches.epoch(1)]
    pixels = {image.numpy().tobytes() for batch in first + second for image in batch}
    assert len(pixels) == 2 * len(images)


@pytest.mark.slow
def test_memory_of_workers_does_not_grow(tmp_path: Path) -> None:
    """Resident memory of each worker after the first and after the sixth epoch over 300 files."""
    generator = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for number in range(300):
        pixels = generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{number:03d}.jpg")
    (tmp_path / "b").mkdir()
    Image.fromarray(pixels).save(tmp_path / "b" / "0.jpg")
    images = open_dataset(tmp_path, val_fraction=0).splits["train"]
    batches = stream(images, POLICIES["trivialaugment"], 16, workers=2)
    seen = []
    for epoch in range(6):
        for _ in batches.epoch(epoch):
            pass
        seen.append([resident_bytes(process.pid) for process in multiprocessing.active_children() if process.pid])
    assert len(seen[0]) == 2
    for first, last in zip(seen[0], seen[-1], strict=True):
        assert last - first < 4 * 2**20, seen


def resident_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


def test_threads_and_processes_give_the_same_batches(images: ImageSet) -> None:
    config = POLICIES["trivialaugment"]
    alone = stream(images, config, 4)
    threads = stream(images, config, 4, workers=3, kind="threads")
    before = torch.get_num_threads()
    for epoch in (0, 1):
        for one, other in zip(alone.epoch(epoch), threads.epoch(epoch), strict=True):
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.indices, other.indices)
    next(threads.epoch(2))  # a dropped epoch does not affect the next
    assert torch.equal(next(threads.epoch(3)).x, next(alone.epoch(3)).x)
    assert torch.get_num_threads() == before


def kill_a_worker() -> None:
    child = multiprocessing.active_children()[0]
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_workers_that_are_killed_are_started_again_at_the_same_batch(images: ImageSet) -> None:
    """Also between epochs; the error does not strike elsewhere, as that of torch's signal handler would."""
    config, messages = POLICIES["trivialaugment"], list[str]()
    handler = signal.getsignal(signal.SIGCHLD)
    alone = stream(images, config, 4)
    several = stream(images, config, 4, workers=2, on_message=messages.append)
    for epoch in (0, 1):
        for number, (one, other) in enumerate(zip(alone.epoch(epoch), several.epoch(epoch), strict=True)):
            assert torch.equal(one.x, other.x)
            if number in (1, 4):
                kill_a_worker()
                time.sleep(0.2)
    assert signal.getsignal(signal.SIGCHLD) is handler
    assert messages  # a worker whose batches are all made already is not missed
    assert set(messages) <= {
        f"a data worker ended unexpectedly (killed, or out of memory); the workers were started again at batch {batch}"
        for batch in range(1, 7)
    }


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_workers_that_are_killed_again_and_again_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnets.data.workers.MAX_RESTARTS", 1)  # torch looks for them every five seconds
    workers = start_workers(Suicidal(), 1, "processes")
    with pytest.raises(DataError, match=r"ended unexpectedly \(killed, or out of memory\) 2 times .*--workers 0"):
        list(workers.map([1, 2, 3]))


class Suicidal(TorchDataset[Any]):
    """Kills the worker that reads from it."""

    def __getitem__(self, request: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return request


def test_workers_do_not_keep_a_program_from_exiting(tmp_path: Path) -> None:
    """Not even if the loader is still referenced, within an epoch, when Python exits."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(8):
            Image.new("RGB", (20, 20)).save(tmp_path / label / f"{number}.png")
    program = (
        "import sys, signal; signal.signal(signal.SIGTERM, lambda *_: None);"
        "from resnets.data.loader import make_batches; from resnets.data.augment.config import AugmentConfig;"
        "from resnets.data.open import open_dataset; from resnets.arch.preprocessing import Preprocessing;"
        f"images = open_dataset({str(tmp_path)!r}, val_fraction=0).splits['train'];"
        "batches = make_batches(images, Preprocessing(size=(8, 8)), batch_size=2, augment=AugmentConfig(), workers=2,"
        "    limit_bytes=0);"
        "epoch = batches.epoch(0); next(epoch); batches.me = batches; print('over')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


def test_cores_are_those_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)), raising=False)
    assert available_cores() == 12
    before = set(threading.enumerate())
    workers = start_workers(TorchDataset[Any](), None, "threads")
    assert sum(thread.name.startswith("reader") for thread in set(threading.enumerate()) - before) == 8
    del workers
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def test_threads_return_results_in_order_and_do_not_run_far_ahead() -> None:
    started: list[int] = []

    def negate(number: int) -> int:
        started.append(number)
        return -number

    results = map_threads(negate, range(100), 2)
    assert [next(results) for _ in range(3)] == [0, -1, -2]
    assert len(started) < 20
    results.close()
    assert list(map_threads(abs, [-2, 1], 1)) == [2, 1]


@pytest.mark.parametrize(
    "error", [ConnectionResetError("Connection reset by peer"), EOFError(), FileNotFoundError(2, "x")]
)
def test_a_connection_to_a_killed_worker_that_breaks_starts_the_workers_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    workers = start_workers(Doubling(), 1, "processes", on_message=messages.append)
    kind: Any = type(workers)
    iterate, broken = kind._iterate, [error]

    def iterate_once(self: Any, requests: Any) -> Any:
        for number, result in enumerate(iterate(self, requests)):
            if number == 1 and broken:
                raise broken.pop()
            yield result

    monkeypatch.setattr(kind, "_iterate", iterate_once)
    assert list(workers.map([1, 2, 3])) == [2, 4, 6]
    assert len(messages) == 1
    assert "started again at batch 2" in messages[0]


def test_errors_of_a_reader_are_not_taken_for_killed_workers() -> None:
    workers = start_workers(Missing(), 1, "processes")
    with pytest.raises(FileNotFoundError, match="Caught FileNotFoundError in DataLoader worker"):
        list(workers.map([1]))


class Doubling(TorchDataset[Any]):
    def __getitem__(self, request: int) -> int:
        return 2 * request


class Missing(TorchDataset[Any]):
    def __getitem__(self, request: int) -> int:
        raise FileNotFoundError("gone")
