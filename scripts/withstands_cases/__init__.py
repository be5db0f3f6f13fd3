"""Hostile inputs and faults: how each is made, the command that meets it, and what the command must do.

Every function makes its files in the current folder, which is empty; numbers are bytes unless they say otherwise.
"""

from __future__ import annotations

from withstands_cases.case import Case
from withstands_cases.data_sets import DATA_SETS
from withstands_cases.faults import FAULTS
from withstands_cases.images import IMAGES
from withstands_cases.weights_files import WEIGHTS_FILES

__all__ = ["CASES", "Case"]

CASES: list[Case] = [*IMAGES, *DATA_SETS, *WEIGHTS_FILES, *FAULTS]
