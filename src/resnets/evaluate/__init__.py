"""Evaluation of a network: `loop` runs it over a split and returns an `Evaluation`, `metrics` holds the formulas.

`predict` covers unlabelled images, `results` the epochs in `results.csv`, `report/` the plots and `report.html`.
Nothing is imported here, so that reading a `results.csv` costs neither torch nor matplotlib.
"""
