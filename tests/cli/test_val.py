from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.images import write_images


def test_a_run_is_measured_on_what_it_held_out(command: Command, trained: Path) -> None:
    code, out, err = command("val", trained)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["class", "images", "precision", "recall", "F1"]
    assert [line.split()[0] for line in lines[2:5]] == ["blue", "green", "red"]
    assert [line.split()[1] for line in lines[2:5]] == ["6", "6", "6"]
    assert lines[-2] == "18 of 18 images right: top-1 100.00 % (95 % interval 82.41 to 100.00)"
    assert lines[-1].startswith("loss 0.")
    assert command("val", "--model", trained).out == out
    assert command("val", "--model", trained / "best").out == out


def test_json(command: Command, trained: Path) -> None:
    code, out, _ = command("val", trained, "--json", "--batch-size", 1)
    answer = json.loads(out)
    assert code == 0
    assert (answer["model"], answer["data"]) == (str(trained), None)
    assert (answer["images"], answer["correct"], answer["top1"], answer["top5"]) == (18, 18, 1.0, None)
    low, high = answer["top1_interval_95"]
    assert 0.8 < low < high == 1.0


def test_splits(command: Command, trained: Path) -> None:
    assert json.loads(command("val", trained, "--split", "train", "--json").out)["images"] == 72
    code, out, err = command("val", trained, "--split", "test")
    assert (code, out) == (1, "")
    assert "got test; colours has train, val" in err


def test_classes_are_matched_by_name(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 5}, seed=1)
    shutil.rmtree(root / "test" / "blue")  # green and red are now the first and the second class of the data
    code, out, _ = command("val", root, "--model", trained)
    assert code == 0
    assert "10 of 10 images right" in out
    assert "blue" not in out


def test_an_unknown_class_is_named(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 2})
    (root / "test" / "red").rename(root / "test" / "crimson")
    code, out, err = command("val", root, "--model", trained)
    assert (code, out) == (1, "")
    assert "'crimson' not among the 3" in err
    assert err.count("\n") == 1


def test_numbered_classes_are_names_too(command: Command, trained: Path) -> None:
    """A model whose classes are called 0 to 9 is not measured on ten other things."""
    code, _, err = command("val", "digits", "--model", trained, "--split", "train")
    assert code == 1
    assert "'0', '1', '2', '3', '4' not among the 3" in err


def test_data_with_only_a_training_split_is_never_taken_silently(
    command: Command, trained: Path, tmp_path: Path
) -> None:
    root = write_images(tmp_path / "other", {"train": 2})
    code, _, err = command("val", root, "--model", trained)
    assert code == 1
    assert "pass --split" in err
    assert command("val", root, "--model", trained, "--split", "train").code == 0


def test_a_broken_image_is_named_or_left_out(command: Command, trained: Path, tmp_path: Path) -> None:
    root = write_images(tmp_path / "other", {"test": 3})
    (root / "test" / "red" / "bad.png").write_bytes(b"\x89PNG and no more")
    code, out, err = command("val", root, "--model", trained)
    assert (code, out) == (1, "")
    assert f"{root}/test/red/bad.png" in err
    code, out, err = command("val", root, "--model", trained, "--skip-bad")
    assert code == 0
    assert "9 of 9 images right" in out
    assert err.startswith(f"left out: {root}/test/red/bad.png: ")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "invalid value for --model: pass starter, a run folder, a model folder or a weights file"),
        (["digits"], 2, "invalid value for --model"),
        (["--modle", "x"], 2, "unknown option; got --modle; did you mean --model?"),
        (["digits", "--model", "resnt50"], 1, "did you mean resnet50"),
        (["digits", "--model", "resnet50"], 1, "resnet50 is a network without any"),
        (["digits", "--model", "./nowhere"], 1, "nowhere does not exist"),
        (["digits", "--model", "x.pth", "--batch-size", "0"], 2, "0 is not in the range"),
        (["nothing", "--model", "{run}"], 1, "nothing does not exist"),
        (["--model", "{run}/best/model.safetensors"], 1, "measuring needs data"),
    ],
)
def test_mistakes_are_one_line(command: Command, trained: Path, words: list[str], code: int, message: str) -> None:
    answer = command("val", *(word.format(run=trained) for word in words))
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err.splitlines()[0]
    assert len(answer.err.splitlines()) == (3 if code == 2 else 1)


@pytest.mark.parametrize("verb", ["val", "predict"])
def test_damaged_model_folders(command: Command, own_run: Path, images: Path, verb: str) -> None:
    best = own_run / "best"
    weights, config = (best / "model.safetensors").read_bytes(), (best / "config.json").read_text()
    words = (verb, images, "--model", own_run) if verb == "predict" else (verb, own_run)

    def fails(part: str) -> None:
        code, out, err = command(*words)
        assert (code, out) == (1, "")
        assert part in err
        assert err.count("\n") == 1, err

    (best / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    fails("model.safetensors")
    (best / "model.safetensors").unlink()
    fails("model.safetensors")
    (best / "model.safetensors").write_bytes(weights)
    (best / "config.json").write_text(config[:100])
    fails("is not JSON")
    changed = json.loads(config)
    changed["resnets"]["preprocessing"]["mean"] = [0.1, 0.2, 0.3]
    (best / "config.json").write_text(json.dumps(changed))
    fails("the preprocessing must be the one that the model was saved with")
    (best / "config.json").write_text(config)
    assert command(*words).code == 0
