"""`resnets reid`: evaluate re-identification."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resnets.cli.completion import completer, pretrained_names
from resnets.cli.flags import Amp, BatchSize, Device, Json
from resnets.cli.output import print_json, print_text
from resnets.runtime.formatting import format_percent, plural

if TYPE_CHECKING:
    from resnets.retrieve.embedding_file import EmbeddingFile
    from resnets.retrieve.reid import ReidResult
    from resnets.runtime.console import Console

RULES, SETS = "Rules", "Protocols"


def run(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A file that `resnets embed` wrote, or images with identities: Market-1501, DukeMTMC-reID, VeRi-776, "
            "MSMT17, VehicleID, a CSV path,id[,camera][,set], or a folder for each identity.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="For images: the model.", autocompletion=completer(pretrained_names)),
    ] = None,
    metric: Annotated[str, typer.Option(metavar="cosine|euclidean", help="Distance of embeddings.")] = "cosine",
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Re-rank by k-reciprocal neighbours.", rich_help_panel=RULES)
    ] = False,
    k1: Annotated[int, typer.Option(metavar="N", help="Neighbours of re-ranking.", rich_help_panel=RULES)] = 20,
    k2: Annotated[int, typer.Option(metavar="N", help="Averaged sets of re-ranking.", rich_help_panel=RULES)] = 6,
    lambda_value: Annotated[
        float, typer.Option("--lambda", metavar="X", help="Original distance in re-ranking.", rich_help_panel=RULES)
    ] = 0.3,
    expand: Annotated[
        int | None, typer.Option(metavar="K", help="Expand embeddings over K neighbours.", rich_help_panel=RULES)
    ] = None,
    exclude: Annotated[
        str,
        typer.Option(metavar="same_camera|other_camera|none", help="Matches that do not count.", rich_help_panel=RULES),
    ] = "same_camera",
    ties: Annotated[
        str,
        typer.Option(metavar="stable|optimistic|pessimistic", help="Order at equal distances.", rich_help_panel=RULES),
    ] = "stable",
    ap: Annotated[
        str, typer.Option(metavar="step|trapezoid", help="Form of average precision.", rich_help_panel=RULES)
    ] = "step",
    unmatched: Annotated[
        str, typer.Option(metavar="skip|zero", help="Queries without a match.", rich_help_panel=RULES)
    ] = "skip",
    keep_junk: Annotated[
        bool, typer.Option("--keep-junk", help="Identity -1 is a wrong match, not left out.", rich_help_panel=RULES)
    ] = False,
    single_shot: Annotated[
        bool, typer.Option("--single-shot", help="CMC of CUHK03, too.", rich_help_panel=SETS)
    ] = False,
    verification: Annotated[
        bool, typer.Option("--verification", help="ROC over all pairs, too.", rich_help_panel=SETS)
    ] = False,
    unknown: Annotated[
        bool,
        typer.Option("--open-set", help="Rates for queries that may not be in the gallery, too.", rich_help_panel=SETS),
    ] = False,
    unknown_fraction: Annotated[
        float | None,
        typer.Option(metavar="X", help="Of identities to leave out, for --open-set.", rich_help_panel=SETS),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of their choice.", rich_help_panel=SETS)] = 0,
    save_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="FAR", help="Store the threshold for this false alarm rate in MODEL.", rich_help_panel=SETS
        ),
    ] = None,
    draws: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="VehicleID's random draws, 10.", rich_help_panel=SETS)
    ] = None,
    vehicleid_size: Annotated[
        int, typer.Option(metavar="N", help="Identities of VehicleID's list.", rich_help_panel=SETS)
    ] = 800,
    flip: Annotated[bool, typer.Option("--flip", help="Average each image and its mirror image.")] = False,
    memory: Annotated[int, typer.Option("--memory-mib", metavar="N", min=1, help="Memory for distances.")] = 512,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML report with ranked galleries and plots.")
    ] = None,
    batch_size: BatchSize = 32,
    device: Device = "auto",
    amp: Amp = "off",
    as_json: Json = False,
) -> None:
    """Evaluate re-identification: mAP, CMC, mINP.

    A query is compared with the gallery. Images of its own identity and camera do not count, nor junk (identity -1).
    Without a query set, every image is compared with all others.
    """
    from resnets.retrieve.reid import ReidOptions, reid_eval
    from resnets.retrieve.rerank import RerankConfig
    from resnets.runtime.console import Console

    options: Any = {
        "metric": metric, "exclude": exclude, "ties": ties, "ap": ap, "unmatched": unmatched, "junk": not keep_junk,
        "expand_k": expand, "single_shot": single_shot, "verification": verification,
        "open_set": unknown or save_threshold is not None,
        "unknown_fraction": unknown_fraction, "seed": seed, "draws": draws, "memory_mib": memory,
        "rerank": RerankConfig(k1=k1, k2=k2, lambda_value=lambda_value) if rerank else None,
    }  # fmt: skip
    if save_threshold is not None and not 0 < save_threshold < 1:
        raise typer.BadParameter(f"is above 0 and below 1; got {save_threshold}", param_hint="--save-threshold")
    if save_threshold is not None and (model is None or flip or rerank or expand is not None):
        raise typer.BadParameter(
            "is measured on images with MODEL as `resnets search` uses it; pass images and --model, without --flip, "
            "--rerank and --expand",
            param_hint="--save-threshold",
        )
    target = None if save_threshold is None else _own_folder(model or "")
    if report is not None and (rerank or expand is not None or draws is not None):
        raise typer.BadParameter(
            "shows the distances of the embeddings; leave out --rerank, --expand and --draws", param_hint="--report"
        )
    console = Console()
    file = _embeddings(data, model, console, flip, batch_size, device, amp, vehicleid_size)
    query, gallery = file.of_set("query"), file.of_set("gallery")
    steps: list[str] = []

    def progress(what: str, done: int, total: int) -> None:
        if steps[-1:] != [what]:
            console.stop()
            console.start(what, total)
            steps.append(what)
        console.update(done)

    try:
        result = reid_eval(query if len(query) else None, gallery, ReidOptions(**options), progress=progress)
    finally:
        console.stop()
    if as_json:
        print_json({"model": file.model} | result.summary())
    else:
        print_text("\n".join(_lines(result, file)))
    if report is not None:
        try:
            _write_report(report, file, result, ReidOptions(**options), Path(data).name, progress)
        finally:
            console.stop()
    if save_threshold is not None and target is not None and result.open_set is not None:
        from resnets import api
        from resnets.retrieve.threshold import save_threshold as save

        chosen: Any = metric
        stored = save(
            api.load(target),
            target,
            result.open_set,
            save_threshold,
            metric=chosen,
            exclude=ReidOptions(**options).exclude,
            data=Path(data).name,
        )
        console.info(f"threshold {stored:.4f} stored in {target}; `resnets search --model` uses it")


def _own_folder(model: str) -> Path:
    """The folder of a model reference, to which a threshold can be written."""
    from resnets.errors import ConfigError
    from resnets.weights.resolve import resolve

    reference = resolve(model)
    if reference.kind not in ("folder", "run") or reference.path is None:
        raise ConfigError(
            f"a threshold is stored in a model folder or run; got {model}; save the model to a folder first"
        )
    return reference.path


def _write_report(path: Path, file: EmbeddingFile, result: ReidResult, options: Any, name: str, progress: Any) -> None:
    import numpy as np

    from resnets.atomic import describe_write_error
    from resnets.data.reid.dataset import JUNK
    from resnets.errors import DataError
    from resnets.retrieve.reid import OPEN_FARS
    from resnets.retrieve.report.page import write_reid_report

    assert result.metrics is not None
    query, gallery = file.of_set("query"), file.of_set("gallery")
    query_paths, gallery_paths = file.paths_of("query"), file.paths_of("gallery")
    if options.junk:
        kept = np.flatnonzero(gallery.ids != JUNK)
        gallery, gallery_paths = gallery.select(kept), [gallery_paths[at] for at in kept]
    same_image = None
    if not len(query):
        query, query_paths, same_image = gallery, gallery_paths, np.arange(len(gallery))
    facts = {"Model": file.model["name"]} if file.model.get("name") else {}
    if (pairs := result.verification) is not None:
        facts |= {"AUC of pairs": format_percent(pairs.auc), "EER of pairs": format_percent(pairs.eer)}
    if (unknown := result.open_set) is not None:
        facts |= {
            f"Identified at a false alarm rate of {format_percent(far, 0)}": format_percent(unknown.dir_at_far(far))
            for far in OPEN_FARS
        }
    try:
        write_reid_report(
            path, query, gallery, result.metrics, title=f"Re-identification of {name}", query_paths=query_paths,
            gallery_paths=gallery_paths, facts=facts, metric=options.metric, exclude=options.exclude,
            same_image=same_image, memory_mib=options.memory_mib,
            progress=lambda done: progress("writing the report", done, len(query)),
        )  # fmt: skip
    except OSError as error:
        raise DataError(f"cannot write {path}; {describe_write_error(error, 'another file')}") from None


def _embeddings(
    data: str, model: str | None, console: Console, flip: bool, batch_size: int, device: str, amp: str, size: int
) -> EmbeddingFile:
    """From a file, or computed from images."""
    from resnets import api
    from resnets.data.reid.open import open_reid
    from resnets.evaluate.predict import embed_batches
    from resnets.retrieve.embed import embedding_record
    from resnets.retrieve.embed_data import of_reid
    from resnets.retrieve.embedding_file import FORMATS, read_embeddings
    from resnets.runtime.device import pick_amp, pick_device

    if Path(data).suffix.lower() in FORMATS:
        if model is not None:
            raise typer.BadParameter("embeddings have their model; leave it out", param_hint="--model")
        return read_embeddings(Path(data))
    if model is None:
        raise typer.BadParameter("images need a model; pass a run, a model folder or a name", param_hint="--model")
    dataset = open_reid(data, vehicleid_size=size)
    found = of_reid(dataset, without=("train",))
    console.info(f"{dataset.name}: {dataset.layout}, {plural(len(found.paths), 'image')}")
    for text in found.notes:
        console.info(f"note: {text}")
    bundle, torch_device = api.load(model), pick_device(device)
    parts = []
    with console.progress("embedding", len(found.paths)):
        batches = embed_batches(
            bundle, map(Path, found.paths), flip=flip, batch_size=batch_size, device=torch_device,
            amp=pick_amp(amp, torch_device),
        )  # fmt: skip
        for names, features in batches:
            parts.append(features)
            console.advance(len(names))
    import numpy as np

    return found.with_features(np.concatenate(parts), range(len(found.paths)), embedding_record(bundle, flip=flip))


def _lines(result: ReidResult, file: EmbeddingFile) -> list[str]:
    from resnets.retrieve.reid import OPEN_FARS

    percent = format_percent
    lines = []
    if (found := result.metrics) is not None:
        ranks = "  ".join(f"rank-{k} {percent(float(found.cmc[k - 1]))}" for k in (1, 5, 10) if k <= len(found.cmc))
        lines.append(f"mAP {percent(found.map)}  {ranks}  mINP {percent(found.minp)}")
        skipped = found.queries - found.matched
        without = f", {skipped:,} without a match" if skipped else ""
        lines.append(f"{found.queries:,} queries{without}, {plural(result.gallery, 'gallery image')}")
    if (repeated := result.repeated) is not None:
        lines.append(
            f"mAP {percent(repeated.map)} ± {100 * repeated.map_std:.2f}  rank-1 {percent(float(repeated.cmc[0]))}"
            f" ± {100 * repeated.cmc_std[0]:.2f}  rank-5 {percent(float(repeated.cmc[4]))}, over"
            f" {plural(len(repeated.draws), 'draw')}"
        )
    if result.single_shot is not None:
        ranks = "  ".join(f"rank-{k} {percent(float(result.single_shot[k - 1]))}" for k in (1, 5, 10))
        lines.append(f"single-shot: {ranks}")
    if (pairs := result.verification) is not None:
        accepted, threshold = pairs.at_far(1e-3)
        lines.append(
            f"verification: AUC {percent(pairs.auc)}  EER {percent(pairs.eer)}  {percent(accepted)} accepted at a false"
            f" accept rate of 0.1 % (distance {threshold:.4g})"
        )
    if (unknown := result.open_set) is not None:
        lines += [
            f"open set: {percent(unknown.dir_at_far(far))} identified at a false alarm rate of {percent(far, 0)}"
            f" (distance {unknown.threshold(far):.4g})"
            for far in OPEN_FARS
        ]
    if result.junk:
        lines.append(f"{plural(result.junk, 'junk image')} (identity -1) left out")
    if file.model.get("name"):
        lines.append(f"model: {file.model['name']}")
    return lines
