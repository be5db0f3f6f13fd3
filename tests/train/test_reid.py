"""Runs with task=reid: embeddings of identities that are not trained on, resumed to the bit."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnets import api
from resnets.arch.config import ResNetConfig
from resnets.errors import ConfigError, DataError
from resnets.evaluate.results import REID_COLUMNS, read_results
from resnets.train.config.recipes import config_of
from resnets.train.config.resolved_config import read_resolved
from resnets.train.loop import trainer
from resnets.train.run import plan_run, resume
from resnets.train.run_folder.checkpoint import checkpoints, read_checkpoint
from resnets.train.run_folder.report import write_run_report
from resnets.weights.folder.model_folder import read_bundle
from tests.train.runs import TINY, same_outcome, start, stop_at, without_report

__all__ = ["without_report"]

REID = {"task": "reid", "batch_size": 16, "num_instances": 4, "val_fraction": 0.3, "opt": "adamw", "lr": 3e-3}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten identities of a colour each, four noisy images by each of two cameras, one of which is darker."""
    folder = tmp_path_factory.mktemp("reid")
    rng = np.random.default_rng(0)
    colours = rng.uniform(40, 255, (10, 3))
    rows: list[tuple[object, ...]] = [("path", "id", "camera")]
    for identity, colour in enumerate(colours):
        for camera, light in ((0, 1.0), (1, 0.6)):
            for number in range(4):
                name = f"{identity}_{camera}_{number}.png"
                pixels = np.clip(colour * light + rng.normal(0, 20, (12, 12, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / name)
                rows.append((name, f"thing {identity}", camera))
    with (folder / "data.csv").open("w") as file:
        csv.writer(file).writerows(rows)
    return folder / "data.csv"


def head_of(run: Path) -> tuple[str, int | None, bool]:
    config = read_resolved(run / "resolved.yaml").network
    assert isinstance(config, ResNetConfig)
    return config.neck, config.last_stride, config.classifier_bias


def test_a_run_learns_embeddings_and_writes_its_folder(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "write_run_report", write_run_report)
    result = start(table, tmp_path, epochs=6, **REID)
    assert result.evaluation is None
    assert result.reid is not None
    assert (result.reid.identities, result.reid.images) == (3, 24)
    rows = read_results(result.folder / "results.csv")
    assert (result.folder / "results.csv").read_text().splitlines()[0] == ",".join(REID_COLUMNS)
    best = max(rows, key=lambda row: (row.get("val_map") or 0, row.get("val_rank1") or 0, -row["epoch"]))
    assert result.best_epoch == best["epoch"]
    assert result.reid.metrics.map == pytest.approx(best.get("val_map"))
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]  # type: ignore[operator]
    bundle = read_bundle(result.best)
    assert len(bundle.classes) == 7
    assert set(bundle.classes) < {f"thing {number}" for number in range(10)}
    assert bundle.provenance["metrics"]["val_map"] == result.reid.metrics.map
    assert head_of(result.folder) == ("bn", 1, False)
    assert (bundle.preprocessing.crop_mode, bundle.preprocessing.crop_pct) == ("squash", 1.0)
    assert (result.folder / "plots" / "curves.png").exists()
    assert "mAP" in (result.folder / "report.html").read_text()
    embeddings = api.load(result.best).embed(sorted(table.parent.glob("*.png"))[:3])
    assert embeddings.shape == (3, 8)


@pytest.mark.parametrize(
    "options",
    [
        {"center_weight": 0.01, "ema": 0.9},
        {"metric_loss": "circle", "id_margin": "arcface", "global_pool": "gem", "embedding_dim": 6},
        {"accumulate": 2, "batch_size": 6, "num_instances": 2, "mining": "soft", "metric_features": "after"},
        {"num_instances": 0, "metric_loss": "none", "neck": "none"},
    ],
)
def test_a_resumed_run_equals_a_whole_one(
    options: dict[str, Any], table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start(table, tmp_path, name="whole", **REID | options)
    stopped = stop_at(table, tmp_path, 5, monkeypatch, **REID | options)
    assert not (stopped / "report.html").exists()
    resume(stopped)
    same_outcome(whole.folder, stopped)


def test_checkpoints_hold_moving_centres(table: Path, tmp_path: Path) -> None:
    result = start(table, tmp_path, keep=10, **REID | {"center_weight": 0.01})
    first, last = (read_checkpoint(checkpoints(result.folder / "checkpoints")[at]).group("loss") for at in (0, -1))
    assert first["centers"].shape == (7, 8)
    assert not np.allclose(first["centers"], last["centers"])


def test_training_from_a_classifier_and_from_its_own_result(table: Path, tmp_path: Path) -> None:
    first = start(table, tmp_path, name="first", **REID)
    again = start(table, tmp_path, name="again", pretrained=str(first.folder), **REID | {"model_args": {}})
    assert read_bundle(again.best).config == read_bundle(first.best).config
    starter = start(table, tmp_path, name="starter", pretrained="starter", **REID | {"model_args": {}})
    assert head_of(starter.folder) == ("bn", 1, False)


def test_each_part_of_the_head_can_be_switched_off(table: Path, tmp_path: Path) -> None:
    options = {"model_args": TINY | {"neck": "none", "last_stride": 2, "classifier_bias": True}}
    assert head_of(start(table, tmp_path, **REID | options).folder) == ("none", 2, True)


def test_a_collapsed_network_is_reported(table: Path, tmp_path: Path) -> None:
    """With all embeddings the same, the triplet loss is its margin."""
    usual = start(table, tmp_path, **REID).folder / "events.txt"
    assert not usual.exists() or "sticks" not in usual.read_text()
    collapsed = start(
        table, tmp_path, **REID | {"metric_features": "after", "lr": 1e-12, "metric_margin": 1e4, "name": "collapsed"}
    )
    assert "the triplet loss sticks at" in (collapsed.folder / "events.txt").read_text()


def test_defaults_without_a_recipe_and_by_recipe(table: Path) -> None:
    plain = plan_run(config_of({"data": str(table), "task": "reid"})).args
    assert (plain["optim"]["opt"], plain["augment"]["random_erasing"]) == ("adamw", 0.5)
    assert plain["sampling"]["num_instances"] == 4
    assert plain["batch_size"] == 16  # 4 identities: an epoch of few images has few steps
    sgd = plan_run(config_of({"data": str(table), "task": "reid", "opt": "sgd"})).args
    assert sgd["optim"]["lr"] > 0.01
    recipe = config_of({"data": str(table), "recipe": "reid"})
    assert recipe.task == "reid"
    assert recipe.sampling.num_instances == 4
    assert json.loads(json.dumps(plain))["reid"]["metric_loss"] == "triplet"


def test_a_batch_of_more_identities_than_there_are_is_lowered_with_a_note(table: Path) -> None:
    plan = plan_run(config_of({"data": str(table), "recipe": "reid", "model": "resnet20_cifar"}))
    assert plan.args["batch_size"] == 8 * 4
    assert any("all 8 training identities; 16 were requested" in note for note in plan.args["notes"])


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"mixup": 0.2}, ("mixup=0.2",)),
        ({"class_weights": "balanced"}, ("class_weights",)),
        ({"num_instances": 0}, ("metric_loss=triplet", "num_instances=0")),
        ({"batch_size": 30}, ("batch_size=30", "num_instances=4")),
        ({"batch_size": 32, "accumulate": 2}, ("accumulate=2",)),
        ({"model": "vgg16"}, ("VGG",)),
        ({"id_margin": "arcface", "classifier": "linear"}, ("classifier=linear",)),
        ({"id_margin_size": 0.2}, ("id_margin_size",)),
        ({"metric_loss": "circle", "mining": "soft"}, ("mining", "circle")),
        ({"metric_loss": "none", "id_weight": 0}, ("loss",)),
        ({"task": "classify", "metric_loss": "circle"}, ("task=reid",)),
        ({"task": "other"}, ("task", "other")),
        ({"global_pool": "none"}, ("neck", "global_pool")),
    ],
)
def test_refuses_what_cannot_be(options: dict[str, Any], facts: tuple[str, ...], table: Path) -> None:
    with pytest.raises(ConfigError) as error:
        plan_run(config_of({"data": str(table), "task": "reid"} | options))
    assert all(fact in str(error.value) for fact in facts), error.value
    assert "\n" not in str(error.value)


def test_val_names_the_verb_for_embeddings(table: Path, tmp_path: Path) -> None:
    folder = start(table, tmp_path, epochs=1, **REID).folder
    with pytest.raises(ConfigError, match="resnets reid DATA"):
        api.evaluate(folder)


def test_refuses_data_without_enough_identities(table: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.csv"
    one.write_text(f"path,id\n{table.parent}/0_0_0.png,a\n{table.parent}/0_0_1.png,a\n")
    with pytest.raises(DataError, match="2 identities"):
        plan_run(config_of({"data": str(one), "task": "reid"}))
    tested = tmp_path / "tested.csv"
    tested.write_text(f"path,id,set\n{table.parent}/0_0_0.png,a,query\n{table.parent}/1_0_1.png,b,gallery\n")
    with pytest.raises(DataError, match="train set"):
        plan_run(config_of({"data": str(tested), "task": "reid"}))
