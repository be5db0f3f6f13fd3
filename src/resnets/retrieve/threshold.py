"""The distance from which on a nearest image is of no known object: chosen on unknown queries, stored with the model.

Choose it on identities that the model was not trained on: for those it was, distances are smaller.
"""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path
from typing import Any

from resnets.errors import ConfigError
from resnets.retrieve.distances import Metric
from resnets.retrieve.embed import model_identity
from resnets.retrieve.groups import Exclusion
from resnets.retrieve.open_set import OpenSet
from resnets.weights.folder.bundle import Bundle
from resnets.weights.folder.model_folder import write_calibration

__all__ = ["save_threshold", "stored_threshold"]

KEY = "open_set"  # in the calibration of a bundle


def save_threshold(
    bundle: Bundle, folder: Path, found: OpenSet, far: float, *, metric: Metric, exclude: Exclusion, data: str
) -> float:
    """Choose a threshold for a false alarm rate and store it in the calibration of the model's folder.

    Args:
        bundle: the model of `folder`.
        folder: a model folder of ours.
        found: the nearest distances of queries with and without a match, from embeddings of the model.
        far: false alarm rate, above 0 and below 1.
        metric: of the distances.
        exclude: rule by which they were measured, for the record.
        data: name of the data, for the record.

    Returns:
        The threshold.

    Raises:
        ConfigError: a rate that so few unknown queries cannot show, or at which nothing is accepted.
        WeightsError: the folder cannot be written.
    """
    unknown = len(found.unmated)
    if not 0 < far < 1 or far * unknown < 1 - 1e-9:
        raise ConfigError(
            f"a false alarm rate is measured on at least 1 / rate unknown queries; got {far:g} with {unknown:,}; use "
            f"{math.ceil(1e6 / unknown) / 1e6:g} or more, or more queries"
        )
    threshold = found.threshold(far)
    if threshold < 0:
        raise ConfigError(
            f"at a false alarm rate of {far:g} no query is accepted, as the nearest distances are those of unknown "
            "queries; use a higher rate or a better model"
        )
    identified, measured = found.rates(threshold)
    stored = {
        "model": model_identity(bundle)["hash"], "metric": metric, "exclude": exclude, "threshold": threshold,
        "false_alarm_rate": far, "measured_false_alarm_rate": measured, "identification_rate": identified,
        "unknown_queries": unknown, "known_queries": found.mated, "data": data, "date": date.today().isoformat(),
    }  # fmt: skip
    write_calibration(folder, {**(bundle.calibration or {}), KEY: stored})
    return threshold


def stored_threshold(bundle: Bundle, metric: str, *, flip: bool = False) -> tuple[float | None, str]:
    """The threshold of a model for a metric, and a note for the user.

    Args:
        bundle: the model.
        metric: of the distances that it is to be compared with.
        flip: whether these are of embeddings averaged with those of mirror images; a threshold is measured without.

    Returns:
        `None` with an empty note if the model has none, and with a note if it is for another metric or other weights,
        or damaged.
    """
    stored: Any = (bundle.calibration or {}).get(KEY)
    if stored is None:
        return None, ""
    again = "is not used; measure it again with `resnets reid --save-threshold`"
    numbers = [stored.get(name) for name in ("threshold", "false_alarm_rate")] if isinstance(stored, dict) else [None]
    if not all(isinstance(one, int | float) and math.isfinite(one) for one in numbers):
        return None, f"the threshold of {bundle.name} is damaged and {again}"
    if stored.get("model") != model_identity(bundle)["hash"]:
        return None, f"the threshold of {bundle.name} was measured with other weights and {again}"
    if stored.get("metric") != metric:
        return None, f"the threshold of {bundle.name} is for {stored.get('metric')} distances and is not used"
    if flip:
        return None, f"the threshold of {bundle.name} is for embeddings without --flip and is not used"
    threshold, rate = float(stored["threshold"]), float(stored["false_alarm_rate"])
    return threshold, f"threshold {threshold:.4f} of the model, for a false alarm rate of {100 * rate:g} %"
