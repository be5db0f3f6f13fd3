"""Failures of the machine: recognising that memory ran out, and describing errors that are no fault of the program."""

from __future__ import annotations

from resnets.errors import ResnetsError

__all__ = ["describe_failure", "is_out_of_memory"]

# Python, numpy, torch and the loader of shared libraries each raise another type.
_TEXTS = (
    "DefaultCPUAllocator",  # torch on CPUs
    "could not create a primitive",  # oneDNN in torch
    "std::bad_alloc",  # C++ extensions
    "failed to map segment",  # a shared library that does not fit
    "Cannot allocate memory",
    "can't start new thread",  # its stack does not fit
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the device or on the host."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's, on GPUs
        return True
    return isinstance(error, RuntimeError | ImportError | OSError) and any(text in str(error) for text in _TEXTS)


def describe_failure(error: BaseException) -> str | None:
    """One line about an expected error, an operating system's error or exhausted memory; `None` for any other error."""
    if isinstance(error, ResnetsError):
        return str(error)
    if is_out_of_memory(error):
        reason = " ".join(str(error).split())[:200]
        return f"out of memory{f' ({reason})' if reason else ''}; use smaller batches or images, or free memory"
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return f"{reason}: {error.filename}" if error.filename else reason
    return None
