"""Data sets and data loading. Start with `open` (path -> `dataset.Dataset`) and `loader` (split -> batches).

`sources` read storage formats, `decode` decodes images, `transform` runs the preprocessing, `augment` the random
augmentation. A `sampler` and a pixel store (`memory`, or `stream` with `workers`) feed the loader. `splits` divides,
`check` decodes in advance, `pack` converts for fast reading; `random` has the counter-based random numbers.
"""
