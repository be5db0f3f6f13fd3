import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnets.errors import TrainingError
from resnets.evaluate import results
from resnets.evaluate.results import (
    COLUMNS,
    ResultsRow,
    add_result,
    read_results,
    truncate_results,
    write_results,
)


def row(epoch: int, **values: Any) -> ResultsRow:
    return cast(ResultsRow, dict.fromkeys(COLUMNS) | {"epoch": epoch} | values)


def epochs(path: Path) -> list[int]:
    return [row["epoch"] for row in read_results(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_rows_read_back_with_empty_cells(path: Path) -> None:
    assert read_results(path) == []
    add_result(path, row(0, lr=0.1, train_loss=2.5))
    add_result(path, row(1, lr=np.float32(0.5), memory_mib=512))
    lines = path.read_text().splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == "0,0.1,2.5,,,,,,,"
    assert lines[2] == "1,0.5,,,,,,,,512.0"
    first, second = read_results(path)
    assert first == row(0, lr=0.1, train_loss=2.5)
    assert (second["train_loss"], second["memory_mib"]) == (None, 512)
    assert isinstance(first["epoch"], int)


def test_a_resumed_run_replaces_that_epoch_and_later_ones(path: Path) -> None:
    for epoch in range(1, 6):
        add_result(path, row(epoch, lr=0.1))
    rows = add_result(path, row(3, lr=0.7))
    assert epochs(path) == [1, 2, 3] == [one["epoch"] for one in rows]
    assert read_results(path)[2]["lr"] == 0.7


def test_truncate_results_deletes_later_rows_only(path: Path) -> None:
    assert truncate_results(path, 3) == []
    assert not path.exists()
    write_results(path, [row(epoch) for epoch in (1, 2, 3, 4)])
    assert [one["epoch"] for one in truncate_results(path, 2)] == [1, 2] == epochs(path)
    before = path.stat().st_mtime_ns
    truncate_results(path, 9)
    assert path.stat().st_mtime_ns == before


def test_a_failed_write_leaves_the_file_unchanged(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_result(path, row(1))

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        add_result(path, row(2))
    assert epochs(path) == [1]
    assert [file.name for file in path.parent.iterdir()] == ["results.csv"]


@pytest.mark.parametrize("rows", [[row(2), row(2)], [row(2), row(1)]])
def test_epochs_that_do_not_increase_are_rejected(path: Path, rows: list[ResultsRow]) -> None:
    with pytest.raises(TrainingError, match="epoch"):
        write_results(path, rows)
    assert list(path.parent.iterdir()) == []


HEADER, CELLS = ",".join(COLUMNS), "," * (len(COLUMNS) - 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns epoch"),
        ("lr,loss\n1,2\n", "'lr', 'loss'"),
        (f"{HEADER},extra\n", "extra"),
        (f"{HEADER}\n1,0.1{CELLS}\n2,fast{CELLS}\n", "line 3.*fast"),
        (f"{HEADER}\n1\n", "line 2"),
        (f"{HEADER}\n,0.1{CELLS}\n", "line 2"),
    ],
)
def test_errors_name_the_header_or_line(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_results(path)


def test_other_encodings_are_an_error(path: Path) -> None:
    path.write_bytes(f"{HEADER}\n".encode() + b"\xff\n")
    with pytest.raises(TrainingError, match="UTF-8"):
        read_results(path)


numbers = st.none() | st.floats(allow_nan=False)


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS[1:], numbers)), min_size=1, max_size=5))
def test_numbers_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, float | None]]
) -> None:
    path = tmp_path_factory.mktemp("run") / "results.csv"
    rows = [row(epoch, **one) for epoch, one in enumerate(values)]
    write_results(path, rows)
    assert read_results(path) == rows


def test_nan_reads_back(path: Path) -> None:
    add_result(path, row(0, train_loss=math.nan))
    loss = read_results(path)[0]["train_loss"]
    assert loss is not None
    assert math.isnan(loss)


def test_all_lists_existing_names() -> None:
    assert set(results.__all__) <= vars(results).keys()
