"""Re-identification metrics at the size of Market-1501, compared with torchreid, and a gallery of a million images.

3,368 queries and 15,913 gallery images of 750 random clusters. Ours computes distances and metrics from the embeddings;
the time of torchreid is that of `evaluate_rank` alone, from a finished matrix of distances. Re-ranking is compared with
the common NumPy code (torchreid's `re_ranking`) on 500 queries and 2,500 gallery images. Every pair runs in turn, each
in a process of its own, and the metrics are compared before the times are printed.

torchreid is a checkout of KaiyangZhou/deep-person-reid with `torchreid/metrics/rank_cylib` built, and a Python that
has numpy < 1.24:

    python bench/reid.py [--rounds 3] [--torchreid FOLDER --python FOLDER/venv/bin/python] [--slow] [--million]

`--slow` also times torchreid's Python version (minutes). `--million` evaluates and searches 1,000,000 x 512 with
6 GiB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from _pairs import machine
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.metrics import retrieval_metrics
from resnets.retrieve.nearest import nearest
from resnets.retrieve.ranks import rank_matches
from resnets.retrieve.rerank import RerankConfig, rerank

MARKET = (3368, 15913, 750)
SMALL = (500, 2500, 150)

# Programs of the peer's process. Arguments: the folder of the arrays; `cython` or `python`.
RANK = """
import importlib.util, sys, time, types
import numpy as np
np.bool, np.int, np.float = bool, int, float
folder, kind, source = sys.argv[1:]
sys.path.insert(0, source + "/torchreid/metrics/rank_cylib")
package = types.ModuleType("torchreid.metrics.rank_cylib"); package.__path__ = [sys.path[0]]
sys.modules["torchreid.metrics.rank_cylib"] = package
spec = importlib.util.spec_from_file_location("rank", source + "/torchreid/metrics/rank.py")
rank = importlib.util.module_from_spec(spec); spec.loader.exec_module(rank)
load = lambda name: np.load(f"{folder}/{name}.npy")
distances, (qi, gi, qc, gc) = load("distances"), map(load, ("qi", "gi", "qc", "gc"))
start = time.perf_counter()
cmc, map_ = rank.evaluate_rank(distances, qi, gi, qc, gc, use_cython=kind == "cython")
print(time.perf_counter() - start, float(map_), float(cmc[0]))
"""
RERANK = """
import importlib.util, sys, time
import numpy as np
folder, source = sys.argv[1:]
spec = importlib.util.spec_from_file_location("rerank", source + "/torchreid/utils/rerank.py")
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
q, g = np.load(folder + "/qf.npy"), np.load(folder + "/gf.npy")
q, g = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (q, g))
dist = lambda a, b: np.sqrt(np.maximum(2 - 2 * a @ b.T, 0))
start = time.perf_counter()
out = module.re_ranking(dist(q, g), dist(q, q), dist(g, g))
print(time.perf_counter() - start)
np.save(folder + "/reranked.npy", out)
"""


def make(queries: int, gallery: int, ids: int, size: int, spread: float) -> tuple[Embeddings, Embeddings]:
    """Random clusters, with six cameras."""
    rng = np.random.default_rng(size)
    centers, sets = rng.standard_normal((ids, size)), []
    for count in (queries, gallery):
        own = rng.integers(0, ids, count)
        features = (centers[own] + spread * rng.standard_normal((count, size))).astype(np.float32)
        sets.append(Embeddings(features=features, ids=own, cameras=rng.integers(0, 6, count)))
    return sets[0], sets[1]


def peer(python: Path, program: str, *arguments: str) -> list[float]:
    """The numbers that a program prints in the peer's environment."""
    done = subprocess.run([str(python), "-c", program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"the peer failed: {done.stderr.strip().splitlines()[-1]}")
    return [float(number) for number in done.stdout.split()[-3:]]


def product_seconds(query: Embeddings, gallery: Embeddings) -> float:
    """Time of the bare matrix product of the embeddings."""
    a, b = torch.from_numpy(query.features), torch.from_numpy(gallery.features)
    start = time.perf_counter()
    torch.mm(a, b.T)
    return time.perf_counter() - start


def ours(query: Embeddings, gallery: Embeddings) -> tuple[float, float, float]:
    """Seconds, mAP and rank-1 of an evaluation."""
    start = time.perf_counter()
    metrics = retrieval_metrics(rank_matches(query, gallery, metric="euclidean"))
    return time.perf_counter() - start, metrics.map, float(metrics.cmc[0])


def save(folder: Path, query: Embeddings, gallery: Embeddings) -> None:
    """The arrays for the peer: float32 distances and int64 labels."""
    q, g = query.features, gallery.features
    squared = np.square(q).sum(1)[:, None] + np.square(g).sum(1) - 2 * q @ g.T
    arrays = {"distances": squared, "qf": q, "gf": g, "qi": query.ids, "gi": gallery.ids}
    for name, array in (arrays | {"qc": query.cameras, "gc": gallery.cameras}).items():
        np.save(folder / f"{name}.npy", array)


def evaluation(options: argparse.Namespace, size: int) -> dict[str, Any]:
    """Compare an evaluation with the bare product and with torchreid."""
    query, gallery = make(*MARKET, size, 2.0)
    rows: dict[str, Any] = {"size": size}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.torchreid:
            save(folder, query, gallery)
        times: dict[str, list[float]] = {"ours": [], "product": [], "cython": []}
        ours(query, gallery)
        for _ in range(options.rounds):
            times["product"].append(product_seconds(query, gallery))
            seconds, rows["map"], rows["rank1"] = ours(query, gallery)
            times["ours"].append(seconds)
            if options.torchreid:
                found = peer(options.python, RANK, name, "cython", str(options.torchreid))
                times["cython"].append(found[0])
                assert abs(found[1] - rows["map"]) < 1e-6, (found, rows)
        if options.torchreid and options.slow:
            times["python"] = [peer(options.python, RANK, name, "python", str(options.torchreid))[0]]
    for kind, seconds_of in times.items():
        if seconds_of:
            rows[kind] = statistics.median(seconds_of)
            rows[f"{kind} / ours"] = statistics.median(a / b for a, b in zip(seconds_of, times["ours"], strict=False))
    return rows


def reranking(options: argparse.Namespace) -> dict[str, Any]:
    """Compare re-ranking with the common NumPy code."""
    query, gallery = make(*SMALL, 256, 2.0)
    rows: dict[str, Any] = {}
    times: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        save(Path(name), query, gallery)
        rerank(query, gallery)(0, 10)
        for _ in range(options.rounds):
            start = time.perf_counter()
            found = rerank(query, gallery, RerankConfig())(0, len(query))
            times.append(time.perf_counter() - start)
            if options.torchreid:
                theirs.append(peer(options.python, RERANK, name, str(options.torchreid))[0])
        rows["seconds"] = statistics.median(times)
        if theirs:
            other = np.load(Path(name) / "reranked.npy")
            rows |= {"numpy": statistics.median(theirs), "numpy / ours": statistics.median(np.array(theirs) / times)}
            rows["difference in mAP"] = abs(mean_ap(found, query, gallery) - mean_ap(other, query, gallery))
    return rows


def mean_ap(distances: npt.NDArray[Any], query: Embeddings, gallery: Embeddings) -> float:
    """mAP of a matrix of distances by a full sort; cameras as in Market-1501."""
    found = []
    for row, order in enumerate(np.argsort(distances, axis=1, kind="stable")):
        match = gallery.ids[order] == query.ids[row]
        keep = ~(match & (gallery.cameras[order] == query.cameras[row]))  # type: ignore[index]
        ranks = np.flatnonzero(match[keep]) + 1
        if len(ranks):
            found.append(float((np.arange(1, len(ranks) + 1) / ranks).mean()))
    return float(np.mean(found))


def million() -> None:
    """Evaluate and search a memory-mapped gallery of 1,000,000 x 512; prints seconds and peak memory."""
    count, size, queries, ids = 1_000_000, 512, 1000, 50_000
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((ids, size)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        path, own = Path(name) / "gallery.npy", rng.integers(0, ids, count)
        features = np.lib.format.open_memmap(path, "w+", np.float32, (count, size))
        for start in range(0, count, 50_000):
            noise = rng.standard_normal((50_000, size), np.float32)
            features[start : start + 50_000] = centers[own[start : start + 50_000]] + 2 * noise
        features.flush()
        query_ids = rng.integers(0, ids, queries)
        query = Embeddings(
            features=centers[query_ids] + 2 * rng.standard_normal((queries, size)).astype(np.float32), ids=query_ids
        )
        start_time = time.perf_counter()
        gallery = Embeddings(features=np.load(path, mmap_mode="r"), ids=own)
        metrics = retrieval_metrics(rank_matches(query, gallery, progress=lambda done: print(f"  {done} ranked")))
        evaluated = time.perf_counter() - start_time
        start_time = time.perf_counter()
        found = nearest(query.features, gallery.features, 10)
        searched = time.perf_counter() - start_time
    hits = float((own[found.index[:, 0]] == query_ids).mean())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"map": metrics.map, "rank1": hits, "evaluate": evaluated, "search": searched, "peak GiB": peak}))


def main() -> None:
    """Run the comparisons and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--torchreid", type=Path)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--in-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30, 6 * 2**30))
        million()
        return
    print(
        json.dumps({"machine": machine()} | {f"D={size}": evaluation(options, size) for size in (256, 2048)}, indent=1)
    )
    print(json.dumps({"re-ranking": reranking(options)}, indent=1))
    if options.million:
        subprocess.run([sys.executable, __file__, "--million", "--in-process"], env=os.environ, check=True)


if __name__ == "__main__":
    main()
