"""Storage formats of data sets; `data.open` chooses among them. Start with `folder`, the simplest.

Each reads its format (`folder`, `csv`, `webdataset` with `tar_index`, `parquet`, `packed`, `digits`) and hands its rows
to `build`, which makes classes, splits and groups for all of them.
"""
