"""Weights: reading files of any codebase into our networks, and writing, naming, downloading and adapting them.

Open `load.py` first (`import_weights`): identify the dialect and network, map the keys, fill strictly, report.
`resolve.py` and `open.py` turn a model reference into a model, `create.py` builds a network with weights, `convert.py`
and `export.py` write. Rooms: `dialects/` (key maps), `readers/` (file formats), `folder/` (bundles, model folders).
"""
