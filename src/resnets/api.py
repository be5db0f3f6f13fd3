"""Public functions of the library, composed of the layers below; each verb of the command calls one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnets.arch.preprocessing import Preprocessing
from resnets.data.check import check
from resnets.data.dataset import Dataset
from resnets.data.inputs import ImageInputs
from resnets.data.torch_dataset import ImageDataset
from resnets.data.transforms import EvalTransform, TrainTransform
from resnets.errors import ConfigError
from resnets.evaluate.class_match import LabelKind, match_classes, read_class_map, relabel
from resnets.evaluate.evaluation import Evaluation
from resnets.evaluate.loop import choose_split, evaluate_split
from resnets.evaluate.predict import Prediction, embed_images, predict_images
from resnets.evaluate.predictions import check_format, save_evaluation
from resnets.runtime.console import Console
from resnets.runtime.device import pick_amp, pick_device
from resnets.runtime.processes import join_processes
from resnets.train.config.recipes import config_of
from resnets.train.config.resolve import augment_options
from resnets.train.config.train_config import TrainConfig
from resnets.train.loop.metrics import TrainResult
from resnets.train.run import TrainPlan, plan_run
from resnets.train.run import resume as resume_run
from resnets.train.run import train as train_run
from resnets.train.run import verify as verify_run
from resnets.train.run_folder.evaluation_data import evaluation_data
from resnets.train.verify import ReplayResult
from resnets.weights.create import create_model
from resnets.weights.folder import bundle as bundle_data
from resnets.weights.folder.model_folder import save_bundle
from resnets.weights.open import load_bundle

__all__ = [
    "Bundle",
    "ImageDataset",
    "Prediction",
    "TrainResult",
    "create_model",
    "evaluate",
    "load",
    "plan_training",
    "predict",
    "train",
    "transforms",
    "verify",
]


class Bundle(bundle_data.Bundle):
    """A network with its preprocessing, class names and provenance: the return value of `load`.

    Fields are those of `resnets.weights.folder.bundle.Bundle`.
    """

    def save(self, folder: str | Path) -> Path:
        """Write the model folder atomically; an existing one is replaced.

        Returns:
            The folder.

        Raises:
            WeightsError: no permission, a full disk, or a folder that holds other files and no model of ours.
        """
        return save_bundle(self, folder)

    @property
    def device(self) -> torch.device:
        """The device that the network is on: the CPU, until it predicts or is moved elsewhere."""
        return next(self.model.parameters()).device

    def _pick_device(self, name: str) -> torch.device:
        return self.device if name == "auto" and self.device.type != "cpu" else pick_device(name)

    def __call__(self, images: ImageInputs) -> list[Prediction]:
        """`predict` with its defaults."""
        return self.predict(images)

    def predict(
        self, images: ImageInputs, *, top_k: int = 5, batch_size: int = 32, device: str = "auto"
    ) -> list[Prediction]:
        """Predict the most probable classes of images.

        The model is put into evaluation mode meanwhile. Several threads may predict at the same time.

        Args:
            images: an image, or a list or iterator of images. An image is a path (a folder stands for all images below
                it, sorted), the bytes of a file, an open file, a Pillow image, an (H, W) or (H, W, C) array or a
                (C, H, W) tensor of uint8, uint16 or floating-point values in 0..1. A 4-dimensional array or tensor is
                a batch of images.
            top_k: number of classes to return per image.
            batch_size: images that run through the network together.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`. The network is moved there and stays there; `auto` leaves
                it on a GPU, and moves it from the CPU to a GPU if there is one.

        Returns:
            A prediction per image, in their order.

        Raises:
            DataError: something is no image, or a folder has none. ImageError: an image cannot be decoded.
        """
        return list(predict_images(self, images, top_k=top_k, batch_size=batch_size, device=self._pick_device(device)))

    def embed(self, images: ImageInputs, *, batch_size: int = 32, device: str = "auto") -> NDArray[np.float32]:
        """Compute the embeddings of images, the pooled features before the classifier.

        Args:
            images, batch_size, device: as for `predict`.

        Returns:
            (N, D) float32, in the order of the images.

        Raises:
            DataError: something is no image, or a folder has none. ImageError: an image cannot be decoded.
        """
        return embed_images(self, images, batch_size=batch_size, device=self._pick_device(device))

    @property
    def transform(self) -> EvalTransform:
        """The model's transform: an image, as for `predict`, to a (C, H, W) float32 tensor. It can be pickled."""
        return EvalTransform(self.preprocessing)

    def __repr__(self) -> str:
        size = "x".join(map(str, self.preprocessing.size))
        head = f"{len(self.classes)} classes" if self.classes else f"embeddings of {self.model.num_features}"
        return f"Bundle({self.name}, {head}, {self.preprocessing.channels} {size})"


def load(reference: str | Path, *, allow_nonfinite: bool = False) -> Bundle:
    """Load a model, in evaluation mode.

    Args:
        reference: `starter`, named weights (`resnet50.tv_in1k`), a weights file, a model folder, or a run folder
            (its best model).
        allow_nonfinite: accept weights that are NaN or infinite, and variances below zero.

    Raises:
        UnknownNameError: neither a name nor a path.
        WeightsError: no model there, or a damaged one.
    """
    bundle = load_bundle(reference, Bundle, allow_nonfinite=allow_nonfinite)
    assert isinstance(bundle, Bundle)
    return bundle


def train(
    data: str | Path | None = None, *, resume: str | Path | None = None, quiet: bool = False, **options: Any
) -> TrainResult:
    """Train an image classifier, as `resnets train` does.

    Args:
        data: `digits`, a folder `{train,val,test}/class/*`, a CSV file, or a folder of WebDataset or Parquet shards.
        resume: run folder to resume from its last checkpoint, instead of `data` and `options`.
        quiet: print only warnings to stderr.
        **options: `recipe`, and options of `TrainConfig` by short or full name: `model`, `epochs`, `lr`, `mixup`,
            `"optim.lr"`, ...

    Returns:
        The run folder, the evaluation of the best model and the metrics of each epoch.

    Raises:
        ResnetsError: invalid data, contradictory options, or a loss that is NaN.
    """
    console = Console(quiet)
    if resume is not None:
        extra = [*(["data"] if data is not None else []), *options]
        if extra:
            raise ConfigError(
                f"a resumed run keeps its data and options; got {', '.join(extra)}; remove them or start a new run"
            )
        return resume_run(Path(resume), console=console)
    if data is None:
        raise ConfigError("training needs data; got none; pass a data set, such as digits, or resume=RUN")
    return train_run(_config(data, options), console=console)


def plan_training(data: str | Path, **options: Any) -> TrainPlan:
    """Resolve the options and freezing phases of a run without training, as `resnets train --dry-run` does.

    Args:
        data, options: as for `train`.

    Raises:
        ResnetsError: invalid data, or contradictory options.
    """
    return plan_run(_config(data, options))


def verify(run: str | Path, *, steps: int = 100, quiet: bool = False) -> ReplayResult:
    """Repeat the last steps of a run from its second-to-last checkpoint and compare the results bit by bit.

    Args:
        run: run folder; it is not changed.
        steps: maximum number of steps; there are no more than between the last two checkpoints.
        quiet: print only warnings to stderr.

    Raises:
        TrainingError: not a run folder, or fewer than two checkpoints.
        ConfigError: `steps` below 1.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1; got {steps}; omit it for 100")
    return verify_run(Path(run), steps=steps, console=Console(quiet))


def _config(data: str | Path, options: Mapping[str, Any]) -> TrainConfig:
    """Combine the defaults, the recipe, and the other options, which override."""
    return config_of({"data": str(data), **options})


def evaluate(
    model: str | Path | Bundle,
    data: str | Path | None = None,
    *,
    split: str | None = None,
    batch_size: int = 128,
    device: str = "auto",
    amp: str = "off",
    workers: int | None = None,
    skip_bad: bool = False,
    class_map: str | Path | Mapping[str, str | int | None] | None = None,
    ignore_extra: bool = False,
    labels: LabelKind = "name",
    allow_nonfinite: bool = False,
    save_predictions: str | Path | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Evaluate a model on labelled images, as `resnets val` does.

    Under `torchrun`, every process calls it and evaluates some of the batches; all return the evaluation of all images.

    Args:
        model: model reference, or a bundle.
        data: as for `train`; `None` uses the data of the run that `model` belongs to, with the images it held out.
        split: `train`, `val` or `test`; `None` uses `val`, else `test`, else all images.
        batch_size: images per batch.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        amp: mixed precision: `off`, `auto`, `bf16` or `fp16`.
        workers: decoding processes; `None` uses one per CPU core.
        skip_bad: leave out images that cannot be decoded. Always set for the data of a run that was trained so.
        class_map: class of the data to class of the model, as a mapping or a file (YAML, JSON, or CSV rows); None or
            an empty cell leaves a class out. Other classes are matched by `labels`.
        ignore_extra: leave out images of classes that the model does not have.
        labels: match classes by `name`, or take the data's class names as an `index` into the model's classes.
        allow_nonfinite: as for `load`.
        save_predictions: file to write, `.csv`, `.json`, `.jsonl` or `.parquet`: path, label, prediction and
            probability of each image.
        quiet: print only warnings to stderr.

    Raises:
        ResnetsError: unknown model, data or split, or classes that the model does not have.
    """
    with join_processes(device) as processes:
        console = Console(quiet, silent=not processes.is_main_process)
        bundle = model if isinstance(model, Bundle) else load(model, allow_nonfinite=allow_nonfinite)
        dataset, skip = evaluation_data(model, data, console)
        if not bundle.classes:
            raise ConfigError(f"evaluation needs a classifier; {bundle.name} outputs embeddings; use embed")
        if save_predictions is not None:
            check_format(Path(save_predictions))
        name, images = choose_split(dataset, split)
        images = relabel(images, _match(bundle, dataset, console, class_map, ignore_extra, labels))
        if skip_bad or skip:
            evaluated = replace(dataset, splits={name: images})
            found = processes.run_on_main(lambda: check(evaluated, workers=workers))
            bad = [problem for problem in found if problem.fatal]
            for problem in bad:
                console.info(f"left out: {problem}")
            images = evaluated.without_undecodable(bad).splits[name]
        torch_device = pick_device(processes.local_device(device))
        with console.progress(f"{dataset.name}/{name}", len(images)):
            evaluation = evaluate_split(
                bundle,
                images,
                batch_size=batch_size,
                device=torch_device,
                amp=pick_amp(amp, torch_device),
                workers=workers,
                on_batch=lambda count: console.advance(count * processes.world_size),
                shard=processes.shard,
                gather=processes.all_gather,
            )
        if save_predictions is not None and processes.is_main_process:
            save_evaluation(Path(save_predictions), evaluation, images.name)
        return evaluation


def _match(
    bundle: Bundle,
    dataset: Dataset,
    console: Console,
    class_map: str | Path | Mapping[str, str | int | None] | None,
    ignore_extra: bool,
    labels: LabelKind,
) -> NDArray[np.int64]:
    """The model's class index of each class of the data, -1 for those to leave out."""
    known, classes = bundle.classes, dataset.classes
    named_by_number = "import" in bundle.provenance and len(classes) == len(known) and not set(classes) <= set(known)
    if named_by_number and class_map is None and labels == "name":
        console.info(f"note: {bundle.name} has no class names; those of the data are taken in their order")
        return np.arange(len(classes))
    mapping = read_class_map(class_map) if isinstance(class_map, str | Path) else class_map
    match = match_classes(
        classes, known, model=bundle.name, class_map=mapping, ignore_extra=ignore_extra, labels=labels
    )
    left_out = [name for name, index in zip(classes, match, strict=True) if index < 0]
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        console.info(f"note: images of these classes are left out: {', '.join(left_out[:5])}{more}")
    return match


def predict(
    model: str | Path | Bundle, images: ImageInputs, *, top_k: int = 5, batch_size: int = 32, device: str = "auto"
) -> list[Prediction]:
    """Classify images, as `resnets predict` does.

    Args:
        model: model reference, or a bundle.
        images, top_k, batch_size, device: as for `Bundle.predict`.

    Returns:
        The `top_k` most probable classes of each image, in their order.

    Raises:
        DataError: no images. ImageError: an image cannot be decoded.
    """
    bundle = model if isinstance(model, Bundle) else load(model)
    return bundle.predict(images, top_k=top_k, batch_size=batch_size, device=device)


def transforms(
    model: str | Path | Bundle | Preprocessing, *, train: bool = False, **augment: Any
) -> EvalTransform | TrainTransform:
    """The transform of a model's images, for one's own data loader.

    Args:
        model: model reference, a bundle, or a preprocessing.
        train: with random augmentation, by default as `resnets train` augments images of this size.
        augment: options of `AugmentConfig`, such as `scale=(0.5, 1)` or `policy="randaugment"`; only with `train`.

    Returns:
        A callable that can be pickled: an image, as for `Bundle.predict`, to a (C, H, W) float32 tensor.

    Raises:
        ConfigError: an unknown option, or options without `train`. UnknownNameError, WeightsError: as for `load`.
    """
    if isinstance(model, str | Path):
        model = load(model)
    preprocessing = model if isinstance(model, Preprocessing) else getattr(model, "preprocessing", None)
    if preprocessing is None:
        raise ConfigError(f"transforms needs a model, a bundle or a preprocessing; got {type(model).__name__}")
    if not train:
        if augment:
            raise ConfigError(f"evaluation augments nothing; got {', '.join(augment)}; pass train=True")
        return EvalTransform(preprocessing)
    return TrainTransform(preprocessing, augment_options(augment, preprocessing))
