"""ParC-Net (2203.03952, once called EdgeFormer): blocks of position aware circular convolution and channel attention.

The README of the official code prints half the multiply-adds for ResNet-50 and ConvNeXt rows, and all of them for the others.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..layers import Act, Conv, Gate, Layer, Layers, Norm, Residual, mlp
from ..mixers import AxialPosition, CircularConv, Concat, GlobalAvgPool, inverted_residual
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant

if TYPE_CHECKING:
    from torch import Tensor

    from ..weights import Dialect, State

Hybrid = Literal["serial", "parallel", "bifurcate"]


@dataclass(frozen=True, kw_only=True)
class Global:
    """A stage with global blocks: `out` channels outside, `width` and `hidden` in `blocks` ParC blocks, kernels of `size` pixels."""

    out: int
    width: int
    hidden: int
    blocks: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Size:
    """Numbers of one network: the stem, stages of inverted residuals (channels, blocks, stride), then global stages. `fusion` is how
    the bypass of the bifurcate structure joins: concatenated or added."""

    stem: int
    stem_kernel: int = 3
    local: tuple[tuple[int, int, int], ...]
    stages: tuple[Global, ...]
    fusion: Literal["concat", "add"] = "concat"


XS = Size(
    stem=16,
    local=((32, 1, 1), (64, 3, 2)),
    stages=(
        Global(out=96, width=96, hidden=192, blocks=2, size=32),
        Global(out=128, width=128, hidden=256, blocks=3, size=16),
        Global(out=160, width=160, hidden=320, blocks=2, size=8),
    ),
    fusion="add",
)
S = Size(
    stem=16,
    local=((32, 1, 1), (64, 3, 2)),
    stages=(
        Global(out=96, width=192, hidden=384, blocks=2, size=32),
        Global(out=128, width=256, hidden=512, blocks=4, size=16),
        Global(out=160, width=320, hidden=640, blocks=3, size=8),
    ),
)
H = Size(
    stem=48,
    stem_kernel=5,
    local=((96, 1, 1), (144, 3, 2)),
    stages=(
        Global(out=216, width=324, hidden=648, blocks=3, size=32),
        Global(out=288, width=432, hidden=864, blocks=9, size=16),
        Global(out=432, width=432, hidden=864, blocks=3, size=8),
    ),
)
MICRO = Size(
    stem=8,
    local=((16, 1, 1), (24, 2, 2)),
    stages=(Global(out=32, width=48, hidden=96, blocks=2, size=4), Global(out=48, width=64, hidden=128, blocks=1, size=2)),
)


def parcnet(
    name: str,
    numbers: Size,
    *,
    hybrid: Hybrid = "bifurcate",
    channel_attention: bool = True,
    input_size: int = 256,
    classes: int = 1000,
) -> NetSpec:
    """ParC-Net. `hybrid` is the outer structure of the global stages: "serial", the global blocks follow the local ones; "parallel",
    each global block stands beside an inverted residual and is added to it; "bifurcate", the published one: the local features bypass
    all global blocks of the stage and are fused with their output by a 3x3 convolution. Kernels and position embeddings keep their size
    and are interpolated, so any input of a pixel or more after the last stride works."""
    least = 4 * 2 ** (len(numbers.stages))
    if input_size < least:
        raise ValueError(f"{name} needs an input of {least} pixels or more, not {input_size}")
    channels = numbers.stem
    stages = []
    for out, count, stride in numbers.local:
        blocks = []
        for j in range(count):
            blocks.append(Block(body=_inverted(channels, out, stride=stride if j == 0 else 1)))
            channels = out
        stages.append(Stage(blocks=tuple(blocks)))
    for g in numbers.stages:
        stages.append(Stage(blocks=_global_stage(channels, g, hybrid, channel_attention, numbers.fusion)))
        channels = g.out
    stem = (Conv(out=numbers.stem, kernel=numbers.stem_kernel, stride=2, name="conv"), *_norm_act())
    before = (Conv(out=min(4 * channels, 960), name="conv"), *_norm_act())
    return NetSpec(name=name, stem=stem, stages=tuple(stages), head=Head(before=before, classes=classes))


def _inverted(channels: int, out: int, *, stride: int = 1, expansion: int = 4) -> Layers:
    return inverted_residual(channels, expansion * channels, out, stride=stride, act="silu")


def _norm_act() -> Layers:
    return (Norm(norm="batch", name="norm"), Act(act="silu", name="act"))


def parc_block(g: Global, *, position: bool, channel_attention: bool, name: str) -> Block:
    """Two circular convolutions, each half of the channels around one axis and then around the other, then an MLP with channel attention
    (Section 3.2)."""
    mixer: list[Layer] = []
    if position:
        mixer.append(AxialPosition(size=g.size, first="height", name="position1"))
    mixer += [Norm(norm="batch", name="norm"), CircularConv(size=g.size, first="height", name="circular1")]
    if position:
        mixer.append(AxialPosition(size=g.size, first="width", name="position2"))
    mixer.append(CircularConv(size=g.size, first="width", name="circular2"))
    attention = Gate(
        body=(
            GlobalAvgPool(name="pool"),
            Conv(out=g.width // 16, name="squeeze"),
            Norm(norm="batch", name="norm_squeeze"),
            Act(act="hardswish", name="act"),
            Conv(out=g.width, name="excite"),
            Norm(norm="batch", name="norm_excite"),
            Act(act="hardsigmoid", name="gate"),
        ),
        name="attention",
    )
    channel = (Norm(norm="batch", name="norm"), *mlp(g.width, g.hidden, act="hardswish"), *((attention,) if channel_attention else ()))
    return Block(body=(Residual(body=tuple(mixer), name="token_mixer"), Residual(body=channel, name="channel_mixer")), name=name)


def _global_stage(channels: int, g: Global, hybrid: Hybrid, channel_attention: bool, fusion: str) -> tuple[Block, ...]:
    groups = math.gcd(g.width, g.out)
    widen = (
        Conv(out=g.width, kernel=3, groups=groups, name="widen"),
        Norm(norm="batch", name="norm_widen"),
        Act(act="silu", name="act_widen"),
        Conv(out=g.width, name="mix"),
    )
    narrow = (
        Conv(out=g.out, groups=groups, name="narrow"),
        Norm(norm="batch", name="norm_narrow"),
        Act(act="silu", name="act_narrow"),
    )
    if hybrid == "parallel":
        down = (Norm(norm="batch", name="norm"), Conv(out=channels, kernel=3, stride=2, bias=True, name="downsample"))
        parc = parc_block(g, position=True, channel_attention=channel_attention, name="parc")
        both = Residual(body=(*widen, parc, *narrow), shortcut=_inverted(g.out, g.out, expansion=2), name="parallel")
        return (Block(body=(*down, *_inverted(channels, g.out))), *((Block(body=(both,)),) * g.blocks))
    parcs = tuple(parc_block(g, position=i == 0, channel_attention=channel_attention, name=f"parc{i}") for i in range(g.blocks))
    through = (*widen, *parcs, Norm(norm="batch", name="norm_parc"), *narrow)
    joined: Layers = through
    if hybrid == "bifurcate":
        joined = (Concat(body=through, name="bypass") if fusion == "concat" else Residual(body=through, name="bypass"),)
    fuse = (Conv(out=g.out, kernel=3, name="fuse"), *_norm_act())
    return (Block(body=_inverted(channels, g.out, stride=2)), Block(body=(*joined, *fuse)))


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository, where the first block of the last stage is stored a second time as `residual`."""
    from ..weights import Dialect, by_rules

    rename = by_rules(
        (r"^stem\.", "conv_1.block."),
        (r"^head\.before\.", "conv_1x1_exp.block."),
        (r"^head\.classifiers\.0\.linear\.", "classifier.fc."),
        # The parallel structure numbers its blocks in two lists, the others have one block after the strided one.
        (
            r"^stages\.(\d+)\.blocks\.(\d+)\.parallel\.shortcut\.residual\.body\.",
            lambda m: f"layer_{int(m[1]) + 1}.1.local_rep_channel.{int(m[2]) - 1}.block.",
        ),
        (
            r"^stages\.(\d+)\.blocks\.(\d+)\.parallel\.body\.",
            lambda m: f"layer_{int(m[1]) + 1}.1.global_rep_channel.{int(m[2]) - 1}.",
        ),
        (r"(global_rep_channel\.\d+)\.(?:widen|norm_widen)\.", lambda m: f"{m[1]}.0.block.{_part(m[0])}."),
        (r"(global_rep_channel\.\d+)\.mix\.", r"\1.1.block.conv."),
        (r"(global_rep_channel\.\d+)\.parc\.", r"\1.2."),
        (r"(global_rep_channel\.\d+)\.(?:narrow|norm_narrow)\.", lambda m: f"{m[1]}.3.block.{_part(m[0])}."),
        (r"^stages\.(\d+)\.blocks\.0\.(norm|downsample)\.", lambda m: f"layer_{int(m[1]) + 1}.0.{'01'[m[2] == 'downsample']}."),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.", lambda m: f"layer_{int(m[1]) + 1}.{m[2]}."),
        (r"bypass\.body\.", ""),
        (r"\.(?:widen|norm_widen)\.", lambda m: f".dim_adaptive.0.block.{_part(m[0])}."),
        (r"\.mix\.", ".dim_adaptive.1.block.conv."),
        (r"\.parc(\d+)\.", r".spatial_global_rep.\1."),
        (r"\.(?:narrow|norm_narrow)\.", lambda m: f".channel_adaptive.block.{_part(m[0])}."),
        (r"(layer_\d\.1)\.fuse\.", r"\1.local_global_fusion.block.conv."),
        (r"(layer_\d\.1)\.norm\.", r"\1.local_global_fusion.block.norm."),
        (r"residual\.body\.", ""),
        (r"(layer_\d\.\d+)\.((?:norm_)?(?:expand|depthwise|project)\.)", r"\1.block.\2"),
        (r"(?:norm_)?expand\.", lambda m: f"exp_1x1.block.{_part(m[0])}."),
        (r"(?:norm_)?depthwise\.", lambda m: f"conv_3x3.block.{_part(m[0])}."),
        (r"(?:norm_)?project\.", lambda m: f"red_1x1.block.{_part(m[0])}."),
        (r"token_mixer\.body\.position(\d)\.(\w)\w+$", lambda m: f"meta_pe_{m[1]}_{m[2].upper()}"),
        (r"token_mixer\.body\.circular(\d)\.(\w)\w+$", lambda m: f"meta_kernel_{m[1]}_{m[2].upper()}"),
        (r"token_mixer\.body\.norm\.", "pre_Norm."),
        (r"channel_mixer\.body\.norm\.", "ffn.0."),
        (r"channel_mixer\.body\.fc1\.", "ffn.1."),
        (r"channel_mixer\.body\.fc2\.", "ffn.4."),
        (r"channel_mixer\.body\.attention\.body\.", "ca.fc."),
        (r"ca\.fc\.squeeze\.", "ca.fc.0."),
        (r"ca\.fc\.norm_squeeze\.", "ca.fc.1."),
        (r"ca\.fc\.excite\.", "ca.fc.3."),
        (r"ca\.fc\.norm_excite\.", "ca.fc.4."),
    )

    def numbered(name: str, spec: NetSpec) -> str:
        """The norm after the ParC blocks is numbered as the last of them, the strided block of the parallel structure as its third."""
        name = rename(name, spec)
        stage, _, rest = name.partition(".1.norm_parc.")
        if rest:
            return f"{stage}.1.spatial_global_rep.{_parcs(spec, int(stage[-1]) - 1)}.{rest}"
        strided = re.match(r"layer_(\d)\.0\.(?=block\.)", name)
        if strided and isinstance(spec.stages[int(strided[1]) - 1].blocks[0].body[0], Norm):
            return f"{strided[0]}2.{name[strided.end() :]}"
        return name

    return (Dialect(name="official", rename=numbered, unpack=_unpack, pack=_pack),)


def _part(name: str) -> str:
    return "norm" if "norm_" in name else "conv"


def _parcs(spec: NetSpec, stage: int) -> int:
    """Number of ParC blocks in a global stage."""
    body = spec.stages[stage].blocks[1].body
    path = body[0].children()[0] if body[0].children() else body
    return sum(isinstance(layer, Block) for layer in path)


def _unpack(state: State, spec: NetSpec) -> State:
    """One norm for the two halves of the channels; the fusing convolution reads the bypass first; no second `residual`."""
    import torch

    out: State = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked") or ".pre_Norm_2." in key:
            continue
        if key.startswith("residual."):
            key = f"layer_{len(spec.stages)}.0{key.removeprefix('residual')}"
        if ".pre_Norm_1." in key:
            value = torch.cat((value, state[key.replace("pre_Norm_1", "pre_Norm_2")]))
            key = key.replace("pre_Norm_1", "pre_Norm")
        out[key] = _swapped(key, value)
    return out


def _pack(state: State, spec: NetSpec) -> State:
    out: State = {}
    for key, value in state.items():
        if ".pre_Norm." in key:
            out[key.replace("pre_Norm", "pre_Norm_1")], out[key.replace("pre_Norm", "pre_Norm_2")] = (v.clone() for v in value.chunk(2))
        else:
            out[key] = _swapped(key, value)
        last = f"layer_{len(spec.stages)}.0"
        if key.startswith(f"{last}."):
            out[f"residual{key.removeprefix(last)}"] = value.clone()
    return out


def _swapped(key: str, value: Tensor) -> Tensor:
    """They concatenate the bypass last, Concat first."""
    if key.endswith("local_global_fusion.block.conv.weight") and value.shape[1] == 2 * value.shape[0]:
        return value.roll(value.shape[0], 1)
    return value


def _variant(name: str, numbers: Size, top1: float | None) -> Variant:
    return Variant(
        name=name.lower(),
        system="ParC-Net",
        spec=lambda input_size=256, classes=1000, hybrid="bifurcate": parcnet(
            name, numbers, hybrid=hybrid, input_size=input_size, classes=classes
        ),
        input_size=256,
        micro="parc-net-micro",
        top1=top1,
        source="2203.03952; official README",
        dialects=dialects,
    )


VARIANTS = (
    _variant("ParC-Net-XS", XS, None),
    _variant("ParC-Net-S", S, 78.6),
    _variant("ParC-Net-H", H, None),
    Variant(
        name="parc-net-micro",
        system="ParC-Net",
        spec=lambda input_size=32, classes=10, hybrid="bifurcate": parcnet(
            "ParC-Net micro", MICRO, hybrid=hybrid, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any size from 16",
        micro="parc-net-micro",
        dialects=dialects,
    ),
)
