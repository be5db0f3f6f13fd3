"""Images that are made to do harm."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
from PIL import Image

from withstands_cases.case import Group, photographs

IMAGES = Group("Images")

PREDICT = "resnets predict {} --model starter"


@IMAGES.case("a PNG of 1 x 20,000 pixels, 5 GB when scaled to 224 pixels", PREDICT.format("thin.png"))
def thin() -> None:
    Image.new("RGB", (1, 20_000), (200, 10, 10)).save("thin.png")


@IMAGES.case("a WebP of 12,000 x 12,000 pixels in 20 kB", PREDICT.format("bomb.webp"), "limit")
def webp_bomb() -> None:
    Image.new("RGB", (12_000, 12_000)).save("bomb.webp", quality=1)


@IMAGES.case("a palette PNG with transparency, 11,000 x 11,000", PREDICT.format("bomb.png"), "the limit is")
def palette_bomb() -> None:
    Image.new("P", (11_000, 11_000)).save("bomb.png", transparency=0)


@IMAGES.case("a JPEG that is cut in half", PREDICT.format("cut.jpg"), "cut.jpg")
def truncated() -> None:
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)).save(content, "JPEG")
    with open("cut.jpg", "wb") as file:
        file.write(content.getvalue()[: len(content.getvalue()) // 2])


@IMAGES.case("a named pipe called photo.jpg, which nobody writes to", PREDICT.format("photo.jpg"), "photo.jpg")
def pipe() -> None:
    os.mkfifo("photo.jpg")


@IMAGES.case("a text and an empty file with names of images", PREDICT.format("text.jpg empty.png"), "is empty")
def no_images() -> None:
    for name, content in (("text.jpg", "hello"), ("empty.png", "")):
        with open(name, "w") as file:
            file.write(content)


@IMAGES.case("a folder that holds a link to itself", PREDICT.format("images"))
def loop() -> None:
    photographs()
    os.symlink("../a", "images/a/again")


@IMAGES.case("a file of 20 GB with the name of an image", PREDICT.format("huge.png"), "more than 256 MiB")
def huge_file() -> None:
    with open("huge.png", "wb") as file:
        file.truncate(20 * 2**30)


@IMAGES.case("a TIFF of 16 x 16 pixels in a tile of 16,384 x 32,768", PREDICT.format("tile.tif"), "the limit is")
def large_tile() -> None:
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 16_384, 323: 32_768, 324: 8, 325: 100}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    with open("tile.tif", "wb") as file:
        file.write(b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(200))


@IMAGES.case("a progressive JPEG of 4,000 x 4,000 pixels with 20,000 scans", PREDICT.format("scans.jpg"), "scans of")
def many_scans() -> None:
    file = io.BytesIO()
    Image.new("L", (4_000, 4_000), 128).save(file, "JPEG", progressive=True, quality=1)
    content = file.getvalue()
    scan = content[content.rindex(b"\xff\xda") : -2]
    with open("scans.jpg", "wb") as out:
        out.write(content[:-2] + 20_000 * scan + content[-2:])
