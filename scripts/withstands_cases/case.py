"""A row of the table of hostile inputs and faults, and what all its groups use."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

SMALL = "--model resnet8_cifar --epochs 2 --amp off --workers 0 --output runs --name r"


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Args:
        group: heading of its table.
        what: the input or fault.
        command: line of bash that meets it.
        code: exit code that is right.
        says: regular expression for the last line on stderr; empty for a command that must succeed.
        make: writes the files.
    """

    group: str
    what: str
    command: str
    code: int
    says: str
    make: Callable[[], None]


Maker = Callable[[Callable[[], None]], Callable[[], None]]


class Group(list[Case]):
    """The cases of one heading, in order."""

    def __init__(self, heading: str) -> None:
        super().__init__()
        self.heading = heading

    def case(self, what: str, command: str, says: str = "", code: int | None = None) -> Maker:
        """Register the function as the `make` of a case."""

        def register(make: Callable[[], None]) -> Callable[[], None]:
            right = (1 if says else 0) if code is None else code
            self.append(Case(self.heading, what, command, right, says, make))
            return make

        return register


def nothing() -> None:
    """No files."""


def photographs(folder: str = "images", classes: tuple[str, ...] = ("a", "b"), count: int = 12) -> None:
    """Small images of one colour per class."""
    for shade, name in enumerate(classes):
        os.makedirs(f"{folder}/{name}")
        for number in range(count):
            Image.new("RGB", (16, 16), (60 * shade, 9 * number, 90)).save(f"{folder}/{name}/{number}.png")
