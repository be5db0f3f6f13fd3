"""Inputs that anyone can rebuild from a seed, for checking re-identification code.

Every golden names a rule of this module and its arguments in `meta`. numpy only. The random stream is
`numpy.random.default_rng(seed)`; draws are made in the order written here, in float64, and cast to
float32 at the end.
"""

from __future__ import annotations

import numpy as np


def normal(seed: int, shape: list[int] | tuple[int, ...], scale: float = 1.0) -> np.ndarray:
    """float32 `scale` times standard normal."""
    return np.asarray(scale * np.random.default_rng(seed).standard_normal(tuple(shape))).astype(np.float32)


def pixels(seed: int, shape: list[int] | tuple[int, ...]) -> np.ndarray:
    """float32 whole numbers 0..255, for networks that normalise inside."""
    return np.random.default_rng(seed).integers(0, 256, tuple(shape)).astype(np.float32)


def labels(seed: int, count: int, classes: int) -> np.ndarray:
    """int64 labels 0..classes-1, unbalanced."""
    return np.random.default_rng(seed).integers(0, classes, count)


def identities(p: int, k: int, shuffle: int | None = None) -> np.ndarray:
    """int64 labels of a P x K batch: p identities, k images each, in order or permuted by a seed."""
    y = np.repeat(np.arange(p), k)
    return y if shuffle is None else np.asarray(y[np.random.default_rng(shuffle).permutation(len(y))])


def embeddings(seed: int, y: np.ndarray, dim: int, spread: float = 1.0) -> np.ndarray:
    """float32 features of labels `y`: one normal centre per label, plus `spread` times normal noise."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((int(y.max()) + 1, dim))
    return np.asarray(centres[y] + spread * rng.standard_normal((len(y), dim)), np.float32)


def retrieval(
    seed: int,
    queries: int,
    gallery: int,
    dim: int,
    ids: int,
    cams: int,
    spread: float = 1.0,
    camera: str = "random",
    unmatched: float = 0.0,
    junk: int = 0,
    distractors: int = 0,
    grid: int = 0,
) -> dict[str, np.ndarray]:
    """A query set and a gallery: qf, gf (float32), qp, gp (identities from 1), qc, gc (cameras from 1).

    camera: 'random' 1..cams; 'same' all 1; 'split' queries 1, gallery 2; 'none' each image its own (queries 0..,
    then gallery).
    unmatched: this share of queries (the first ones, rounded up) gets identities absent from the gallery.
    junk: the last `junk` gallery items become identity -1; the `distractors` before them identity 0.
    grid: > 0 rounds features to whole numbers and clips to -grid..grid, so that distances tie exactly.
    """
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((ids, dim))
    qp, gp = rng.integers(1, ids + 1, queries), rng.integers(1, ids + 1, gallery)
    qc, gc = rng.integers(1, cams + 1, queries), rng.integers(1, cams + 1, gallery)
    qf = centres[qp - 1] + spread * rng.standard_normal((queries, dim))
    gf = centres[gp - 1] + spread * rng.standard_normal((gallery, dim))
    if camera == "same":
        qc, gc = np.ones_like(qc), np.ones_like(gc)
    elif camera == "split":
        qc, gc = np.ones_like(qc), np.full_like(gc, 2)
    elif camera == "none":
        qc, gc = np.arange(queries), queries + np.arange(gallery)
    lost = int(np.ceil(unmatched * queries))
    qp[:lost] = ids + 1 + np.arange(lost)
    end = gallery - junk
    gp[end:] = -1
    gp[end - distractors : end] = 0
    if grid:
        qf, gf = (np.clip(np.rint(f), -grid, grid) for f in (qf, gf))
    return {"qf": qf.astype(np.float32), "gf": gf.astype(np.float32), "qp": qp, "gp": gp, "qc": qc, "gc": gc}


def squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances by differences, in float64 (a thing's distance to itself is exactly 0)."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.stack([((x - b) ** 2).sum(1) for x in a])


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """1 - cosine similarity, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    a, b = a / np.linalg.norm(a, axis=1, keepdims=True), b / np.linalg.norm(b, axis=1, keepdims=True)
    return np.asarray(1 - a @ b.T)


def probe(values: np.ndarray, count: int = 64) -> np.ndarray:
    """`count` values of an array, always at the same places."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return np.asarray(flat[np.linspace(0, flat.size - 1, count).astype(np.int64)])
