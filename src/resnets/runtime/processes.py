"""The processes that train together: one by default, several under `torchrun`. Everything here works with one, too."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from resnets.errors import TrainingError
from resnets.runtime.shard import Shard

__all__ = ["World", "joined", "speaks"]

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # for a process that is still checking images or writing; a dead one is seen at once


class World:
    """The processes of a run and this one's place among them.

    Args:
        rank: this process's number, from 0; the first one writes and speaks.
        size: how many there are; above 1, `torch.distributed` is initialised.
        local_rank: its number on its machine, which is that of its card.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0) -> None:
        self.rank, self.size, self.local_rank = rank, size, local_rank
        self._asked: tuple[Tensor, Any] | None = None  # what `soon` was told last, on its way between the processes

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def shard(self) -> Shard | None:
        """This process's part of every batch; `None` where it takes all."""
        return Shard(rank=self.rank, size=self.size) if self.size > 1 else None

    def takes(self, count: int) -> int:
        """How many images of a training batch of `count` are this process's own."""
        return count if self.shard is None else self.shard.takes(count)

    def device(self, name: str) -> str:
        """The device to take for `name`: on machines with several cards, each process its own."""
        if self.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
            return f"cuda:{self.local_rank % torch.cuda.device_count()}"
        return name

    def wrap(self, model: nn.Module, *, sync_bn: bool = False) -> nn.Module:
        """What to call in place of `model`, so that gradients are means over all processes.

        It knows the parameters that train now: after freezing or unfreezing, wrap anew.

        Args:
            sync_bn: whether batch statistics are to be those of all processes; needs a card.

        Raises:
            TrainingError: `sync_bn` without a card.
        """
        if self.size == 1:
            return model
        device = next(model.parameters()).device
        if sync_bn:
            if device.type != "cuda":
                raise TrainingError(
                    f"sync_bn needs cards; got device {device.type}; leave it out, or freeze the statistics "
                    "(--set bn_stats=frozen)"
                )
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            # torch 2.13 has another name for it, which older versions do not know.
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            # Statistics need no exchange while training: nobody reads them before `same_buffers`.
            return DistributedDataParallel(
                model,
                device_ids=[device.index] if device.type == "cuda" else None,
                gradient_as_bucket_view=True,
                broadcast_buffers=False,
            )

    def alone(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        """Within it, backward passes keep their gradients to themselves: all but the last part of a batch."""
        return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) else nullcontext()

    def sum(self, *tensors: Tensor) -> None:
        """Each tensor becomes the sum over all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any process says so; all get the same answer."""
        if self.size == 1:
            return list(flags)
        answer = _numbers(flags)
        dist.all_reduce(answer, dist.ReduceOp.MAX)
        return [bool(flag) for flag in answer.tolist()]

    def soon(self, *flags: bool) -> list[bool]:
        """As `any`, but of several processes the answer is to the call before this one: nobody waits for it.

        After `forget`, the first answer is no.
        """
        if self.size == 1:
            return list(flags)
        before, answer = self._asked, _numbers(flags)
        self._asked = answer, dist.all_reduce(answer, dist.ReduceOp.MAX, async_op=True)
        if before is None:
            return [False] * len(flags)
        before[1].wait()
        return [bool(flag) for flag in before[0].tolist()]

    def forget(self) -> None:
        """Drop what `soon` was told and has not answered; all processes call it."""
        if self._asked is not None:
            self._asked[1].wait()
            self._asked = None

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, for all; what it raises, all raise.

        Whatever the first process alone does that may fail belongs in here, or the others wait for it in vain.
        """
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        raised: Exception | None = None
        if self.first:
            try:
                box[0] = make()
            except Exception as error:
                # What it is copied from: an OSError's `args` lack the name of the file.
                raised, box[1] = error, (type(error), error.__reduce__()[1], vars(error))
        dist.broadcast_object_list(box, src=0)
        if box[1] is not None:
            raise raised or _again(*box[1])
        return box[0]  # type: ignore[no-any-return]

    def gather(self, item: T) -> list[T]:
        """The items of all processes, in order of rank, for all."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def same_buffers(self, model: nn.Module) -> None:
        """Give every process the first one's buffers: the statistics of batch norms."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def joined(device: str = "auto") -> Iterator[World]:
    """The processes that `torchrun` started, for the length of a `with`; one alone without it.

    Args:
        device: what the run computes on: cards speak NCCL, processors gloo.

    Raises:
        TrainingError: the others cannot be reached, or one of them ended.
    """
    size = _size()
    if size == 1 or dist.is_initialized():  # a program that has joined already keeps its own group
        yield World() if size == 1 else World(dist.get_rank(), dist.get_world_size(), _local_rank())
        return
    cards = torch.cuda.is_available() and device.startswith(("auto", "cuda"))
    if cards:
        torch.cuda.set_device(_local_rank() % torch.cuda.device_count())
    try:
        try:
            # Flags and objects go from processor to processor: to send them over a card would be to wait for it.
            dist.init_process_group("cpu:gloo,cuda:nccl" if cards else "gloo", timeout=PATIENCE)
            world = World(dist.get_rank(), size, _local_rank())
            _round.append(world.from_first(lambda: uuid.uuid4().hex))
        except (RuntimeError, ValueError) as error:
            raise TrainingError(
                f"training together needs all processes; {_reason(error)}; start them with torchrun"
            ) from None
        try:
            yield world
        except RuntimeError as error:
            if not _is_loss(error):
                raise
            raise TrainingError(
                f"training together needs all processes; lost one: {_reason(error)}; it may have said why, else see "
                "what torchrun or the system's log has on it"
            ) from None
    except BaseException:
        speaks()  # before the others see that this one is gone
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _again(kind: type[Exception], args: tuple[Any, ...], details: dict[str, Any]) -> Exception:
    """An exception of another process. Ours take other arguments than the message, so that none is called."""
    error: Exception = kind.__new__(kind, *args)
    error.__dict__.update(details)
    return error


_round: list[str] = []  # a name that the processes of this start agreed on
_spoken: list[bool] = []


def speaks() -> bool:
    """Whether this process is to say how all of them ended: the first that asks. The answer stays the same."""
    if not _spoken:
        _spoken.append(_size() == 1 or _asks_first())
    return _spoken[0]


def _asks_first() -> bool:
    key = "/".join(["resnets", os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), *_round[-1:]])
    try:
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=10))  # type: ignore[attr-defined]
        return int(store.add(key, 1)) == 1
    except (KeyError, ValueError, RuntimeError):
        return True  # nobody left to ask


def _is_loss(error: RuntimeError) -> bool:
    """Whether another process did not answer: NCCL has a class for it, gloo only words."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _reason(error: Exception) -> str:
    """In a few words, without the place in torch's sources."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].rpartition("] ")[2].rstrip(". ")


def _size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _local_rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def _numbers(flags: tuple[bool, ...]) -> Tensor:
    return torch.tensor([int(flag) for flag in flags], dtype=torch.int32, device=_talking_device())


def _talking_device() -> torch.device:
    """Where numbers lie that processes tell each other: in main memory, unless a program joined by NCCL alone."""
    if "cpu:" in dist.get_backend_config():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())
