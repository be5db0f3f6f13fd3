"""Public names of `resnets`, whatever else is imported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import resnets
from resnets.version import __version__

PUBLIC = (
    "Bundle Embeddings FeatureExtractor ImageDataset Preprocessing ReidOptions ResNet ResNetConfig ResnetsError VGG "
    "VGGConfig __version__ convert create_model describe evaluate get_config import_weights list_models "
    "list_pretrained load plan predict reid_eval save_weights train transforms"
)


def test_public_names() -> None:
    assert sorted(vars(resnets)["__all__"]) == PUBLIC.split()
    assert dir(resnets) == sorted(PUBLIC.split())


@pytest.mark.parametrize("name", [name for name in PUBLIC.split() if name != "__version__"])
def test_public_names_are_documented(name: str) -> None:
    assert (getattr(resnets, name).__doc__ or "").strip()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="trian"):
        getattr(resnets, "trian")  # noqa: B009
    assert not hasattr(resnets, "optimise")


def test_version() -> None:
    assert resnets.__version__ == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", __version__)


IMPORT_ORDERS = {
    "subpackage first": "import resnets.train.loop.epoch, resnets.evaluate.metrics; import resnets",
    "function first": "import resnets; resnets.train; resnets.evaluate; import resnets.train.loop.epoch",
    "from": "from resnets.train import loop; from resnets.evaluate import metrics; import resnets",
    "star": "from resnets import *; import resnets; assert train is resnets.train",
}


@pytest.mark.parametrize("order", IMPORT_ORDERS)
def test_train_is_a_function_in_every_import_order(order: str) -> None:
    """`resnets.train` is a function and `resnets/train` a package; Python would replace the function."""
    code = f"""{IMPORT_ORDERS[order]}
import sys, resnets.api
assert resnets.train is resnets.api.train, resnets.train
assert resnets.evaluate is resnets.api.evaluate, resnets.evaluate
from resnets import train, evaluate
assert train is resnets.api.train
from resnets.train.loop import epoch
assert epoch is sys.modules["resnets.train.loop.epoch"]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
