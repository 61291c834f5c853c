"""EfficientNet-B0 (1905.11946): inverted residuals with squeeze-and-excitation, found by search."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..layers import SqueezeExcite
from ..mixers import inverted_residual
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant
from .mobilenet import conv_norm_act, timm_by_rows

if TYPE_CHECKING:
    from ..weights import Dialect

# Rows of Table 1: expansion, kernel, output channels, repeats, stride.
Rows = tuple[tuple[int, int, int, int, int], ...]
B0: Rows = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)
MICRO: Rows = ((1, 3, 8, 1, 1), (6, 3, 16, 2, 2), (6, 5, 24, 2, 2), (6, 3, 32, 1, 2))


def efficientnet(
    name: str, rows: Rows, *, first: int = 32, last: int = 1280, stem_stride: int = 2, input_size: int, classes: int
) -> NetSpec:
    """EfficientNet: a stage a row of the paper's table; squeeze-and-excitation to a quarter of the block's input channels."""
    total = stem_stride
    for row in rows:
        total *= row[4]
    if input_size < total:
        raise ValueError(f"{name} has a total stride of {total}: the input size must be {total} or more, not {input_size}")
    channels, stages = first, []
    for expansion, kernel, out, repeats, stride in rows:
        blocks = []
        for j in range(repeats):
            body = inverted_residual(
                channels,
                channels * expansion,
                out,
                kernel=kernel,
                stride=stride if j == 0 else 1,
                act="silu",
                squeeze_excite=SqueezeExcite(hidden=channels // 4, act="silu", name="squeeze_excite"),
                expand=expansion > 1,
            )
            blocks.append(Block(body=body))
            channels = out
        stages.append(Stage(blocks=tuple(blocks)))
    return NetSpec(
        name=name,
        stem=conv_norm_act(first, 3, "silu", stride=stem_stride),
        stages=tuple(stages),
        head=Head(before=conv_norm_act(last, 1, "silu"), classes=classes),
    )


def dialects() -> tuple[Dialect, ...]:
    """The names of torchvision and of timm."""
    from ..weights import Dialect

    def torchvision(name: str, spec: NetSpec) -> str:
        name = re.sub(r"^head\.classifiers\.0\.linear\.", "classifier.1.", name)
        for part, index in (("stem", 0), ("head.before", 1 + len(spec.stages))):
            name = name.replace(f"{part}.conv.", f"features.{index}.0.").replace(f"{part}.norm.", f"features.{index}.1.")
        if found := re.match(r"stages\.(\d+)\.blocks\.(\d+)\.(?:residual\.body\.)?(norm_)?(\w+)\.(.*)", name):
            stage = int(found[1])
            place = ("expand", "depthwise", "squeeze_excite", "project").index(found[4]) - (stage == 0)
            inner = found[5] if found[4] == "squeeze_excite" else f"{int(bool(found[3]))}.{found[5]}"
            return f"features.{stage + 1}.{found[2]}.block.{place}.{inner}"
        return name

    return (Dialect(name="torchvision", rename=torchvision), Dialect(name="timm", rename=timm_by_rows))


VARIANTS = (
    Variant(
        name="efficientnet-b0",
        system="EfficientNet",
        spec=lambda input_size=224, classes=1000: efficientnet("EfficientNet-B0", B0, input_size=input_size, classes=classes),
        micro="efficientnet-micro",
        top1=77.1,
        source="1905.11946, Table 2",
        dialects=dialects,
    ),
    Variant(
        name="efficientnet-micro",
        system="EfficientNet",
        spec=lambda input_size=32, classes=10: efficientnet(
            "EfficientNet-micro", MICRO, first=16, last=128, stem_stride=1, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any size from 8",
        micro="efficientnet-micro",
        dialects=dialects,
    ),
)
