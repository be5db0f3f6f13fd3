"""Optimizers, learning-rate schedules, losses and averaged weights.

`optimizers.py` builds the optimizer of a network; LAMB and Muon have a file each.
"""
