"""Embedding images in Parquet and tar shards, and averages over the images of an identity."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import resnets
from resnets.cli import main
from resnets.errors import DataError
from resnets.retrieve.embedding_file import EmbeddingFile, read_embeddings


def png(number: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_parquet(folder: Path) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in range(6)]
    pq.write_table(pyarrow.table({"image": images, "label": [0, 0, 0, 1, 1, 1]}), folder / "data.parquet")
    return folder / "data.parquet"


def write_tar(folder: Path) -> Path:
    with tarfile.open(folder / "data.tar", "w") as file:
        for number in range(6):
            for suffix, content in (("png", png(number)), ("cls", str(number // 3).encode())):
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return folder / "data.tar"


@pytest.mark.parametrize("write", [write_parquet, write_tar])
def test_shards_are_embedded_in_order(write: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path)  # type: ignore[operator]
    out = tmp_path / "e.npy"
    assert main(["embed", str(data), "--save", str(out), "--batch-size", "4"]) == 0, capsys.readouterr().err
    found = read_embeddings(out)
    assert found.ids is None
    assert len(set(found.paths)) == 6
    expected = resnets.load("starter").embed([png(number) for number in range(6)])
    np.testing.assert_allclose(found.features, expected, rtol=1e-5, atol=1e-5)
    assert main(["embed", str(data), "--save", str(out), "--identities"]) == 0
    with_ids = read_embeddings(out)
    assert with_ids.ids is not None
    assert with_ids.ids.tolist() == [0, 0, 0, 1, 1, 1]


def test_averages_by_hand() -> None:
    """Each embedding counts by its direction: (3, 0) and (0, 4) become (0.5, 0.5)."""
    file = EmbeddingFile(
        features=np.array([[3, 0], [0, 5], [0, 4], [0, 2]], np.float32),
        paths=("a", "b", "c", "d"),
        ids=np.array([1, 2, 1, 1]),
        cameras=np.array([0, 0, 0, 1]),
        model={},
    )
    found = file.averaged()
    assert found.paths == ("a", "b", "d")
    assert found.features.tolist() == [[0.5, 0.5], [0, 1], [0, 1]]
    assert found.ids is not None
    assert found.cameras is not None
    assert (found.ids.tolist(), found.cameras.tolist()) == ([1, 2, 1], [0, 0, 1])
    with pytest.raises(DataError, match="identities"):
        EmbeddingFile(features=file.features, paths=file.paths, model={}).averaged()


def test_average_needs_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    assert main(["embed", str(tmp_path), "--average", "--save", str(tmp_path / "e.npy")]) == 1
    assert "--identities" in capsys.readouterr().err
    assert not (tmp_path / "e.npy").exists()
    for number in range(4):
        path = tmp_path / "data" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    command = ["embed", str(tmp_path / "data"), "--identities", "--average", "--save", str(tmp_path / "e.npy")]
    assert main(command) == 0
    assert len(read_embeddings(tmp_path / "e.npy").paths) == 2


def test_a_damaged_image_in_a_shard_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(tmp_path / "data.tar", "w") as file:
        for number in range(3):
            for suffix, content in (("png", png(number)[: 60 if number == 1 else None]), ("cls", b"0")):
                member = tarfile.TarInfo(f"{number:04d}.{suffix}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    command = ["embed", str(tmp_path / "data.tar"), "--save", str(tmp_path / "e.npy")]
    assert main(command) == 1
    assert "0001" in capsys.readouterr().err
    assert main([*command, "--skip-bad"]) == 0
    assert len(read_embeddings(tmp_path / "e.npy").paths) == 2
