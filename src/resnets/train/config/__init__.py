"""Configuration of a run: `options` (groups), `train_config` (all of them), `layers` (overrides), `recipes`.

`resolve` settles what depends on the data; `summary` describes a run for reports. Start with `train_config`.
"""
