"""Swin Transformer (2103.14030): self-attention in shifted windows, in four stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..layers import Conv, Layers, Norm
from ..mixers import SpaceToDepth, WindowAttention
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant, spelled_out
from .transformer import patches, pre_norm_block

if TYPE_CHECKING:
    import re

    from ..weights import Dialect


def network(
    name: str, *, width: int, depths: tuple[int, ...], heads: int, window: int, patch: int = 4, input_size: int, classes: int
) -> NetSpec:
    """Swin with `width` channels and `heads` heads in the first stage, twice as many in each one after.

    Every other block shifts its windows by half of one. Where the map is not larger than the window, the window is the map, unshifted.
    """
    stride = patch * 2 ** (len(depths) - 1)
    sizes = [input_size // (patch * 2**i) for i in range(len(depths))]
    if input_size % stride or any(size > window and size % window for size in sizes):
        raise ValueError(f"{name} with windows of {window} pixels needs a multiple of {stride * window} pixels, not {input_size}")
    stages = []
    for i, depth in enumerate(depths):
        channels, size = width * 2**i, sizes[i]
        extent = min(window, size)
        transition: Layers = ()
        if i > 0:
            transition = (SpaceToDepth(name="merge"), _norm(), Conv(out=channels, name="reduction"))
        stages.append(Stage(transition=transition, blocks=tuple(_block(channels, heads * 2**i, extent, size, j) for j in range(depth))))
    return NetSpec(
        name=name,
        stem=(patches(width, patch), _norm()),
        stages=tuple(stages),
        head=Head(before=(_norm(),), classes=classes),
    )


def _norm() -> Norm:
    return Norm(norm="layer", name="norm")


def _block(channels: int, heads: int, window: int, size: int, index: int) -> Block:
    shift = window // 2 if index % 2 and size > window else 0
    attention = WindowAttention(heads=heads, window=window, shift=shift, size=size, name="attention")
    return pre_norm_block(attention, channels, hidden=4 * channels, eps=1e-5)


def published(name: str, width: int, depths: tuple[int, ...], *, input_size: int, classes: int) -> NetSpec:
    """A published Swin. Its windows are 1/32 of the input, as in the paper: 7 pixels at 224, 12 at 384."""
    if input_size < 64 or input_size % 32:
        raise ValueError(f"{name} has a total stride of 32: the input size must be a multiple of 32 from 64, not {input_size}")
    return network(name, width=width, depths=depths, heads=width // 32, window=input_size // 32, input_size=input_size, classes=classes)


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository, which ends a stage with its merging, and of timm, which begins one with it."""
    from ..weights import Dialect, by_rules

    rules: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
        (r"^stem\.patches\.", "patch_embed.proj."),
        (r"^stem\.norm\.", "patch_embed.norm."),
        (r"^stages\.(\d+)\.blocks\.", r"layers.\1.blocks."),
        (r"token_mixer\.body\.norm\.", "norm1."),
        (r"token_mixer\.body\.attention\.", "attn."),
        (r"position_bias$", "relative_position_bias_table"),
        (r"channel_mixer\.body\.norm\.", "norm2."),
        (r"channel_mixer\.body\.", "mlp."),
        (r"^head\.before\.norm\.", "norm."),
    )
    official = by_rules(
        *rules,
        (r"^stages\.(\d+)\.transition\.", lambda m: f"layers.{int(m[1]) - 1}.downsample."),
        (r"^head\.classifiers\.0\.linear\.", "head."),
    )
    timm = by_rules(*rules, (r"^stages\.(\d+)\.transition\.", r"layers.\1.downsample."), (r"^head\.classifiers\.0\.linear\.", "head.fc."))
    linear, constant = r"(fc[12]|reduction)\.weight$", r"\.(relative_position_index|attn_mask)$"
    return (
        Dialect(name="official", rename=official, linear=linear, constant=constant),
        Dialect(name="timm", rename=timm, linear=linear, constant=constant),
    )


def _variant(
    name: str, width: int, depths: tuple[int, ...], top1: float, *, size: int = 224, source: str = "2103.14030, Table 1a"
) -> Variant:
    return Variant(
        name=name.lower(),
        aliases=(spelled_out(name), f"{spelled_out(name.removesuffix('-384'))}-patch4-window{size // 32}-{size}"),
        system="Swin",
        spec=lambda input_size=size, classes=1000: published(name, width, depths, input_size=input_size, classes=classes),
        input_size=size,
        sizes="any multiple of 32 from 64, with windows of 1/32 of it",
        micro="swin-micro",
        top1=top1,
        source=source,
        dialects=dialects,
    )


LARGE = "pre-trained on ImageNet-22K"
VARIANTS = (
    _variant("Swin-T", 96, (2, 2, 6, 2), 81.3),
    _variant("Swin-S", 96, (2, 2, 18, 2), 83.0),
    _variant("Swin-B", 128, (2, 2, 18, 2), 83.5),
    _variant("Swin-B-384", 128, (2, 2, 18, 2), 84.5, size=384),
    _variant("Swin-L", 192, (2, 2, 18, 2), 86.3, source=f"the official repository, {LARGE}"),
    _variant("Swin-L-384", 192, (2, 2, 18, 2), 87.3, size=384, source=f"2103.14030, Table 1b, {LARGE}"),
    Variant(
        name="swin-micro",
        system="Swin",
        spec=lambda input_size=32, classes=10: network(
            "Swin micro", width=24, depths=(2, 2, 2), heads=2, window=4, patch=2, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any multiple of 32",
        micro="swin-micro",
        dialects=dialects,
    ),
)
