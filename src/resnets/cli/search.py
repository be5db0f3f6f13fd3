"""`resnets search`: find the images most similar to others, and near duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.flags import MODEL, Amp, BatchSize, Device, Json
from resnets.cli.output import Column, print_json, print_table, print_text
from resnets.runtime.formatting import plural

if TYPE_CHECKING:
    from resnets.retrieve.embedding_file import EmbeddingFile
    from resnets.retrieve.search import Hit

COLUMNS = (
    Column("image", wrap=True),
    Column("rank", right=True),
    Column("distance", right=True),
    Column("similar image", wrap=True),
)


def run(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="A file that `resnets embed` wrote.")],
    images: Annotated[
        list[str] | None, typer.Argument(metavar="[IMAGE]...", help="Images, folders and patterns to search for.")
    ] = None,
    model: Annotated[str, MODEL] = "starter",
    top: Annotated[int, typer.Option("--top", "-k", metavar="N", min=1, help="Images for each query.")] = 5,
    threshold: Annotated[float | None, typer.Option(metavar="D", min=0, help="Only images at most so far.")] = None,
    duplicates: Annotated[
        float | None,
        typer.Option(metavar="D", min=0, help="Instead, list groups of images of INDEX that are at most so far apart."),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="cosine|euclidean", help="Distance of embeddings.")] = "cosine",
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw queries and results to a .png file.")] = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Find the images most similar to others in a file of embeddings, which the same model computed.

    An image that is in the file is not found for itself. `--duplicates 0.01` lists near duplicates within the file. If
    the model has a threshold (`resnets reid --save-threshold`), queries beyond it are reported as not in the gallery.
    """
    from resnets.retrieve.embedding_file import read_embeddings

    if (images is None) == (duplicates is None):
        raise typer.BadParameter("pass images to search for, or --duplicates D", param_hint="IMAGE")
    if sheet is not None and sheet.suffix.lower() != ".png":
        raise typer.BadParameter(f"a sheet is a .png file; got {sheet}", param_hint="--sheet")
    file = read_embeddings(index)
    if duplicates is not None:
        _print_duplicates(file, duplicates, metric, as_json)
        return
    from resnets import api
    from resnets.atomic import write_atomic
    from resnets.evaluate.predict import embed_batches
    from resnets.retrieve.contact_sheet import contact_sheet
    from resnets.retrieve.embed_data import find_embed_data
    from resnets.retrieve.search import check_model, search
    from resnets.retrieve.threshold import stored_threshold
    from resnets.runtime.console import Console
    from resnets.runtime.device import pick_amp, pick_device

    paths = find_embed_data(images or []).paths
    bundle, torch_device, console = api.load(model), pick_device(device), Console()
    check_model(bundle, file, str(index))
    flip = file.model.get("flip") == "true"  # queries are embedded as the file was
    stored, note = stored_threshold(bundle, metric, flip=flip) if threshold is None else (None, "")
    if not file.model:
        console.info(f"note: {index} names no model, so it is not checked that {bundle.name} computed it")
    if note:
        console.info(f"note: {note}")
    features = []
    with console.progress("embedding", len(paths)):
        for names, found in embed_batches(
            bundle,
            map(Path, paths),
            flip=flip,
            batch_size=batch_size,
            device=torch_device,
            amp=pick_amp(amp, torch_device),
        ):
            features.append(found)
            console.advance(len(names))
    import numpy as np

    chosen: Any = metric
    results = search(np.concatenate(features), file, k=top, metric=chosen, threshold=threshold, names=paths)
    if sheet is not None:
        found_in = [hits if stored is None or _is_known(hits, stored) else [] for hits in results]
        write_atomic(sheet, contact_sheet(paths, found_in))
    if as_json:
        pairs = zip(paths, results, strict=True)
        print_json([
            {"path": path, "results": [hit.to_dict() for hit in hits]}
            | ({} if stored is None else {"in_gallery": _is_known(hits, stored), "threshold": stored})
            for path, hits in pairs
        ])  # fmt: skip
        return
    rows = [row for path, hits in zip(paths, results, strict=True) for row in _rows(path, hits, stored)]
    print_table(COLUMNS, rows)
    if sheet is not None:
        print_text(f"\nsheet: {sheet}")


def _is_known(hits: Sequence[Hit], threshold: float) -> bool:
    return bool(hits) and hits[0].distance <= threshold


def _rows(path: str, hits: Sequence[Hit], stored: float | None) -> list[list[str]]:
    """Rows of a query: its results, or that it is not in the gallery, with the distance of the nearest image."""
    if not hits or (stored is not None and not _is_known(hits, stored)):
        return [[path, "", f"{hits[0].distance:.4f}" if hits else "", "not in the gallery"]]
    return [
        [path if rank == 1 else "", str(rank), f"{hit.distance:.4f}", hit.path]
        for rank, hit in enumerate(hits, start=1)
    ]


def _print_duplicates(file: EmbeddingFile, threshold: float, metric: str, as_json: bool) -> None:
    from resnets.retrieve.search import find_duplicates
    from resnets.runtime.console import Console

    with Console().progress("comparing", len(file.paths)) as bar:
        groups = find_duplicates(file.features, threshold, metric=metric, progress=bar.update)  # type: ignore[arg-type]
    if as_json:
        print_json([[file.paths[item] for item in group] for group in groups])
        return
    for group in groups:
        print_text("\n".join(file.paths[item] for item in group) + "\n")
    print_text(f"{plural(len(groups), 'group')} of near duplicates in {plural(len(file.paths), 'image')}")
