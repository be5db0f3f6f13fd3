import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.errors import TrainingError
from resnets.evaluate import results
from resnets.evaluate.results import COLUMNS, add_result, keep_results, read_results, write_results


def epochs(path):
    return [row["epoch"] for row in read_results(path)]


def test_rows_come_back_with_gaps_and_own_columns(tmp_path):
    path = tmp_path / "results.csv"
    assert read_results(path) == []
    add_result(path, {"epoch": 0, "lr": 0.1, "train_loss": 2.5})
    add_result(path, {"epoch": 1, "lr": np.float32(0.5), "val_top1": None, "ema_top1": 0.25})
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join([*COLUMNS, "ema_top1"])
    assert lines[1] == "0,0.1,2.5,,,,,,,,"
    assert lines[2] == "1,0.5,,,,,,,,,0.25"
    first, second = read_results(path)
    assert (first["train_loss"], first["ema_top1"], second["val_top1"]) == (2.5, None, None)
    assert isinstance(first["epoch"], int)


def test_a_resumed_run_replaces_that_epoch_and_later_ones(tmp_path):
    path = tmp_path / "results.csv"
    for epoch in range(1, 6):
        add_result(path, {"epoch": epoch, "lr": 0.1})
    rows = add_result(path, {"epoch": 3, "lr": 0.7})
    assert epochs(path) == [1, 2, 3] == [row["epoch"] for row in rows]
    assert read_results(path)[2]["lr"] == 0.7


def test_keep_results_drops_what_comes_after(tmp_path):
    path = tmp_path / "results.csv"
    assert keep_results(path, 3) == []
    assert not path.exists()
    write_results(path, [{"epoch": epoch} for epoch in (1, 2, 3, 4)])
    assert [row["epoch"] for row in keep_results(path, 2)] == [1, 2] == epochs(path)
    before = path.stat().st_mtime_ns
    keep_results(path, 9)
    assert path.stat().st_mtime_ns == before


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    add_result(path, {"epoch": 1})

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        add_result(path, {"epoch": 2})
    assert epochs(path) == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("rows", [[{"lr": 1.0}], [{"epoch": 2}, {"epoch": 2}], [{"epoch": 2}, {"epoch": 1}]])
def test_refuses_epochs_that_do_not_rise(tmp_path, rows):
    with pytest.raises(TrainingError, match="epoch"):
        write_results(tmp_path / "results.csv", rows)
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_row_without_epoch(tmp_path):
    with pytest.raises(TrainingError, match=r"got \['lr'\]"):
        add_result(tmp_path / "results.csv", {"lr": 1.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column named epoch"),
        ("lr,loss\n1,2\n", "column named epoch"),
        ("epoch,lr,lr\n1,2,3\n", "once"),
        ("epoch,lr\n1,0.1\n2,fast\n", "line 3.*fast"),
        ("epoch,lr\n1\n", "line 2"),
        ("epoch,lr\n,0.1\n", "line 2"),
    ],
)
def test_names_the_line_that_is_broken(tmp_path, text, message):
    path = tmp_path / "results.csv"
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_results(path)


numbers = st.none() | st.floats(allow_nan=False)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS[1:], numbers)), min_size=1, max_size=5))
def test_numbers_read_back_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("run") / "results.csv"
    rows = [{"epoch": epoch, **row} for epoch, row in enumerate(rows)]
    write_results(path, rows)
    assert read_results(path) == rows


def test_nan_reads_back(tmp_path):
    path = tmp_path / "results.csv"
    add_result(path, {"epoch": 0, "train_loss": math.nan})
    assert math.isnan(read_results(path)[0]["train_loss"])


def test_all_is_what_there_is():
    assert all(hasattr(results, name) for name in results.__all__)
