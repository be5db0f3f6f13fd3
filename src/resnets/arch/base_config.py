"""What the descriptions of all families share: checked fields, changes by name, and a form that JSON can hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self, get_type_hints

from resnets.arch.rules import check_types
from resnets.errors import UnknownNameError

__all__ = ["BaseConfig"]


@dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """Base of the frozen descriptions; a family adds its fields and its rules between them."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(value := getattr(self, field.name), list):  # as JSON has them
                object.__setattr__(self, field.name, tuple(value))
        check_types(self, _hints(type(self)))
        self.check_rules()

    def check_rules(self) -> None:
        """Hold the fields against each other.

        Raises:
            ConfigError: two that contradict each other.
        """

    def with_overrides(self, **overrides: Any) -> Self:
        """The same network with some fields changed; an unknown field is an error that names the nearest."""
        known = _hints(type(self))
        for name in overrides:
            if name not in known:
                raise UnknownNameError("model option", name, known)
        return replace(self, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """All fields, as JSON can hold them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` wrote; fields that an older version did not know keep their defaults."""
        return cls().with_overrides(**values)


_FOUND: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    """The annotations of a description's fields; looking them up takes milliseconds, so it is done once."""
    if kind not in _FOUND:
        _FOUND[kind] = get_type_hints(kind)
    return _FOUND[kind]
