"""ROC of pairs against fast-reid and by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resnets.errors import DataError
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.verification import Verification, verify_pairs
from tests.retrieve.golden import files, load

METRICS: tuple[Any, ...] = ("euclidean", "cosine")


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("path", files("eval"), ids=lambda path: path.stem.removeprefix("eval__"))
def test_roc_of_fast_reid(path: Path, metric: Any) -> None:
    golden, query, gallery = load(path)
    if f"{metric}:roc:counts" not in golden:
        return
    counts = golden[f"{metric}:roc:counts"].tolist()
    if not counts[0]:
        with pytest.raises(DataError, match="no pair of one identity"):
            verify_pairs(query, gallery, metric=metric)
        return
    found = verify_pairs(query, gallery, metric=metric, memory_mib=0)
    assert [found.same, found.different] == counts
    assert found.auc == pytest.approx(float(golden[f"{metric}:roc:auc"]), abs=1e-6)
    rates = [found.fastreid_tpr(fpr) for fpr in (1e-4, 1e-3, 1e-2)]
    np.testing.assert_allclose(rates, golden[f"{metric}:roc:tpr_at"], atol=1e-6)


def test_rates_by_hand() -> None:
    """Pairs of one identity at 1, 2 and 4; of two at 2, 3, 5 and 6."""
    one = Verification(
        same=3, different=4, distances=np.array([1.0, 2.0, 4.0]), below=np.array([0, 0, 2]), up_to=np.array([0, 1, 2])
    )
    assert one.auc == pytest.approx((4 + 3.5 + 2) / 12)
    assert one.at_far(0) == (1 / 3, 1.0)
    assert one.at_far(0.25) == (2 / 3, 2.0)
    assert one.at_far(0.3) == (2 / 3, 2.0)
    assert one.at_far(1) == (1.0, 4.0)
    assert one.eer == pytest.approx((1 / 3 + 1 / 4) / 2)
    never = Verification(same=1, different=2, distances=np.array([5.0]), below=np.array([2]), up_to=np.array([2]))
    assert never.at_far(0.5) == (0.0, -1.0)
    query = Embeddings(features=np.array([[0.0]], np.float32), ids=np.array([1]))
    gallery = Embeddings(features=np.array([[1], [2], [3]], np.float32), ids=np.array([1, 2, 1]))
    found = verify_pairs(query, gallery, metric="euclidean")
    assert found.distances.tolist() == [1, 9]
    assert found.below.tolist() == found.up_to.tolist() == [0, 1]
    with pytest.raises(DataError, match="no pair of two identities"):
        verify_pairs(query, gallery.select(np.array([0, 2])), metric="euclidean")
