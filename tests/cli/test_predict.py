from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import resnets
from resnets.evaluate.predict import Prediction
from resnets.evaluate.predictions import write_csv
from tests.conftest import Command, assert_one_line_error


def test_table(command: Command, trained: Path, images: Path) -> None:
    path = images / "val" / "green" / "000.png"
    code, out, err = command("predict", path, "--model", trained)
    assert (code, err) == (0, "")
    header, _, row, _, footer = out.splitlines()
    assert header.split() == ["image", "prediction", "#2", "#3"]
    assert row.startswith(f"{path}  green ")
    assert footer == f"model: {trained} (resnet20_cifar, 3 classes)"


def test_folders_and_files_together(command: Command, trained: Path, images: Path) -> None:
    single = images / "val" / "blue" / "003.png"
    code, out, _ = command("predict", single, images / "val", single, "--model", trained, "--json")
    predictions = json.loads(out)
    assert code == 0
    assert [one["path"] for one in predictions][:3] == [
        str(single), *(f"{images}/val/blue/00{number}.png" for number in (0, 1)),
    ]  # fmt: skip
    assert len(predictions) == 18  # an image that is given twice is classified once
    assert all(one["label"] == Path(one["path"]).parent.name for one in predictions)
    for one in predictions:
        assert (one["label"], one["probability"]) == tuple(one["top"][0].values())
        assert sum(part["probability"] for part in one["top"]) == pytest.approx(1)


def test_csv(command: Command, trained: Path, images: Path) -> None:
    code, out, err = command("predict", images / "val" / "red", "--model", trained, "--csv", "--top-k", 2)
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["rank"], row["label"] == "red") for row in rows] == [("1", True), ("2", False)] * 6
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


@pytest.mark.parametrize(("top_k", "expected"), [(1, 1), (2, 2), (3, 3), (99, 3)])
def test_top_k(command: Command, trained: Path, images: Path, top_k: int, expected: int) -> None:
    _, out, _ = command("predict", images / "val" / "red", "--model", trained, "--json", "--top-k", top_k)
    assert [len(one["top"]) for one in json.loads(out)] == [expected] * 6


def test_batch_size_changes_nothing(command: Command, trained: Path, images: Path) -> None:
    one = json.loads(command("predict", images, "--model", trained, "--json", "--batch-size", 1).out)
    many = json.loads(command("predict", images, "--model", trained, "--json", "--batch-size", 64).out)
    assert [a["path"] for a in one] == [b["path"] for b in many]
    for a, b in zip(one, many, strict=True):
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)


def test_undecodable_images_are_listed_and_the_others_classified(
    command: Command, trained: Path, images: Path, shared_data: Path, tmp_path: Path
) -> None:
    shutil.copy(images / "val" / "red" / "000.png", tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    broken = sorted([*(shared_data / "pillow_bad").iterdir(), tmp_path / "empty.png", tmp_path / "text.png"])
    code, out, err = command("predict", shared_data / "pillow_bad", tmp_path, "--model", trained, "--json")
    assert code == 1
    assert "Traceback" not in out + err
    assert [one["label"] for one in json.loads(out)] == ["red"]
    assert sorted(line.split(": ")[1] for line in err.splitlines()) == sorted(map(str, broken))
    assert all(line.startswith("error: ") for line in err.splitlines())

    code, out, err = command("predict", broken[0], tmp_path / "good.png", "--model", trained, "--skip-bad")
    assert code == 0
    assert err.startswith(f"left out: {broken[0]}: ")
    assert "red" in out
    for form in ("--json", "--csv", "--skip-bad"):  # no image can be decoded
        code, out, _ = command("predict", broken[0], "--model", trained, form)
        assert (code, out) == {"--json": (1, "[]\n"), "--csv": (1, "path,rank,label,probability\n")}.get(form, (0, ""))


def test_decoders_print_nothing(trained: Path, shared_data: Path) -> None:
    """libtiff writes warnings to the file descriptor of stderr, which only a subprocess shows."""
    arguments = ["predict", str(shared_data / "pillow_bad" / "crash-2020-10-test.tif"), "--model", str(trained)]
    done = subprocess.run(
        [sys.executable, "-m", "resnets", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_unusual_images_are_classified(command: Command, trained: Path, shared_data: Path) -> None:
    odd = shared_data / "pillow_odd"
    code, out, err = command("predict", odd, "--model", trained, "--json")
    assert (code, err) == (0, "")
    assert len(json.loads(out)) == len(list(odd.iterdir()))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "{run}"], 2, "'IMAGE...'"),
        (["{image}", "--modle", "{run}"], 2, "--modle (Possible options: --model)"),
        (["{image}", "--top-k", "0"], 2, "0 is not in the range"),
        (["{image}", "--model", "{run}", "--json", "--csv"], 2, "--csv"),
        (["{image}", "--model", "resnt50"], 1, "did you mean resnet50"),
        (["{image}", "--model", "{run}", "--device", "tpu"], 1, "got 'tpu'"),
        (["{image}", "--model", "{run}", "--amp", "fp8"], 1, "got 'fp8'"),
        (["{image}", "--model", "{run}", "--save", "x.txt"], 1, ".parquet"),
        (["{image}", "--model", "{run}", "--save", "no/such/x.csv"], 1, "must exist"),
        (["{run}/plots/none.png", "--model", "{run}"], 1, "none.png"),
        (["{run}/checkpoints", "--model", "{run}"], 1, "image"),
        (["{image}", "--model", "{run}/plots"], 1, "plots"),
    ],
)
def test_errors(command: Command, trained: Path, images: Path, arguments: list[str], code: int, message: str) -> None:
    image = images / "val" / "red" / "000.png"
    result = command("predict", *(argument.format(run=trained, image=image) for argument in arguments))
    assert_one_line_error(result, message, code)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are Unicode")
def test_file_names_that_are_not_utf8_are_printed_as_they_are(trained: Path, images: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9 red.png"
    shutil.copy(images / "val" / "red" / "000.png", os.fsdecode(name))
    command = [sys.executable, "-m", "resnets", "predict", str(tmp_path), "--model", str(trained)]
    for form in ("--csv", "--json"):
        environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}  # the default outside the C locale
        done = subprocess.run([*command, form], capture_output=True, timeout=120, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        if form == "--csv":
            assert name + b",1,red," in done.stdout
        else:
            assert os.fsencode(json.loads(done.stdout)[0]["path"]) == name


def test_default_model_is_the_starter_and_says_what_it_knows(command: Command, images: Path) -> None:
    code, out, err = command("predict", images / "val" / "red" / "000.png")
    assert code == 0
    assert out.splitlines()[-1].startswith("model: starter (")
    assert len(err.splitlines()) == 1
    assert all(word in err for word in ("starter", "airplane", "truck", "--model"))


def test_patterns_folders_and_links_to_the_same_image(command: Command, trained: Path, images: Path) -> None:
    def paths(*arguments: object) -> list[str]:
        result = command("predict", *arguments, "--model", trained, "--json")
        assert (result.code, result.err) == (0, "")
        return [one["path"] for one in json.loads(result.out)]

    red = sorted(map(str, (images / "val" / "red").iterdir()))
    assert paths(images / "val" / "r*" / "*.png") == red
    assert paths(images / "val" / "**" / "red" / "00[0-2].png") == red[:3]
    assert paths(images / "val" / "re?") == red
    assert len(paths(images / "val")) == 18
    assert paths(red[0], images / "val" / "red", "--no-recursive") == red
    result = command("predict", images / "val", "--no-recursive", "--model", trained)
    assert_one_line_error(result, "at least one image")
    result = command("predict", images / "*.webp", "--model", trained)
    assert_one_line_error(result, "matches nothing")


def test_a_missing_path_does_not_stop_the_others(command: Command, trained: Path, images: Path) -> None:
    good = images / "val" / "red" / "000.png"
    code, out, err = command("predict", "missing.png", good, images / "nothing", "--model", trained, "--json")
    assert code == 1
    assert [one["path"] for one in json.loads(out)] == [str(good)]
    assert [line.split(";")[1].strip() for line in err.splitlines()] == [
        "got missing.png", f"got {images / 'nothing'}",
    ]  # fmt: skip
    assert command("predict", "missing.png", good, "--model", trained, "--skip-bad").code == 0


def test_an_image_on_standard_input(trained: Path, images: Path) -> None:
    content = (images / "val" / "blue" / "000.png").read_bytes()
    command = [sys.executable, "-m", "resnets", "predict", "-", "--model", str(trained), "--json"]
    done = subprocess.run(command, input=content, capture_output=True, timeout=120, check=True)
    (found,) = json.loads(done.stdout)
    assert (found["path"], found["label"]) == ("-", "blue")


def test_images_from_the_web(command: Command, trained: Path, images: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(images))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        urls = [f"{address}/val/green/000.png", f"{address}/missing.png"]
        code, out, err = command("predict", *urls, "--model", trained, "--json")
        (found,) = resnets.predict(trained, urls[0])
        server.shutdown()
    assert code == 1
    assert [(one["path"], one["label"]) for one in json.loads(out)] == [(urls[0], "green")]
    assert f"error: {urls[1]}: the server answered 404" in err
    assert found.label == "green"
    result = command("predict", urls[0], "--model", trained, "--json")
    assert (result.code, result.out) == (1, "[]\n")
    assert "cannot be fetched" in result.err


def test_classes_below_the_threshold_are_left_out(command: Command, trained: Path, images: Path) -> None:
    image = images / "val" / "red" / "000.png"
    everything = json.loads(command("predict", image, "--model", trained, "--json").out)[0]["top"]
    between = (everything[0]["probability"] + everything[1]["probability"]) / 2
    (one,) = json.loads(command("predict", image, "--model", trained, "--json", "--threshold", between).out)
    assert one["top"] == everything[:1]
    (none,) = json.loads(command("predict", image, "--model", trained, "--json", "--threshold", 1).out)
    assert (none["label"], none["probability"], none["top"]) == (None, None, [])
    table = command("predict", image, "--model", trained, "--threshold", 1).out
    assert table.splitlines()[2].split() == [str(image), "-", "-", "-"]
    text = command("predict", image, "--model", trained, "--csv", "--threshold", 1).out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert rows == [{"path": str(image), "rank": "1", "label": "", "probability": ""}]


@pytest.mark.parametrize("extension", ["csv", "json", "jsonl", "parquet", "JSON"])
def test_saved_predictions(command: Command, trained: Path, images: Path, tmp_path: Path, extension: str) -> None:
    file = tmp_path / f"predictions.{extension}"
    code, out, err = command("predict", images / "val" / "red", "--model", trained, "--save", file)
    assert (code, err) == (0, "")
    assert out == f"6 images classified with {trained} (resnet20_cifar): {file}\n"
    expected = json.loads(command("predict", images / "val" / "red", "--model", trained, "--json").out)
    if extension == "csv":
        found = list(csv.DictReader(io.StringIO(file.read_text())))
    elif extension == "parquet":
        found = pytest.importorskip("pyarrow.parquet").read_table(file).to_pylist()
    elif extension == "jsonl":
        assert [json.loads(line) for line in file.read_text().splitlines()] == expected
        return
    else:
        assert json.loads(file.read_text()) == expected
        return
    assert [(row["path"], row["label"]) for row in found] == [
        (one["path"], top["label"]) for one in expected for top in one["top"]
    ]


def test_formulas_reach_no_spreadsheet() -> None:
    text = io.StringIO()
    top = (("=cmd|' /C calc'!A0", 0.5), ("-3", 0.25), ("+", 0.125), ("@x", 0.1), ("a=b", 0.01))
    write_csv(text, [Prediction("=1.png", top)])
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert {row["path"] for row in rows} == {"'=1.png"}
    assert [row["label"] for row in rows] == ["'=cmd|' /C calc'!A0", "-3", "+", "'@x", "a=b"]


def test_mixed_precision_gives_close_probabilities(command: Command, trained: Path, images: Path) -> None:
    arguments = ("predict", images / "val", "--model", trained, "--json")
    full, half = (json.loads(command(*arguments, "--amp", amp).out) for amp in ("off", "bf16"))
    assert [one["label"] for one in full] == [one["label"] for one in half]
    assert full != half
    for one, other in zip(full, half, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=0.05)


def test_a_run_is_no_image_and_an_empty_path_is_an_error(command: Command, own_run: Path) -> None:
    assert_one_line_error(command("predict", own_run), "is the folder of a run; pass it as --model")
    assert_one_line_error(command("predict", ""), "must not be empty")
