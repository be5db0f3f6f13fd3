"""Ctrl-C, SIGTERM and SIGHUP, noted so that the trainer can stop between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType

__all__ = ["Interrupts"]


class Interrupts:
    """Context manager that records the first SIGINT, SIGTERM or SIGHUP; a second one raises KeyboardInterrupt.

    A signal that the process was told to ignore, as SIGHUP is under `nohup`, stays ignored.

    Attributes:
        caught: the signal that was received, or `None`.
    """

    def __init__(self) -> None:
        self.caught: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():  # Python handles signals only there
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last one is unknown on Windows
                number = getattr(signal, name, None)
                if number is not None and (name != "SIGHUP" or signal.getsignal(number) != signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._record)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.caught is not None:
            raise KeyboardInterrupt
        self.caught = signal.Signals(number)
