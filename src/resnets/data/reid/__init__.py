"""Data of re-identification: images with identities and cameras, in the sets train, query and gallery.

`open_reid` in `open` recognises the layout, `layouts` reads those of the public data sets, `table` reads CSV tables,
and `dataset` is what they return.
"""
