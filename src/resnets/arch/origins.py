"""Origin of a name: the codebase whose network it means, where several use similar names for different networks.

A bare name is torchvision's, or timm's where torchvision has none. `resnet_v1_50` and `resnet_v2_50` are TF-slim's
names, `se_resnet50` and `senet154` those of Caffe's converters, each with the meaning it has there. Keras's networks
start with `keras_`.
"""

from __future__ import annotations

import re

__all__ = ["ORIGINS", "origin_of"]

ORIGINS: dict[str, str] = {  # regular expression of names -> origin
    r"resnet(50|101|152)": (
        "torchvision's and timm's (v1.5, stride in the 3x3); the paper's is resnet50_v1, Keras's keras_resnet50, "
        "TF-slim's resnet_v1_50"
    ),
    r"resnet(50|101|152)_v1": (
        "the 2015 paper's and Caffe's (stride in the first 1x1); Keras's is keras_resnet50, TF-slim's resnet_v1_50"
    ),
    r"resnet_v1_\d+": (
        "TF-slim's (the last unit of a stage strides); the paper's and Caffe's is resnet50_v1, torchvision's resnet50"
    ),
    r"resnet_v2_\d+": "TF-slim's (the last unit of a stage strides); timm's is resnetv2_50, Keras's keras_resnet50v2",
    r"resnetv2_(18|34|50|101|152)": (
        "timm's (the first block of a stage strides); TF-slim's is resnet_v2_50, Keras's keras_resnet50v2"
    ),
    r"resnetv2_\d+x\d_bit": "Google's BiT, named as timm names it; without its norms and filters it is resnetv2_50",
    r"keras_resnet\d+": "Keras's (biases, stride in the first 1x1, epsilon 1.001e-5); torchvision's is resnet50",
    r"keras_resnet\d+v2": (
        "Keras's V2 (epsilon 1.001e-5, a pool padded with zeros); TF-slim's is resnet_v2_50, timm's resnetv2_50"
    ),
    r"seresnet\d+": (
        "timm's (stride in the 3x3, padded pool); Caffe's is se_resnet50, one with linear SE se_resnet50_ibn_a"
    ),
    r"se_resnet\d+": "Caffe's, as Cadene's (stride in the first 1x1, unpadded pool rounded up); timm's is seresnet50",
    r"seresnext\d+_32x\dd": "timm's (padded pool); Caffe's, whose pool rounds up, is se_resnext50_32x4d",
    r"se_resnext\d+_32x\dd": "Caffe's, as Cadene's (unpadded pool rounded up); timm's is seresnext50_32x4d",
    r"senet154": "Caffe's, as Cadene's (unpadded pool rounded up); timm's pads its pool: stem_pool=max",
    r"resnet\d+_ibn_[ab]": "IBN-Net's, at torchvision's strides; re-identification uses last_stride=1",
    r"resnext(50|101)_ibn_a": "IBN-Net's, with 32 groups of 4; torchvision's resnext101 has 32 groups of 8",
    r"se_resnet\d+_ibn_a": (
        "IBN-Net's and re-identification's (linear SE, stride in the 3x3); Caffe's se_resnet50 has neither"
    ),
    r"cbamresnet50": "timm's CBAM, without biases in the channel gate; the authors' code has them",
    r"resnet\d+_cifar": "the 2015 paper's (option A, zero channels on both sides); pytorchcv's have shortcut=B",
    r"vgg(16|19)": "torchvision's; Keras's flattens its last map with channels last, so its first linear differs",
}


def origin_of(name: str) -> str | None:
    """One line: the origin of `name`, and the names of similar networks; `None` where all codebases agree."""
    return next((text for pattern, text in ORIGINS.items() if re.fullmatch(pattern, name)), None)
