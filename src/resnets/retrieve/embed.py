"""Embedding many images into one file, in order, resumable after a kill.

While it runs, `.NAME.partial/` beside the file holds the rows that are done and a record of what they are of. A later
call with the same model, images and options goes on there; any other begins anew.

Legend: N images, D embedding.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from resnets.atomic import describe_write_error, write_atomic
from resnets.data.inputs import NamedImage
from resnets.errors import DataError, ImageError
from resnets.evaluate.predict import embed_batches
from resnets.small_files import read_small_text
from resnets.weights.folder.bundle import Bundle

__all__ = ["embed_files", "embedding_record", "model_identity", "remove_partial"]

SAVE_EVERY = 5.0  # seconds


def model_identity(bundle: Bundle) -> dict[str, str]:
    """Name and hash of a model: of its weights and its preprocessing."""
    digest = blake2b(bundle.preprocessing.hash.encode(), digest_size=16)
    for name, tensor in sorted(bundle.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return {"name": bundle.name, "hash": digest.hexdigest()}


def embedding_record(bundle: Bundle, *, flip: bool) -> dict[str, str]:
    """What a file of embeddings says of its model: name, hash, and `flip` where mirror images were averaged in."""
    return model_identity(bundle) | ({"flip": "true"} if flip else {})


def embed_files(
    bundle: Bundle,
    paths: Sequence[str],
    target: Path,
    *,
    flip: bool = False,
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    amp: torch.dtype | None = None,
    on_bad: Callable[[ImageError], None] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    read: Callable[[int], Any] | None = None,
) -> tuple[npt.NDArray[np.float32], list[int]]:
    """Embed image files.

    Args:
        bundle: the model.
        paths: of N images.
        target: the file that the caller will write; the partial results lie beside it, until
            `remove_partial` deletes them.
        flip, batch_size, device, amp, on_bad: as for `embed_batches`.
        progress: called with the number of images that are done.
        read: content of the image at a position of `paths`, which are then names; `None` reads the files.

    Returns:
        (M, D) float32 of the images that could be decoded, and the positions of these M in `paths`.

    Raises:
        ImageError: an image cannot be decoded and `on_bad` is `None`; what is done stays for the next call.
        DataError: the partial results cannot be written.
    """
    partial = _Partial(target, bundle, paths, {"flip": flip, "amp": str(amp)})
    progress(partial.done)
    try:
        with partial.rows.open("ab") as rows:
            at = range(partial.done, len(paths))
            images = (NamedImage(Path(paths[i]), Path(paths[i]) if read is None else _Content(read, i)) for i in at)
            position = partial.done
            try:
                for names, features in embed_batches(
                    bundle, images, flip=flip, batch_size=batch_size, device=device, amp=amp, on_bad=on_bad
                ):
                    kept = []
                    for name in names:
                        while Path(paths[position]) != name:  # images that could not be decoded
                            position += 1
                        kept.append(position)
                        position += 1
                    rows.write(np.ascontiguousarray(features, np.float32).tobytes())
                    partial.kept += kept
                    partial.done = position
                    progress(position)
                    partial.save_if_due(rows)
            finally:  # also after an image that cannot be decoded, or Ctrl-C
                partial.save(rows)
    except OSError as error:
        raise DataError(f"cannot write {partial.folder}; {describe_write_error(error, 'another file')}") from None
    return np.fromfile(partial.rows, np.float32).reshape(-1, bundle.model.num_features), partial.kept


class _Content:
    """An image that is read when it is decoded, beside the others of its batch."""

    def __init__(self, read: Callable[[int], Any], position: int) -> None:
        self._read, self._position = read, position

    def read(self) -> Any:
        return self._read(self._position)


class _Partial:
    """The folder of partial results."""

    def __init__(self, target: Path, bundle: Bundle, paths: Sequence[str], options: dict[str, Any]) -> None:
        digest = blake2b(json.dumps(model_identity(bundle) | options, sort_keys=True).encode(), digest_size=16)
        for path in paths:
            digest.update(path.encode(errors="surrogateescape") + b"\0")
        self.folder = target.with_name(f".{target.name}.partial")
        self.rows, self._state = self.folder / "rows.f32", self.folder / "state.json"
        self._of, self._size = digest.hexdigest(), 4 * bundle.model.num_features
        self.done, self.kept = 0, list[int]()
        self._last = time.monotonic()
        try:
            state = json.loads(read_small_text(self._state, 2**28))
            if state["of"] == self._of and self.rows.stat().st_size >= len(state["kept"]) * self._size:
                self.done, self.kept = int(state["done"]), list(map(int, state["kept"]))
        except (OSError, ValueError, KeyError, TypeError):  # none, or of a killed first write
            pass
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self.rows.open("ab") as rows:
                rows.truncate(len(self.kept) * self._size)
        except OSError as error:
            raise DataError(f"cannot write {self.folder}; {describe_write_error(error, 'another file')}") from None

    def save_if_due(self, rows: Any) -> None:
        """Record what is done, every few seconds."""
        if time.monotonic() - self._last > SAVE_EVERY:
            self.save(rows)

    def save(self, rows: Any) -> None:
        """Record what is done."""
        rows.flush()
        write_atomic(self._state, json.dumps({"of": self._of, "done": self.done, "kept": self.kept}))
        self._last = time.monotonic()


def remove_partial(target: Path) -> None:
    """Delete the partial results of a file that has been written."""
    shutil.rmtree(target.with_name(f".{target.name}.partial"), ignore_errors=True)
