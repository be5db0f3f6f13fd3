"""YAML of options: `on`, `off`, `yes` and `no` stay text, which the type of the option then decides."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["load_yaml"]

BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """Rejects a repeated key in a mapping, since its first value would be lost silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        seen = set[Any]()
        for key in keys:
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key} is repeated", node.start_mark)
            seen |= {key} if isinstance(key, Hashable) else set()
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOL, re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def load_yaml(text: str) -> Any:
    """Parse YAML.

    Raises:
        ValueError, yaml.YAMLError: invalid YAML, or a repeated key.
    """
    try:
        return yaml.load(text, _Loader)
    except (ValueError, yaml.YAMLError):
        raise
    except Exception as error:  # tags on values that they do not fit, and brackets in brackets
        raise ValueError(f"{type(error).__name__}: {' '.join(str(error).split())[:100]}") from None
