"""Batches of P identities with K images each, as losses that compare images of a batch need them.

Every image of every identity comes at least once in an epoch, and no identity comes twice in a batch. The images of an
identity are shuffled and divided into groups of K; an incomplete group is filled with more of its images, each
augmented anew. Groups are spread over the batches so that all have the same number, to within one; batches that lack
one get another group of an identity that they do not have. torchreid and fast-reid drop incomplete groups, and their
epochs may leave out identities.

Legend: N images, I identities, B batches of an epoch, P identities of a batch, K images of an identity in a batch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from resnets.data.random import Stream, permutation, uniform
from resnets.errors import ConfigError

__all__ = ["identity_batches", "identity_order"]

BLOCK = 64  # identities for which random numbers are drawn at a time

Indices = npt.NDArray[np.int64]


def identity_batches(labels: Indices, batch_size: int, instances: int, *, shards: int = 1) -> int:
    """The number of batches of an epoch, B, the same in every epoch.

    Args:
        labels: (N,) identities.
        batch_size: P * K, over all processes.
        instances: K, 2 or more.
        shards: processes that share each batch; each gets whole groups.

    Raises:
        ConfigError: P is no whole number of at least 2 in each process, or larger than I.
    """
    per_process, rest = divmod(batch_size, instances * shards)
    if rest or per_process < 2:
        of = f" in each of {shards} processes" if shards > 1 else ""
        raise ConfigError(
            f"a batch holds 2 identities or more{of}, with num_instances={instances} images each; got batch_size="
            f"{batch_size}; use a multiple of {instances * shards}, at least {2 * instances * shards}"
        )
    counts = np.unique(labels, return_counts=True)[1]
    identities = batch_size // instances
    if identities > len(counts):
        raise ConfigError(
            f"a batch holds different identities; got {identities} (batch_size={batch_size}, num_instances="
            f"{instances}) for {len(counts)} training identities; use batch_size="
            f"{len(counts) // shards * shards * instances}"
        )
    groups = -(-counts // instances)
    return max(-(-int(groups.sum()) // identities), int(groups.max()))


def identity_order(labels: Indices, batch_size: int, instances: int, seed: int, epoch: int) -> tuple[Indices, Indices]:
    """The samples of an epoch, batch after batch, K images of an identity after another.

    Args:
        labels: (N,) identities.
        batch_size: P * K.
        instances: K.
        seed, epoch: keys of all random draws.

    Returns:
        (B * P * K,) indices of the images, and how often each came before in this epoch, a key of its augmentation.
    """
    batches, identities = identity_batches(labels, batch_size, instances), batch_size // instances
    names, label_of = np.unique(labels, return_inverse=True)
    shuffled = permutation(len(labels), seed, epoch)
    by_identity = np.split(
        shuffled[np.argsort(label_of[shuffled], kind="stable")], np.cumsum(np.bincount(label_of))[:-1]
    )
    # An identity with G groups goes to the G batches that have fewest, so that their numbers never differ by more
    # than one; large identities first, as they have the least choice.
    groups = np.array([-(-len(own) // instances) for own in by_identity])
    ties = uniform(seed, epoch, np.arange(len(names)), Stream.SAMPLER, 1)[:, 0]
    load, members = np.zeros(batches), [list[int]() for _ in range(batches)]
    for position, identity in enumerate(np.lexsort((ties, -groups))):
        block, column = divmod(position, BLOCK)
        if column == 0:  # below 1, so that they decide between equal loads only
            draws = uniform(seed, epoch, np.arange(batches), Stream.SAMPLER, BLOCK, view=1 + block)
        count = int(groups[identity])
        for batch in np.argpartition(load + draws[:, column], count - 1)[:count]:
            load[batch] += 1
            members[batch].append(int(identity))
    cursor = np.zeros(len(names), np.int64)  # images of each identity that were shown
    indices = np.empty((batches, identities, instances), np.int64)
    for batch, present in enumerate(members):
        if len(present) < identities:
            order = permutation(len(names), seed, epoch, Stream.IDENTITIES, view=batch)
            others = order[~np.isin(order, present)]
            present += others[: identities - len(present)].tolist()
        for place, identity in enumerate(present):
            own = by_identity[identity]
            at = (cursor[identity] + np.arange(instances)) % len(own)
            indices[batch, place] = own[at]
            cursor[identity] += instances
    flat = indices.reshape(-1)
    return flat, _occurrences(flat)


def _occurrences(indices: Indices) -> Indices:
    """How often each value came before: (3, 5, 3, 3) -> (0, 0, 1, 2)."""
    order = np.argsort(indices, kind="stable")
    ranked = indices[order]
    first = np.searchsorted(ranked, ranked)
    found = np.empty(len(indices), np.int64)
    found[order] = np.arange(len(indices)) - first
    return found
