"""Networks in torch, built from a plan: modules, blocks, attention, splitting, batch-norm statistics.

Open `model.py` first (`build_model`, `Network`), then `build.py` (plan nodes to modules) and `blocks.py`. Modules have
torchvision's names and order.
"""
