"""Decoding of image files; start with `image`, whose `decode` and `read_header` are the interface.

`jpeg` decodes with libjpeg-turbo, `pillow` everything else of 8 bits; `bands`, with `tiff` and `png16`, reads 16-bit,
floating-point and multi-band images.
"""
