"""One variant of each system has its published cost: parameters to the unit, multiply-adds to four digits of a billion."""

from __future__ import annotations

import pytest

from vitnas.roadmap.cost import cost
from vitnas.roadmap.fuse import deploy
from vitnas.roadmap.zoo import variant

# Name, input size in pixels, parameters, GMACs of convolutions and linear layers, GMACs with attention products; for 1000 classes.
TABLE = [
    ("ConvNeXt-T", 224, 28_589_128, 4.4555, 4.4555),
    ("Swin-T", 224, 28_288_354, 4.3504, 4.4906),
    ("MLP-Mixer-S/16", 224, 18_528_264, 3.7770, 3.7770),
    ("DeiT-S", 224, 22_050_664, 4.2412, 4.5989),
    ("DeiT-S distilled", 224, 22_436_432, 4.2628, 4.6241),
    ("SPACH-MS-S conv", 224, 43_576_168, 7.1410, 7.1410),
    ("SPACH-MS-S trans", 224, 39_537_544, 6.2228, 7.5320),
    ("SPACH-MS-S mlp", 224, 46_542_011, 8.0137, 8.0137),
    ("SPACH-MS-S hybrid", 224, 63_028_584, 10.0183, 11.0509),
    ("LeViT-128S", 224, 7_777_058, 0.2803, 0.3047),
    ("MobileViT-S", 256, 5_578_632, 1.8232, 2.0008),
    ("VAN-B0", 224, 4_105_800, 0.8642, 0.8642),
    ("ParC-Net-S", 256, 5_037_088, 1.6573, 1.6573),
    ("ParC-ConvNeXt-XT", 224, 7_412_824, 1.1392, 1.1392),
    ("TransNeXt-Micro", 224, 12_809_304, 2.5179, 2.6486),
    ("ResNet-50", 224, 25_557_032, 4.0892, 4.0892),
    ("ResNet-200", 224, 64_673_832, 15.0075, 15.0075),
    ("MobileNetV3-L", 224, 5_483_032, 0.2166, 0.2166),
]


@pytest.mark.parametrize(("name", "size", "params", "conv_linear", "macs"), TABLE, ids=[row[0] for row in TABLE])
def test_costs_are_the_published_ones(name: str, size: int, params: int, conv_linear: float, macs: float) -> None:
    """As the network is trained, at the input size that its paper reports."""
    found = variant(name)
    assert found.input_size == size
    counted = cost(found.spec(), size)
    assert (counted.params, round(counted.macs_conv_linear / 1e9, 4), round(counted.macs / 1e9, 4)) == (params, conv_linear, macs)


@pytest.mark.parametrize(("name", "params", "macs"), [("LeViT-128S", 7_756_466, 0.3047), ("RepViT-M0.9", 5_067_056, 0.8156)])
def test_costs_of_deployed_networks(name: str, params: int, macs: float) -> None:
    """With norms folded and branches made one; RepViT with one head."""
    counted = cost(deploy(variant(name).spec(), one_head=name.startswith("RepViT")), 224)
    assert (counted.params, round(counted.macs / 1e9, 4)) == (params, macs)
