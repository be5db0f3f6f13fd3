"""What a pickle holds, found from its opcodes without unpickling it: where it ends, how deep its tuples lie."""

from __future__ import annotations

import io
import pickletools

__all__ = ["first_pickles", "tuple_depth"]

MARKED = (pickletools.markobject, pickletools.stackslice)


def first_pickles(content: bytes, count: int) -> bytes:
    """The first pickles of several in a file, or all of it where one is damaged."""
    file = io.BytesIO(content)
    try:
        for _ in range(count):
            for _opcode in pickletools.genops(file):
                pass
    except ValueError:
        return content
    return content[: file.tell()]


def tuple_depth(content: bytes) -> int:
    """The deepest nesting of tuples, as far as the opcodes can be read. Hashing and printing recurse over it in C."""
    stack: list[int | None] = []  # depth of each value, None for a mark
    memo: dict[object, int] = {}
    deepest = 0
    try:
        for opcode, argument, _ in pickletools.genops(content):
            name, inner = opcode.name, 0
            if "GET" in name:
                stack.append(memo.get(argument, 0))
                continue
            if "PUT" in name or name == "MEMOIZE":
                memo[len(memo) if name == "MEMOIZE" else argument] = (stack[-1] if stack else 0) or 0
                continue
            if name == "MARK":
                stack.append(None)
                continue
            if pickletools.markobject in opcode.stack_before:
                while stack and (top := stack.pop()) is not None:
                    inner = max(inner, top)
            for _ in [kind for kind in opcode.stack_before if kind not in MARKED]:
                inner = max(inner, (stack.pop() if stack else 0) or 0)
            depth = inner + 1 if "TUPLE" in name else inner
            deepest = max(deepest, depth)
            stack += [depth] * len(opcode.stack_after)
    except ValueError:  # the tensors behind a pickle, or damage that torch reports
        pass
    return deepest
