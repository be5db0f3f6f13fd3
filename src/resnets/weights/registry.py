"""Registry of published weights by name: URL, hash, license, preprocessing and accuracy.

A name is `VARIANT.TAG`, the tag as in timm: `tv` and `tv2` torchvision's first and second recipes, `a1` .. `d` the
ResNet strikes back recipes, `gluon` GluonCV's, `ibnnet` IBN-Net's. Caffe's SE networks are Cadene's copies; timm has
them as `legacy_seresnet50` and so on. Hashes are the first digits of the file's SHA-256 as the file's own name
carries them: nothing longer is published. Top-1 is on ImageNet-1k's validation images with this preprocessing, in
percent, as timm measured it (`results/results-imagenet.csv`); IBN-Net's as its README has it, where it does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from resnets.arch.preprocessing import Preprocessing
from resnets.arch.variants import matching
from resnets.errors import UnknownNameError

__all__ = ["NAMED_WEIGHTS", "NamedWeights", "best_weights", "get_weights", "list_pretrained"]

TIMM = "https://github.com/huggingface/pytorch-image-models/releases/download/"
TORCHVISION = "https://download.pytorch.org/models/"
IBNNET = "https://github.com/XingangPan/IBN-Net/releases/download/v1.0/"
GLUON = "https://github.com/rwightman/pytorch-pretrained-gluonresnet/releases/download/v0.1/"

PLAIN = Preprocessing()  # 224 of 256, bilinear: torchvision's first recipe, Caffe's copies, IBN-Net
TV2 = replace(PLAIN, crop_pct=0.965)  # 224 of 232
BICUBIC = replace(PLAIN, interpolation="bicubic")
STRIKES = replace(BICUBIC, crop_pct=0.95)
STRIKES_A3 = replace(STRIKES, size=(160, 160))
LARGE = replace(STRIKES, size=(256, 256))


@dataclass(frozen=True, kw_only=True)
class NamedWeights:
    """Published weights of a network.

    Args:
        name: `VARIANT.TAG`.
        url: of the file.
        sha256: its SHA-256 in hexadecimal, or the first digits of it that are published.
        license: of the weights, as SPDX writes it.
        preprocessing: used when they were evaluated.
        top1: on ImageNet-1k's validation images, in percent; `None` where it was not published.
    """

    name: str
    url: str
    sha256: str
    license: str
    preprocessing: Preprocessing
    top1: float | None

    @property
    def variant(self) -> str:
        """Name of the network."""
        return self.name.rpartition(".")[0]


def get_weights(name: str) -> NamedWeights:
    """The weights of that name, or else an `UnknownNameError`."""
    if name not in NAMED_WEIGHTS:
        own = [known for known in NAMED_WEIGHTS if known.startswith(f"{name.partition('.')[0]}.")]
        raise UnknownNameError("named weights", name, own or NAMED_WEIGHTS)
    return NAMED_WEIGHTS[name]


def list_pretrained(pattern: str = "*") -> list[str]:
    """Names of published weights that match a shell pattern; a pattern without wildcards matches anywhere in a name."""
    return matching(NAMED_WEIGHTS, pattern)


def best_weights(variant: str) -> NamedWeights | None:
    """The weights of a network with the highest top-1; `None` where none are published."""
    found = [weights for weights in NAMED_WEIGHTS.values() if weights.variant == variant]
    return max(found, key=lambda weights: weights.top1 or 0.0, default=None)


# name, file, preprocessing, top-1
Row = tuple[str, str, Preprocessing, float | None]

OF_TORCHVISION: tuple[Row, ...] = (
    ("resnet18.tv_in1k", "resnet18-f37072fd.pth", PLAIN, 69.752),
    ("resnet34.tv_in1k", "resnet34-b627a593.pth", PLAIN, 73.298),
    ("resnet50.tv_in1k", "resnet50-0676ba61.pth", PLAIN, 76.156),
    ("resnet50.tv2_in1k", "resnet50-11ad3fa6.pth", TV2, 80.846),
    ("resnet101.tv_in1k", "resnet101-63fe2227.pth", PLAIN, 77.404),
    ("resnet101.tv2_in1k", "resnet101-cd907fc2.pth", TV2, 81.906),
    ("resnet152.tv_in1k", "resnet152-394f9c45.pth", PLAIN, 78.330),
    ("resnet152.tv2_in1k", "resnet152-f82ba261.pth", TV2, 82.294),
    ("resnext50_32x4d.tv_in1k", "resnext50_32x4d-7cdf4587.pth", PLAIN, 77.632),
    ("resnext50_32x4d.tv2_in1k", "resnext50_32x4d-1a0047aa.pth", TV2, 81.190),
    ("resnext101_32x8d.tv_in1k", "resnext101_32x8d-8ba56ff5.pth", PLAIN, 79.308),
    ("resnext101_32x8d.tv2_in1k", "resnext101_32x8d-110c445d.pth", TV2, 82.832),
    ("resnext101_64x4d.tv_in1k", "resnext101_64x4d-173b62eb.pth", PLAIN, 82.978),
    ("wide_resnet50_2.tv_in1k", "wide_resnet50_2-95faca4d.pth", PLAIN, 78.486),
    ("wide_resnet50_2.tv2_in1k", "wide_resnet50_2-9ba9bcbe.pth", TV2, 81.612),
    ("wide_resnet101_2.tv_in1k", "wide_resnet101_2-32ee1156.pth", PLAIN, 78.862),
    ("wide_resnet101_2.tv2_in1k", "wide_resnet101_2-d733dc28.pth", TV2, 82.514),
    ("vgg11.tv_in1k", "vgg11-bbd30ac9.pth", PLAIN, 69.050),
    ("vgg13.tv_in1k", "vgg13-c768596a.pth", PLAIN, 69.950),
    ("vgg16.tv_in1k", "vgg16-397923af.pth", PLAIN, 71.594),
    ("vgg19.tv_in1k", "vgg19-dcbb9e9d.pth", PLAIN, 72.400),
    ("vgg11_bn.tv_in1k", "vgg11_bn-6002323d.pth", PLAIN, 70.374),
    ("vgg13_bn.tv_in1k", "vgg13_bn-abd245e5.pth", PLAIN, 71.560),
    ("vgg16_bn.tv_in1k", "vgg16_bn-6c64b313.pth", PLAIN, 73.354),
    ("vgg19_bn.tv_in1k", "vgg19_bn-c79401a0.pth", PLAIN, 74.230),
)

OF_TIMM: tuple[Row, ...] = (
    ("resnet18.a1_in1k", "v0.1-rsb-weights/resnet18_a1_0-d63eafa0.pth", STRIKES, 71.504),
    ("resnet34.a1_in1k", "v0.1-rsb-weights/resnet34_a1_0-46f8f793.pth", STRIKES, 76.420),
    ("resnet50.a1_in1k", "v0.1-rsb-weights/resnet50_a1_0-14fe96d1.pth", STRIKES, 80.382),
    ("resnet50.a2_in1k", "v0.1-rsb-weights/resnet50_a2_0-a2746f79.pth", STRIKES, 79.828),
    ("resnet50.a3_in1k", "v0.1-rsb-weights/resnet50_a3_0-59cae1ef.pth", STRIKES_A3, 75.994),
    ("resnet101.a1_in1k", "v0.1-rsb-weights/resnet101_a1_0-cdcb52a9.pth", STRIKES, 81.494),
    ("resnet152.a1_in1k", "v0.1-rsb-weights/resnet152_a1_0-2eee8a7a.pth", STRIKES, 81.998),
    ("resnext50_32x4d.a1_in1k", "v0.1-rsb-weights/resnext50_32x4d_a1_0-b5a91a1d.pth", STRIKES, 80.526),
    ("wide_resnet50_2.racm_in1k", "v0.1-weights/wide_resnet50_racm-8234f177.pth", BICUBIC, 81.466),
    ("resnet18d.ra2_in1k", "v0.1-weights/resnet18d_ra2-48a79e06.pth", BICUBIC, 72.296),
    ("resnet34d.ra2_in1k", "v0.1-weights/resnet34d_ra2-f8dcfcaf.pth", BICUBIC, 77.108),
    ("resnet50d.ra2_in1k", "v0.1-weights/resnet50d_ra2-464e36ba.pth", BICUBIC, 80.546),
    ("resnet50d.a1_in1k", "v0.1-rsb-weights/resnet50d_a1_0-e20cff14.pth", STRIKES, 80.730),
    ("resnet101d.ra2_in1k", "v0.1-weights/resnet101d_ra2-2803ffab.pth", LARGE, 82.254),
    ("resnet152d.ra2_in1k", "v0.1-weights/resnet152d_ra2-5cac0439.pth", LARGE, 83.160),
    ("seresnet50.a1_in1k", "v0.1-rsb-weights/seresnet50_a1_0-ffa00869.pth", STRIKES, 80.012),
    ("seresnext50_32x4d.racm_in1k", "v0.1-weights/seresnext50_32x4d_racm-a304a460.pth", BICUBIC, 81.268),
    ("seresnext101_32x8d.ah_in1k", "v0.1-tpu-weights/seresnext101_32x8d_ah-e6bc4c0a.pth", STRIKES, 83.618),
    ("ecaresnet50d.miil_in1k", "v0.1-tresnet/ecaresnet50d-93c81e3b.pth", BICUBIC, 80.634),
    ("ecaresnet50t.a1_in1k", "v0.1-rsb-weights/ecaresnet50t_a1_0-99bd76a8.pth", STRIKES, 81.282),
    ("ecaresnet101d.miil_in1k", "v0.1-tresnet/ecaresnet101d-153dad65.pth", BICUBIC, 82.180),
    ("resnetblur50.bt_in1k", "v0.1-weights/resnetblur50-84f4748f.pth", BICUBIC, 79.306),
    ("resnet50_gn.a1h_in1k", "v0.1-rsb-weights/resnet50_gn_a1h2-8fe6c4d0.pth", replace(STRIKES, crop_pct=0.94), 80.074),
    ("se_resnet50.in1k", "v0.1-cadene/se_resnet50-ce0d4300.pth", PLAIN, 77.650),
    ("se_resnet101.in1k", "v0.1-cadene/se_resnet101-7e38fcc6.pth", PLAIN, 78.370),
    ("se_resnet152.in1k", "v0.1-cadene/se_resnet152-d17c99b7.pth", PLAIN, 78.662),
    ("se_resnext50_32x4d.in1k", "v0.1-weights/legacy_se_resnext50_32x4d-f3651bad.pth", PLAIN, 79.080),
    ("se_resnext101_32x4d.in1k", "v0.1-weights/legacy_se_resnext101_32x4d-37725eac.pth", PLAIN, 80.274),
    ("senet154.in1k", "v0.1-weights/legacy_senet154-e9eb9fe6.pth", PLAIN, 81.320),
)

OF_GLUON: tuple[Row, ...] = (
    ("resnet50d.gluon_in1k", "gluon_resnet50_v1d-818a1b1b.pth", BICUBIC, 79.080),
    ("resnet101d.gluon_in1k", "gluon_resnet101_v1d-0f9c8644.pth", BICUBIC, 80.466),
    ("resnet152d.gluon_in1k", "gluon_resnet152_v1d-bd354e12.pth", BICUBIC, 80.476),
    ("seresnext101_32x4d.gluon_in1k", "gluon_seresnext101_32x4d-cf52900d.pth", BICUBIC, 80.886),
)

OF_IBNNET: tuple[Row, ...] = (
    ("resnet18_ibn_a.ibnnet_in1k", "resnet18_ibn_a-2f571257.pth", PLAIN, 70.83),
    ("resnet34_ibn_a.ibnnet_in1k", "resnet34_ibn_a-94bc1577.pth", PLAIN, 74.22),
    ("resnet50_ibn_a.ibnnet_in1k", "resnet50_ibn_a-d9d0bb7b.pth", PLAIN, 77.46),
    ("resnet101_ibn_a.ibnnet_in1k", "resnet101_ibn_a-59ea0ac6.pth", PLAIN, 78.61),
    ("resnet18_ibn_b.ibnnet_in1k", "resnet18_ibn_b-bc2f3c11.pth", PLAIN, None),
    ("resnet34_ibn_b.ibnnet_in1k", "resnet34_ibn_b-04134c37.pth", PLAIN, None),
    ("resnet50_ibn_b.ibnnet_in1k", "resnet50_ibn_b-9ca61e85.pth", PLAIN, None),
    ("resnet101_ibn_b.ibnnet_in1k", "resnet101_ibn_b-c55f6dba.pth", PLAIN, None),
    ("resnext101_ibn_a.ibnnet_in1k", "resnext101_ibn_a-6ace051d.pth", PLAIN, 79.12),
    ("se_resnet101_ibn_a.ibnnet_in1k", "se_resnet101_ibn_a-fabed4e2.pth", PLAIN, 78.75),
)


NAMED_WEIGHTS: dict[str, NamedWeights] = {
    name: NamedWeights(
        name=name,
        url=base + file,
        sha256=file.rpartition("-")[2].removesuffix(".pth"),
        license=spdx,
        preprocessing=preprocessing,
        top1=top1,
    )
    for base, spdx, rows in (
        (TORCHVISION, "BSD-3-Clause", OF_TORCHVISION),
        (TIMM, "Apache-2.0", OF_TIMM),
        (GLUON, "Apache-2.0", OF_GLUON),
        (IBNNET, "MIT", OF_IBNNET),
    )
    for name, file, preprocessing, top1 in rows
}
