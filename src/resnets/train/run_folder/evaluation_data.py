"""The data that a model is evaluated on: as given, or that of the run it belongs to, divided as in training."""

from __future__ import annotations

from pathlib import Path

from resnets.data.dataset import Dataset
from resnets.data.open import open_dataset
from resnets.errors import ConfigError
from resnets.runtime.console import Console
from resnets.train.config.train_config import read_args
from resnets.train.run_folder.manifest import data_difference, open_data
from resnets.train.run_folder.paths import RunFolder
from resnets.weights.folder.bundle import Bundle

__all__ = ["evaluation_data"]


def evaluation_data(model: str | Path | Bundle, data: str | Path | None, console: Console) -> tuple[Dataset, bool]:
    """Open `data`, or by default the data of the run that `model` belongs to.

    Returns:
        The data set, and whether the run left out images that cannot be decoded.
    """
    run = None if isinstance(model, Bundle) else _run_folder(Path(model))
    if run is not None:
        config = read_args(run.args)
        if config.task == "reid":
            raise ConfigError(f"val evaluates classifiers; {run.path} trained embeddings; use `resnets reid DATA`")
        if data is None or _same_path(data, config.data):
            dataset = open_data(config)
            if (difference := data_difference(run, dataset)) is not None:
                console.info(f"note: {difference}; the model may have been trained on some of these images")
            return dataset, config.skip_bad
    if data is None:
        source = "a bundle" if isinstance(model, Bundle) else f"{model}, which is not a run folder"
        raise ConfigError(f"evaluation needs data; got only {source}; pass a data set")
    return open_dataset(data, val_fraction=0.0), False


def _same_path(data: str | Path, other: str) -> bool:
    return str(data) == other or (Path(data).exists() and Path(data).resolve() == Path(other).resolve())


def _run_folder(path: Path) -> RunFolder | None:
    """The run folder at `path`, or the one that the model folder `path` is in."""
    runs = [RunFolder(folder) for folder in (path, path.parent)]
    return next((run for run in runs if path.is_dir() and run.args.is_file()), None)
