"""The run folder: checkpoints, log, manifest of the images, TensorBoard events and report.

Start with `paths.py`, which lists its files; `checkpoint.py` is the file format, `checkpointer.py` writes them.
"""
