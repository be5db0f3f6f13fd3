from __future__ import annotations

import pytest
import yaml

from resnets.options.yaml_text import load_yaml


@pytest.mark.parametrize("text", ["on", "off", "yes", "no", "Off", "NO", "y", "n", "truely", "falsehood"])
def test_words_stay_text(text: str) -> None:
    assert load_yaml(text) == text


def test_all_else_is_plain_yaml() -> None:
    text = "{a: true, b: False, c: null, d: [1, 2.5, 1.0e-3], e: 'off', f: .inf, 3: x}"
    assert load_yaml(text) == yaml.safe_load(text)
    assert yaml.safe_load("off") is False  # the common loader is unchanged


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "x: {a: 1, a: 2}", "[", "!!python/name:os.system x"])
def test_repeated_keys_and_invalid_yaml(text: str) -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
