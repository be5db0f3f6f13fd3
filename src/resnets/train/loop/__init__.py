"""The training loop. Start with `trainer.py`: `Trainer.fit` runs the epochs, with validation, checkpoints and recovery.

`epoch.py` loops over the batches of an epoch and calls `train_step.py`; `phase.py` is the part of the network that
trains now, with cached features of the rest; `metrics.py` has the results, `interrupts.py` Ctrl-C and SIGTERM.
"""
