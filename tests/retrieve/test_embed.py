"""Files of embeddings, resuming after a kill, and data with identities."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import resnets
from resnets.errors import ConfigError, DataError, ImageError
from resnets.evaluate.predict import embed_batches
from resnets.retrieve import embed as module
from resnets.retrieve.embed import embed_files, model_identity, remove_partial
from resnets.retrieve.embed_data import find_embed_data
from resnets.retrieve.embedding_file import EmbeddingFile, check_embedding_format, read_embeddings, write_embeddings
from tests.images import write_images

Bundle = Any


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return resnets.load("starter")


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    root = write_images(tmp_path / "images", {"train": 9})
    return sorted(map(str, root.rglob("*.png")))


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
@pytest.mark.parametrize("known", [True, False])
def test_a_file_reads_back_as_it_was(suffix: str, known: bool, tmp_path: Path) -> None:
    file = EmbeddingFile(
        features=np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32),
        paths=("a, b.png", "ünï.png", "c.png"),
        ids=np.array([-1, 7, 7]) if known else None,
        cameras=np.array([1, 1, 2]) if known else None,
        sets=("gallery", "query", "gallery") if known else None,
        model={"name": "m", "hash": "12"},
    )
    write_embeddings(tmp_path / f"x{suffix}", file)
    back = read_embeddings(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(back.features, file.features)
    assert (back.paths, back.sets, back.model) == (file.paths, file.sets, file.model)
    for one, other in ((back.ids, file.ids), (back.cameras, file.cameras)):
        assert (one is None) == (other is None)
        np.testing.assert_array_equal(one, other)
    if known:
        assert back.of_set("query").ids.tolist() == [7]
        assert len(back.of_set("gallery")) == 2
    else:
        with pytest.raises(DataError, match="needs identities"):
            back.of_set("gallery")


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.parquet or \.npy"):
        check_embedding_format(Path("x.txt"))
    with pytest.raises(DataError, match="No such file"):
        read_embeddings(tmp_path / "x.parquet")
    for name in ("x.parquet", "x.npy"):
        (tmp_path / name).write_bytes(b"no file of embeddings")
        with pytest.raises(DataError, match=r"no file of embeddings, or damaged|must be readable") as caught:
            read_embeddings(tmp_path / name)
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "y.npy", np.zeros((2, 3), np.float32))
    (tmp_path / "y.csv").write_text("path\na.png\n")
    (tmp_path / "y.json").write_text("{}")
    with pytest.raises(DataError, match="different lengths"):
        read_embeddings(tmp_path / "y.npy")


def test_embeddings_are_those_of_the_bundle(bundle: Bundle, paths: list[str], tmp_path: Path) -> None:
    done: list[int] = []
    features, kept = embed_files(bundle, paths, tmp_path / "x.parquet", batch_size=4, progress=done.append)
    assert kept == list(range(len(paths)))
    np.testing.assert_allclose(features, bundle.embed(paths), atol=1e-5)
    assert done[0] == 0
    assert done[-1] == len(paths)
    remove_partial(tmp_path / "x.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    both, _ = embed_files(bundle, paths, tmp_path / "y.parquet", flip=True)
    assert not np.allclose(both, features)


def test_bad_images_are_left_out_and_the_others_keep_their_places(
    bundle: Bundle, paths: list[str], tmp_path: Path
) -> None:
    Path(paths[2]).write_bytes(b"nothing")
    twice = [*paths[:5], *paths[:5]]
    bad: list[ImageError] = []
    features, kept = embed_files(bundle, twice, tmp_path / "x.npy", batch_size=2, on_bad=bad.append)
    assert kept == [0, 1, 3, 4, 5, 6, 8, 9]
    assert len(bad) == 2
    np.testing.assert_allclose(features[:4], features[4:], atol=1e-6)
    with pytest.raises(ImageError):
        embed_files(bundle, twice, tmp_path / "y.npy", batch_size=2)


def test_after_a_bad_image_a_second_call_begins_with_the_images_that_are_left(bundle: Bundle, tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", {"train": 14})
    paths = sorted(map(str, root.rglob("*.png")))[:40]
    good = Path(paths[39]).read_bytes()
    Path(paths[39]).write_bytes(b"nothing")
    with pytest.raises(ImageError):
        embed_files(bundle, paths, tmp_path / "x.npy", batch_size=4)
    Path(paths[39]).write_bytes(good)
    done: list[int] = []
    features, kept = embed_files(bundle, paths, tmp_path / "x.npy", batch_size=4, progress=done.append)
    assert done[0] >= 36
    assert kept == list(range(40))
    np.testing.assert_allclose(features, embed_files(bundle, paths, tmp_path / "whole.npy")[0], atol=1e-5)


@pytest.mark.parametrize("stop", [1, 3, 6])
def test_a_killed_run_goes_on_where_it_was(
    stop: int, bundle: Bundle, paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = embed_files(bundle, paths, tmp_path / "whole.npy", batch_size=4)
    monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
    target, batches = tmp_path / "x.npy", embed_batches

    def killed(*args: Any, **options: Any) -> Any:
        for number, batch in enumerate(batches(*args, **options)):
            if number == stop:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(module, "embed_batches", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_files(bundle, paths, target, batch_size=4)
    monkeypatch.setattr(module, "embed_batches", batches)
    done: list[int] = []
    features, kept = embed_files(bundle, paths, target, batch_size=4, progress=done.append)
    assert done[0] == 4 * stop
    assert kept == list(range(len(paths)))
    np.testing.assert_allclose(features, whole, atol=1e-5)
    # Other images, or another option, begin anew.
    for changed, options in ((paths[1:], {}), (paths, {"flip": True})):
        done.clear()
        embed_files(bundle, changed, target, batch_size=4, progress=done.append, **options)  # type: ignore[arg-type]
        assert done[0] == 0


def test_damaged_partial_results_begin_anew(bundle: Bundle, paths: list[str], tmp_path: Path) -> None:
    damages: list[Callable[[Path], Any]] = [
        lambda folder: (folder / "state.json").write_text("{"),
        lambda folder: (folder / "rows.f32").write_bytes(b"12"),
    ]
    for damage in damages:
        folder = tmp_path / ".x.npy.partial"
        folder.mkdir(exist_ok=True)
        (folder / "state.json").write_text('{"of": "0", "done": 3, "kept": [0, 1, 2]}')
        damage(folder)
        features, _ = embed_files(bundle, paths, tmp_path / "x.npy")
        assert len(features) == len(paths)


def test_the_identity_of_a_model_is_that_of_its_weights(bundle: Bundle) -> None:
    other = resnets.load("starter")
    assert model_identity(other) == model_identity(bundle)
    next(other.model.parameters()).data.view(-1)[0] += 1
    assert model_identity(other)["hash"] != model_identity(bundle)["hash"]


def test_data_with_identities_and_plain_images(paths: list[str], tmp_path: Path) -> None:
    root = tmp_path / "images"
    plain = find_embed_data([str(root)])
    assert (sorted(plain.paths), plain.ids, plain.sets) == (paths, None, None)
    known = find_embed_data([str(root / "train")], identities=True)
    assert known.ids is not None
    assert set(known.ids) == {0, 1, 2}
    (tmp_path / "t.csv").write_text(f"path,id,camera\n{paths[0]},1,2\n")
    table = find_embed_data([str(tmp_path / "t.csv")])
    assert (table.paths, table.cameras is not None) == ((paths[0],), True)
    assert os.path.isabs(table.paths[0])
    with pytest.raises(ConfigError, match="takes one folder"):
        find_embed_data([str(root), str(root)], identities=True)


def test_files_of_two_writes_are_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def file(name: str) -> EmbeddingFile:
        return EmbeddingFile(features=np.zeros((1, 2), np.float32), paths=(name,), model={"name": "m", "hash": "1"})

    write_embeddings(tmp_path / "x.npy", file("old.png"))

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("resnets.retrieve.embedding_file.write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            write_embeddings(tmp_path / "x.npy", file("new.png"))
    with pytest.raises(DataError, match=r"x\.json is missing"):
        read_embeddings(tmp_path / "x.npy")
