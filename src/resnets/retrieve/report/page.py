"""The page of a re-identification report: one HTML file without scripts or network access."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from resnets.atomic import write_atomic
from resnets.data.decode.image import decode
from resnets.errors import ImageError
from resnets.evaluate.report.html import data_uri, html_environment
from resnets.retrieve.distances import Metric
from resnets.retrieve.embeddings import Embeddings
from resnets.retrieve.groups import Exclusion
from resnets.retrieve.metrics import RetrievalMetrics
from resnets.retrieve.report.findings import RankedQuery, collect, principal_plane
from resnets.retrieve.report.plots import plot_cmc_and_distances, plot_map
from resnets.version import __version__

__all__ = ["write_reid_report"]

THUMBNAIL = 224  # pixels of the longer side, displayed at up to 112
RANKS = (1, 5, 10, 20)


def write_reid_report(
    path: Path,
    query: Embeddings,
    gallery: Embeddings,
    metrics: RetrievalMetrics,
    *,
    title: str,
    query_paths: Sequence[str],
    gallery_paths: Sequence[str],
    facts: Mapping[str, str] | None = None,
    metric: Metric = "cosine",
    exclude: Exclusion = "same_camera",
    same_image: npt.NDArray[np.int64] | None = None,
    memory_mib: int = 512,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Write the report of an evaluation; if that fails, an earlier file remains.

    Args:
        path: of the HTML file.
        query, gallery: without junk.
        metrics: of their ranking, by the same rules.
        title: the heading.
        query_paths, gallery_paths: image file of each; those that are gone are shown as such.
        facts: more numbers for the head of the page.
        metric, exclude, same_image, memory_mib, progress: as of `rank_matches`.

    Raises:
        OSError: the file cannot be written.
    """
    found = collect(
        query, gallery, metrics, metric=metric, exclude=exclude, same_image=same_image, memory_mib=memory_mib,
        progress=progress,
    )  # fmt: skip
    at, coordinates, share = principal_plane(gallery, metric)
    ids = gallery.ids[at]
    names = [str(identity) for identity in np.unique(ids)]
    thumbnails = _Thumbnails()

    def shown(queries: Sequence[RankedQuery]) -> list[dict[str, Any]]:
        return [_ranked(one, query, gallery, query_paths, gallery_paths, thumbnails) for one in queries]

    environment = html_environment("resnets.retrieve.report", "resnets.evaluate.report")
    html = environment.get_template("reid.html").render(
        title=title,
        map=f"{100 * metrics.map:.2f} %",
        facts=_facts(metrics, gallery) | dict(facts or {}),
        curves=data_uri(plot_cmc_and_distances(metrics, found, metric)),
        plane=data_uri(plot_map(coordinates, ids, names)),
        plane_note=(
            f"{len(at):,} of {len(gallery):,} gallery images, {len(names):,} identities; the plane holds "
            f"{100 * share:.0f} % of the variance"
        ),
        hardest=shown(found.hardest),
        typical=shown(found.typical),
        cameras=[(camera, count, f"{100 * value:.2f} %") for camera, (count, value) in found.cameras.items()],
        missing=thumbnails.missing,
        version=__version__,
    )
    write_atomic(path, html.encode("utf-8", errors="replace"))


def _facts(metrics: RetrievalMetrics, gallery: Embeddings) -> dict[str, str]:
    facts = {f"Rank-{k}": f"{100 * float(metrics.cmc[k - 1]):.2f} %" for k in RANKS if k <= len(metrics.cmc)}
    facts["mINP"] = f"{100 * metrics.minp:.2f} %"
    facts |= {f"Precision at {k}": f"{100 * value:.2f} %" for k, value in metrics.precision.items() if k > 1}
    facts["Queries"] = f"{metrics.queries:,}"
    if metrics.matched < metrics.queries:
        facts["Without a match"] = f"{metrics.queries - metrics.matched:,}"
    facts["Gallery images"] = f"{len(gallery):,}"
    facts["Gallery identities"] = f"{len(np.unique(gallery.ids)):,}"
    return facts


def _ranked(
    one: RankedQuery,
    query: Embeddings,
    gallery: Embeddings,
    query_paths: Sequence[str],
    gallery_paths: Sequence[str],
    thumbnails: _Thumbnails,
) -> dict[str, Any]:
    """A query and its items as the template reads them."""

    def described(embeddings: Embeddings, at: int, path: str) -> dict[str, Any]:
        camera = "" if embeddings.cameras is None else f", camera {embeddings.cameras[at]}"
        return {"image": thumbnails.uri(path), "file": path, "who": f"identity {embeddings.ids[at]}{camera}"}

    items = [
        described(gallery, item.position, gallery_paths[item.position])
        | {"rank": item.rank, "distance": f"{item.distance:.3f}", "match": item.match}
        for item in one.items
    ]
    head = described(query, one.position, query_paths[one.position])
    return {"query": head, "ap": f"{100 * one.ap:.1f}\u00a0%", "items": items}


class _Thumbnails:
    """Small copies of image files, as data URIs.

    Attributes:
        missing: number of images that could not be read.
    """

    def __init__(self) -> None:
        self.missing = 0
        self._known: dict[str, str | None] = {}

    def uri(self, path: str) -> str | None:
        """`None` for an image that is gone or damaged."""
        if path not in self._known:
            try:
                image = Image.fromarray(np.asarray(decode(Path(path), "RGB", reduce=1)))
                image.thumbnail((THUMBNAIL, THUMBNAIL))
                stream = io.BytesIO()
                image.save(stream, "jpeg", quality=85)
                self._known[path] = data_uri(stream.getvalue(), "jpeg")
            except ImageError:
                self._known[path] = None
                self.missing += 1
        return self._known[path]
