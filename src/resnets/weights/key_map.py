"""Key maps of users: YAML lines that rename the tensors of a file to names that a dialect knows.

    conv_1: conv1           # the start of a name
    stage_: layer           # stage_1.0.conv1.weight -> layer1.0.conv1.weight
    head.out.weight: fc.weight
    ^(\\d+)\\.bn: \\1.norm   # a regular expression, as it begins with ^
    optimizer.: null        # left out

The first line that matches decides, once for each name. Exact names come before starts of names, and both before
regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from reprlib import repr as short
from typing import Any

import yaml

from resnets.arch.config import ResNetConfig
from resnets.arch.networks import NetworkConfig
from resnets.arch.plan import plan
from resnets.arch.variants import VARIANTS
from resnets.errors import ConfigError, ResnetsError
from resnets.options.yaml_text import load_yaml
from resnets.small_files import read_small_text
from resnets.weights.dialects.axes import Shapes, torch_shape
from resnets.weights.slots import COUNTER, slots

__all__ = ["check_key_map", "proposed_map", "read_key_map", "rename_keys"]

MAX_BYTES, MAX_PATTERN = 2**20, 200
RULE = "a key map is YAML lines `old: new`"


def read_key_map(path: str | Path) -> dict[str, str | None]:
    """Read a key map; null leaves a tensor out.

    Raises:
        ConfigError: it cannot be read, is no mapping of texts, or has a line that is no regular expression.
    """
    path = Path(path)
    try:
        values = load_yaml(read_small_text(path, MAX_BYTES))
    except OSError as error:
        raise ConfigError(f"{RULE}; {path}: {error.strerror}; check the path") from None
    except (ValueError, yaml.YAMLError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{RULE}; {path}: {' '.join(str(error).split())}; correct it") from None
    if not isinstance(values, dict) or not values:
        raise ConfigError(f"{RULE}; {path} has none; write lines such as `stage_: layer`")
    return check_key_map(values, str(path))


def check_key_map(values: Mapping[Any, Any], where: str) -> dict[str, str | None]:
    """The key map in `values`; raises ConfigError as `read_key_map` does."""
    for old, new in values.items():
        if not isinstance(old, str) or not old or not (new is None or isinstance(new, str)):
            raise ConfigError(f"{RULE}; {where} has {short(old)}: {short(new)}; put both in quotes")
        if old.startswith("^"):
            try:
                if len(old) > MAX_PATTERN:
                    raise ConfigError(f"a pattern has at most {MAX_PATTERN} characters; {where} has {old[:40]!r}...")
                re.compile(old).sub(new or "", "")
            except (re.error, IndexError, OverflowError, RecursionError) as error:
                raise ConfigError(f"a line that begins with ^ is a regular expression; {old!r}: {error}") from None
    return dict(values)


def rename_keys(names: Iterable[str], key_map: Mapping[str, str | None], where: str) -> dict[str, str | None]:
    """The new name of each tensor; None for those that are left out.

    Raises:
        ConfigError: a line that renames nothing, or two tensors that get one name.
    """
    starts = sorted((old for old in key_map if not old.startswith("^")), key=len, reverse=True)
    patterns = [(old, re.compile(old)) for old in key_map if old.startswith("^")]
    used, renamed = set[str](), dict[str, str | None]()
    for name in names:
        renamed[name] = name
        old = next((old for old in starts if name.startswith(old)), None)
        if old is not None:
            used.add(old)
            new = key_map[old]
            renamed[name] = None if new is None else new + name.removeprefix(old)
            continue
        for old, pattern in patterns:
            if pattern.search(name):
                used.add(old)
                new = key_map[old]
                renamed[name] = None if new is None else pattern.sub(new, name, count=1)
                break
    if idle := [old for old in key_map if old not in used]:
        raise ConfigError(f"each line of a key map renames a tensor; {idle[0]!r} renames none of {where}; remove it")
    owners: dict[str, str] = {}
    for name, new in renamed.items():
        if new is not None and new in owners:
            raise ConfigError(f"two tensors cannot have one name; {owners[new]} and {name} both become {new}")
        if new is not None:
            owners[new] = name
    return renamed


def proposed_map(shapes: Shapes, config: NetworkConfig | None = None) -> dict[str, str] | None:
    """A key map for tensors of unknown names whose shapes are those of a network, in order; None if there is none.

    Args:
        shapes: by the file's names, in torch's axis order.
        config: the network (default: any named one, of other classes and input channels too).
    """
    theirs = [(name, shape) for name, shape in shapes.items() if not name.endswith(COUNTER)]
    candidates = [config] if config is not None else [one for one in VARIANTS.values() if isinstance(one, ResNetConfig)]
    for candidate in candidates:
        try:
            fitted = _fitted(candidate, theirs)
            own = [slot for slot in slots(plan(fitted)) if slot.role != "count"]
        except ResnetsError:
            continue
        if len(own) != len(theirs):
            continue
        pairs = zip(own, theirs, strict=True)
        if all(torch_shape(slot.key, shape, "torch") == slot.shape for slot, (_, shape) in pairs):
            return _lines([(name, slot.key) for (name, _), slot in zip(theirs, own, strict=True)])
    return None


def _fitted(config: NetworkConfig, theirs: list[tuple[str, tuple[int, ...]]]) -> NetworkConfig:
    """The network with the input channels of the first kernel and the classes of the last matrix."""
    first, last = theirs[0][1], [shape for _, shape in theirs if len(shape) == 2]
    classes = last[-1][0] if last else 0
    return config.with_overrides(in_chans=first[1] if len(first) == 4 else config.in_chans, num_classes=classes)


def _lines(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The fewest starts of names that turn each old name into its new one."""
    lines: dict[str, str] = {}
    for old, new in pairs:
        if _renamed(old, lines) == new:
            continue
        # The longest common ending, cut where a component begins or a number does.
        size = 0
        while size < min(len(old), len(new)) and old[-1 - size] == new[-1 - size]:
            size += 1
        for cut in range(size, -1, -1):
            start, target = old[: len(old) - cut], new[: len(new) - cut]
            trial = lines | {start: target}
            if start and all(_renamed(o, trial) == n for o, n in pairs if o.startswith(start)):
                lines = trial
                break
    return lines


def _renamed(name: str, lines: Mapping[str, str]) -> str:
    start = max((old for old in lines if name.startswith(old)), key=len, default=None)
    return name if start is None else lines[start] + name.removeprefix(start)
