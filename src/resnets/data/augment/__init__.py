"""Random augmentation of training images; start with `config`, the options of all of it.

`geometric` (padded crop, flips, cutout) and `random_crop` (random resized crops) run first, then `photometric`, which
runs the automatic policies (`auto`, `auto_tables`), colour jitter and `erasing`. `mixup` mixes batches.
"""
