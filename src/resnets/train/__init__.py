"""Training. Start with `run.py` (start, resume, plan and verify a run), then `loop/trainer.py`.

`config/` has the options and what they resolve to, `loop/` the trainer, `optim/` optimizers, schedules and losses,
`freeze/` phases and the feature cache, `run_folder/` what a run writes. `verify.py` replays steps of a run.
"""
