"""The public names of `resnets`, and that they stay what they are whatever is imported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import resnets
from resnets.version import __version__


def test_all_is_what_there_is() -> None:
    for name in resnets.__all__:
        assert getattr(resnets, name) is not None, name
    assert set(resnets.__all__) <= set(dir(resnets))
    assert set(resnets._HOMES) == set(resnets.__all__) - {"__version__"}


def test_the_type_checker_sees_the_same_names() -> None:
    source = Path(resnets.__file__).read_text()
    block = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    pairs = {
        name.strip(): home for home, names in re.findall(r"from (\S+) import (.+)", block) for name in names.split(",")
    }
    assert pairs == resnets._HOMES


def test_public_names_are_documented() -> None:
    for name in resnets.__all__:
        if name != "__version__":
            assert (getattr(resnets, name).__doc__ or "").strip(), name


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'resnets' has no attribute 'trian'"):
        resnets.trian  # noqa: B018
    assert not hasattr(resnets, "optimise")


def test_version() -> None:
    assert resnets.__version__ == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", __version__)


ORDERS = {
    "subpackage first": "import resnets.train.loop.epoch, resnets.evaluate.metrics; import resnets",
    "function first": "import resnets; resnets.train; resnets.evaluate; import resnets.train.loop.epoch",
    "from": "from resnets.train import loop; from resnets.evaluate import metrics; import resnets",
    "star": "from resnets import *; import resnets; assert train is resnets.train",
}


@pytest.mark.parametrize("order", ORDERS)
def test_train_is_the_function_whatever_is_imported(order: str) -> None:
    """`resnets.train` is a function and `resnets/train` a package; Python would bind the package over it."""
    code = f"""{ORDERS[order]}
import sys, resnets.api
assert resnets.train is resnets.api.train, resnets.train
assert resnets.evaluate is resnets.api.evaluate, resnets.evaluate
from resnets import train, evaluate
assert train is resnets.api.train
from resnets.runtime.device import pick_device
from resnets.train.loop import epoch as loop
assert loop is sys.modules["resnets.train.loop.epoch"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)
