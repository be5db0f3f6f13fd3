"""Bundles and the model folders that hold them, in the layout of timm and the Hugging Face hub.

`bundle.py` is the data; `model_folder.py` saves and reads it; `config_json.py`, `model_card.py` and `storage.py` hold
the parts of a folder and how it is replaced as a whole; `timm_folder.py` reads folders that timm wrote.
"""
