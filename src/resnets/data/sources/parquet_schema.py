"""Which columns of a Parquet file hold images, labels and groups, and Hugging Face's class names."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resnets.errors import DataError

__all__ = ["Columns", "find_columns"]

_IMAGE_COLUMNS = ("image", "img", "images")
_GROUP_COLUMN = "group"
_LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "target")


@dataclass
class Columns:
    """Columns of a shard.

    Args:
        names: of the image, label and group column; None without groups.
        image_bytes: what to read for images: `image.bytes` of a struct, else the column itself.
        class_names: from Hugging Face's metadata.
    """

    names: tuple[str, str, str | None]
    image_bytes: str
    class_names: list[str] | None

    @property
    def used(self) -> tuple[str | None, ...]:
        """The columns that are read."""
        return self.image_bytes, *self.names[1:]


def find_columns(schema: Any, shard: Path) -> Columns:
    """The columns of a shard, from its schema; raises DataError if one is missing or of another type."""
    if len(set(schema.names)) < len(schema.names):
        twice = next(name for name, count in Counter(schema.names).items() if count > 1)
        raise DataError(f"columns must have different names; {shard} has {twice!r} twice; rename one")
    features = _huggingface_features(schema)
    image = [n for n, f in features.items() if f.get("_type") == "Image"] + [
        n for n in _IMAGE_COLUMNS if n in schema.names
    ]
    label = [n for n, f in features.items() if f.get("_type") == "ClassLabel"]
    label = [n for n in _LABEL_COLUMNS if n in label] + label + [n for n in _LABEL_COLUMNS if n in schema.names]
    if not image or not label:
        what = "image column (image)" if not image else "label column (label)"
        raise DataError(f"a Parquet data set must have one {what}; {shard} has {', '.join(schema.names)}; rename one")
    group = _GROUP_COLUMN if _GROUP_COLUMN in schema.names else None
    for column in filter(None, (label[0], group)):
        if not _is_simple(schema.field(column).type):
            raise DataError(
                f"a row must have one {column}, a whole number or a text; {shard} has {column!r} of type "
                f"{schema.field(column).type}; write one value per row"
            )
    feature = features.get(label[0], {})
    inner = feature.get("feature")
    names = feature.get("names") or (inner.get("names") if isinstance(inner, dict) else None)
    class_names = [str(name) for name in names] if isinstance(names, list) else None
    return Columns((image[0], label[0], group), _image_bytes_column(schema, image[0], shard), class_names)


def _is_simple(kind: Any) -> bool:
    """Whether a type holds whole numbers, numbers or texts."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    binary = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return any(check(kind) for check in (types.is_integer, types.is_floating, types.is_boolean, types.is_null, *binary))


def _image_bytes_column(schema: Any, image: str, shard: Path) -> str:
    from pyarrow import types

    kind = schema.field(image).type
    struct = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    held = kind.field("bytes").type if struct else kind
    held = held.value_type if types.is_dictionary(held) else held
    binary = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    if not any(check(held) for check in binary):
        raise DataError(
            f"images must be stored as bytes; {shard} has {image!r} of type {kind}; write the files' content, or "
            "pass a table path,label"
        )
    if struct and f"{image}.bytes" in schema.names:
        raise DataError(f"columns must have different paths; {shard} has {image}.bytes twice; rename one")
    return f"{image}.bytes" if struct else image


def _huggingface_features(schema: Any) -> dict[str, Any]:
    """Hugging Face's description of each column, from the schema's metadata; empty without one."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {key: value for key, value in features.items() if isinstance(value, dict) and key in schema.names}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):  # of another writer, or damaged
        return {}
