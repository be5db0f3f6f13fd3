"""Re-ranking against torchreid, fast-reid, strong-baseline and layumi's code, its blocks, and bad options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnets.errors import ConfigError, DataError
from resnets.retrieve import rerank as module
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.rerank import RerankConfig, rerank
from tests.golden.reid import rules
from tests.retrieve.golden import files, load, meta_of

FILES = files("rerank")
FAISS: dict[str, Any] = {"rule": "fastreid", "extra_neighbor": False}
# Codebase and its distances -> metric, options, tolerance relative to the largest magnitude.
KINDS: dict[str, tuple[Any, dict[str, Any], float]] = {
    "torchreid:root": ("euclidean", {}, 1e-5),
    "torchreid:squared": ("euclidean", {"exponent": 2}, 1e-5),
    "torchreid:cosine": ("cosine", {"exponent": 2}, 1e-5),
    "layumi:similarity": ("cosine", {"exponent": 2}, 1e-5),
    "strongbaseline:normalised": ("cosine", {}, 5e-3),  # computes in float16
    "fastreid_faiss:euclidean": ("euclidean", FAISS, 1e-5),
    "fastreid_faiss:cosine": ("cosine", FAISS, 1e-5),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem.removeprefix("rerank__"))
def test_distances_and_nearest_items(path: Path, kind: str) -> None:
    golden, query, gallery = load(path)
    if f"{kind}:probe" not in golden:
        pytest.skip("this implementation cannot re-rank so small a set")
    metric, options, tolerance = KINDS[kind]
    meta = meta_of(golden)
    config = RerankConfig(k1=meta["k1"], k2=meta["k2"], lambda_value=meta["lambda_value"], **options)
    found = rerank(query, gallery, config, metric=metric)(0, len(query))
    largest = np.abs(golden[f"{kind}:probe"]).max()
    np.testing.assert_allclose(rules.probe(found, 128), golden[f"{kind}:probe"], rtol=0, atol=tolerance * largest)
    np.testing.assert_allclose(found.sum(1), golden[f"{kind}:rowsum"], rtol=tolerance)
    if tolerance < 1e-3:
        assert (np.argsort(found, axis=1)[:, :5] == golden[f"{kind}:top"]).all()
    if kind in golden:
        np.testing.assert_allclose(found, golden[kind], rtol=0, atol=tolerance * largest)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = rules.retrieval(7, 20, 130, 24, 12, 4, spread=2.0)
    query = Embeddings(features=made["qf"], ids=made["qp"])
    gallery = Embeddings(features=made["gf"], ids=made["gp"])
    whole = rerank(query, gallery)(0, 20)
    done: list[int] = []
    monkeypatch.setattr(module, "PAIRS", 200)
    parts = rerank(query, gallery, memory_mib=0, progress=done.append)
    np.testing.assert_allclose(np.concatenate([parts(0, 7), parts(7, 20)]), whole, atol=1e-6)
    assert done[-1] == 150
    assert done == sorted(done)


def test_lists_with_an_extra_neighbor_can_be_switched_off() -> None:
    made = rules.retrieval(7, 20, 130, 24, 12, 4, spread=2.0)
    query = Embeddings(features=made["qf"], ids=made["qp"])
    gallery = Embeddings(features=made["gf"], ids=made["gp"])
    with_extra = rerank(query, gallery, RerankConfig(k1=4))(0, 20)
    # round(4 / 2) == round(5 / 2), so that both have half lists of three.
    longer = rerank(query, gallery, RerankConfig(k1=5, extra_neighbor=False))(0, 20)
    np.testing.assert_allclose(with_extra, longer, atol=1e-6)
    assert not np.allclose(with_extra, rerank(query, gallery, RerankConfig(k1=4, extra_neighbor=False))(0, 20))


def test_equal_embeddings_are_their_own_nearest() -> None:
    """Copies of one image: no weights that are NaN, and every distance the same."""
    same = Embeddings(features=np.ones((4, 3), np.float32), ids=np.arange(4))
    found = rerank(same, same, RerankConfig(k1=2, k2=2))(0, 4)
    assert np.isfinite(found).all()
    assert (found >= -1e-6).all()
    zero = Embeddings(features=np.zeros((4, 3), np.float32), ids=np.arange(4))
    assert np.isfinite(rerank(zero, zero)(0, 4)).all()


@pytest.mark.parametrize("options", [{"k1": 0}, {"k2": 0}, {"lambda_value": 1.5}, {"exponent": 0}, {"rule": "best"}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        RerankConfig(**options)


def test_an_empty_gallery_is_refused() -> None:
    empty = Embeddings(features=np.ones((0, 3), np.float32), ids=np.arange(0), what="gallery")
    with pytest.raises(DataError, match="gallery needs at least one image"):
        rerank(Embeddings(features=np.ones((2, 3), np.float32), ids=np.arange(2)), empty)
