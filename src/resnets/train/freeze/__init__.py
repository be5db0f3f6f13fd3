"""Freezing and unfreezing: phases of a run, the frozen part of a network, and the cache of its features.

Start with `phases.py`; `frozen_part.py` applies a phase, `feature_cache.py` caches, `plan_table.py` is `--dry-run`.
"""
