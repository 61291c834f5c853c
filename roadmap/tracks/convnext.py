"""The tracks of A ConvNet for the 2020s (arXiv 2201.03545): ResNet-50 to ConvNeXt-T, ResNet-200 to ConvNeXt-B.

Every derived number is a function of all decisions, so steps commute. The definitions reproduce the paper's MACs
(Tables 10 and 11) and, at both ends, torchvision's ResNet and the official ConvNeXt to the parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Literal

from ..layers import Act, Conv, Layers, MaxPool, Norm, Residual, size_through
from ..mixing import Mixing, channel_mixer, mixing_steps, normed, token_mixer
from ..numbers import NAMES, PLAIN, Numbers, expanded
from ..spec import Block, Head, NetSpec, Stage
from ..steps import Paper, Scale, Step, StepError, Track


@dataclass(frozen=True, kw_only=True)
class Decisions(Mixing):
    """One field a design decision; the defaults are the ResNet."""

    stage_ratio: Literal["resnet", "swin"] = "resnet"
    stem: Literal["overlapping", "patchify"] = "overlapping"
    groups: Literal["1", "32", "channels"] = "1"
    width: Literal["resnet", "wide"] = "resnet"
    bottleneck: Literal["narrow", "inverted"] = "narrow"
    depthwise_position: Literal["middle", "first"] = "middle"
    kernel_size: int = 3
    activation: Literal["relu", "gelu"] = "relu"
    activations: Literal["every", "one"] = "every"
    norms: Literal["every", "one"] = "every"
    norm: Literal["batch", "layer"] = "batch"
    downsampling: Literal["block", "separate"] = "block"
    pre_norm: Literal["none", "extra"] = "none"


@dataclass(frozen=True, kw_only=True)
class Size:
    """Numbers of one scale: width of the first stage as ResNet has it, with the stage step and with the width step; blocks
    before and after the stage step; total stride of the stem."""

    widths: tuple[int, int, int]
    blocks: tuple[int, int, int, int]
    ratio: tuple[int, int, int, int]
    stem_stride: int


T_SIZES = {
    "micro": Size(widths=(16, 16, 24), blocks=(1, 1, 2, 1), ratio=(1, 1, 3, 1), stem_stride=4),
    "small": Size(widths=(32, 32, 48), blocks=(2, 3, 4, 2), ratio=(2, 2, 6, 2), stem_stride=2),
    "paper": Size(widths=(64, 64, 96), blocks=(3, 4, 6, 3), ratio=(3, 3, 9, 3), stem_stride=4),
}
B_SIZES = {
    "micro": Size(widths=(16, 21, 32), blocks=(1, 4, 6, 1), ratio=(1, 1, 5, 1), stem_stride=4),
    "small": Size(widths=(32, 42, 64), blocks=(1, 8, 12, 1), ratio=(1, 1, 9, 1), stem_stride=2),
    "paper": Size(widths=(64, 84, 128), blocks=(3, 24, 36, 3), ratio=(3, 3, 27, 3), stem_stride=4),
}
SCALES = (
    Scale(name="micro", input_size=32, description="a quarter of the width, a third of the blocks; the paper's stem of stride 4"),
    Scale(name="small", input_size=32, description="half the width, two thirds of the blocks; stem of stride 2"),
    Scale(name="paper", input_size=224, description="the published size; stem of stride 4"),
)


def network(
    d: Decisions,
    *,
    sizes: dict[str, Size],
    base: str,
    goal: str,
    scale: str = "paper",
    input_size: int = 224,
    classes: int = 1000,
    numbers: Numbers = PLAIN,
) -> NetSpec:
    """The network of decisions `d`; ValueError where a number does not divide or the input is below the total stride."""
    size = sizes[scale]
    if input_size < size.stem_stride * 8:
        raise StepError(
            f"an input of {input_size} pixels is below the total stride {size.stem_stride * 8} of scale {scale}: "
            f"use --input-size {size.stem_stride * 8} or more"
        )
    if d.mixed and d.depthwise_position != "first":
        raise StepError("another mixer needs the two mixers of a block apart: add move-up-depthwise")
    width = size.widths[2] if d.width == "wide" else size.widths[1] if d.stage_ratio == "swin" else size.widths[0]
    widths = numbers.stage_widths([width * 2**i for i in range(4)])
    depths = numbers.stage_depths(size.ratio if d.stage_ratio == "swin" else size.blocks)
    stem = _stem(d, widths[0], size)
    pixels, _ = size_through(stem, input_size, input_size)
    stages = []
    channels = widths[0]
    for i, depth in enumerate(depths):
        narrow, wide = widths[i], expanded(widths[i], numbers.expansions[i] or 4)
        inner, out = (wide, narrow) if d.bottleneck == "inverted" else (narrow, wide)
        kernel = numbers.kernel(i, d.kernel_size)
        transition: Layers = ()
        stride = 1 if i == 0 else 2
        if d.downsampling == "separate" and i > 0:
            transition = (_norm(d, "norm"), Conv(out=out, kernel=2, stride=2, padding=0, bias=_bias(d), name="downsample"))
            channels, stride = out, 1
            pixels, _ = size_through(transition, pixels, pixels)
        blocks = []
        for j in range(depth):
            place = Place(stage=i, index=j, pixels=pixels, channels=channels, stride=stride if j == 0 else 1, kernel=kernel)
            blocks.append(_block(d, place, inner, out, size))
            channels = out
            pixels, _ = blocks[-1].out_size(pixels, pixels)
        stages.append(Stage(transition=transition, blocks=tuple(blocks)))
    after = (_norm(d, "norm"),) if d.downsampling == "separate" else ()
    name = f"{base} to {goal}" if numbers.named or d not in (Decisions(), MODERN) else goal if d == MODERN else base
    suffix = "" if scale == "paper" else f" {scale}"
    return NetSpec(name=name + suffix, stem=stem, stages=tuple(stages), head=Head(after=after, classes=classes))


def _bias(d: Decisions) -> bool:
    return d.norm == "layer"


def _norm(d: Decisions, name: str) -> Norm:
    return Norm(norm=d.norm, eps=1e-6 if d.norm == "layer" else 1e-5, name=name)


def _stem(d: Decisions, width: int, size: Size) -> Layers:
    s = size.stem_stride
    act = (Act(act=d.activation, name="act"),) if d.activations == "every" else ()
    if d.stem == "patchify":
        return (Conv(out=width, kernel=s, stride=s, padding=0, bias=_bias(d), name="conv"), _norm(d, "norm"), *act)
    conv = Conv(out=width, kernel=2 * s - 1, stride=s // 2, bias=_bias(d), name="conv")
    return (conv, _norm(d, "norm"), *act, MaxPool(kernel=3, stride=2, name="pool"))


def _groups(d: Decisions, channels: int, size: Size) -> int:
    if d.groups == "channels":
        return channels
    if d.groups == "1":
        return 1
    groups, rest = divmod(32 * size.widths[0], 64)
    if rest or channels % groups:
        raise StepError(f"groups=32 stands for {32 * size.widths[0] / 64:g} groups at this scale, which do not divide {channels} channels")
    return groups


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a block stands: its stage, its index there, its input's height and channels; its stride and kernel."""

    stage: int
    index: int
    pixels: int
    channels: int
    stride: int
    kernel: int


@lru_cache(maxsize=4096)
def _block(d: Decisions, place: Place, inner: int, out: int, size: Size) -> Block:
    bias = _bias(d)
    every = d.norms == "every"
    act_every: Layers = (Act(act=d.activation, name="act_spatial"),) if d.activations == "every" else ()
    channels = place.channels if d.depthwise_position == "first" else inner
    spatial: Layers = (
        Conv(out=channels, kernel=place.kernel, stride=place.stride, groups=_groups(d, channels, size), bias=bias, name="spatial"),
    )
    if d.mixer[place.stage] != "conv" and place.stride == 1:
        spatial = token_mixer(d.mixer[place.stage], channels, size=place.pixels, kernel=place.kernel, index=place.index)
    spatial = (*spatial, _norm(d, "norm_spatial"), *act_every)
    expand: Layers = (
        Conv(out=inner, bias=bias, name="pointwise1"),
        *((_norm(d, "norm_pointwise1"),) if every else ()),
        Act(act=d.activation, name="act_pointwise1"),
    )
    project: Layers = (Conv(out=out, bias=bias, name="pointwise2"), *((_norm(d, "norm_pointwise2"),) if every else ()))
    kind = d.channel_mixer[place.stage]
    if kind != "mlp":
        mixer = channel_mixer(kind, place.channels, inner, act=d.activation, bias=bias, out=out)
        expand, project = (), normed(mixer, _norm(d, "norm")) if every else mixer
    pre_norm: Layers = (_norm(d, "pre_norm"),) if d.pre_norm == "extra" else ()
    body = (*spatial, *expand, *project) if d.depthwise_position == "first" else (*expand, *spatial, *project)
    shortcut: Layers = ()
    if place.stride > 1 or place.channels != out:
        shortcut = (Conv(out=out, stride=place.stride, bias=bias, name="conv"), _norm(d, "norm"))
    residual = Residual(body=(*pre_norm, *body), shortcut=shortcut, layer_scale=d.norm == "layer", name="residual")
    act = (Act(act=d.activation, name="act"),) if d.activations == "every" else ()
    return Block(body=(residual, *act))


MODERN = Decisions(
    stage_ratio="swin",
    stem="patchify",
    groups="channels",
    width="wide",
    bottleneck="inverted",
    depthwise_position="first",
    kernel_size=7,
    activation="gelu",
    activations="one",
    norms="one",
    norm="layer",
    downsampling="separate",
)

TECHNIQUES = {
    "optimizer": "AdamW with its learning rate, decay, warm-up and initialisation instead of SGD with momentum",
    "randaugment": "random operations on each image (1909.13719)",
    "mixup": "convex mixtures of two images and their labels (1710.09412)",
    "cutmix": "a patch of another image, labels in proportion (1905.04899)",
    "erasing": "a random rectangle erased (1708.04896)",
    "label-smoothing": "targets mixed with the uniform distribution",
    "drop-path": "stochastic depth (1603.09382)",
}

STEPS = (
    Step(
        name="recipe",
        title="modern training recipe",
        field="recipe",
        value="modern",
        owner="recipe",
        techniques=tuple(TECHNIQUES),
        definition="the ConvNeXt/DeiT recipe instead of the ResNet one; a group of techniques, each a toggle: " + ", ".join(TECHNIQUES),
    ),
    *(
        Step(
            name=name,
            title=name,
            field=name,
            value="modern",
            owner="recipe",
            adopted=False,
            definition=f"one technique of the recipe: {text}",
        )
        for name, text in TECHNIQUES.items()
    ),
    Step(
        name="stage-ratio",
        title="stage ratio",
        field="stage_ratio",
        value="swin",
        levels=("resnet", "swin"),
        definition="blocks per stage 3:4:6:3 -> 1:1:3:1 (3:24:36:3 -> 1:1:9:1 on convnext-b, there with width 64 -> 84)",
    ),
    Step(
        name="patchify-stem",
        title="patchify stem",
        field="stem",
        value="patchify",
        levels=("overlapping", "patchify"),
        definition="overlapping convolution and max-pool -> one convolution with kernel = stride = the stem's total stride",
    ),
    Step(
        name="depthwise",
        title="depthwise conv",
        field="groups",
        value="channels",
        levels=("1", "32", "channels"),
        definition="groups of the spatial convolution 1 -> one a channel (32: ResNeXt; at other scales the same ratio to the width)",
    ),
    Step(
        name="width",
        title="increase width",
        field="width",
        value="wide",
        levels=("resnet", "wide"),
        definition="width of the first stage 64 -> 96 (convnext-b: 128): the inner width of narrow blocks, the outer one of inverted ones",
    ),
    Step(
        name="inverted-bottleneck",
        title="inverted bottleneck",
        field="bottleneck",
        value="inverted",
        levels=("narrow", "inverted"),
        requires=("depthwise",),
        definition="blocks expand fourfold between narrow ends instead of narrowing between wide ones",
    ),
    Step(
        name="move-up-depthwise",
        title="move up depthwise conv",
        field="depthwise_position",
        value="first",
        levels=("middle", "first"),
        requires=("inverted-bottleneck",),
        definition="the depthwise convolution (with the stride) comes first, on the block's input channels",
    ),
    Step(
        name="kernel-size",
        title="kernel size",
        field="kernel_size",
        value=7,
        levels=(3, 5, 7, 9, 11),
        requires=("depthwise",),
        spatial=True,
        definition="kernel of the depthwise convolution 3 -> 7 (5, 9, 11 are alternatives)",
    ),
    Step(
        name="gelu",
        title="ReLU to GELU",
        field="activation",
        value="gelu",
        levels=("relu", "gelu"),
        definition="every activation becomes GELU",
    ),
    Step(
        name="fewer-activations",
        title="fewer activations",
        field="activations",
        value="one",
        levels=("every", "one"),
        requires=("move-up-depthwise",),
        definition="one activation a block, between the two 1x1; none in the stem and after the sum",
    ),
    Step(
        name="fewer-norms",
        title="fewer norms",
        field="norms",
        value="one",
        levels=("every", "one"),
        requires=("move-up-depthwise",),
        definition="one norm a block, after the depthwise convolution (shortcut and stem keep theirs)",
    ),
    Step(
        name="layer-norm",
        title="BN to LN",
        field="norm",
        value="layer",
        levels=("batch", "layer"),
        definition="every BatchNorm becomes LayerNorm over channels; convolutions get biases, residuals a layer scale",
    ),
    Step(
        name="separate-downsampling",
        title="separate downsampling",
        field="downsampling",
        value="separate",
        levels=("block", "separate"),
        definition="norm and 2x2 convolution of stride 2 between stages instead of strided blocks; a norm after pooling",
    ),
    Step(
        name="pre-norm",
        title="extra pre-norm",
        field="pre_norm",
        value="extra",
        levels=("none", "extra"),
        adopted=False,
        definition="a norm before every block, which the paper found useless: a published null",
    ),
    *mixing_steps("move-up-depthwise"),
)

NUMBERS = dict.fromkeys(NAMES, ()) | {"kernels": ("depthwise",)}
STRIDED = {"separate-downsampling": "block"}  # a strided block keeps its convolution

PAPER_T = {
    "ResNet-50": Paper(top1=76.13, gmacs=4.09),
    "recipe": Paper(top1=78.82, sd=0.07, gmacs=4.09),
    "stage-ratio": Paper(top1=79.36, sd=0.07, gmacs=4.53),
    "patchify-stem": Paper(top1=79.51, sd=0.18, gmacs=4.42),
    "depthwise": Paper(top1=78.28, sd=0.08, gmacs=2.35),
    "width": Paper(top1=80.50, sd=0.02, gmacs=5.27),
    "inverted-bottleneck": Paper(top1=80.64, sd=0.03, gmacs=4.64),
    "move-up-depthwise": Paper(top1=79.92, sd=0.08, gmacs=4.07),
    "kernel-size=5": Paper(top1=80.35, sd=0.08, gmacs=4.10),
    "kernel-size": Paper(top1=80.57, sd=0.14, gmacs=4.15),
    "kernel-size=9": Paper(top1=80.57, sd=0.06, gmacs=4.21),
    "kernel-size=11": Paper(top1=80.47, sd=0.11, gmacs=4.29),
    "gelu": Paper(top1=80.62, sd=0.14, gmacs=4.15),
    "fewer-activations": Paper(top1=81.27, sd=0.06, gmacs=4.15),
    "fewer-norms": Paper(top1=81.41, sd=0.09, gmacs=4.15),
    "layer-norm": Paper(top1=81.47, sd=0.09, gmacs=4.46),
    "separate-downsampling": Paper(top1=81.97, sd=0.06, gmacs=4.49),
}
PAPER_B = {
    "ResNet-200": Paper(top1=78.20, gmacs=15.01),
    "recipe": Paper(top1=81.14, gmacs=15.01),
    "stage-ratio": Paper(top1=81.33, gmacs=14.52),
    "patchify-stem": Paper(top1=81.59, gmacs=14.38),
    "depthwise": Paper(top1=80.54, gmacs=7.23),
    "width": Paper(top1=81.85, gmacs=16.76),
    "inverted-bottleneck": Paper(top1=82.64, gmacs=15.68),
    "move-up-depthwise": Paper(top1=82.04, gmacs=14.63),
    "kernel-size=5": Paper(top1=82.32, gmacs=14.70),
    "kernel-size": Paper(top1=82.30, gmacs=14.81),
    "kernel-size=9": Paper(top1=82.27, gmacs=14.95),
    "kernel-size=11": Paper(top1=82.18, gmacs=15.13),
    "gelu": Paper(top1=82.19, gmacs=14.81),
    "fewer-activations": Paper(top1=82.71, gmacs=14.81),
    "fewer-norms": Paper(top1=83.17, gmacs=14.81),
    "layer-norm": Paper(top1=83.35, gmacs=14.81),
    "separate-downsampling": Paper(top1=83.60, gmacs=15.35),
}

CONVNEXT_T = Track(
    name="convnext-t",
    title="ResNet-50 to ConvNeXt-T",
    base="ResNet-50",
    goal="ConvNeXt-T",
    decisions=Decisions,
    network=partial(network, sizes=T_SIZES, base="ResNet-50", goal="ConvNeXt-T"),
    steps=STEPS,
    scales=SCALES,
    paper=PAPER_T,
    numbers=NUMBERS,
    convolutions=(None, STRIDED, STRIDED, STRIDED),
    paper_source="arXiv 2201.03545, Table 10: ImageNet-1K, 224 pixels, three seeds",
)
CONVNEXT_B = Track(
    name="convnext-b",
    title="ResNet-200 to ConvNeXt-B",
    base="ResNet-200",
    goal="ConvNeXt-B",
    decisions=Decisions,
    network=partial(network, sizes=B_SIZES, base="ResNet-200", goal="ConvNeXt-B"),
    steps=STEPS,
    scales=SCALES,
    paper=PAPER_B,
    numbers=NUMBERS,
    convolutions=(None, STRIDED, STRIDED, STRIDED),
    paper_source="arXiv 2201.03545, Table 11: ImageNet-1K, 224 pixels, one seed",
)
