"""The goldens of tests/golden/reid: outputs of other implementations, and the inputs that they were given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from resnets.retrieve.embeddings import Embeddings
from tests.golden.reid import rules

__all__ = ["files", "load", "meta_of"]

FOLDER = Path(__file__).parents[1] / "golden" / "reid"


def files(kind: str) -> list[Path]:
    """The files of a kind, such as `eval`."""
    return sorted(FOLDER.glob(f"{kind}__*.npz"))


def read(path: Path) -> dict[str, Any]:
    """The arrays of a file."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def meta_of(golden: dict[str, Any]) -> dict[str, Any]:
    """How the inputs of a golden were made."""
    return dict(json.loads(str(golden["meta"])))


def load(path: Path) -> tuple[dict[str, Any], Embeddings, Embeddings]:
    """The outputs, the query set and the gallery of a file whose inputs come from the rule `retrieval`."""
    golden = read(path)
    made = rules.retrieval(**meta_of(golden)["arguments"])
    query = Embeddings(features=made["qf"], ids=made["qp"], cameras=made["qc"], what="query set")
    return golden, query, Embeddings(features=made["gf"], ids=made["gp"], cameras=made["gc"], what="gallery")
