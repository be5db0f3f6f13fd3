"""YAML as options are written in it: `true` and `false` are truth values, `on`, `off`, `yes` and `no` are words."""

from __future__ import annotations

import re
from typing import Any

import yaml

__all__ = ["load_yaml"]

BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """No key may stand twice in a mapping, since the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for place, key in enumerate(keys) if key in keys[:place]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(BOOL, re.compile("(true|True|TRUE|false|False|FALSE)$"), list("tTfF"))


def load_yaml(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        ValueError, yaml.YAMLError: it is none, or a key stands twice in a mapping.
    """
    return yaml.load(text, _Loader)
