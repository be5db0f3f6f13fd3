"""Temporary changes of training and evaluation mode."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

__all__ = ["evaluation_mode"]

_lock = threading.Lock()
_users: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # blocks that a module is in
_training: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # its mode before the first of them


@contextmanager
def evaluation_mode(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode within a `with`, and restore the mode of each of their submodules after it.

    Several threads may do so with the same modules: the mode is restored by the last one to finish.
    """
    children = list(dict.fromkeys(child for module in modules for child in module.modules()))
    with _lock:
        for child in children:
            _users[child] = _users.get(child, 0) + 1
            _training.setdefault(child, child.training)
        for module in modules:
            module.eval()
    try:
        yield
    finally:
        with _lock:
            for child in children:
                _users[child] -= 1
                if not _users[child]:
                    del _users[child]
                    child.training = _training.pop(child)  # not train(), which would set its submodules too
