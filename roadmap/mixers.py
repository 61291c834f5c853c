"""Token mixers and channel mixers as data (no torch): the ideas that tell the systems apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from .layers import Act, ActKind, Conv, Gate, Layer, Layers, Norm, Residual, SqueezeExcite, channels_through, depthwise, size_through

Axis = Literal["height", "width"]


@dataclass(frozen=True, kw_only=True)
class Attention(Layer):
    """Multi-head self-attention over all pixels or tokens, with biases (1706.03762; ViT, 2010.11929)."""

    kind: ClassVar[str] = "attention"
    module: ClassVar[str] = "attention:AttentionModule"
    heads: int

    def out_channels(self, channels: int) -> int:
        return into_heads(channels, self.heads)


@dataclass(frozen=True, kw_only=True)
class WindowAttention(Layer):
    """Self-attention in windows of `window` x `window` pixels with a relative position bias; with `shift` the windows lie that many
    pixels further down and right, cyclically, and pixels from opposite edges are masked (Swin, 2103.14030, Section 3.2).

    `size` is the height and width of the map, a multiple of the window.
    """

    kind: ClassVar[str] = "window-attention"
    module: ClassVar[str] = "window:WindowAttentionModule"
    heads: int
    window: int
    shift: int = 0
    size: int

    def __post_init__(self) -> None:
        if self.size % self.window:
            raise ValueError(
                f"windows of {self.window} pixels do not divide a map of {self.size}: its size must be a multiple of the window"
            )
        if not 0 <= self.shift < self.window:
            raise ValueError(f"the shift {self.shift} must be below the window {self.window}")

    def out_channels(self, channels: int) -> int:
        return into_heads(channels, self.heads)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        return only_size(self.size, height, width, "this window attention")


@dataclass(frozen=True, kw_only=True)
class SpaceToDepth(Layer):
    """Every `factor` x `factor` tile of pixels becomes one pixel of `factor`^2 times the channels (patch merging, 2103.14030)."""

    kind: ClassVar[str] = "space-to-depth"
    module: ClassVar[str] = "window:SpaceToDepthModule"
    factor: int = 2

    def out_channels(self, channels: int) -> int:
        return channels * self.factor**2

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        if height % self.factor or width % self.factor:
            raise ValueError(f"a map of {height}x{width} does not divide into tiles of {self.factor}x{self.factor}")
        return height // self.factor, width // self.factor

    def taps(self) -> tuple[int, int]:
        return (self.factor, 1)


@dataclass(frozen=True, kw_only=True)
class TokenMlp(Layer):
    """An MLP with `hidden` units across the `tokens` = H * W pixels, shared by all channels (MLP-Mixer, 2105.01601, Section 2)."""

    kind: ClassVar[str] = "token-mlp"
    module: ClassVar[str] = "token_mlp:TokenMlpModule"
    tokens: int
    hidden: int
    act: ActKind = "gelu"

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        if height * width != self.tokens:
            raise ValueError(f"this token MLP is made for {self.tokens} tokens, not for the {height * width} of a map of {height}x{width}")
        return height, width


@dataclass(frozen=True, kw_only=True)
class ClassTokens(Layer):
    """Turns a map of `grid` x `grid` pixels into a sequence (C, T, 1): a class token first, with `distillation` a distillation token
    second, then the pixels row by row, all with a learned position embedding (ViT, 2010.11929; DeiT, 2012.12877)."""

    kind: ClassVar[str] = "class-tokens"
    module: ClassVar[str] = "tokens:ClassTokensModule"
    grid: int
    distillation: bool = False

    @property
    def count(self) -> int:
        """Number of tokens put before the pixels."""
        return 2 if self.distillation else 1

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        only_size(self.grid, height, width, "this position embedding")
        return self.count + height * width, 1


@dataclass(frozen=True, kw_only=True)
class GlobalAvgPool(Layer):
    """The mean over all pixels: a map of 1x1."""

    kind: ClassVar[str] = "global-avg-pool"
    module: ClassVar[str] = "conv:GlobalAvgPoolModule"

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        return 1, 1


@dataclass(frozen=True, kw_only=True)
class AxialPosition(Layer):
    """Adds a learned position embedding along axis `first` to the first half of the channels, along the other axis to the second half
    (ParC-Net, 2203.03952, Section 3.1). It has `size` places and is interpolated linearly to the map's height and width."""

    kind: ClassVar[str] = "axial-position"
    module: ClassVar[str] = "circular:AxialPositionModule"
    size: int
    first: Axis = "height"

    def out_channels(self, channels: int) -> int:
        return into_halves(channels)


@dataclass(frozen=True, kw_only=True)
class CircularConv(Layer):
    """Circular convolution as long as the map: along axis `first` for the first half of the channels, along the other for the second
    half (ParC-Net, 2203.03952, Section 3.1). The kernel has `size` taps and is interpolated linearly to the map's height and width.
    One filter a channel, or with `depthwise=False` every channel of a half from all of that half."""

    kind: ClassVar[str] = "circular-conv"
    module: ClassVar[str] = "circular:CircularConvModule"
    size: int
    first: Axis = "height"
    bias: bool = False
    depthwise: bool = True

    def out_channels(self, channels: int) -> int:
        return into_halves(channels)


@dataclass(frozen=True, kw_only=True)
class CosineAttention(Layer):
    """Global attention by cosine similarity, with a learned query embedding, scaled by the log of the number of tokens, and a position
    bias that an MLP computes from log-spaced offsets (TransNeXt, 2311.17132, Section 3.3).

    `size` is the height and width of the map; offsets are measured in maps of `trained_size`, at which the weights were trained."""

    kind: ClassVar[str] = "cosine-attention"
    module: ClassVar[str] = "aggregated:CosineAttentionModule"
    heads: int
    size: int
    trained_size: int
    bias: bool = True

    def out_channels(self, channels: int) -> int:
        return into_heads(channels, self.heads)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        return only_size(self.size, height, width, "this position bias")


@dataclass(frozen=True, kw_only=True)
class AggregatedAttention(Layer):
    """Every pixel attends to its `window` x `window` neighbours and to a map pooled to `pool` x `pool`, in one softmax; otherwise as
    CosineAttention (TransNeXt, 2311.17132, Sections 3.1 to 3.3)."""

    kind: ClassVar[str] = "aggregated-attention"
    module: ClassVar[str] = "aggregated:AggregatedAttentionModule"
    heads: int
    size: int
    trained_size: int
    pool: int
    window: int = 3
    bias: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.pool <= self.size:
            raise ValueError(f"a map of {self.size}x{self.size} cannot be pooled to {self.pool}x{self.pool}: take a larger input")
        if self.window % 2 == 0:
            raise ValueError(f"the window of neighbours must be odd, not {self.window}")

    def out_channels(self, channels: int) -> int:
        return into_heads(channels, self.heads)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        return only_size(self.size, height, width, "this position bias")

    def taps(self) -> tuple[int, int]:
        return (self.window, 1)


@dataclass(frozen=True, kw_only=True)
class ConvGlu(Layer):
    """`act(depthwise(a)) * b` for the halves a, b of the channels: the gate of the convolutional GLU (TransNeXt, 2311.17132, 3.4)."""

    kind: ClassVar[str] = "conv-glu"
    module: ClassVar[str] = "glu:ConvGluModule"
    kernel: int = 3
    act: ActKind = "gelu"

    def out_channels(self, channels: int) -> int:
        return into_halves(channels) // 2

    def taps(self) -> tuple[int, int]:
        return (self.kernel, 1)


def large_kernel_attention(channels: int, *, kernel: int = 21, dilation: int = 3) -> Layer:
    """A gate whose body is a convolution of `kernel` pixels, decomposed into a small depthwise one, a dilated depthwise one and a 1x1
    (VAN, 2202.09741, Section 3.1)."""
    return Gate(
        body=(
            depthwise(channels, 2 * dilation - 1, bias=True, name="local"),
            depthwise(channels, -(-kernel // dilation), dilation=dilation, bias=True, name="dilated"),
            Conv(out=channels, bias=True, name="pointwise"),
        ),
        name="gate",
    )


def conv_glu(channels: int, hidden: int, *, act: ActKind = "gelu", bias: bool = True, kernel: int = 3) -> Layers:
    """A channel mixer with a gate of `hidden` channels between two 1x1 (names fc1, gate, fc2; TransNeXt, 2311.17132, Section 3.4)."""
    return (
        Conv(out=2 * hidden, bias=bias, name="fc1"),
        ConvGlu(kernel=kernel, act=act, name="gate"),
        Conv(out=channels, bias=bias, name="fc2"),
    )


def into_halves(channels: int) -> int:
    """`channels`, which must divide into two halves."""
    if channels % 2:
        raise ValueError(f"{channels} channels do not divide into two halves")
    return channels


def into_heads(channels: int, heads: int) -> int:
    """`channels`, which must divide into `heads`."""
    if channels % heads:
        raise ValueError(f"{channels} channels do not divide into {heads} heads")
    return channels


def only_size(size: int, height: int, width: int, what: str) -> tuple[int, int]:
    """Height and width, which must both be `size`."""
    if (height, width) != (size, size):
        raise ValueError(f"{what} is made for a map of {size}x{size}, not {height}x{width}")
    return height, width


@dataclass(frozen=True, kw_only=True)
class OffsetAttention(Layer):
    """Attention without projections over a map of `grid` = (H, W), with a learned bias for every |dy|, |dx| (LeViT, 2104.01136).

    Input `heads * (2 * key + value)` channels, query, key and value of a head together; output `heads * value`.
    """

    kind: ClassVar[str] = "offset-attention"
    module: ClassVar[str] = "offset_attention:OffsetAttentionModule"
    heads: int
    key: int
    value: int
    grid: tuple[int, int]

    def out_channels(self, channels: int) -> int:
        return _attended(channels, self.heads * (2 * self.key + self.value), self.heads * self.value)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        _check_grid(self.grid, height, width)
        return height, width


@dataclass(frozen=True, kw_only=True)
class ShrinkingAttention(Layer):
    """As OffsetAttention, with fewer queries than keys (LeViT's shrinking attention): `query` gives `heads * key` channels on a
    smaller map, `key_value` gives `heads * (key + value)` channels on a map of `grid` = (H, W); output `heads * value` channels on
    the queries' map."""

    kind: ClassVar[str] = "shrinking-attention"
    module: ClassVar[str] = "offset_attention:ShrinkingAttentionModule"
    heads: int
    key: int
    value: int
    grid: tuple[int, int]
    query: Layers
    key_value: Layers

    def out_channels(self, channels: int) -> int:
        _attended(channels_through(self.query, channels), self.heads * self.key, 0)
        return _attended(channels_through(self.key_value, channels), self.heads * (self.key + self.value), self.heads * self.value)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        _check_grid(self.grid, height, width)
        return size_through(self.query, height, width)

    def children(self) -> tuple[Layers, ...]:
        return (self.query, self.key_value)


def _attended(channels: int, needed: int, out: int) -> int:
    if channels != needed:
        raise ValueError(f"the heads need {needed} channels, not {channels}")
    return out


def _check_grid(grid: tuple[int, int], height: int, width: int) -> None:
    if grid != (height, width):
        raise ValueError(f"attention with a bias for {grid[0]}x{grid[1]} positions does not fit a map of {height}x{width}")


@dataclass(frozen=True, kw_only=True)
class Concat(Layer):
    """`cat(x, body(x))` along the channels."""

    kind: ClassVar[str] = "concat"
    module: ClassVar[str] = "unfold:ConcatModule"
    body: Layers

    def out_channels(self, channels: int) -> int:
        return channels + channels_through(self.body, channels)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        if size_through(self.body, height, width) != (height, width):
            raise ValueError("what is concatenated must keep the map's size")
        return height, width

    def children(self) -> tuple[Layers, ...]:
        return (self.body,)


@dataclass(frozen=True, kw_only=True)
class Unfold(Layer):
    """Apply `body` to each of the `patch`^2 maps made of every patch-th pixel, and put them together again (MobileViT, 2110.02178:
    unfold, transform, fold). A map that `patch` does not divide is resized up (bilinear) and back."""

    kind: ClassVar[str] = "unfold"
    module: ClassVar[str] = "unfold:UnfoldModule"
    patch: int
    body: Layers

    def out_channels(self, channels: int) -> int:
        return channels_through(self.body, channels)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        small = -(-height // self.patch), -(-width // self.patch)
        if size_through(self.body, *small) != small:
            raise ValueError("the layers between unfold and fold must keep the map's size")
        return height, width


@dataclass(frozen=True, kw_only=True)
class RepDepthwise(Layer):
    """A depthwise convolution re-parameterised from three branches: `BN(BN(conv_k(x)) + conv_1(x) + x)` (RepViT, 2307.09283); one
    depthwise convolution once deployed."""

    kind: ClassVar[str] = "rep-depthwise"
    module: ClassVar[str] = "rep_dw:RepDepthwiseModule"
    kernel: int = 3

    def taps(self) -> tuple[int, int]:
        return (self.kernel, 1)


def round_channels(channels: float, *, shortfall: float = 0.1) -> int:
    """The nearest multiple of 8 that is at least 8 and falls short of `channels` by no more than that part of it (MobileNetV2)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= (1 - shortfall) * channels else rounded + 8


def inverted_residual(
    channels: int,
    hidden: int,
    out: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    act: ActKind = "relu6",
    squeeze_excite: SqueezeExcite | None = None,
    expand: bool = True,
) -> Layers:
    """The block of the MobileNets: 1x1 to `hidden` (left out without `expand`), depthwise, squeeze-and-excitation, 1x1 to `out` without
    an activation (1801.04381; 1905.02244), in a residual where shape and stride allow."""
    body: Layers = (
        depthwise(hidden, kernel, stride=stride),
        Norm(norm="batch", name="norm_depthwise"),
        Act(act=act, name="act_depthwise"),
        *((squeeze_excite,) if squeeze_excite else ()),
        Conv(out=out, name="project"),
        Norm(norm="batch", name="norm_project"),
    )
    if expand:
        body = (Conv(out=hidden, name="expand"), Norm(norm="batch", name="norm_expand"), Act(act=act, name="act_expand"), *body)
    return (Residual(body=body, name="residual"),) if stride == 1 and channels == out else body
