"""Mixing: the token mixer and the channel mixer of each stage, two design decisions that every track shares (no torch).

A token mixer other than "conv" replaces the spatial depthwise convolution of blocks that keep the map's size; a block that carries the
stride keeps its convolution. A channel mixer other than "mlp" replaces the pair of 1x1 convolutions of every block. The norms,
activations and residuals around them stay as the track's other decisions have them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .layers import Act, ActKind, Conv, Layer, Layers, SqueezeExcite, mlp
from .mixers import (
    AggregatedAttention,
    Attention,
    AxialPosition,
    CircularConv,
    CosineAttention,
    RepDepthwise,
    TokenMlp,
    WindowAttention,
    conv_glu,
    large_kernel_attention,
)
from .spec import installed_layers
from .steps import Step, StepError

TOKEN_MIXERS = ("conv", "window", "attention", "token-mlp", "large-kernel", "circular", "rep-dw", "aggregated")
CHANNEL_MIXERS = ("mlp", "conv-glu", "se-mlp")
WINDOW = 7  # the largest window, and the largest pooled map, of the papers at 224 pixels


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """The mixers of the four stages; the base of every track's Decisions."""

    mixer: tuple[str, ...] = ("conv",) * 4
    channel_mixer: tuple[str, ...] = ("mlp",) * 4

    def __post_init__(self) -> None:
        for name, kinds, known in (("mixer", self.mixer, TOKEN_MIXERS), ("channel-mixer", self.channel_mixer, CHANNEL_MIXERS)):
            if len(kinds) == 4 and set(kinds) <= set(known):
                continue
            known = (*known, *(installed_mixers("as_token_mixer" if name == "mixer" else "as_channel_mixer")))
            if len(kinds) != 4 or not set(kinds) <= set(known):
                raise StepError(f"{name} cannot be {'/'.join(kinds)}: it takes four of {', '.join(known)}")

    @property
    def mixed(self) -> bool:
        """Whether any stage has another mixer than the track's own."""
        return set(self.mixer) != {"conv"} or set(self.channel_mixer) != {"mlp"}


def installed_mixers(method: Literal["as_token_mixer", "as_channel_mixer"]) -> dict[str, type[Layer]]:
    """The layers of installed packages that are mixers, by kind: those with this method of `Layer` as their own."""
    layers: list[type[Layer]] = [found.value for found in installed_layers().values()]
    return {c.kind: c for c in layers if getattr(c, method).__func__ is not getattr(Layer, method).__func__}


def mixing_steps(requires: str, *, without: tuple[str, ...] = ()) -> tuple[Step, Step]:
    """The steps `mixer` and `channel-mixer` of a track whose step `requires` separates the two mixers of a block."""
    kinds = tuple(k for k in TOKEN_MIXERS if k not in without)
    return (
        Step(
            name="mixer",
            title="token mixer",
            field="mixer",
            value=("window",) * 4,
            levels=tuple((k,) * 4 for k in kinds),
            more=lambda: tuple((k,) * 4 for k in installed_mixers("as_token_mixer")),
            requires=(requires,),
            adopted=False,
            definition="per stage, what replaces the spatial depthwise convolution of blocks without a stride: "
            + ", ".join(kinds[1:])
            + "; a block that carries the stride keeps its convolution",
        ),
        Step(
            name="channel-mixer",
            title="channel mixer",
            field="channel_mixer",
            value=("conv-glu",) * 4,
            levels=tuple((k,) * 4 for k in CHANNEL_MIXERS),
            more=lambda: tuple((k,) * 4 for k in installed_mixers("as_channel_mixer")),
            requires=(requires,),
            adopted=False,
            definition="per stage, what replaces the two 1x1 convolutions: conv-glu, a convolutional gated linear unit of two thirds of "
            "the hidden width; se-mlp, squeeze-and-excitation between the two",
        ),
    )


def token_mixer(kind: str, channels: int, *, size: int, kernel: int, index: int = 0) -> Layers:
    """What replaces a depthwise convolution of `kernel` pixels on a map of `size` x `size` pixels with `channels` channels, in block
    `index` of its stage; StepError where it does not fit.

    window: as in Swin (2103.14030), heads of 32 channels, the largest window up to 7 that divides the map, shifted in every second block.
    attention: global, heads of 32 channels, with an axial position embedding. token-mlp: as in MLP-Mixer (2105.01601), half as many hidden
    units as channels. large-kernel: VAN's gate of 21 pixels (2202.09741). circular: as in ParC-ConvNeXt (2203.03952). rep-dw: RepViT's
    re-parameterised convolution (2307.09283). aggregated: as in TransNeXt (2311.17132), heads of 24 channels, pooled to 7x7 or to half of
    the map where that is less; on maps up to 7x7 global, as in its last stage.
    """
    if kind in ("attention", "circular") and channels % 2:
        raise StepError(f"mixer={kind} treats two halves of the channels differently, and {channels} do not divide: choose another width")
    if kind == "window":
        window = next(w for w in range(min(WINDOW, size), 0, -1) if size % w == 0)
        if window == 1 < size:
            raise StepError(
                f"mixer=window: a map of {size}x{size} does not divide into windows of 2 to {WINDOW} pixels: change the input size"
            )
        shift = window // 2 if index % 2 and window < size else 0
        return (WindowAttention(heads=_heads(channels, 32), window=window, shift=shift, size=size, name="window"),)
    if kind == "attention":
        return (AxialPosition(size=size, name="position"), Attention(heads=_heads(channels, 32), name="attention"))
    if kind == "token-mlp":
        return (TokenMlp(tokens=size**2, hidden=max(1, channels // 2), name="token_mlp"),)
    if kind == "large-kernel":
        return (large_kernel_attention(channels),)
    if kind == "circular":
        return (AxialPosition(size=size, name="position"), CircularConv(size=size, bias=True, name="circular"))
    if kind == "rep-dw":
        return (RepDepthwise(kernel=kernel, name="rep_depthwise"),)
    if kind == "aggregated":
        heads = _heads(channels, 24)
        if size <= WINDOW:
            return (CosineAttention(heads=heads, size=size, trained_size=size, name="aggregated"),)
        pool = min(WINDOW, size // 2)
        return (AggregatedAttention(heads=heads, size=size, trained_size=size, pool=pool, name="aggregated"),)
    if kind in (found := installed_mixers("as_token_mixer")):
        return found[kind].as_token_mixer(channels, size=size, kernel=kernel)
    raise StepError(f"mixer={kind} replaces nothing: it can be {', '.join((*TOKEN_MIXERS[1:], *found))}")


def channel_mixer(kind: str, channels: int, hidden: int, *, act: ActKind = "gelu", bias: bool = True, out: int | None = None) -> Layers:
    """Two 1x1 convolutions fc1, fc2 from `channels` to `out` (default: the same), of `hidden` channels between them, or what takes their
    place: conv-glu with two thirds as many, which makes up for the gate (TransNeXt, 2311.17132); se-mlp with squeeze-and-excitation down
    to a quarter of `channels` (MobileNetV3, 1905.02244)."""
    if kind == "mlp":
        return mlp(channels, hidden, act=act, bias=bias, out=out)
    if kind == "conv-glu":
        return conv_glu(out or channels, max(1, 2 * hidden // 3), act=act, bias=bias)
    if kind == "se-mlp":
        return (
            Conv(out=hidden, bias=bias, name="fc1"),
            Act(act=act, name="act"),
            SqueezeExcite(hidden=max(1, channels // 4), name="squeeze_excite"),
            Conv(out=out or channels, bias=bias, name="fc2"),
        )
    if kind in (found := installed_mixers("as_channel_mixer")):
        return found[kind].as_channel_mixer(channels, hidden, out=out or channels, act=act, bias=bias)
    raise StepError(f"channel-mixer={kind} is unknown: it can be {', '.join((*CHANNEL_MIXERS, *found))}")


def normed(layers: Layers, norm: Layer) -> Layers:
    """`layers` with `norm` after every 1x1 convolution, named after it."""
    out: list[Layer] = []
    for layer in layers:
        out.append(layer)
        if isinstance(layer, Conv):
            out.append(replace(norm, name=f"norm_{layer.name}"))
    return tuple(out)


def _heads(channels: int, width: int) -> int:
    """The largest number of heads of at least `width` channels that divides `channels`; one where there are fewer."""
    return next(h for h in range(max(1, channels // width), 0, -1) if channels % h == 0)
