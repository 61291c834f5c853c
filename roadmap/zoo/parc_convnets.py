"""Position aware circular convolution inside ConvNeXt, ResNet-50 and MobileNetV2 (ParC-Net, 2203.03952).

In the last blocks of the last stages it replaces the spatial convolution; norms, activations and 1x1 convolutions stay.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ..layers import Layer, Layers, Residual
from ..mixers import AxialPosition, CircularConv
from ..spec import Block, NetSpec
from ..tracks.convnext import CONVNEXT_T, MODERN, Size, network
from . import convnext, mobilenet, resnet
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect, Rename

Four = tuple[int, int, int, int]

MICRO = Size(widths=(16, 16, 16), blocks=(1, 1, 2, 1), ratio=(1, 1, 2, 1), stem_stride=2)


def circular(size: int, *, depthwise: bool = True, position: bool = True) -> Layers:
    """What replaces a spatial convolution on a map of `size` pixels (that of the native input; it is interpolated to others)."""
    conv = CircularConv(size=size, bias=True, depthwise=depthwise, name="circular")
    return (AxialPosition(size=size, name="position"), conv) if position else (conv,)


def with_parc(
    spec: NetSpec,
    name: str,
    starts: tuple[int, ...],
    sizes: tuple[int, ...],
    *,
    spatial: str = "spatial",
    depthwise: bool = True,
    positions: Literal["every", "first"] = "every",
) -> NetSpec:
    """`spec` with circular convolutions in place of the convolutions called `spatial` from block `starts[i]` of stage i on, a position
    embedding before every one or before the first of each stage."""

    def replaced(block: Block, size: int, *, position: bool) -> Block:
        residual = block.body[0]
        assert isinstance(residual, Residual)
        body: list[Layer] = []
        for layer in residual.body:
            body += circular(size, depthwise=depthwise, position=position) if layer.name == spatial else (layer,)
        return Block(body=(replace(residual, body=tuple(body)), *block.body[1:]))

    stages = []
    for stage, start, size in zip(spec.stages, starts, sizes, strict=True):
        blocks = tuple(
            replaced(b, size, position=positions == "every" or j == start) if j >= start else b for j, b in enumerate(stage.blocks)
        )
        stages.append(replace(stage, blocks=blocks))
    return replace(spec, name=name, stages=tuple(stages))


def parc_convnext(
    name: str,
    width: int,
    depths: Four = (3, 3, 9, 3),
    *,
    starts: Four = (3, 3, 6, 2),
    sizes: Four = (56, 28, 14, 7),
    input_size: int = 224,
    classes: int = 1000,
) -> NetSpec:
    """ConvNeXt whose last third of the last two stages convolves around the map."""
    spec = convnext.convnext(name, width, depths, input_size=input_size, classes=classes)
    return with_parc(spec, name, starts, sizes)


def parc_resnet(name: str, *, input_size: int = 224, classes: int = 1000) -> NetSpec:
    """ResNet-50 with dense circular convolutions from the fourth block of stage 3 and in the third of stage 4."""
    spec = CONVNEXT_T.spec({}, input_size=input_size, classes=classes)
    return with_parc(spec, name, (3, 4, 3, 2), (56, 28, 14, 7), depthwise=False)


def parc_mobilenet(name: str, *, input_size: int = 224, classes: int = 1000) -> NetSpec:
    """MobileNetV2 with depthwise circular convolutions in the last blocks of stages 4 to 6."""
    spec = mobilenet.mobilenet_v2(name, mobilenet.MOBILENET_V2, input_size=input_size, classes=classes)
    sizes = (112, 56, 28, 14, 14, 7, 7)
    return with_parc(spec, name, (1, 2, 3, 2, 2, 2, 1), sizes, spatial="depthwise", positions="first")


def _renamed(prefix: str, base: Rename) -> Rename:
    """The names of a network with circular convolutions, whose other layers are named as `base` says."""
    from ..weights import by_rules

    ours = by_rules(
        (r"body\.position\.(\w)\w+$", lambda m: f"{prefix}_{m[1].upper()}.pe"),
        (r"body\.circular\.(\w)\w+_bias$", lambda m: f"{prefix}_{m[1].upper()}.gcc_conv.bias"),
        (r"body\.circular\.(\w)\w+$", lambda m: f"{prefix}_{m[1].upper()}.gcc_conv.weight"),
    )
    return lambda name, spec: base(ours(name, spec), spec)


def convnext_dialects() -> tuple[Dialect, ...]:
    """The names of the official repository."""
    return tuple(replace(d, rename=_renamed("gcc", d.rename)) for d in convnext.dialects() if d.name == "official")


def resnet_dialects() -> tuple[Dialect, ...]:
    """The names of the official repository, torchvision's where the networks agree."""
    return tuple(replace(d, name="official", rename=_renamed("parc", d.rename)) for d in resnet.dialects())


def mobilenet_dialects() -> tuple[Dialect, ...]:
    """The names of the official repository: torchvision's, and names instead of numbers in blocks with circular convolutions."""
    parts = {
        "expand": "pw_expand.0",
        "norm_expand": "pw_expand.1",
        "norm_depthwise": "bn",
        "project": "pw_linear.0",
        "norm_project": "pw_linear.1",
    }
    base = next(d for d in mobilenet.v2_dialects() if d.name == "torchvision")

    def rename(name: str, spec: NetSpec) -> str:
        found = re.match(r"stages\.(\d+)\.blocks\.(\d+)\.residual\.body\.(.*)", name)
        if not found:
            return base.rename(name, spec)
        stage, index = int(found[1]), int(found[2])
        inside = spec.stages[stage].blocks[index].body[0].children()[0]
        if not any(isinstance(layer, CircularConv) for layer in inside):
            return base.rename(name, spec)
        part, _, leaf = found[3].partition(".")
        number = 1 + sum(len(s.blocks) for s in spec.stages[:stage]) + index
        return f"features.{number}." + (f"{parts[part]}.{leaf}" if part in parts else f"body.{found[3]}")

    circular_names = _renamed("gcc", lambda name, spec: name)
    return (replace(base, name="official", rename=lambda name, spec: circular_names(rename(name, spec), spec)),)


VARIANTS = (
    Variant(
        name="parc-convnext-xt",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_convnext("ParC-ConvNeXt-XT", 48, input_size=input_size, classes=classes),
        micro="parc-convnext-micro",
        top1=78.3,
        source="2203.03952; official README",
        dialects=convnext_dialects,
    ),
    Variant(
        name="parc-convnext-t",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_convnext("ParC-ConvNeXt-T", 96, input_size=input_size, classes=classes),
        micro="parc-convnext-micro",
        source="2203.03952; official code",
        dialects=convnext_dialects,
    ),
    Variant(
        name="parc-resnet-50",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_resnet("ParC-ResNet-50", input_size=input_size, classes=classes),
        micro="parc-convnext-micro",
        top1=79.6,
        source="2203.03952; official README",
        dialects=resnet_dialects,
    ),
    Variant(
        name="parc-mobilenetv2",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_mobilenet("ParC-MobileNetV2", input_size=input_size, classes=classes),
        micro="parc-net-micro",
        top1=71.1,
        source="2203.03952; official README",
        dialects=mobilenet_dialects,
    ),
    Variant(
        name="parc-convnext-micro",
        system="ParC-Net",
        spec=lambda input_size=32, classes=10: with_parc(
            network(MODERN, sizes={"paper": MICRO}, base="", goal="", input_size=input_size, classes=classes),
            "ParC-ConvNeXt micro",
            (1, 1, 1, 0),
            (16, 8, 4, 2),
        ),
        input_size=32,
        sizes="any size from 16",
        micro="parc-convnext-micro",
        dialects=convnext_dialects,
    ),
)
