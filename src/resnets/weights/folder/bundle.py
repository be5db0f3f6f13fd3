"""A network with all that belongs to it: what its input is, what its answers mean, where it came from."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from resnets.arch.networks import NetworkConfig, config_from_dict
from resnets.arch.preprocessing import Preprocessing
from resnets.errors import ConfigError, WeightsError
from resnets.nn.model import Network, build_model
from resnets.weights.folder.config_json import check_preprocessing, read_config, to_config
from resnets.weights.folder.model_card import model_card
from resnets.weights.folder.storage import CARD, CONFIG, TENSORS, replacing_folder, standing
from resnets.weights.readers.files import read_safetensors
from resnets.weights.strict import fill

__all__ = ["Bundle", "read_folder"]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A network, ready to be used on images.

    Args:
        model: the network, in float32.
        preprocessing: from a decoded image to its input.
        classes: the name of each logit, in order; empty where the network answers embeddings.
        name: the variant it was made from, or `custom`.
        license: of the weights, as SPDX writes it (`Apache-2.0`), or `unknown`.
        provenance: where the weights came from: `data`, `recipe`, `figures` (name to number), `seed`, `date`, ...
            Anything that JSON can hold.
        calibration: temperature and thresholds, where somebody measured them.

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
        if len(self.classes) != self.model.num_classes:
            raise ConfigError(
                f"each logit has one class name; got {len(self.classes)} names for {self.model.num_classes} logits"
            )
        if self.preprocessing.num_channels != self.config.in_chans:
            raise ConfigError(
                f"preprocessing and network must agree on channels; got {self.preprocessing.channels} for "
                f"in_chans={self.config.in_chans}"
            )
        for part in ("provenance", "calibration"):
            try:
                json.dumps(getattr(self, part), allow_nan=False)
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{part} must be what JSON can hold; {error}; use plain finite values") from None

    @property
    def config(self) -> NetworkConfig:
        """What the network was built from."""
        return self.model.config  # type: ignore[no-any-return]

    def save(self, folder: Path | str) -> Path:
        """Write the model folder, whole or not at all; one that is there already is replaced.

        Returns:
            The folder.

        Raises:
            WeightsError: no permission, no room, or a folder that holds other files and no model of ours.
        """
        folder = Path(folder).expanduser().resolve()
        tensors = {name: _plain(tensor) for name, tensor in self.model.state_dict().items()}
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with replacing_folder(folder) as new:
                save_file(tensors, new / TENSORS, metadata={"format": "pt"})
                (new / CONFIG).write_text(json.dumps(to_config(self), indent=2) + "\n", encoding="utf-8")
                (new / CARD).write_text(model_card(self, folder.name), encoding="utf-8")
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise WeightsError(
                f"cannot write the model folder; {folder}: {reason}; free some room or choose another folder"
            ) from None
        return folder


def read_folder(folder: Path | str) -> Bundle:
    """The bundle that a model folder holds, bit for bit; its network is in evaluation mode.

    Raises:
        WeightsError: a file that is missing, damaged or of a newer version, tensors that are not the network's, or
            a preprocessing that somebody changed.
    """
    place = standing(Path(folder))
    values = read_config(place / CONFIG)
    ours = values["resnets"]
    tensors = read_safetensors(place / TENSORS)
    try:
        config = config_from_dict(ours["config"])
        preprocessing = Preprocessing.from_dict(ours["preprocessing"])
        check_preprocessing(values, preprocessing, place / CONFIG)
        if sum(config.depths) > len(tensors):  # before anything of that size is built
            raise ConfigError(f"{sum(config.depths)} blocks cannot come from {len(tensors)} tensors")
        model = build_model(config, init=False)
        fill(model, tensors, str(place / TENSORS))
        return Bundle(
            model=model.eval(),
            preprocessing=preprocessing,
            classes=tuple(map(str, values["label_names"])),
            name=str(values["architecture"]),
            license=str(values["pretrained_cfg"]["license"]),
            provenance=dict(ours["provenance"]),
            calibration=ours["calibration"],
        )
    except KeyError as error:
        raise WeightsError(f"{place / CONFIG} lacks {error}; write the folder again") from None
    except (AttributeError, ConfigError, TypeError, ValueError) as error:
        raise WeightsError(f"{place / CONFIG} does not describe a model; {error}; write the folder again") from None


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
