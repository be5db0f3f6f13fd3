"""What users call, composed of the layers below: each verb of the command has its function here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnets.data.check import check
from resnets.data.files import list_images
from resnets.data.open import open_dataset
from resnets.errors import ConfigError
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.loop import choose_split, evaluate_split
from resnets.evaluate.predict import Prediction, embed_images, predict_images
from resnets.runtime.console import Console
from resnets.runtime.device import pick_device
from resnets.runtime.processes import World, joined
from resnets.train.config.recipes import load_recipe
from resnets.train.config.train_config import TrainConfig, read_args
from resnets.train.loop.trainer import TrainResult
from resnets.train.run import TrainPlan, plan_run
from resnets.train.run import resume as resume_run
from resnets.train.run import train as train_run
from resnets.train.run import verify as verify_run
from resnets.train.run_folder.folder import RunFolder
from resnets.train.run_folder.manifest import changed, open_data
from resnets.train.verify import Verdict
from resnets.weights.create import create_model
from resnets.weights.folder import bundle as bundle_data
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.open import open_model
from resnets.weights.resolve import resolve

__all__ = [
    "Bundle",
    "Prediction",
    "TrainResult",
    "create_model",
    "evaluate",
    "load",
    "plan_training",
    "predict",
    "train",
    "verify",
]

Paths = str | Path | Iterable[str | Path]


class Bundle(bundle_data.Bundle):
    """A network with its preprocessing, class names and provenance: the return value of `load`.

    Fields are those of `resnets.weights.folder.bundle.Bundle`.
    """

    def save(self, folder: str | Path) -> Path:
        """Write the model folder, whole or not at all; an existing one is replaced.

        Returns:
            The folder.

        Raises:
            WeightsError: no permission, a full disk, or a folder that holds other files and no model of ours.
        """
        return save_bundle(self, folder)

    def predict(self, paths: Paths, *, top_k: int = 5, batch_size: int = 32, device: str = "auto") -> list[Prediction]:
        """Predict the most probable classes of images.

        Args:
            paths: an image, a folder of images, or several of them.
            top_k: number of classes to return per image.
            batch_size: images that run through the network together.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.

        Returns:
            A prediction per image, in the order of the files (sorted in folders).

        Raises:
            DataError: no image there. ImageError: an image does not decode.
        """
        found = list_images(paths)
        return list(predict_images(self, found, top_k=top_k, batch_size=batch_size, device=pick_device(device)))

    def embed(self, paths: Paths, *, batch_size: int = 32, device: str = "auto") -> NDArray[np.float32]:
        """Compute the embeddings of images, the pooled features before the classifier.

        Args:
            paths, batch_size, device: as for `predict`.

        Returns:
            (N, D) float32, in the order of the files (sorted in folders).

        Raises:
            DataError: no image there. ImageError: an image does not decode.
        """
        return embed_images(self, list_images(paths), batch_size=batch_size, device=pick_device(device))


def load(reference: str | Path) -> Bundle:
    """Load a model, in evaluation mode.

    Args:
        reference: `starter`, named weights (`resnet50.tv_in1k`), a weights file, a model folder, or a run folder
            (its best model).

    Raises:
        UnknownNameError: neither a name nor a path.
        WeightsError: no model there, or a damaged one.
    """
    return open_model(resolve(reference), Bundle).require_bundle()


def train(
    data: str | Path | None = None, *, resume: str | Path | None = None, quiet: bool = False, **options: Any
) -> TrainResult:
    """Train a classifier on images; what `resnets train` does.

    Args:
        data: `digits`, a folder `{train,val,test}/class/*`, or a folder of Parquet shards.
        resume: a run folder to go on with, from its last state, in place of data and options.
        quiet: print nothing to stderr.
        **options: `recipe`, and options of `TrainConfig` by bare or full name: `model`, `epochs`, `lr`, `mixup`,
            `"optim.lr"`, ...

    Returns:
        The run folder, the evaluation of the best model and a row of results an epoch.

    Raises:
        ResnetsError: bad data, options that contradict each other, a loss that is NaN.
    """
    console = Console(quiet)
    if resume is not None:
        also = [*(["data"] if data is not None else []), *options]
        if also:
            raise ConfigError(
                f"a resumed run keeps its data and options; got {', '.join(also)}; drop them or start anew"
            )
        return resume_run(Path(resume), console=console)
    if data is None:
        raise ConfigError("training needs data; got none; pass a data set, such as digits, or resume=RUN")
    return train_run(_config(data, options), console=console)


def plan_training(data: str | Path, **options: Any) -> TrainPlan:
    """What `train` would do with the same arguments, without doing it; what `resnets train --dry-run` shows.

    Raises:
        ResnetsError: bad data, or options that contradict each other.
    """
    return plan_run(_config(data, options))


def verify(run: str | Path, *, steps: int = 100, quiet: bool = False) -> Verdict:
    """Make the last steps of a run again from its state before them, and compare every bit.

    Args:
        run: its folder, which stays as it is.
        steps: how many at most; the run's last two states bound them.

    Raises:
        TrainingError: no run, or one with fewer than two states.
        ConfigError: no steps.
    """
    if steps < 1:
        raise ConfigError(f"a replay makes 1 step or more; got {steps}; leave it out for 100")
    return verify_run(Path(run), steps=steps, console=Console(quiet))


def _config(data: str | Path, options: Mapping[str, Any]) -> TrainConfig:
    """Defaults, then the recipe that `options` name, then the options."""
    recipe = options.get("recipe")
    if recipe is None:
        return TrainConfig.from_options({"data": str(data), **options})
    return TrainConfig.from_options(load_recipe(recipe).settings, {"data": str(data), **options, "recipe": str(recipe)})


def evaluate(
    model: str | Path | Bundle,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    batch_size: int = 128,
    device: str = "auto",
    workers: int | None = None,
    skip_bad: bool = False,
    quiet: bool = False,
) -> Evaluation:
    """Measure a model on labelled images; what `resnets val` does.

    Under `torchrun`, every process calls it, measures some of the batches and is answered all.

    Args:
        model: a model reference, or a bundle.
        data: as for `train`; `None` takes a run's own data, with the very images it held out.
        split: `train`, `val` or `test`; `None` takes `val`, or else `test`.
        skip_bad: leave out images that do not decode; a run that left them out in training does so here.
        quiet: print nothing to stderr.

    Raises:
        ResnetsError: no such model, data or split, or classes that the model does not know.
    """
    with joined(device) as world:
        return _evaluate(world, model, data, split, batch_size, device, workers, skip_bad, quiet)


def _evaluate(
    world: World,
    model: str | Path | Bundle,
    data: str | Path | None,
    split: str | None,
    batch_size: int,
    device: str,
    workers: int | None,
    skip_bad: bool,
    quiet: bool,
) -> Evaluation:
    bundle = model if isinstance(model, Bundle) else load(model)
    console = Console(quiet) if world.first else Console(quiet=True, silent=True)
    run = None if isinstance(model, Bundle) else _own_run(Path(model))
    own = read_args(run.args) if run is not None else None
    if run is not None and own is not None and (data is None or _same(data, own.data)):
        dataset = open_data(own)
        skip_bad = skip_bad or own.skip_bad
        if (difference := changed(run, dataset)) is not None:
            console.say(f"note: {difference}; some of these images may have been trained on")
    elif data is not None:
        dataset = open_dataset(data, val_fraction=0.0)
    else:
        where = "a bundle" if isinstance(model, Bundle) else f"{model}, which is no run with data of its own"
        raise ConfigError(f"measuring needs data; got {where}; pass the data")
    name, images = choose_split(dataset, split)
    if skip_bad:
        dataset = replace(dataset, splits={name: images})
        bad = world.from_first(lambda: check(dataset, workers=workers))
        for problem in bad:
            console.say(f"left out: {problem}")
        images = dataset.without(bad).splits[name]
    console.start(f"{dataset.name}/{name}", len(images))
    try:
        return evaluate_split(
            bundle,
            dataset,
            images,
            batch_size=batch_size,
            device=pick_device(world.device(device)),
            workers=workers,
            on_batch=lambda count: console.advance(count * world.size),  # as many as here, about, elsewhere
            shard=world.shard,
            gather=world.gather,
        )
    finally:
        console.stop()


def _same(data: str | Path, other: str) -> bool:
    """Whether two names mean the same data."""
    return str(data) == other or (Path(data).exists() and Path(data).resolve() == Path(other).resolve())


def _own_run(path: Path) -> RunFolder | None:
    """The run that `path`, or the folder that it lies in, is."""
    for folder in (path, path.parent):
        run = RunFolder(folder)
        if path.is_dir() and run.args.is_file():
            return run
    return None


def predict(model: str | Path | Bundle, paths: Paths, *, top_k: int = 5, **options: Any) -> Sequence[Prediction]:
    """The likeliest classes of images; what `resnets predict` does. Options as for `Bundle.predict`."""
    bundle = model if isinstance(model, Bundle) else load(model)
    return bundle.predict(paths, top_k=top_k, **options)
