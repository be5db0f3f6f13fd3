"""One call that evaluates: options that contradict each other, and images compared with all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from resnets.errors import ConfigError
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.reid import ReidOptions, reid_eval
from resnets.retrieve.rerank import RerankConfig


@pytest.fixture
def images() -> Embeddings:
    features = np.random.default_rng(0).standard_normal((12, 5)).astype(np.float32)
    return Embeddings(features=features, ids=np.arange(12) % 4)


@pytest.mark.parametrize(
    "options",
    [
        {"single_shot": True},
        {"verification": True},
        {"open_set": True},
        {"expand_k": 2},
        {"rerank": RerankConfig()},
        {"ties": "pessimistic"},
        {"ap": "trapezoid"},
        {"exclude": "other_camera"},
    ],
)
def test_draws_refuse_what_they_do_not_compute(options: dict[str, Any], images: Embeddings) -> None:
    with pytest.raises(ConfigError, match=f"got draws and {next(iter(options))}"):
        reid_eval(None, images, ReidOptions(draws=2, **options))
    assert reid_eval(None, images, ReidOptions(draws=2, exclude="none")).repeated is not None


@pytest.mark.parametrize("options", [{"expand_k": 2}, {"rerank": RerankConfig(k1=2, k2=1)}])
def test_expansion_and_re_ranking_need_a_query_set(options: dict[str, Any], images: Embeddings) -> None:
    with pytest.raises(ConfigError, match="needs a query set beside the gallery"):
        reid_eval(None, images, ReidOptions(**options))


def test_no_image_is_its_own_match() -> None:
    """On a line, the nearest other image is always of the other identity: each own image would be rank 1."""
    images = Embeddings(features=np.array([[0], [1], [10], [11]], np.float32), ids=np.array([1, 2, 1, 2]))
    found = reid_eval(None, images, ReidOptions(metric="euclidean", single_shot=True, verification=True))
    assert found.metrics is not None
    assert found.verification is not None
    assert found.single_shot is not None
    assert found.metrics.cmc[0] == 0
    assert found.verification.same == 4
    # For 0 and 11, the match is nearer than one of the other identity's two images; for 1 and 10, than none.
    assert found.single_shot[0] == (0.5 + 0 + 0 + 0.5) / 4
