"""ResNeXt-50 32x4d (1611.05431): ResNet-50's bottleneck with grouped 3x3 convolutions at twice the inner width."""

from __future__ import annotations

from ..layers import Act, Conv, Layers, MaxPool, Norm, Residual
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant
from .resnet import dialects


def resnext(
    name: str, depths: tuple[int, ...], *, groups: int = 32, group_width: int = 4, stem_stride: int = 4, input_size: int, classes: int
) -> NetSpec:
    """ResNeXt with `groups` groups of `group_width` channels in the first stage's 3x3 convolutions; both double stage by stage."""
    total = stem_stride * 2 ** (len(depths) - 1)
    if input_size < total:
        raise ValueError(f"{name} has a total stride of {total}: the input size must be {total} or more, not {input_size}")
    width = groups * group_width
    channels, stages = width // 2, []
    for i, depth in enumerate(depths):
        blocks = []
        for j in range(depth):
            stride = 2 if i > 0 and j == 0 else 1
            blocks.append(_block(channels, width * 2**i, width * 2 ** (i + 1), groups, stride))
            channels = width * 2 ** (i + 1)
        stages.append(Stage(blocks=tuple(blocks)))
    stem = (
        Conv(out=width // 2, kernel=2 * stem_stride - 1, stride=stem_stride // 2, name="conv"),
        Norm(norm="batch", name="norm"),
        Act(act="relu", name="act"),
        MaxPool(kernel=3, stride=2, name="pool"),
    )
    return NetSpec(name=name, stem=stem, stages=tuple(stages), head=Head(classes=classes))


def _block(channels: int, inner: int, out: int, groups: int, stride: int) -> Block:
    body = (
        Conv(out=inner, name="pointwise1"),
        Norm(norm="batch", name="norm_pointwise1"),
        Act(act="relu", name="act_pointwise1"),
        Conv(out=inner, kernel=3, stride=stride, groups=groups, name="spatial"),
        Norm(norm="batch", name="norm_spatial"),
        Act(act="relu", name="act_spatial"),
        Conv(out=out, name="pointwise2"),
        Norm(norm="batch", name="norm_pointwise2"),
    )
    shortcut: Layers = ()
    if channels != out:
        shortcut = (Conv(out=out, stride=stride, name="conv"), Norm(norm="batch", name="norm"))
    return Block(body=(Residual(body=body, shortcut=shortcut, name="residual"), Act(act="relu", name="act")))


VARIANTS = (
    Variant(
        name="resnext-50-32x4d",
        aliases=("resnext-50",),
        system="ResNeXt",
        spec=lambda input_size=224, classes=1000: resnext("ResNeXt-50 32x4d", (3, 4, 6, 3), input_size=input_size, classes=classes),
        micro="resnext-micro",
        top1=77.8,
        source="1611.05431, Table 3",
        dialects=dialects,
    ),
    Variant(
        name="resnext-micro",
        system="ResNeXt",
        spec=lambda input_size=32, classes=10: resnext(
            "ResNeXt-micro", (1, 1, 2, 1), groups=8, group_width=2, stem_stride=2, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any size from 16",
        micro="resnext-micro",
        dialects=dialects,
    ),
)
