"""What is compared for each network: the options that the peer builds it with, and the ways in which it is opened here.

The first cell is of the whole network. Each other varies one option; options do not depend on the depth, so these have
at most two blocks a stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CELLS", "MAX_PARAMS", "Cell"]

MAX_PARAMS = 150_000_000  # larger networks are compared with short stages, and by the shapes of all their tensors


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A network as the peer builds it, and how it is opened here.

    Args:
        title: of the table's column.
        ways: `auto` (the file alone), `named` (the file, with dialect, variant and options), `folder` (a folder as timm
            saves it), `export` (the network of `named`, written for the peer and opened there), `saved` (the one of
            `folder`, saved as a model folder of ours and opened by timm), `timm folder` (the same, in timm's layout).
        args: the peer's options.
        short: whether stages have at most two blocks, where the library lets one choose.
    """

    title: str
    ways: tuple[str, ...] = ("named", "folder", "export", "saved", "timm folder")
    args: dict[str, Any] = field(default_factory=dict)
    short: bool = True


EVERY = ("auto", "named", "folder", "export", "saved", "timm folder")
FILE = ("auto", "named")
FAST = ("fast", "fastavg", "fastmax", "fastavgmax", "fastcatavgmax")
STRIDES = {16: [False, False, True], 8: [False, True, True]}

CELLS: dict[str, tuple[Cell, ...]] = {
    "timm": (
        Cell(title="whole", ways=EVERY, short=False),
        Cell(title="num_classes=7", ways=EVERY, args={"num_classes": 7}),
        Cell(title="num_classes=0", ways=EVERY, args={"num_classes": 0}),
        Cell(title="in_chans=1", ways=EVERY, args={"in_chans": 1}),
        Cell(title="in_chans=4", ways=EVERY, args={"in_chans": 4}),
        Cell(title="features_only", ways=FILE, args={"features_only": True}),
        Cell(title="out_indices=(1, 2)", ways=FILE, args={"features_only": True, "out_indices": (1, 2)}),
        Cell(title="features, stride 8", ways=("named",), args={"features_only": True, "output_stride": 8}),
        Cell(title="output_stride=16", args={"output_stride": 16}),
        Cell(title="output_stride=8", args={"output_stride": 8}),
        Cell(title="pool max", args={"global_pool": "max"}),
        Cell(title="pool avgmax", args={"global_pool": "avgmax"}),
        Cell(title="pool catavgmax", args={"global_pool": "catavgmax"}),
        Cell(title="pool '', 0 classes", args={"global_pool": "", "num_classes": 0}),
        Cell(title="pool '', logits", args={"global_pool": ""}),
        *(Cell(title=f"pool {pool}", ways=("named",), args={"global_pool": pool}) for pool in FAST),
    ),
    "torchvision": (
        Cell(title="whole", ways=("auto", "named", "export"), short=False),
        Cell(title="num_classes=7", ways=("auto", "named", "export"), args={"num_classes": 7}),
        *(
            Cell(title=f"output_stride={n}", ways=("named", "export"), args={"replace_stride_with_dilation": flags})
            for n, flags in STRIDES.items()
        ),
    ),
}
