from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command, assert_one_line_error
from tests.images import write_images


def test_run_is_evaluated_on_its_held_out_images(command: Command, trained: Path) -> None:
    code, out, err = command("val", trained)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["class", "images", "precision", "recall", "F1"]
    assert [line.split()[:2] for line in lines[2:5]] == [["blue", "6"], ["green", "6"], ["red", "6"]]
    assert "top-1 100.00 % (18/18), 95 % interval 82.41 to 100.00" in lines
    assert "loss 0." in out
    assert "balanced accuracy 100.00 %, macro F1 100.00 %" in out
    assert command("val", "--model", trained).out == out
    assert command("val", "--model", trained / "best").out == out


def test_json(command: Command, trained: Path) -> None:
    code, out, _ = command("val", trained, "--json", "--batch-size", 1)
    result = json.loads(out)
    assert code == 0
    assert (result["model"], result["data"]) == (str(trained), None)
    assert (result["images"], result["correct"], result["top1"], result["top5"]) == (18, 18, 1.0, None)
    low, high = result["top1_interval_95"]
    assert 0.8 < low < high == 1.0


def test_split(command: Command, trained: Path) -> None:
    assert json.loads(command("val", trained, "--split", "train", "--json").out)["images"] == 72
    assert_one_line_error(command("val", trained, "--split", "test"), "colours has train, val")


def test_classes_are_matched_by_name(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 5}, seed=1)
    shutil.rmtree(root / "test" / "blue")  # green and red are now the first and the second class of the data
    code, out, _ = command("val", root, "--model", trained)
    assert code == 0
    assert "(10/10)" in out
    assert "blue" not in out or out.splitlines()[2].split()[:2] == ["blue", "0"]


def test_unknown_class_is_an_error(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 2})
    (root / "test" / "red").rename(root / "test" / "crimson")
    assert_one_line_error(command("val", root, "--model", trained), "'crimson'")


def test_numbered_classes_are_matched_by_name(command: Command, trained: Path) -> None:
    result = command("val", "digits", "--model", trained, "--split", "train")
    assert_one_line_error(result, "'0', '1', '2', '3', '4'")


def test_a_folder_of_class_folders_is_evaluated_whole(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"train": 4})
    for folder in (root, root / "train"):
        assert "(12/12)" in command("val", folder, "--model", trained).out
    write_images(root, {"val": 1})
    assert "(3/3)" in command("val", root, "--model", trained).out
    assert "(12/12)" in command("val", root, "--model", trained, "--split", "train").out


def test_class_map_ignored_and_numbered_classes(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 2}) / "test"
    (root / "red").rename(root / "crimson")
    (root / "blue").rename(root / "0")
    result = command("val", root, "--model", trained)
    assert_one_line_error(result, "'0', 'crimson' not among")
    for option in ("--ignore-extra", "--class-map"):
        assert option in result.err
    code, out, err = command("val", root, "--model", trained, "--ignore-extra")
    assert code == 0
    assert "(2/2)" in out
    assert "classes are left out: 0, crimson" in err
    for name, text in {"map.yaml": "crimson: red\n0: 0\n", "map.csv": "crimson,red\n0,blue\n"}.items():
        (tmp_path / name).write_text(text)
        assert "(6/6)" in command("val", root, "--model", trained, "--class-map", tmp_path / name).out
    (tmp_path / "map.json").write_text('{"crimson": null, "0": 0}')
    assert "(4/4)" in command("val", root, "--model", trained, "--class-map", tmp_path / "map.json").out
    (root / "crimson").rename(root / "2")
    (root / "green").rename(root / "1")
    assert_one_line_error(command("val", root, "--model", trained), "--labels index")
    assert "(6/6)" in command("val", root, "--model", trained, "--labels", "index").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crimson: red", "'crimson'"),
        ("red: rde", "did you mean 'red'"),
        ("red: 3", "got 3"),
        ("red: [1]", "put it in quotes"),
        ("red: blue\nred: green", "repeated"),
        ("- red", "data class"),
        ("", "data class"),
        ("{", "class map"),
    ],
)
def test_damaged_class_maps(
    command: Command, trained: Path, images: Path, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "map.yaml").write_text(text)
    result = command("val", images, "--model", trained, "--class-map", tmp_path / "map.yaml")
    assert_one_line_error(result, message)


def test_what_cannot_be_measured_is_a_dash(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 3})
    shutil.rmtree(root / "test" / "blue")
    from PIL import Image

    Image.new("RGB", (12, 12), (40, 60, 200)).save(root / "test" / "green" / "000.png")  # blue
    lines = command("val", root, "--model", trained).out.splitlines()
    assert lines[2].split() == ["blue", "0", "0.0000", "-", "0.0000"]
    result = json.loads(command("val", root, "--model", trained, "--json").out)
    assert result["per_class"][0] == {
        "class": "blue", "images": 0, "predicted": 1, "precision": 0.0, "recall": None, "f1": 0.0,
    }  # fmt: skip
    assert result["confusion"] == [[0, 0, 0], [1, 2, 0], [0, 0, 3]]


@pytest.mark.parametrize("extension", ["csv", "json", "jsonl", "parquet"])
def test_saved_predictions(command: Command, trained: Path, images: Path, tmp_path: Path, extension: str) -> None:
    file = tmp_path / f"val.{extension}"
    assert command("val", images, "--model", trained, "--save-predictions", file).code == 0
    if extension == "csv":
        rows = list(csv.DictReader(io.StringIO(file.read_text())))
    elif extension == "parquet":
        rows = pytest.importorskip("pyarrow.parquet").read_table(file).to_pylist()
    elif extension == "jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    else:
        rows = json.loads(file.read_text())
    assert [row["path"] for row in rows] == sorted(map(str, images.glob("val/*/*.png")))
    assert all(row["label"] == row["prediction"] == Path(row["path"]).parent.name for row in rows)
    assert all(int(row["correct"]) == 1 and 0 < float(row["probability"]) <= 1 for row in rows)


def test_mixed_precision(command: Command, trained: Path) -> None:
    full, half = (json.loads(command("val", trained, "--json", "--amp", amp).out) for amp in ("off", "bf16"))
    assert full["loss"] != half["loss"]
    assert full["loss"] == pytest.approx(half["loss"], abs=0.02)


def test_undecodable_image(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 3})
    bad = root / "test" / "red" / "bad.png"
    bad.write_bytes(b"\x89PNG and no more")
    assert_one_line_error(command("val", root, "--model", trained), str(bad))
    code, out, err = command("val", root, "--model", trained, "--skip-bad")
    assert code == 0
    assert "(9/9)" in out
    assert err.startswith(f"left out: {bad}: ")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--model: pass starter"),
        (["digits"], 2, "--model: pass starter"),
        (["--modle", "x"], 2, "--modle (Possible options: --model)"),
        (["digits", "--model", "resnt50"], 1, "did you mean resnet50"),
        (["digits", "--model", "resnet50"], 1, "resnet50"),
        (["digits", "--model", "./nowhere"], 1, "nowhere does not exist"),
        (["digits", "--model", "x.pth", "--batch-size", "0"], 2, "0 is not in the range"),
        (["{run}", "--labels", "number"], 2, "--labels"),
        (["{run}", "--save-predictions", "x.txt"], 1, ".parquet"),
        (["{run}", "--amp", "half"], 1, "'half'"),
        (["nothing", "--model", "{run}"], 1, "nothing does not exist"),
        (["--model", "{run}/best/model.safetensors"], 1, "needs data"),
    ],
)
def test_errors(command: Command, trained: Path, arguments: list[str], code: int, message: str) -> None:
    assert_one_line_error(command("val", *(argument.format(run=trained) for argument in arguments)), message, code)


@pytest.mark.parametrize("verb", ["val", "predict"])
def test_damaged_model_folders(command: Command, own_run: Path, images: Path, verb: str) -> None:
    best = own_run / "best"
    weights, config = (best / "model.safetensors").read_bytes(), (best / "config.json").read_text()
    arguments = (verb, images, "--model", own_run) if verb == "predict" else (verb, own_run)

    (best / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert_one_line_error(command(*arguments), "model.safetensors")
    (best / "model.safetensors").unlink()
    assert_one_line_error(command(*arguments), "model.safetensors")
    (best / "model.safetensors").write_bytes(weights)
    (best / "config.json").write_text(config[:100])
    assert_one_line_error(command(*arguments), "config.json")
    changed = json.loads(config)
    changed["resnets"]["preprocessing"]["mean"] = [0.1, 0.2, 0.3]
    (best / "config.json").write_text(json.dumps(changed))
    assert_one_line_error(command(*arguments), "preprocessing")
    (best / "config.json").write_text(config)
    assert command(*arguments).code == 0


def test_a_folder_of_runs_is_named(command: Command, own_run: Path) -> None:
    assert_one_line_error(command("val", own_run.parent), f"holds runs, such as {own_run}; pass one of them", 2)
