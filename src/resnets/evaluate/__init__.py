"""Measuring a network: metrics, the evaluation loop, plots, `results.csv` and `report.html`.

Nothing is imported here, so that reading a `results.csv` costs neither torch nor matplotlib.
"""
