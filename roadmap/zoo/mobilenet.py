"""MobileNetV2 (1801.04381) and MobileNetV3-L (1905.02244), what the mobile systems compare themselves with."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..layers import Act, ActKind, Conv, Layers, Norm
from ..mixers import inverted_residual
from ..spec import Block, Head, NetSpec, Stage
from ..tracks.repvit import Decisions, network
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect

# Rows of Table 2: expansion, output channels, repeats, stride.
MOBILENET_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
MICRO = ((1, 8, 1, 1), (6, 16, 2, 2), (6, 24, 2, 2), (6, 32, 2, 2))


def conv_norm_act(out: int, kernel: int, act: ActKind, *, stride: int = 1) -> Layers:
    """A convolution, BatchNorm and an activation (names conv, norm, act)."""
    return (Conv(out=out, kernel=kernel, stride=stride, name="conv"), Norm(norm="batch", name="norm"), Act(act=act, name="act"))


def mobilenet_v2(
    name: str,
    rows: tuple[tuple[int, int, int, int], ...],
    *,
    first: int = 32,
    last: int = 1280,
    stem_stride: int = 2,
    input_size: int,
    classes: int,
) -> NetSpec:
    """MobileNetV2: a stage a row of the paper's table."""
    total = stem_stride
    for row in rows:
        total *= row[3]
    if input_size < total:
        raise ValueError(f"{name} has a total stride of {total}: the input size must be {total} or more, not {input_size}")
    channels, stages = first, []
    for expansion, out, repeats, stride in rows:
        blocks = []
        for j in range(repeats):
            body = inverted_residual(channels, channels * expansion, out, stride=stride if j == 0 else 1, expand=expansion > 1)
            blocks.append(Block(body=body))
            channels = out
        stages.append(Stage(blocks=tuple(blocks)))
    return NetSpec(
        name=name,
        stem=conv_norm_act(first, 3, "relu6", stride=stem_stride),
        stages=tuple(stages),
        head=Head(before=conv_norm_act(last, 1, "relu6"), classes=classes),
    )


def mobilenet_v3(*, scale: str = "paper", hard_swish: bool = True, input_size: int, classes: int) -> NetSpec:
    """MobileNetV3-L; without `hard_swish` every activation is GELU, as at the start of RepViT's track."""
    return network(Decisions(), scale=scale, hard_swish=hard_swish, input_size=input_size, classes=classes)


def timm_block(name: str, *, expands: bool = True) -> str:
    """timm's names inside a block: `conv_pw`, `conv_dw`, `conv_pwl` where it expands, `conv_dw`, `conv_pw` where it does not."""
    for ours, theirs in (
        ("norm_expand.", "bn1."),
        ("norm_depthwise.", "bn2." if expands else "bn1."),
        ("norm_project.", "bn3." if expands else "bn2."),
        ("expand.", "conv_pw."),
        ("depthwise.", "conv_dw."),
        ("project.", "conv_pwl." if expands else "conv_pw."),
        ("squeeze_excite.fc1.", "se.conv_reduce."),
        ("squeeze_excite.fc2.", "se.conv_expand."),
    ):
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    return name


def timm_by_rows(name: str, spec: NetSpec) -> str:
    """timm's names where our stages are its groups of blocks (MobileNetV2, EfficientNet)."""
    if found := re.match(r"stages\.(\d+)\.blocks\.(\d+)\.(?:residual\.body\.)?(.*)", name):
        return f"blocks.{found[1]}.{found[2]}." + timm_block(found[3], expands=found[1] != "0")
    for pattern, theirs in (
        (r"^stem\.conv\.", "conv_stem."),
        (r"^stem\.norm\.", "bn1."),
        (r"^head\.before\.conv\.", "conv_head."),
        (r"^head\.before\.norm\.", "bn2."),
        (r"^head\.classifiers\.0\.linear\.", "classifier."),
    ):
        name = re.sub(pattern, theirs, name)
    return name


def v2_dialects() -> tuple[Dialect, ...]:
    """The names of torchvision and of timm."""
    from ..weights import Dialect

    def torchvision(name: str, spec: NetSpec) -> str:
        name = re.sub(r"^head\.classifiers\.0\.linear\.", "classifier.1.", name)
        last = 1 + sum(len(stage.blocks) for stage in spec.stages)
        for part, index in (("stem", 0), ("head.before", last)):
            name = name.replace(f"{part}.conv.", f"features.{index}.0.").replace(f"{part}.norm.", f"features.{index}.1.")
        if found := re.match(r"stages\.(\d+)\.blocks\.(\d+)\.(?:residual\.body\.)?(norm_)?(expand|depthwise|project)\.(.*)", name):
            stage = int(found[1])
            index = 1 + sum(len(s.blocks) for s in spec.stages[:stage]) + int(found[2])
            place = ("expand", "depthwise", "project").index(found[4]) - (stage == 0)
            if found[4] == "project":
                return f"features.{index}.conv.{place + bool(found[3])}.{found[5]}"
            return f"features.{index}.conv.{place}.{int(bool(found[3]))}.{found[5]}"
        return name

    return (Dialect(name="torchvision", rename=torchvision), Dialect(name="timm", rename=timm_by_rows))


def v3_dialects() -> tuple[Dialect, ...]:
    """The names of timm. torchvision's are left out: its weights belong to BatchNorms with an eps of 0.001."""
    from ..weights import Dialect, by_rules

    def place(stage: int, index: int, depth: int) -> tuple[int, int]:
        """timm's group and index: the wider part of our third stage is a group of its own."""
        wide = -(-depth * 3 // 5)
        if stage == 2 and index >= wide:
            return 4, index - wide
        return (1, 2, 3, 5)[stage], 1 + index

    ends = by_rules(
        (r"^stem\.conv\.", "conv_stem."),
        (r"^stem\.norm\.", "bn1."),
        (r"^head\.before\.conv\.", "blocks.6.0.conv."),
        (r"^head\.before\.norm\.", "blocks.6.0.bn1."),
        (r"^head\.after\.conv\.", "conv_head."),
        (r"^head\.classifiers\.0\.linear\.", "classifier."),
    )

    def rename(name: str, spec: NetSpec) -> str:
        name = name.replace("residual.body.", "")
        if name.startswith("stem.separable."):
            return "blocks.0.0." + timm_block(name.removeprefix("stem.separable."), expands=False)
        if name.startswith("stem.strided."):
            return "blocks.1.0." + timm_block(name.removeprefix("stem.strided."))
        if found := re.match(r"stages\.(\d)\.transition\.(.*)", name):
            return f"blocks.{(0, 2, 3, 5)[int(found[1])]}.0." + timm_block(found[2])
        if found := re.match(r"stages\.(\d)\.blocks\.(\d+)\.(.*)", name):
            stage = int(found[1])
            group, index = place(stage, int(found[2]), len(spec.stages[stage].blocks))
            return f"blocks.{group}.{index}." + timm_block(found[3])
        return ends(name, spec)

    return (Dialect(name="timm", rename=rename),)


VARIANTS = (
    Variant(
        name="mobilenetv2",
        aliases=("mobilenetv2-100",),
        system="MobileNet",
        spec=lambda input_size=224, classes=1000: mobilenet_v2("MobileNetV2", MOBILENET_V2, input_size=input_size, classes=classes),
        micro="mobilenetv2-micro",
        top1=72.0,
        source="1801.04381, Table 4",
        dialects=v2_dialects,
    ),
    Variant(
        name="mobilenetv3-l",
        aliases=("mobilenetv3-large", "mobilenetv3-large-100"),
        system="MobileNet",
        spec=lambda input_size=224, classes=1000: mobilenet_v3(input_size=input_size, classes=classes),
        micro="mobilenetv3-micro",
        top1=75.2,
        source="1905.02244, Table 3",
        dialects=v3_dialects,
    ),
    Variant(
        name="mobilenetv2-micro",
        system="MobileNet",
        spec=lambda input_size=32, classes=10: mobilenet_v2(
            "MobileNetV2-micro", MICRO, first=16, last=128, stem_stride=1, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any size from 8",
        micro="mobilenetv2-micro",
        dialects=v2_dialects,
    ),
    Variant(
        name="mobilenetv3-micro",
        system="MobileNet",
        spec=lambda input_size=32, classes=10: mobilenet_v3(scale="micro", input_size=input_size, classes=classes),
        input_size=32,
        sizes="any size from 16",
        micro="mobilenetv3-micro",
        dialects=v3_dialects,
    ),
)
