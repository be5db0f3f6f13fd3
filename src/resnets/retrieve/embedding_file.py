"""Files of embeddings: Parquet with a row for each image, or .npy with a table beside it.

Parquet has the columns `path`, `id`, `camera` and `set`, where the data has them, and `embedding`. `x.npy` holds the
embeddings alone (N, D), and `x.csv` beside it the other columns. Both name the model, so that embeddings of different
models are not compared.

Legend: N images, D embedding.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from resnets.atomic import atomic_file, describe_write_error, write_atomic
from resnets.data.sources.parquet import import_pyarrow
from resnets.errors import ConfigError, DataError
from resnets.retrieve.embeddings import Embeddings
from resnets.small_files import read_small_text, require_regular_file

__all__ = ["FORMATS", "EmbeddingFile", "check_embedding_format", "read_embeddings", "write_embeddings"]

FORMATS = (".parquet", ".npy")
MODEL_KEY = b"resnets_model"
MAX_TABLE = 2**32
COLUMNS = ("path", "id", "camera", "set")


@dataclass(frozen=True, kw_only=True)
class EmbeddingFile:
    """Embeddings of N images with what is known of them.

    Args:
        features: (N, D) float32.
        paths: of the images.
        ids: (N,) identities, or `None`.
        cameras: (N,) cameras, or `None`.
        sets: `train`, `query` or `gallery` for each image, or `None`.
        model: name and hash of the model that computed them.
    """

    features: npt.NDArray[np.float32]
    paths: tuple[str, ...]
    ids: npt.NDArray[np.int64] | None = None
    cameras: npt.NDArray[np.int64] | None = None
    sets: tuple[str, ...] | None = None
    model: dict[str, str]

    def of_set(self, name: str) -> Embeddings:
        """The embeddings of a set, with identities.

        Raises:
            DataError: the file has no identities.
        """
        if self.ids is None:
            raise DataError("an evaluation needs identities; the embeddings have none; embed data with identities")
        at = self._in_set(name)
        cameras = None if self.cameras is None else self.cameras[at]
        return Embeddings(features=self.features[at], ids=self.ids[at], cameras=cameras, what=name)

    def averaged(self) -> EmbeddingFile:
        """One row for each identity, camera and set: the mean of its embeddings, each of length 1, at its first image.

        Raises:
            DataError: the file has no identities.
        """
        if self.ids is None:
            raise DataError("averaging needs identities; the embeddings have none; embed data with identities")
        rows: dict[Any, list[int]] = {}
        for row in range(len(self.paths)):
            camera = None if self.cameras is None else int(self.cameras[row])
            rows.setdefault((int(self.ids[row]), camera, self.sets[row] if self.sets else None), []).append(row)
        lengths = np.linalg.norm(self.features, axis=1, keepdims=True)
        units = self.features / np.maximum(lengths, np.finfo(np.float32).tiny)
        first = np.array([own[0] for own in rows.values()], np.int64)
        return EmbeddingFile(
            features=np.stack([units[own].mean(0) for own in rows.values()]).astype(np.float32),
            paths=tuple(self.paths[row] for row in first),
            ids=self.ids[first],
            cameras=None if self.cameras is None else self.cameras[first],
            sets=tuple(self.sets[row] for row in first) if self.sets else None,
            model=self.model,
        )

    def paths_of(self, name: str) -> list[str]:
        """The images of a set, in the order of `of_set`."""
        return [self.paths[row] for row in np.flatnonzero(self._in_set(name))]

    def _in_set(self, name: str) -> npt.NDArray[np.bool_]:
        return np.array([one == name for one in self.sets or ["gallery"] * len(self.paths)], bool)


def check_embedding_format(path: Path) -> None:
    """Raise before anything is computed: ConfigError for another format, MissingExtraError for Parquet without it."""
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"embeddings are written as {' or '.join(FORMATS)}; got {path}; choose one of them")
    if path.suffix.lower() == ".parquet":
        import_pyarrow("a Parquet file")


def write_embeddings(path: Path, file: EmbeddingFile) -> None:
    """Write a file as a whole; an existing one is replaced.

    Raises:
        DataError: it cannot be written.
    """
    try:
        if path.suffix.lower() == ".parquet":
            _write_parquet(path, file)
        else:
            rows = io.StringIO()
            table = csv.writer(rows, lineterminator="\n")
            columns = _columns(file)
            table.writerow(columns)
            table.writerows(zip(*columns.values(), strict=True))
            # The .json is deleted first and written last: files of two writes are not taken for one.
            path.with_suffix(".json").unlink(missing_ok=True)
            with atomic_file(path) as temporary, open(temporary, "wb") as out:
                np.save(out, file.features)
            write_atomic(path.with_suffix(".csv"), rows.getvalue().encode("utf-8", "surrogateescape"))
            write_atomic(path.with_suffix(".json"), json.dumps(file.model) + "\n")
    except OSError as error:
        raise DataError(f"cannot write {path}; {describe_write_error(error, 'another file')}") from None


def read_embeddings(path: Path) -> EmbeddingFile:
    """Read a file that `write_embeddings` wrote.

    Raises:
        DataError: it is no file of embeddings, or a damaged one.
    """
    try:
        require_regular_file(path)
        return _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_npy(path)
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise DataError(f"a file of embeddings must be readable; {path}: {reason}; check the path") from None
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} is no file of embeddings, or damaged ({reason}); write it with resnets embed"
        ) from None


def _columns(file: EmbeddingFile) -> dict[str, Sequence[Any]]:
    """What is known of the images, by column."""
    columns: dict[str, Sequence[Any] | None] = {
        "path": file.paths,
        "id": None if file.ids is None else file.ids.tolist(),
        "camera": None if file.cameras is None else file.cameras.tolist(),
        "set": file.sets,
    }
    return {name: values for name, values in columns.items() if values is not None}


def _write_parquet(path: Path, file: EmbeddingFile) -> None:
    pa = import_pyarrow("a Parquet file")
    size = file.features.shape[1]
    columns = {name: pa.array([*values]) for name, values in _columns(file).items() if name != "path"}
    texts = [one.encode(errors="surrogateescape").decode(errors="backslashreplace") for one in file.paths]
    values = pa.array(np.ascontiguousarray(file.features).reshape(-1))
    columns = {"path": pa.array(texts, pa.string())} | columns
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, size)
    table = pa.table(columns).replace_schema_metadata({MODEL_KEY: json.dumps(file.model)})
    with atomic_file(path) as temporary:
        pa.parquet.write_table(table, temporary, row_group_size=max(1, 2**24 // size), compression="zstd")


def _read_parquet(path: Path) -> EmbeddingFile:
    table = import_pyarrow("a Parquet file").parquet.read_table(path)
    column = table.column("embedding").combine_chunks()
    features = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), -1).astype(np.float32, copy=False)
    known = {name: table.column(name).to_pylist() for name in COLUMNS if name in table.column_names}
    model = json.loads((table.schema.metadata or {}).get(MODEL_KEY, b"{}"))
    return _make(features, known, model)


def _read_npy(path: Path) -> EmbeddingFile:
    features = np.load(path, mmap_mode="r", allow_pickle=False)
    table = path.with_suffix(".csv")
    rows = list(csv.DictReader(io.StringIO(read_small_text(table, MAX_TABLE)))) if table.exists() else []
    known = {name: [row[name] for row in rows] for name in COLUMNS if rows and name in rows[0]}
    about = path.with_suffix(".json")
    if table.exists() and not about.exists():
        raise ValueError(f"{about.name} is missing: it was not written to its end")
    model = json.loads(read_small_text(about)) if about.exists() else {}
    return _make(features, known or {"path": [f"{path.name}#{row}" for row in range(len(features))]}, model)


def _make(features: npt.NDArray[Any], known: dict[str, list[Any]], model: Any) -> EmbeddingFile:
    if features.ndim != 2 or any(len(values) != len(features) for values in known.values()):
        raise ValueError("its columns have different lengths")
    numbers = {name: np.array(known[name], np.int64) for name in ("id", "camera") if name in known}
    return EmbeddingFile(
        features=features,
        paths=tuple(map(str, known["path"])),
        ids=numbers.get("id"),
        cameras=numbers.get("camera"),
        sets=tuple(known["set"]) if "set" in known else None,
        model={str(key): str(value) for key, value in model.items()},
    )
