"""The track of RepViT (arXiv 2307.09283, Section 3): MobileNetV3-L to RepViT-M0.9, without distillation.

The whole track is trained with the DeiT recipe and has GELU for every activation of MobileNetV3-L. The paper counts the first
convolution, the depthwise separable block and the first strided block as the stem and every other strided block as a downsampling
layer, which leaves 1:2:5:2 blocks. Both ends are exact: MobileNetV3-L (1905.02244, Table 1) and the official RepViT-M0.9 in training form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Literal

from ..layers import Act, ActKind, Conv, Layer, Layers, Norm, Residual, SqueezeExcite, depthwise, size_through
from ..mixers import RepDepthwise, inverted_residual, round_channels
from ..mixing import Mixing, channel_mixer, mixing_steps, normed, token_mixer
from ..numbers import NAMES, PLAIN, Numbers, expanded
from ..spec import Block, Head, NetSpec, Stage
from ..steps import Paper, Scale, Step, StepError, Track


@dataclass(frozen=True, kw_only=True)
class Decisions(Mixing):
    """One field a design decision; the defaults are MobileNetV3-L."""

    mixers: Literal["fused", "separate"] = "fused"
    expansion: Literal["varied", "2"] = "varied"
    width: Literal["mobilenet", "wide"] = "mobilenet"
    stem: Literal["inverted-residual", "early-conv"] = "inverted-residual"
    downsampling: Literal["strided-block", "deeper"] = "strided-block"
    classifier: Literal["expanded", "simple"] = "expanded"
    stage_ratio: Literal["1:2:5:2", "1:1:7:1"] = "1:2:5:2"
    kernel: Literal["varied", "3"] = "varied"
    squeeze_excite: Literal["late", "cross-block"] = "late"


@dataclass(frozen=True, kw_only=True)
class Size:
    """Numbers of one scale: channels of the first convolution, of the stages (`late` in the last two fifths of stage 3) and of the
    expanded classifier; those of the stages with the width step; blocks before and after the stage step; total stride of the stem."""

    first: int
    widths: tuple[int, int, int, int]
    late: int
    classifier: tuple[int, int]
    wide: tuple[int, int, int, int]
    blocks: tuple[int, int, int, int]
    ratio: tuple[int, int, int, int]
    stem_stride: int


SIZES = {
    "micro": Size(
        first=8,
        widths=(8, 16, 24, 48),
        late=32,
        classifier=(96, 128),
        wide=(16, 32, 64, 96),
        blocks=(1, 1, 3, 1),
        ratio=(1, 1, 5, 1),
        stem_stride=2,
    ),
    "small": Size(
        first=8,
        widths=(16, 24, 40, 80),
        late=56,
        classifier=(480, 640),
        wide=(24, 48, 96, 192),
        blocks=(1, 2, 5, 2),
        ratio=(1, 1, 7, 1),
        stem_stride=2,
    ),
    "paper": Size(
        first=16,
        widths=(24, 40, 80, 160),
        late=112,
        classifier=(960, 1280),
        wide=(48, 96, 192, 384),
        blocks=(1, 2, 5, 2),
        ratio=(2, 2, 14, 2),
        stem_stride=4,
    ),
}
SCALES = (
    Scale(name="micro", input_size=32, description="about a third of the width, a third of the blocks; stem of stride 2"),
    Scale(name="small", input_size=32, description="half the width, half the blocks; stem of stride 2"),
    Scale(name="paper", input_size=224, description="the published size; stem of stride 4"),
)


@dataclass(frozen=True)
class Row:
    """What MobileNetV3-L decides block by block: expansion (to a multiple of 8, unless `exact`), kernel, squeeze-and-excitation, the
    wider part of stage 3."""

    expansion: float
    kernel: int = 3
    squeeze_excite: bool = False
    late: bool = False
    exact: bool = False


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a block stands: its stage, its index there and the height of its map."""

    stage: int
    index: int
    pixels: int


DOWNSAMPLING = (Row(4), Row(3, 5, True), Row(6), Row(6, 5, True))  # the first is part of the stem
BLOCKS = (
    (Row(3),),
    (Row(3, 5, True),),
    (Row(2.5), Row(2.3), Row(2.3), Row(6, 3, True, True), Row(6, 3, True, True)),
    (Row(6, 5, True),),
)


def network(
    d: Decisions,
    *,
    sizes: dict[str, Size] = SIZES,
    goal: str = "RepViT-M0.9",
    scale: str = "paper",
    input_size: int = 224,
    classes: int = 1000,
    classifiers: int = 1,
    hard_swish: bool = False,
    numbers: Numbers = PLAIN,
) -> NetSpec:
    """The network of decisions `d`; ValueError where a number does not divide or the input is below the total stride.

    `hard_swish` gives the activations that MobileNetV3-L had before the track: ReLU in the stem and the first two stages' blocks,
    hard-swish in the rest.
    """
    size = sizes[scale]
    if input_size < size.stem_stride * 8:
        raise StepError(
            f"an input of {input_size} pixels is below the total stride {size.stem_stride * 8} of scale {scale}: "
            f"use --input-size {size.stem_stride * 8} or more"
        )
    if d.mixed and d.mixers == "fused":
        raise StepError("another mixer needs the two mixers of a block apart: add separate-mixers")
    own = size.wide if d.width == "wide" else size.widths
    widths = numbers.stage_widths(own)
    depths = numbers.stage_depths(size.ratio if d.stage_ratio == "1:1:7:1" else size.blocks)
    wider = numbers.width(2, size.late, own[0]) if d.width == "mobilenet" and numbers.widths[2] is None else widths[2]
    early: ActKind = "relu" if hard_swish else "gelu"
    late: ActKind = "hardswish" if hard_swish else "gelu"
    stem = _stem(d, widths[0], size, early, late, _row(d, numbers, 0, DOWNSAMPLING[0]))
    pixels, _ = size_through(stem, input_size, input_size)
    stages = []
    channels = widths[0]
    for i, depth in enumerate(depths):
        act = early if i < 2 else late
        transition: Layers = ()
        if i > 0:
            transition = _downsampling(d, channels, widths[i], _row(d, numbers, i, DOWNSAMPLING[i]), act)
            channels = widths[i]
            pixels, _ = size_through(transition, pixels, pixels)
        blocks = []
        for j in range(depth):
            row = _row(d, numbers, i, BLOCKS[i][j * len(BLOCKS[i]) // depth])
            out = wider if row.late else widths[i]
            excite = j % 2 == 0 if d.squeeze_excite == "cross-block" else row.squeeze_excite
            place = Place(stage=i, index=j, pixels=pixels)
            blocks.append(_stage_block(d, channels, out, row, act, excite, place))
            channels = out
        stages.append(Stage(transition=transition, blocks=tuple(blocks)))
    between = numbers.named or d not in (Decisions(), MODERN)
    name = f"MobileNetV3-L to {goal}" if between else goal if d == MODERN else "MobileNetV3-L"
    return NetSpec(
        name=name + ("" if scale == "paper" else f" {scale}"),
        stem=stem,
        stages=tuple(stages),
        head=_head(d, size, late, classes, classifiers),
    )


def _row(d: Decisions, numbers: Numbers, stage: int, row: Row) -> Row:
    """`row` with the kernel and the expansion that the decisions and numbers leave of it."""
    expansion = numbers.expansions[stage] or (2 if d.expansion == "2" else None)
    kernel = numbers.kernel(stage, 3 if d.kernel == "3" else row.kernel)
    return replace(row, kernel=kernel, expansion=expansion or row.expansion, exact=expansion is not None)


def _stem(d: Decisions, width: int, size: Size, early: ActKind, late: ActKind, row: Row) -> Layers:
    stride = size.stem_stride // 2
    if d.stem == "early-conv":
        return (
            Conv(out=width // 2, kernel=3, stride=stride, name="conv1"),
            Norm(norm="batch", name="norm1"),
            Act(act=late, name="act1"),
            Conv(out=width, kernel=3, stride=2, name="conv2"),
            Norm(norm="batch", name="norm2"),
        )
    return (
        Conv(out=size.first, kernel=3, stride=stride, name="conv"),
        Norm(norm="batch", name="norm"),
        Act(act=late, name="act"),
        Block(body=inverted_residual(size.first, size.first, size.first, act=early, expand=False), name="separable"),
        Block(body=_strided(d, size.first, width, row, early, excite=False), name="strided"),
    )


def _downsampling(d: Decisions, channels: int, out: int, row: Row, act: ActKind) -> Layers:
    excite = row.squeeze_excite and d.squeeze_excite == "late"
    if d.downsampling == "strided-block":
        return _strided(d, channels, out, row, act, excite=excite)
    return (
        Block(body=_block(d, channels, channels, row, act, excite=False), name="pre_block"),
        depthwise(channels, row.kernel, stride=2),
        Norm(norm="batch", name="norm_depthwise"),
        *((_squeeze_excite(d, channels),) if excite else ()),
        Conv(out=out, name="pointwise"),
        Norm(norm="batch", name="norm_pointwise"),
        Residual(body=_channel_mixer(d, out, out, row, act), name="residual"),
    )


def _strided(d: Decisions, channels: int, out: int, row: Row, act: ActKind, *, excite: bool) -> Layers:
    """MobileNetV3's block with stride 2; separated, the depthwise convolution comes first and the 1x1s widen."""
    if d.mixers == "fused":
        return _fused(d, channels, out, row, act, stride=2, excite=excite)
    return (
        depthwise(channels, row.kernel, stride=2),
        Norm(norm="batch", name="norm_depthwise"),
        *((_squeeze_excite(d, channels),) if excite else ()),
        *_channel_mixer(d, channels, out, row, act),
    )


@lru_cache(maxsize=4096)
def _stage_block(d: Decisions, channels: int, out: int, row: Row, act: ActKind, excite: bool, place: Place) -> Block:
    return Block(body=_block(d, channels, out, row, act, excite=excite, place=place))


def _block(d: Decisions, channels: int, out: int, row: Row, act: ActKind, *, excite: bool, place: Place | None = None) -> Layers:
    """A block without a stride; other mixers than the track's own stand only in a stage, at `place`."""
    if d.mixers == "fused":
        return _fused(d, channels, out, row, act, stride=1, excite=excite)
    token: Layers = (RepDepthwise(kernel=row.kernel, name="depthwise"),)
    if place and d.mixer[place.stage] != "conv":
        # The re-parameterised convolution ends in a BatchNorm and holds the identity; what replaces it gets both.
        mixed = token_mixer(d.mixer[place.stage], channels, size=place.pixels, kernel=row.kernel, index=place.index)
        token = (Residual(body=(*mixed, Norm(norm="batch", name="norm")), name="token_mixer"),)
    mixer = _channel_mixer(d, channels, out, row, act, d.channel_mixer[place.stage] if place else "mlp")
    return (
        *token,
        *((_squeeze_excite(d, channels),) if excite else ()),
        *((Residual(body=mixer, name="residual"),) if channels == out else mixer),
    )


def _fused(d: Decisions, channels: int, out: int, row: Row, act: ActKind, *, stride: int, excite: bool) -> Layers:
    hidden = _hidden(channels, row)
    se = _squeeze_excite(d, hidden) if excite else None
    return inverted_residual(channels, hidden, out, kernel=row.kernel, stride=stride, act=act, squeeze_excite=se)


def _channel_mixer(d: Decisions, channels: int, out: int, row: Row, act: ActKind, kind: str = "mlp") -> Layers:
    if kind != "mlp":
        mixer = channel_mixer(kind, channels, _hidden(channels, row), act=act, bias=False, out=out)
        return normed(mixer, Norm(norm="batch"))
    return (
        Conv(out=_hidden(channels, row), name="expand"),
        Norm(norm="batch", name="norm_expand"),
        Act(act=act, name="act_expand"),
        Conv(out=out, name="project"),
        Norm(norm="batch", name="norm_project"),
    )


def _hidden(channels: int, row: Row) -> int:
    return expanded(channels, row.expansion) if row.exact else round_channels(channels * row.expansion)


def _squeeze_excite(d: Decisions, channels: int) -> SqueezeExcite:
    """A quarter of the channels, rounded to multiples of 8; RepViT's rounding may fall short by more than a tenth."""
    if d.mixers == "fused":
        return SqueezeExcite(hidden=round_channels(channels / 4), gate="hardsigmoid", name="squeeze_excite")
    return SqueezeExcite(hidden=round_channels(channels / 4, shortfall=1.0), name="squeeze_excite")


def _head(d: Decisions, size: Size, act: ActKind, classes: int, classifiers: int) -> Head:
    if d.classifier == "simple":
        return Head(classifiers=classifiers, classifier_norm=True, classes=classes)
    before: tuple[Layer, ...] = (
        Conv(out=size.classifier[0], name="conv"),
        Norm(norm="batch", name="norm"),
        Act(act=act, name="act"),
    )
    after: tuple[Layer, ...] = (Conv(out=size.classifier[1], bias=True, name="conv"), Act(act=act, name="act"))
    return Head(before=before, after=after, classifiers=classifiers, classes=classes)


MODERN = Decisions(
    mixers="separate",
    expansion="2",
    width="wide",
    stem="early-conv",
    downsampling="deeper",
    classifier="simple",
    stage_ratio="1:1:7:1",
    kernel="3",
    squeeze_excite="cross-block",
)

STEPS = (
    Step(
        name="separate-mixers",
        title="separate token and channel mixer",
        field="mixers",
        value="separate",
        levels=("fused", "separate"),
        definition="the depthwise convolution, re-parameterised where its stride is 1, and squeeze-and-excitation (with a sigmoid gate) "
        "come first, on the block's input channels; the 1x1s follow, in a residual of their own where they keep the width. The stem's "
        "depthwise separable block has no expansion to separate and stays",
    ),
    Step(
        name="expansion-ratio",
        title="expansion ratio 2",
        field="expansion",
        value="2",
        levels=("varied", "2"),
        definition="every block widens its input 2 times instead of 2.3 to 6 times, the stem's and the downsampling ones too",
    ),
    Step(
        name="width",
        title="increase width",
        field="width",
        value="wide",
        levels=("mobilenet", "wide"),
        definition="channels of the stages 24, 40, 80 (then 112), 160 -> 48, 96, 192, 384; the first convolution and the expanded "
        "classifier keep theirs",
    ),
    Step(
        name="early-conv-stem",
        title="early convolutions",
        field="stem",
        value="early-conv",
        levels=("inverted-residual", "early-conv"),
        definition="the stem's convolution, depthwise separable block and strided block -> two 3x3 convolutions of stride 2 with an "
        "activation between, to half the first stage's channels and to all of them",
    ),
    Step(
        name="deeper-downsampling",
        title="deeper downsampling",
        field="downsampling",
        value="deeper",
        levels=("strided-block", "deeper"),
        definition="between stages a strided block -> a block without squeeze-and-excitation at the incoming width, depthwise convolution "
        "of stride 2, 1x1 convolution to the new width, and two 1x1s in a residual; kernels and expansions are the strided block's, its "
        "squeeze-and-excitation stands after the strided convolution",
    ),
    Step(
        name="simple-classifier",
        title="simple classifier",
        field="classifier",
        value="simple",
        levels=("expanded", "simple"),
        definition="1x1 convolution to 960, pooling, 1280 channels, linear -> pooling, BatchNorm, linear",
    ),
    Step(
        name="stage-ratio",
        title="stage ratio 1:1:7:1",
        field="stage_ratio",
        value="1:1:7:1",
        levels=("1:2:5:2", "1:1:7:1"),
        definition="blocks per stage 1, 2, 5, 2 -> 2, 2, 14, 2, downsampling layers not counted; where MobileNetV3's blocks of a stage "
        "differ, the new ones take over in proportion (block j of n is as old block 5j/n was)",
    ),
    Step(
        name="kernel-3x3",
        title="all kernels 3x3",
        field="kernel",
        value="3",
        levels=("varied", "3"),
        spatial=True,
        definition="kernels of the depthwise convolutions in stages 2 and 4 and in the downsampling before them 5 -> 3",
    ),
    Step(
        name="cross-block-se",
        title="cross-block squeeze-and-excitation",
        field="squeeze_excite",
        value="cross-block",
        levels=("late", "cross-block"),
        definition="squeeze-and-excitation in all of stage 2, the wider part of stage 3 and all of stage 4, the downsampling before 2 and "
        "4 included -> in the first, third, fifth.. block of every stage and in no downsampling",
    ),
    *mixing_steps("separate-mixers", without=("rep-dw",)),
)

PAPER = {
    "MobileNetV3-L": Paper(top1=71.5, ms=1.01),
    "separate-mixers": Paper(top1=68.3, ms=0.81),
    "expansion-ratio": Paper(ms=0.65),
    "width": Paper(top1=73.5, ms=0.89),
    "early-conv-stem": Paper(top1=73.9, ms=0.86),
    "deeper-downsampling": Paper(top1=75.4, ms=0.96),
    "simple-classifier": Paper(top1=74.8, ms=0.77),
    "stage-ratio": Paper(top1=76.9, ms=0.91),
    "kernel-3x3": Paper(top1=76.9, ms=0.89),
    "cross-block-se": Paper(top1=77.4, ms=0.87),
}

REPVIT_M09 = Track(
    name="repvit-m0.9",
    title="MobileNetV3-L to RepViT-M0.9",
    base="MobileNetV3-L",
    goal="RepViT-M0.9",
    decisions=Decisions,
    network=partial(network, sizes=SIZES),
    steps=STEPS,
    scales=SCALES,
    paper=PAPER,
    numbers=dict.fromkeys(NAMES, ()),
    convolutions=({"early-conv-stem": "inverted-residual"}, {}, {}, {}),
    paper_source="arXiv 2307.09283, Section 3: ImageNet-1K, 224 pixels, no distillation; latency on an iPhone 12",
)
