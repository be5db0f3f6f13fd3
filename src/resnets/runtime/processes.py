"""The processes that train together: one by default, several under `torchrun`. All functions also work with one."""

from __future__ import annotations

import gc
import os
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from resnets.errors import TrainingError
from resnets.runtime.device import pick_device
from resnets.runtime.rendezvous import fresh_store
from resnets.runtime.shard import Shard

__all__ = ["Processes", "join_processes", "require_own_gpu", "should_report_error"]

T = TypeVar("T")
TIMEOUT = timedelta(minutes=30)  # long enough for checking images and writing; a dead process is noticed at once


class Processes:
    """The processes of a run, seen from one of them. Collective methods must be called by all processes.

    Args:
        rank: number of this process, from 0. The main process, rank 0, writes files and prints messages.
        world_size: number of processes; `torch.distributed` must be initialised if it is above 1.
        local_rank: number of this process on its machine, which selects its GPU.
    """

    def __init__(self, rank: int = 0, world_size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.world_size, self.local_rank = rank, world_size, local_rank
        self._pending: tuple[Tensor, Any] | None = None  # the last reduction that `any_nonblocking` started

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and prints messages."""
        return self.rank == 0

    @property
    def shard(self) -> Shard:
        """The part of every batch that belongs to this process."""
        return Shard(rank=self.rank, world_size=self.world_size)

    def local_device(self, name: str) -> str:
        """The device of this process for the device option `name`: one GPU per process where there are several."""
        if self.world_size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return name

    def wrap_model(self, model: nn.Module, *, sync_bn: bool = False) -> nn.Module:
        """Wrap `model` in DistributedDataParallel, which averages gradients over the processes.

        Wrap it again whenever other parameters train, since DDP registers them once.

        Args:
            sync_bn: compute batch-norm statistics over the batches of all processes; requires CUDA.

        Raises:
            TrainingError: `sync_bn` without CUDA.
        """
        if self.world_size == 1:
            return model
        device = next(model.parameters()).device
        if sync_bn:
            if device.type != "cuda":
                raise TrainingError(
                    f"sync_bn requires CUDA; got device {device.type}; leave it out, or freeze the statistics "
                    "(--set bn_stats=frozen)"
                )
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            # torch 2.13 renames the argument; older versions have only this name.
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            # Statistics are not read before `broadcast_buffers`, so that no exchange in every step is needed.
            wrapper = DistributedDataParallel(
                model,
                device_ids=[device.index] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,
            )
        _wrappers.add(wrapper)
        return wrapper

    def no_sync(self, model: nn.Module) -> AbstractContextManager[Any]:
        """Accumulate gradients without averaging them, for all micro-batches of a step but the last."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def all_reduce_sum(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes, in place."""
        if self.world_size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        if self.world_size == 1:
            return list(flags)
        result = _flag_tensor(flags)
        dist.all_reduce(result, dist.ReduceOp.MAX)
        return [bool(flag) for flag in result.tolist()]

    def any_nonblocking(self, *flags: bool) -> list[bool]:
        """As `any`, but non-blocking: with several processes, returns the result of the previous call.

        The first call, and the first after `discard_pending`, returns False for each flag.
        """
        if self.world_size == 1:
            return list(flags)
        previous, result = self._pending, _flag_tensor(flags)
        self._pending = result, dist.all_reduce(result, dist.ReduceOp.MAX, async_op=True)
        if previous is None:
            return [False] * len(flags)
        previous[1].wait()
        return [bool(flag) for flag in previous[0].tolist()]

    def discard_pending(self) -> None:
        """Drop the flags of the last `any_nonblocking` call."""
        if self._pending is not None:
            self._pending[1].wait()
            self._pending = None

    def release(self) -> None:
        """Let go of the process group, so that destroying it ends its threads. All collectives must have ended.

        A thread of gloo that still drops the tensors of the last collective while Python ends aborts the process.
        """
        self.discard_pending()
        for wrapper in _wrappers:
            for name in ("reducer", "logger", "process_group"):
                vars(wrapper).pop(name, None)
        gc.collect()  # frames of errors that were caught, which hold the group too

    def run_on_main(self, function: Callable[[], T]) -> T:
        """Call `function` in the main process and return its result, or raise its exception, in all processes.

        Anything that only the main process does and that may fail belongs here: otherwise the other processes would
        wait for it until the timeout.
        """
        if self.world_size == 1:
            return function()
        box: list[Any] = [None, None]
        raised: Exception | None = None
        if self.is_main_process:
            try:
                box[0] = function()
            except Exception as error:
                # The arguments that copying uses: an OSError's `args` lack the file name.
                raised, box[1] = error, (type(error), error.__reduce__()[1], vars(error))
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise raised or _rebuild_exception(*box[1])
        return box[0]  # type: ignore[no-any-return]

    def all_gather(self, item: T) -> list[T]:
        """The items of all processes, in order of rank."""
        if self.world_size == 1:
            return [item]
        items: list[Any] = [None] * self.world_size
        dist.all_gather_object(items, item)
        return items

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy the main process's buffers, such as batch-norm statistics, to all processes."""
        if self.world_size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def join_processes(device: str = "auto") -> Iterator[Processes]:
    """Initialise the process group that `torchrun` started, for the length of a `with`; one process without it.

    A process group that the calling program has initialised already is used as it is.

    Args:
        device: device option of the run. Gradients go over NCCL on CUDA, else over gloo.

    Raises:
        TrainingError: the other processes cannot be reached, or one of them ended.
    """
    world_size = _world_size()
    if world_size == 1 or dist.is_initialized():
        yield Processes() if world_size == 1 else Processes(dist.get_rank(), dist.get_world_size(), _local_rank())
        return
    # Its functions keep the group of the time of import as a default, and DistributedDataParallel imports it.
    import_module("torch.distributed.nn.functional")
    cuda = torch.cuda.is_available() and device.startswith(("auto", "cuda"))
    if cuda:
        pick_device(
            device if ":" in device else f"cuda:{_local_rank() % torch.cuda.device_count()}"
        )  # and make current
    try:
        try:
            # Flags and objects go over gloo: on NCCL they would have to wait for the work queued on the GPU.
            store, rank, _ = next(rendezvous("env://", timeout=TIMEOUT))
            store.set_timeout(TIMEOUT)
            store = fresh_store(store, rank, world_size, TIMEOUT)
            backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
            dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=TIMEOUT)
            processes = Processes(dist.get_rank(), world_size, _local_rank())
            _start_ids.append(processes.run_on_main(lambda: uuid.uuid4().hex))
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"distributed training needs all processes; {_reason(error)}; start them with torchrun"
            ) from None
        if cuda:
            require_own_gpu(processes, str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid))
        try:
            yield processes
            processes.release()
        except RuntimeError as error:
            if not _is_lost_process(error):
                raise
            raise TrainingError(
                f"distributed training needs all processes; lost one: {_reason(error)}; see its own error message, "
                "or the log of torchrun or of the system"
            ) from None
    except BaseException:
        should_report_error()  # decided before the other processes notice that this one is gone
        _abandoned.append(dist.group.WORLD)  # ending its threads would wait for collectives that may never end
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def require_own_gpu(processes: Processes, gpu: str) -> None:
    """Check that no two processes use the same GPU, which NCCL refuses with a message of many lines.

    Args:
        gpu: UUID of this process's GPU.

    Raises:
        TrainingError: there are fewer GPUs than processes, or one was named for all of them.
    """
    count = len(set(processes.all_gather(gpu)))
    if count < processes.world_size:
        raise TrainingError(
            f"each process needs a GPU of its own; {processes.world_size} processes got {count}; start one process per "
            "GPU (torchrun --nproc-per-node) without a number in --device, or use --device cpu"
        )


def _rebuild_exception(kind: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any]) -> Exception:
    """A copy of another process's exception, made without `__init__`, whose parameters differ by class."""
    error: Exception = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


_wrappers = weakref.WeakSet[DistributedDataParallel]()
_abandoned: list[Any] = []  # process groups of runs that failed
_start_ids: list[str] = []  # the last is shared by all processes of this start


@cache
def should_report_error() -> bool:
    """Whether this process prints the error that ended all of them: the first that calls this. The result is cached."""
    if _world_size() == 1:
        return True
    key = "/".join(["resnets", os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), *_start_ids[-1:]])
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=10))  # type: ignore[attr-defined]
        return int(store.add(key, 1)) == 1
    except (KeyError, ValueError, RuntimeError):
        return True  # the store is gone, and so are the other processes


def _is_lost_process(error: RuntimeError) -> bool:
    """Whether another process did not respond: NCCL raises `DistError`, gloo a plain RuntimeError."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _reason(error: Exception) -> str:
    """First line of the message, without the location in torch's sources."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rpartition("] ")[2].rstrip(". ")


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _flag_tensor(flags: tuple[bool, ...]) -> Tensor:
    """Flags as int32, on the CPU unless the program initialised only NCCL."""
    cpu = "cpu:" in dist.get_backend_config()
    device = torch.device("cpu") if cpu else torch.device("cuda", torch.cuda.current_device())
    return torch.tensor([int(flag) for flag in flags], dtype=torch.int32, device=device)
