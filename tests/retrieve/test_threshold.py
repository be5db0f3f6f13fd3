"""Thresholds of open-set search: chosen by hand-worked rates, stored with the model, used by search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnets import api
from resnets.cli import main
from resnets.errors import ConfigError, DataError
from resnets.retrieve.embedding_file import read_embeddings
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.open_set import OpenSet, with_unknown
from resnets.retrieve.reid import ReidOptions, reid_eval
from resnets.retrieve.threshold import save_threshold, stored_threshold
from resnets.weights.folder.model_folder import save_bundle

FOUND = OpenSet(identified=np.array([0.1, 0.2, 0.5]), mated=4, unmated=np.array([0.3, 0.4, 0.6, 0.7]))


def test_the_threshold_is_stored_with_its_rates(tmp_path: Path) -> None:
    """At one false alarm of four, the threshold lies midway between 0.3, accepted, and 0.4, refused."""
    bundle = api.load("starter")
    folder = save_bundle(bundle, tmp_path / "model")
    (folder / "README.md").write_text("mine")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"mine": 1}))
    weights = (folder / "model.safetensors").read_bytes()
    assert stored_threshold(bundle, "cosine") == (None, "")
    assert save_threshold(bundle, folder, FOUND, 0.25, metric="cosine", exclude="none", data="some") == pytest.approx(
        0.35
    )
    assert (folder / "README.md").read_text() == "mine"
    assert (folder / "model.safetensors").read_bytes() == weights
    changed = json.loads((folder / "config.json").read_text())
    assert changed.pop("mine") == 1
    changed["resnets"]["calibration"] = values["resnets"]["calibration"]
    assert changed == values  # nothing else
    again = api.load(folder)
    assert again.calibration is not None
    stored = again.calibration["open_set"]
    assert (stored["identification_rate"], stored["measured_false_alarm_rate"]) == (0.5, 0.25)
    assert (stored["unknown_queries"], stored["known_queries"], stored["data"]) == (4, 4, "some")
    assert stored_threshold(again, "cosine")[0] == pytest.approx(0.35)
    threshold, note = stored_threshold(again, "euclidean")
    assert threshold is None
    assert "cosine" in note
    assert "--flip" in stored_threshold(again, "cosine", flip=True)[1]
    assert stored_threshold(again, "cosine", flip=True)[0] is None
    other = replace(again, preprocessing=replace(again.preprocessing, crop_pct=0.5))  # a part of the model's hash
    assert "other weights" in stored_threshold(other, "cosine")[1]
    broken: list[Any] = [{}, [], stored | {"threshold": "x"}, {"threshold": 0.1}]
    for damaged in broken:
        threshold, note = stored_threshold(replace(again, calibration={"open_set": damaged}), "cosine")
        assert threshold is None
        assert "damaged" in note
    for name, tensor in bundle.model.state_dict().items():
        assert (tensor == again.model.state_dict()[name]).all()


@pytest.mark.parametrize("far", [0, 1, 0.2, 1e-4])
def test_rates_that_the_queries_cannot_show_are_refused(far: float, tmp_path: Path) -> None:
    bundle = api.load("starter")
    with pytest.raises(ConfigError, match="unknown queries"):
        save_threshold(bundle, tmp_path / "model", FOUND, far, metric="cosine", exclude="none", data="some")
    assert not (tmp_path / "model").exists()


def test_the_rate_that_a_refusal_suggests_is_accepted(tmp_path: Path) -> None:
    three = OpenSet(identified=np.array([0.1]), mated=1, unmated=np.array([0.2, 0.3, 0.4]))
    folder = save_bundle(api.load("starter"), tmp_path / "m")
    with pytest.raises(ConfigError, match=r"use 0.333334 or more"):
        save_threshold(api.load("starter"), folder, three, 0.33, metric="cosine", exclude="none", data="some")
    for far in (0.333334, 1 / 3):
        save_threshold(api.load("starter"), folder, three, far, metric="cosine", exclude="none", data="some")


@pytest.mark.parametrize("count", [49, 98, 103, 107])
def test_one_false_alarm_of_all_is_measured(count: int, tmp_path: Path) -> None:
    """1 / count times count may be below 1 in floating point."""
    found = OpenSet(identified=np.array([0.1]), mated=1, unmated=np.linspace(0.2, 0.9, count))
    folder = save_bundle(api.load("starter"), tmp_path / "m")
    save_threshold(api.load("starter"), folder, found, 1 / count, metric="cosine", exclude="none", data="some")


def test_nothing_accepted_is_refused(tmp_path: Path) -> None:
    near = OpenSet(identified=np.array([0.5]), mated=1, unmated=np.array([0.1, 0.1]))
    with pytest.raises(ConfigError, match="higher rate"):
        save_threshold(api.load("starter"), tmp_path, near, 0.5, metric="cosine", exclude="none", data="some")


def sets(count: int) -> Embeddings:
    rng = np.random.default_rng(0)
    return Embeddings(features=rng.normal(size=(3 * count, 4)), ids=np.repeat(np.arange(count), 3))


def test_unknown_identities_leave_the_gallery() -> None:
    everything = sets(10)
    rest, same = with_unknown(everything, everything, np.arange(30), 0.4, 0)
    assert len(rest) == 18
    assert same is not None
    assert ((same >= 0) == np.isin(everything.ids, rest.ids)).all()
    kept = np.flatnonzero(same >= 0)
    assert (rest.features[same[kept]] == everything.features[kept]).all()
    other, _ = with_unknown(everything, everything, None, 0.4, 1)
    assert set(other.ids) != set(rest.ids)
    found = reid_eval(None, everything, ReidOptions(open_set=True, unknown_fraction=0.4)).open_set
    assert found is not None
    assert (found.mated, len(found.unmated)) == (18, 12)


def test_unknown_fractions_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="is usual"):
        with_unknown(sets(4), sets(4), None, 1.0, 0)
    with pytest.raises(DataError, match="two identities"):
        with_unknown(sets(1), sets(1), None, 0.5, 0)
    with pytest.raises(ConfigError, match="open_set"):
        reid_eval(None, sets(4), ReidOptions(unknown_fraction=0.5))


def test_search_reports_what_is_not_in_the_gallery(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    for identity in range(6):
        (data / str(identity)).mkdir(parents=True)
        base = rng.integers(0, 255, (32, 32, 3))
        for number in range(4):
            pixels = np.clip(base + rng.normal(0, 12, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(data / str(identity) / f"{number}.png")
    model, index = str(tmp_path / "model"), str(tmp_path / "index.npy")
    save_bundle(api.load("starter"), model)
    measure = ["reid", str(data), "--model", model, "--unknown-fraction", "0.5", "--save-threshold", "0.1"]
    assert main(measure) == 0, capsys.readouterr().err
    known = sorted(str(path) for path in data.glob("[0-2]/*.png"))
    assert main(["embed", *known, "--model", model, "--save", index]) == 0
    capsys.readouterr()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3)).astype(np.uint8)).save(tmp_path / "new.png")
    Image.new("RGB", (32, 32), "white").save(tmp_path / "white.png")
    queries = [known[0], str(tmp_path / "white.png")]
    assert main(["search", index, *queries, "--model", model, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["in_gallery"] for one in found] == [True, False]
    assert main(["search", index, *queries, "--model", model]) == 0
    captured = capsys.readouterr()
    assert "not in the gallery" in captured.out
    assert "false alarm rate of 10 %" in captured.err
    sheets = [tmp_path / "limited.png", tmp_path / "all.png"]
    assert main(["search", index, queries[1], "--model", model, "--sheet", str(sheets[0])]) == 0
    assert main(["search", index, queries[1], "--model", model, "--threshold", "9", "--sheet", str(sheets[1])]) == 0
    with Image.open(sheets[0]) as limited, Image.open(sheets[1]) as everything:
        assert limited.width < everything.width  # without results
    assert main(["embed", *known, "--model", model, "--flip", "--save", str(tmp_path / "flip.npy")]) == 0
    capsys.readouterr()
    assert main(["search", str(tmp_path / "flip.npy"), *queries, "--model", model]) == 0
    captured = capsys.readouterr()
    assert "--flip and is not used" in captured.err
    assert "not in the gallery" not in captured.out
    np.save(tmp_path / "bare.npy", read_embeddings(Path(index)).features)
    assert main(["search", str(tmp_path / "bare.npy"), queries[0], "--model", model]) == 0
    assert "names no model" in capsys.readouterr().err
    assert main(["search", index, *queries, "--model", model, "--metric", "euclidean"]) == 0
    captured = capsys.readouterr()
    assert "is not used" in captured.err
    assert "not in the gallery" not in captured.out
    for wrong in (["--flip"], ["--rerank"], ["--save-threshold", "0"], ["--save-threshold", "nan"]):
        assert main([*measure, *wrong]) == 2
    assert main(["reid", str(data), "--model", "starter", "--unknown-fraction", "0.5", "--save-threshold", "0.1"]) == 1
    assert "model folder" in capsys.readouterr().err
