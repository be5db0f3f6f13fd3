"""Stratified, seeded division of images into training and validation; groups are never divided.

Groups are assigned one by one, the largest first, each to the part that lacks the group's classes most. Then single
groups move between parts as long as that brings the classes nearer to their shares.

Legend: N images, G groups, P parts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from resnets.data import random
from resnets.errors import DataError

__all__ = ["hold_out", "kfold"]

Ints = npt.NDArray[np.int64]
_ROUNDS = 10  # of moving single groups, at most
_MAX_MOVED = 5_000  # groups: with more, each is so small that the first assignment is close enough


def hold_out(labels: Ints, fraction: float, seed: int, groups: Ints | None = None) -> tuple[Ints, Ints]:
    """Hold out a fraction of the images for validation.

    Args:
        labels: (N,) class indices.
        fraction: share of every class that goes to validation, in (0, 1); at least one image of every class with two
            or more, and as near to the share as groups allow.
        seed: 0 to 2**64 - 1.
        groups: (N,); images with the same number stay together.

    Returns:
        Indices of the training and of the validation images, each sorted, disjoint, together all. Every class keeps a
        training image. Without a second group, validation is empty.
    """
    if groups is not None:
        part = _assign_groups(labels, groups, np.array([1 - fraction, fraction]), seed, train_part=0)
        return np.flatnonzero(part == 0), np.flatnonzero(part == 1)
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        count = min(len(own) - 1, max(1, round(len(own) * fraction)))
        held_out[own[random.permutation(len(own), seed, int(label), random.Stream.SPLIT)[:count]]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def kfold(labels: Ints, folds: int, fold: int, seed: int, groups: Ints | None = None) -> tuple[Ints, Ints]:
    """One fold of a stratified k-fold division.

    Every image is in the validation part of exactly one fold, except the only image (or group) of a class, which is
    always in the training part.

    Args:
        labels: (N,) class indices.
        folds: 2 or more.
        fold: 0 to `folds` - 1.
        seed: 0 to 2**64 - 1; the same for all folds.
        groups: (N,); images with the same number stay together.

    Returns:
        As `hold_out`.

    Raises:
        DataError: no such fold, or it has no images.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise DataError(
            f"folds must be 2 or more, and fold 0 to folds - 1; got fold {fold} of {folds}; 5 folds are usual"
        )
    if groups is None:
        part = _assign_folds(labels, folds, seed)
    else:
        part = _assign_groups(labels, groups, np.full(folds, 1 / folds), seed)
    if not (part == fold).any():
        raise DataError(f"every fold must have images; fold {fold} of {folds} has none; use fewer folds")
    return np.flatnonzero(part != fold), np.flatnonzero(part == fold)


def _assign_folds(labels: Ints, folds: int, seed: int) -> Ints:
    """(N,) folds: shuffled images of one class after another go to the folds in turn; -1 for a class's only image."""
    part, turn = np.full(len(labels), -1, np.int64), 0
    for label in np.unique(labels):
        own = np.flatnonzero(labels == label)
        if len(own) > 1:
            order = random.permutation(len(own), seed, int(label), random.Stream.SPLIT)
            part[own[order]] = (turn + np.arange(len(own))) % folds
            turn += len(own)
    return part


class _GroupTable:
    """Sparse (G, classes + 1) table: the share of each class's images that each group holds.

    The last column is the share of all images.
    """

    def __init__(self, labels: Ints, groups: Ints) -> None:
        _, self.of_image = np.unique(groups, return_inverse=True)  # (N,) 0 to G - 1
        self.count = int(self.of_image.max()) + 1
        self.sizes = np.bincount(self.of_image)
        self.all = int(labels.max()) + 1  # the last column
        width = self.all + 1
        cells, counts = np.unique(
            np.concatenate([self.of_image * width + labels, self.of_image * width + self.all]), return_counts=True
        )
        columns = cells % width
        totals = np.bincount(columns, weights=counts, minlength=width)
        starts = np.searchsorted(cells // width, np.arange(1, self.count))
        self.spread = np.bincount(columns, minlength=width)  # groups of each class
        self.columns = np.split(columns, starts)
        self.shares = np.split(counts / totals[columns], starts)


class _Assignment:
    """Assignment of groups to parts.

    Its cost is the sum over classes and parts of (share of the class in the part - target)^2 / target, plus the same
    for all images together.
    """

    def __init__(self, table: _GroupTable, shares: npt.NDArray[np.float64], start: int) -> None:
        self.table, self.shares = table, shares
        self.part = np.full(table.count, start, np.int64)
        self.filled = np.zeros((table.all + 1, len(shares)))  # share of each class in each part; last row: of all

    def best_part(self, group: int, *, exclude: int = -1) -> int:
        """The part with the lowest cost for a group that is in none."""
        share = self.table.shares[group]
        cost = (2 * share @ (self.filled[self.table.columns[group]] - self.shares) + share @ share) / self.shares
        if exclude >= 0:
            cost[exclude] = np.inf
        return int(np.argmin(cost))

    def add(self, group: int, part: int) -> None:
        self.filled[self.table.columns[group], part] += self.table.shares[group]
        self.part[group] = part

    def remove(self, group: int) -> None:
        self.filled[self.table.columns[group], self.part[group]] -= self.table.shares[group]

    def move(self, group: int, *, exclude: int = -1) -> bool:
        """Move a group to its best part; whether that is another one."""
        before = self.part[group]
        self.remove(group)
        self.add(group, self.best_part(group, exclude=exclude))
        return bool(self.part[group] != before)


def _assign_groups(
    labels: Ints, groups: Ints, shares: npt.NDArray[np.float64], seed: int, *, train_part: int = -1
) -> Ints:
    """(N,) parts, 0 to P - 1.

    Args:
        train_part: the part that is always trained on, or -1 where every part is validated on in turn. A class's
            only group goes there, even if it is -1.
    """
    if not len(labels):
        return np.empty(0, np.int64)
    table = _GroupTable(labels, groups)
    assignment = _Assignment(table, shares, train_part)
    only = np.array([(table.spread[held[:-1]] == 1).any() for held in table.columns])  # groups that a class needs
    if train_part >= 0:
        for group in np.flatnonzero(only).tolist():
            assignment.add(group, train_part)
    shuffled = random.permutation(table.count, seed, 0, random.Stream.SPLIT)
    order = shuffled[np.argsort(-table.sizes[shuffled], kind="stable")]
    free = [int(group) for group in order if not only[group]]
    for group in free:
        assignment.add(group, assignment.best_part(group))
    for _ in range(_ROUNDS if table.count <= _MAX_MOVED else 0):
        if not sum(assignment.move(group) for group in free):
            break
    _keep_every_class_trained(assignment, free, train_part)
    if train_part >= 0 and free and (assignment.part == train_part).all():  # every group exceeds the fraction
        assignment.remove(free[-1])
        assignment.add(free[-1], 1 - train_part)  # the smallest
    return assignment.part[table.of_image]


def _keep_every_class_trained(assignment: _Assignment, free: list[int], train_part: int) -> None:
    """Where one validated part has all groups of a class, move the smallest of them to another part."""
    table, shares = assignment.table, assignment.shares
    for _ in range(_ROUNDS):
        first, last = np.full(table.all + 1, len(shares)), np.full(table.all + 1, -2)  # part of each class
        for group, part in enumerate(assignment.part):
            held = table.columns[group][:-1]
            first[held], last[held] = np.minimum(first[held], part), np.maximum(last[held], part)
        undivided = (first == last) & (first >= 0) & (first != train_part)
        if not undivided.any():
            return
        for group in reversed(free):
            held = table.columns[group][:-1]
            if undivided[held].any():
                assignment.move(group, exclude=int(assignment.part[group]))
                undivided[held] = False
