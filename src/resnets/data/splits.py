"""Dividing images into training and validation: stratified by class, never through a group, the same for a seed.

Groups are dealt one by one, the largest first, each to the part that is emptiest in the group's own classes; then
single groups change parts as long as that brings the classes nearer to their shares.

Legend: N images, G groups, P parts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from resnets.data import random
from resnets.errors import DataError

__all__ = ["hold_out", "kfold", "split_rows"]

Ints = npt.NDArray[np.int64]
_ROUNDS = 10  # of moving single groups; it ends by itself when none wants to move
_MOVED = 5_000  # groups: of more, each is so small a part that dealing alone comes close enough


def hold_out(labels: Ints, fraction: float, seed: int, groups: Ints | None = None) -> tuple[Ints, Ints]:
    """A part of the images for validation.

    Args:
        labels: (N,) class indices.
        fraction: in (0, 1), as near to which as groups allow it of every class goes to validation.
        seed: 0 to 2**64 - 1.
        groups: (N,); images of one number stay together.

    Returns:
        Places of training and of validation images, each sorted; together all, in common none. Every class keeps a
        training image. The second is empty where all images are one group.
    """
    if groups is None:
        return split_rows(labels, fraction, seed)
    _check_fraction(fraction)
    part = _deal(labels, groups, np.array([1 - fraction, fraction]), seed, trains=0)
    return np.flatnonzero(part == 0), np.flatnonzero(part == 1)


def kfold(labels: Ints, folds: int, fold: int, seed: int, groups: Ints | None = None) -> tuple[Ints, Ints]:
    """One of `folds` divisions, whose validation parts are disjoint and alike in their classes.

    A class's only image (or group) always trains; every other image validates in exactly one of the folds.

    Args:
        labels: (N,) class indices.
        folds: 2 or more.
        fold: 0 to `folds` - 1, which of them.
        seed: 0 to 2**64 - 1; the same for all folds.
        groups: (N,); images of one number stay together.

    Returns:
        As `hold_out`.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise DataError(
            f"folds are numbered from 0 to folds - 1, and 2 or more; got fold {fold} of {folds}; 5 is usual"
        )
    if groups is None:
        part = _dealt_in_turn(labels, folds, seed)
    else:
        part = _deal(labels, groups, np.full(folds, 1 / folds), seed)
    if not (part == fold).any():
        raise DataError(f"every fold needs images; fold {fold} of {folds} has none; use fewer folds")
    return np.flatnonzero(part != fold), np.flatnonzero(part == fold)


def split_rows(labels: Ints, fraction: float, seed: int) -> tuple[Ints, Ints]:
    """A seeded stratified split: of every class with two images or more, `fraction` and at least one go to val.

    Args:
        labels: (N,) class indices.
        fraction: in (0, 1).

    Returns:
        Places of training and of validation images, each sorted; together all, in common none.
    """
    _check_fraction(fraction)
    held = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        count = min(len(places) - 1, max(1, round(len(places) * fraction)))
        held.append(places[random.permutation(len(places), seed, int(label), random.Stream.SPLIT)[:count]])
    val = np.sort(np.concatenate(held)) if held else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), val), val


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise DataError(f"val_fraction must be between 0 and 1; got {fraction}; 0.1 is usual")


def _dealt_in_turn(labels: Ints, folds: int, seed: int) -> Ints:
    """(N,) folds: every class is shuffled and dealt on where the class before it ended; -1 for a single image."""
    part, turn = np.full(len(labels), -1, np.int64), 0
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        if len(places) > 1:
            order = random.permutation(len(places), seed, int(label), random.Stream.SPLIT)
            part[places[order]] = (turn + np.arange(len(places))) % folds
            turn += len(places)
    return part


class _Groups:
    """Which classes a group holds and what share of each: rows of a sparse (G, classes + 1) table.

    The last column counts images of any class.
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


class _Deal:
    """Groups being dealt to parts.

    The cost is the sum over classes and parts of (share of the class in the part - wanted)^2 / wanted, plus that of
    all images together.
    """

    def __init__(self, table: _Groups, shares: npt.NDArray[np.float64], start: int) -> None:
        self.table, self.shares = table, shares
        self.part = np.full(table.count, start, np.int64)
        self.filled = np.zeros((table.all + 1, len(shares)))  # share of each class in each part; last: of all

    def best(self, group: int, *, but: int = -1) -> int:
        """The part where a group that is in none costs least."""
        share = self.table.shares[group]
        cost = (2 * share @ (self.filled[self.table.columns[group]] - self.shares) + share @ share) / self.shares
        if but >= 0:
            cost[but] = np.inf
        return int(np.argmin(cost))

    def put(self, group: int, part: int) -> None:
        """Adds a group that is in no part to one."""
        self.filled[self.table.columns[group], part] += self.table.shares[group]
        self.part[group] = part

    def take(self, group: int) -> int:
        """Takes a group out of its part and answers which that was."""
        self.filled[self.table.columns[group], self.part[group]] -= self.table.shares[group]
        return int(self.part[group])

    def move(self, group: int, *, but: int = -1) -> bool:
        """Moves a group to where it costs least; answers whether that is elsewhere."""
        before = self.take(group)
        self.put(group, self.best(group, but=but))
        return bool(self.part[group] != before)


def _deal(labels: Ints, groups: Ints, shares: npt.NDArray[np.float64], seed: int, *, trains: int = -1) -> Ints:
    """(N,) parts, 0 to P - 1.

    Args:
        trains: the part that is never validated on, or -1 where each is in its turn. The groups that alone hold a
            class are dealt to it, also when it is none of the parts.
    """
    if not len(labels):
        return np.empty(0, np.int64)
    table = _Groups(labels, groups)
    deal = _Deal(table, shares, trains)
    alone = np.array([(table.spread[held[:-1]] == 1).any() for held in table.columns])
    if trains >= 0:
        for place in np.flatnonzero(alone):
            deal.put(int(place), trains)
    shuffled = random.permutation(table.count, seed, 0, random.Stream.SPLIT)
    order = shuffled[np.argsort(-table.sizes[shuffled], kind="stable")]
    free = [int(group) for group in order if not alone[group]]
    for group in free:
        deal.put(group, deal.best(group))
    for _ in range(_ROUNDS if table.count <= _MOVED else 0):
        if not sum(deal.move(group) for group in free):
            break
    _give_back(deal, free, trains)
    if trains >= 0 and free and (deal.part == trains).all():  # groups too large for the fraction: the least of them
        deal.take(free[-1])
        deal.put(free[-1], 1 - trains)
    return deal.part[table.of_image]


def _give_back(deal: _Deal, free: list[int], trains: int) -> None:
    """Sees to it that no class lies in one validated part as a whole: its smallest group moves elsewhere."""
    table = deal.table
    for _ in range(_ROUNDS):
        least, most = np.full(table.all + 1, len(deal.shares)), np.full(table.all + 1, -2)
        for group, part in enumerate(deal.part):
            held = table.columns[group][:-1]
            least[held], most[held] = np.minimum(least[held], part), np.maximum(most[held], part)
        whole = (least == most) & (least >= 0) & (least != trains)
        if not whole.any():
            return
        for group in reversed(free):
            held = table.columns[group][:-1]
            if whole[held].any():
                deal.move(group, but=int(deal.part[group]))
                whole[held] = False
