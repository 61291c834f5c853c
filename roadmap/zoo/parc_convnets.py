"""Position aware circular convolution inside ConvNeXt, ResNet-50 and MobileNetV2 (ParC-Net, 2203.03952, Section 4.4).

In the last blocks of the last stages it replaces the spatial convolution; norms, activations and 1x1 convolutions stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..layers import Act, Conv, Layer, Layers, Norm, Residual
from ..mixers import CircularConv, CircularPosition
from ..spec import Block, Head, NetSpec, Stage
from ..tracks.convnext import CONVNEXT_T
from . import convnext, resnet
from .parcnet import inverted_residual
from .variant import Variant

if TYPE_CHECKING:
    from ..weights import Dialect, Rename

Four = tuple[int, int, int, int]


def circular(size: int, *, depthwise: bool = True, position: bool = True) -> Layers:
    """What replaces a spatial convolution on a map of `size` pixels (that of the native input; it is interpolated to others)."""
    conv = CircularConv(size=size, bias=True, depthwise=depthwise, name="circular")
    return (CircularPosition(size=size, name="position"), conv) if position else (conv,)


def with_parc(spec: NetSpec, name: str, starts: Four, sizes: Four, *, depthwise: bool) -> NetSpec:
    """`spec` with circular convolutions in place of the convolutions called `spatial` from block `starts[i]` of stage i on."""

    def replaced(block: Block, size: int) -> Block:
        residual = block.body[0]
        assert isinstance(residual, Residual)
        body: list[Layer] = []
        for layer in residual.body:
            body += circular(size, depthwise=depthwise) if layer.name == "spatial" else (layer,)
        return Block(body=(replace(residual, body=tuple(body)), *block.body[1:]))

    stages = []
    for stage, start, size in zip(spec.stages, starts, sizes, strict=True):
        blocks = tuple(replaced(b, size) if j >= start else b for j, b in enumerate(stage.blocks))
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
    return with_parc(spec, name, starts, sizes, depthwise=True)


def parc_resnet(name: str, *, input_size: int = 224, classes: int = 1000) -> NetSpec:
    """ResNet-50 with dense circular convolutions from the fourth block of stage 3 and in the third of stage 4."""
    spec = CONVNEXT_T.spec({}, input_size=input_size, classes=classes)
    return with_parc(spec, name, (3, 4, 3, 2), (56, 28, 14, 7), depthwise=False)


# Expansion, channels, blocks, stride, first circular block, size of the map (MobileNetV2, 1801.04381, Table 2).
MOBILENET_V2 = (
    (1, 16, 1, 1, 1, 112),
    (6, 24, 2, 2, 2, 56),
    (6, 32, 3, 2, 3, 28),
    (6, 64, 4, 2, 2, 14),
    (6, 96, 3, 1, 2, 14),
    (6, 160, 3, 2, 2, 7),
    (6, 320, 1, 1, 1, 7),
)


def parc_mobilenet(name: str, *, input_size: int = 224, classes: int = 1000) -> NetSpec:
    """MobileNetV2 with depthwise circular convolutions in the last blocks of each group; the first of a group's has a position
    embedding."""
    if input_size < 32:
        raise ValueError(f"{name} needs an input of 32 pixels or more, not {input_size}")
    channels = 32
    stages: list[Stage] = []
    for expansion, out, count, first_stride, start, size in MOBILENET_V2:
        blocks = []
        for j in range(count):
            spatial = circular(size, position=j == start) if j >= start else None
            stride = first_stride if j == 0 else 1
            body = inverted_residual(channels, out, stride=stride, expansion=expansion, act="relu6", spatial=spatial)
            blocks.append(Block(body=body))
            channels = out
        if first_stride == 1 and stages:
            stages[-1] = Stage(blocks=(*stages[-1].blocks, *blocks))
        else:
            stages.append(Stage(blocks=tuple(blocks)))
    norm_act: Layers = (Norm(norm="batch", name="norm"), Act(act="relu6", name="act"))
    return NetSpec(
        name=name,
        stem=(Conv(out=32, kernel=3, stride=2, name="conv"), *norm_act),
        stages=tuple(stages),
        head=Head(before=(Conv(out=1280, name="conv"), *norm_act), classes=classes),
    )


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
    """The names of the official repository: all blocks in one list, their layers numbered except beside circular convolutions."""
    from ..weights import Dialect

    plain = {
        "expand": "conv.0.0",
        "norm_expand": "conv.0.1",
        "depthwise": "conv.1.0",
        "norm_depthwise": "conv.1.1",
        "project": "conv.2",
        "norm_project": "conv.3",
    }
    first = {"depthwise": "conv.0.0", "norm_depthwise": "conv.0.1", "project": "conv.1", "norm_project": "conv.2"}
    parc = {
        "expand": "pw_expand.0",
        "norm_expand": "pw_expand.1",
        "norm_depthwise": "bn",
        "project": "pw_linear.0",
        "norm_project": "pw_linear.1",
    }

    def rename(name: str, spec: NetSpec) -> str:
        section, _, leaf = name.rpartition(".")
        if section in ("stem.conv", "stem.norm"):
            return f"features.0.{int(section == 'stem.norm')}.{leaf}"
        if section in ("head.before.conv", "head.before.norm"):
            return f"features.{sum(1 for _ in _blocks(spec)) + 1}.{int(section == 'head.before.norm')}.{leaf}"
        if section.startswith("head."):
            return f"classifier.1.{leaf}"
        _, i, _, j, *_, part = section.split(".")
        number, block = next((n, b) for n, (s, k, b) in enumerate(_blocks(spec), 1) if (s, k) == (int(i), int(j)))
        layers = block.body[0].children()[0] if block.body[0].children() else block.body
        names = parc if any(layer.name == "circular" for layer in layers) else plain if layers[0].name == "expand" else first
        return f"features.{number}.{names[part]}.{leaf}" if part in names else f"features.{number}.body.{part}.{leaf}"

    def with_circular(name: str, spec: NetSpec) -> str:
        return circular_names(rename(name, spec), spec)

    circular_names = _renamed("gcc", lambda name, spec: name)
    return (Dialect(name="official", rename=with_circular),)


def _blocks(spec: NetSpec) -> Iterator[tuple[int, int, Block]]:
    """(stage, index in the stage, block) in order."""
    for i, stage in enumerate(spec.stages):
        for j, block in enumerate(stage.blocks):
            yield i, j, block


VARIANTS = (
    Variant(
        name="parc-convnext-xt",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_convnext("ParC-ConvNeXt-XT", 48, input_size=input_size, classes=classes),
        micro="parc-convnext-micro",
        top1=78.3,
        source="2203.03952, Table 5",
        dialects=convnext_dialects,
    ),
    Variant(
        name="parc-convnext-t",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_convnext("ParC-ConvNeXt-T", 96, input_size=input_size, classes=classes),
        micro="parc-convnext-micro",
        source="2203.03952, official code",
        dialects=convnext_dialects,
    ),
    Variant(
        name="parc-resnet-50",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_resnet("ParC-ResNet-50", input_size=input_size, classes=classes),
        micro="parc-convnext-micro",
        top1=79.6,
        source="2203.03952, Table 5",
        dialects=resnet_dialects,
    ),
    Variant(
        name="parc-mobilenetv2",
        system="ParC-Net",
        spec=lambda input_size=224, classes=1000: parc_mobilenet("ParC-MobileNetV2", input_size=input_size, classes=classes),
        micro="parc-net-micro",
        top1=71.1,
        source="2203.03952, Table 5",
        dialects=mobilenet_dialects,
    ),
    Variant(
        name="parc-convnext-micro",
        system="ParC-Net",
        spec=lambda input_size=32, classes=10: parc_convnext(
            "ParC-ConvNeXt micro", 16, (1, 1, 2, 1), starts=(1, 1, 1, 0), sizes=(8, 4, 2, 1), input_size=input_size, classes=classes
        ),
        input_size=32,
        micro="parc-convnext-micro",
        dialects=convnext_dialects,
    ),
)
