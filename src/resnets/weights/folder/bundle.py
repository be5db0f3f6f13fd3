"""A network with everything that its use on images requires, as plain data."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from resnets.arch.networks import NetworkConfig
from resnets.arch.preprocessing import Preprocessing
from resnets.errors import ConfigError
from resnets.nn.model import Network

__all__ = ["Bundle", "check_class_names"]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A network with its preprocessing, class names and provenance.

    Args:
        model: the network, in float32.
        preprocessing: from a decoded image to the network's input.
        classes: the name of each logit, in order; empty where the network outputs embeddings.
        name: the variant it was made from, or `custom`.
        license: of the weights, as SPDX writes it (`Apache-2.0`), or `unknown`.
        provenance: where the weights came from: `data`, `recipe`, `metrics` (name to number), `seed`, `date`, ...
            Anything that JSON can hold.
        calibration: temperature and thresholds; `None` where they were not measured.

    Raises:
        ConfigError: parts that contradict each other, or provenance that JSON cannot hold.
    """

    model: Network
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    name: str = "custom"
    license: str = "unknown"
    provenance: dict[str, Any] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        self.check_classes()
        if self.preprocessing.num_channels != self.config.in_chans:
            raise ConfigError(
                f"preprocessing and network must agree on channels; got {self.preprocessing.channels} for "
                f"in_chans={self.config.in_chans}; change one of them"
            )
        for part in ("provenance", "calibration"):
            try:
                json.dumps(getattr(self, part), allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{part} must be what JSON can hold; {error}; use plain finite values") from None

    def check_classes(self) -> None:
        """Raise ConfigError unless each logit has a name; the network's classifier may have been replaced."""
        if len(self.classes) != self.model.num_classes:
            raise ConfigError(
                f"each logit has one class name; got {len(self.classes)} names for {self.model.num_classes} logits; "
                "pass one name per logit"
            )

    @property
    def config(self) -> NetworkConfig:
        """Config that the network was built from."""
        return self.model.config  # type: ignore[no-any-return]


def check_class_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Class names as a file has them, if they are text and all different.

    Raises:
        ConfigError: a name that is no Unicode text (a lone surrogate), or one that stands twice.
    """
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"class names are Unicode text; got {name!r}; write it again") from None
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ConfigError(f"each class has its own name; {twice!r} stands twice; rename one")
    return names
