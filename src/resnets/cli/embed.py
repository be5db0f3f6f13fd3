"""`resnets embed`: compute the embeddings of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnets.cli.flags import MODEL, Amp, BatchSize, Device, Json
from resnets.cli.output import print_json, print_text
from resnets.runtime.formatting import plural

if TYPE_CHECKING:
    from resnets.errors import ImageError


def run(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA...",
            help="Images, folders and patterns; data with identities, as for `resnets reid`; Parquet or tar shards.",
        ),
    ],
    save: Annotated[Path, typer.Option(metavar="FILE", help="A .parquet file, or .npy with a table beside it.")],
    model: Annotated[str, MODEL] = "starter",
    identities: Annotated[
        bool, typer.Option("--identities", help="Folders are identities: DATA is one folder with a folder for each.")
    ] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Average the embeddings of an image and its mirror image.")
    ] = False,
    average: Annotated[
        bool, typer.Option("--average", help="Write the mean of all images of an identity and camera.")
    ] = False,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    amp: Amp = "off",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be read.")] = False,
    as_json: Json = False,
) -> None:
    """Compute the embeddings of images, the features before the classifier, and write them to a file.

    A killed command goes on where it was when it is started again. The file names the model; embeddings of different
    models are not compared.
    """
    from resnets import api
    from resnets.errors import DataError
    from resnets.retrieve.embed import embed_files, embedding_record, remove_partial
    from resnets.retrieve.embed_data import find_embed_data
    from resnets.retrieve.embedding_file import check_embedding_format, write_embeddings
    from resnets.runtime.console import Console
    from resnets.runtime.device import pick_amp, pick_device

    check_embedding_format(save)
    console, torch_device = Console(), pick_device(device)
    found = find_embed_data(data, identities=identities)
    if average and found.ids is None:
        raise DataError("averaging needs identities; the data has none; pass --identities, or data with identities")
    bundle = api.load(model)
    for text in found.notes:
        console.info(f"note: {text}")

    def note(error: ImageError) -> None:
        console.warning(f"left out: {error.where}: {error.reason}")

    with console.progress("embedding", len(found.paths)):
        features, kept = embed_files(
            bundle, found.paths, save, flip=flip, batch_size=batch_size, device=torch_device,
            amp=pick_amp(amp, torch_device), on_bad=note if skip_bad else None, progress=console.update,
            read=found.read,
        )  # fmt: skip
    if not kept:
        raise DataError(f"a file of embeddings has images; none of {len(found.paths):,} could be read; check them")
    file = found.with_features(features, kept, embedding_record(bundle, flip=flip))
    file = file.averaged() if average else file
    write_embeddings(save, file)
    remove_partial(save)
    size = file.features.shape[1]
    if as_json:
        left_out = len(found.paths) - len(kept)
        print_json({"file": str(save), "images": len(kept), "size": size, "left_out": left_out, "model": file.model})
        return
    print_text(f"{plural(len(file.paths), 'image')}, {size} numbers each, with {model} ({bundle.name}): {save}")
