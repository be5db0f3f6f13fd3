"""A run's recipe in words: what is on, and nothing of what is off. For the report, the model card and TensorBoard."""

from __future__ import annotations

from typing import Any

from resnets.arch.config import ResNetConfig
from resnets.data.augment.config import AugmentConfig
from resnets.errors import ResnetsError
from resnets.evaluate.report.curves import Span
from resnets.runtime.console import counted
from resnets.train.config.recipes import load_recipe
from resnets.train.config.resolved_config import ResolvedConfig
from resnets.train.freeze.phases import NONE, Phase

__all__ = ["about_recipe", "freeze_words", "phase_rows", "phase_spans", "recipe_words"]

OPTIMISERS = {"sgd": "SGD", "adamw": "AdamW", "lamb": "LAMB", "muon": "Muon"}
LOSSES = {"ce": "cross-entropy", "bce": "binary cross-entropy, a yes or no for every class", "focal": "focal loss"}
POLICIES = {"trivialaugment": "TrivialAugment Wide", "autoaugment": "AutoAugment"}
SCHEDULES = {
    "cosine": "half a cosine",
    "linear": "a straight line",
    "constant": "constant",
    "onecycle": "one cycle: up over 30 % of the phase, then down to next to nothing",
}
JITTERED = ("brightness", "contrast", "saturation", "hue")


def about_recipe(config: ResolvedConfig) -> str:
    """What the run's recipe is, in a line; empty where it has none, or its file is gone."""
    if config.recipe is None:
        return ""
    try:
        recipe = load_recipe(config.recipe)
    except ResnetsError:
        return ""
    return f"{recipe.about}. After: {recipe.follows}." if recipe.about and recipe.follows else recipe.about


def recipe_words(config: ResolvedConfig) -> dict[str, str]:
    """What trains the network and how, by headings."""
    words = {
        "Recipe": config.recipe or "",
        "Start": f"the weights of {config.pretrained}" if config.pretrained else "from scratch",
        "Length": f"{counted(config.epochs, 'epoch')}, {counted(config.batch_size, 'image')} a step",
        "Image size": _sizes(config),
        "Optimiser": _optimiser(config),
        "Learning rate": _schedule(config),
        "Loss": _loss(config),
        "Augmentation": _augmentation(config.augment),
        "Mixing": _mixing(config),
        "Sampling": _sampling(config),
        "Regularisation": _regularisation(config),
        "Averaging": _averaging(config),
        "Early stopping": _patience(config),
        "Changed": _changed(config),
    }
    return {heading: text for heading, text in words.items() if text}


def phase_rows(config: ResolvedConfig) -> list[dict[str, Any]]:
    """One row per phase, where anything is ever frozen or there are several phases; columns of defaults are left out.

    Rows have the same names, and plain values: text and numbers.
    """
    rows: list[dict[str, Any]] = []
    for phase in config.phases:
        first, last = phase.first_epoch + 1, phase.first_epoch + phase.epochs
        rows.append(
            {
                "epochs": str(first) if first == last else f"{first} to {last}",
                "frozen": "nothing" if phase.freeze == NONE else f"up to {phase.freeze}",
                "peak learning rate": phase.lr,
                "warm-up epochs": phase.warmup_epochs,
                "layer decay": phase.layer_decay,
                "BN statistics": phase.bn_stats,
                "BN weights": phase.bn_affine,
            }
        )
    usual = {
        "warm-up epochs": config.schedule.warmup_epochs,
        "layer decay": 1.0,
        "BN statistics": "auto",
        "BN weights": "auto",
    }
    silent = [name for name, value in usual.items() if all(row[name] == value for row in rows)]
    if len(rows) == 1 and len(silent) == len(usual) and config.phases[0].freeze == NONE:
        return []
    return [{name: value for name, value in row.items() if name not in silent} for row in rows]


def freeze_words(phase: Phase) -> str:
    """What of the network trains in a phase."""
    return "all trains" if phase.freeze == NONE else f"frozen up to {phase.freeze}"


def phase_spans(config: ResolvedConfig) -> list[Span]:
    """The phases as the curves mark them."""
    return [
        Span(
            first=phase.first_epoch + 1,
            last=phase.first_epoch + phase.epochs,
            names=(freeze_words(phase), "all" if phase.freeze == NONE else phase.freeze),
            shaded=phase.freeze != NONE,
        )
        for phase in config.phases
    ]


def _optimiser(config: ResolvedConfig) -> str:
    optim = config.optim
    parts = [OPTIMISERS[optim.opt]]
    if optim.opt in ("sgd", "muon") and optim.momentum:
        nesterov = "Nesterov " if optim.nesterov or optim.opt == "muon" else ""
        parts.append(f"{nesterov}momentum {optim.momentum:g}")
    if optim.opt in ("adamw", "lamb"):
        parts.append(f"betas {optim.betas[0]:g} and {optim.betas[1]:g}")
    if optim.weight_decay:
        where = "all parameters" if optim.decay_norms else "weights only"
        parts.append(f"weight decay {optim.weight_decay:g} ({where})")
    if optim.clip_grad is not None:
        parts.append(f"gradients clipped to a length of {optim.clip_grad:g}")
    if optim.accumulate > 1:
        parts.append(f"gradients of {optim.accumulate} steps summed for an update")
    return ", ".join(parts)


def _schedule(config: ResolvedConfig) -> str:
    schedule, peak = config.schedule, f"peak {config.optim.lr:.4g}"
    shape = SCHEDULES.get(schedule.sched, "")
    if schedule.sched in ("cosine", "linear"):
        shape += f" down to {schedule.min_lr:.4g} of it" if schedule.min_lr else " down to zero"
    if schedule.sched == "step":
        epochs = ", ".join(f"{epoch:g}" for epoch in schedule.milestones)
        shape = f"times {schedule.gamma:g} after epoch {epochs}"
    warm = schedule.warmup_epochs if schedule.sched != "onecycle" else 0
    rise = f"warm-up over {warm:g} epoch{'' if warm == 1 else 's'}, then " if warm else ""
    return f"{peak}, {rise}{shape}"


def _loss(config: ResolvedConfig) -> str:
    loss = config.loss
    parts = [LOSSES[loss.loss] + (f" (gamma {loss.focal_gamma:g})" if loss.loss == "focal" else "")]
    if loss.label_smoothing:
        parts.append(f"label smoothing {loss.label_smoothing:g}")
    if loss.loss == "bce" and loss.bce_threshold is not None:
        parts.append(f"mixed labels above {loss.bce_threshold:g} count as a yes")
    if loss.class_weights == "balanced":
        parts.append("classes weighted in inverse proportion to their images")
    elif loss.class_weights != "none":
        parts.append("classes weighted by hand")
    return ", ".join(parts)


def _augmentation(augment: AugmentConfig) -> str:
    parts = []
    if augment.scale is not None:
        low, high = augment.scale
        parts.append(f"random crop of {100 * low:.3g} to {100 * high:.3g} % of the area")
    if augment.pad:
        parts.append(f"random shift by up to {counted(augment.pad, 'pixel')}")
    mirrored = [way for way, on in (("left-right", augment.hflip), ("up-down", augment.vflip)) if on]
    if mirrored:
        parts.append(f"mirrored {' and '.join(mirrored)}")
    if augment.policy == "randaugment":
        parts.append(f"RandAugment ({augment.policy_ops} operations, magnitude {augment.policy_magnitude:g})")
    elif augment.policy != "none":
        parts.append(POLICIES[augment.policy])
    if any(augment.color_jitter):
        amounts = (f"{name} {one:g}" for name, one in zip(JITTERED, augment.color_jitter, strict=True) if one)
        parts.append(f"colour jitter ({', '.join(amounts)})")
    if augment.grayscale:
        parts.append(f"grey in {100 * augment.grayscale:.3g} % of the images")
    if augment.random_erasing:
        parts.append(f"random erasing in {100 * augment.random_erasing:.3g} % of the images")
    if augment.cutout:
        parts.append(f"cutout of {augment.cutout} pixels")
    return ", ".join(parts) or "none"


def _mixing(config: ResolvedConfig) -> str:
    mix = config.mix
    kinds = [f"{name} (alpha {alpha:g})" for name, alpha in (("mixup", mix.mixup), ("CutMix", mix.cutmix)) if alpha]
    if not kinds or not mix.prob:
        return ""
    share = f" of {100 * mix.prob:.3g} % of the batches" if mix.prob < 1 else ""
    end = "" if mix.off_epoch is None else f", for the first {counted(mix.off_epoch, 'epoch')}"
    return " or ".join(kinds) + share + end


def _sampling(config: ResolvedConfig) -> str:
    parts = ["every class equally often"] if config.sampling.balanced else []
    if config.sampling.repeats > 1:
        parts.append(f"each image {config.sampling.repeats} times in turn, augmented anew (repeated augmentation)")
    return ", ".join(parts)


def _regularisation(config: ResolvedConfig) -> str:
    network, parts = config.network, []
    if isinstance(network, ResNetConfig) and network.drop_path_rate:
        parts.append(f"stochastic depth, rising to {network.drop_path_rate:g}")
    if network.drop_rate:
        parts.append(f"dropout {network.drop_rate:g}")
    return ", ".join(parts)


def _averaging(config: ResolvedConfig) -> str:
    average = config.average
    if average.ema:
        every = "a step" if average.ema_every == 1 else f"every {average.ema_every} steps"
        return f"the model is a moving average of the weights (EMA), decay {average.ema:g} {every}"
    if average.swa_epochs:
        return f"the model is the mean of the weights after the last {counted(average.swa_epochs, 'epoch')} (SWA)"
    return ""


def _patience(config: ResolvedConfig) -> str:
    patience = config.save.patience
    return "" if patience is None else f"after {counted(patience, 'epoch')} without a better validation"


def _changed(config: ResolvedConfig) -> str:
    changes = config.recipe_changes.items()
    return ", ".join(f"{name} {new} (recipe: {'unset' if old is None else old})" for name, (new, old) in changes)


def _sizes(config: ResolvedConfig) -> str:
    if not config.train_sizes:
        return ""
    steps = (
        f"{side} pixels" + (f" from {100 * share:.3g} % of the run on" if share else " at first")
        for share, side in config.train_sizes
    )
    return ", ".join(steps)
