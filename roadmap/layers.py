"""The vocabulary of layers: what a network is made of, as plain data (no torch).

A layer maps a feature map `(N, C, H, W)` to a feature map `(N, C', H', W')`. Token sequences are feature maps
of shape `(N, C, T, 1)`, so every layer works on both. Each class names the torch module that computes it
(`module`, "file:Class" below `roadmap.blocks`, or a full "package.module:Class" for third parties); the module's
constructor takes the layer and the number of input channels.

`name` becomes the module's name and so the parameters' path. It is not part of what the network is: it is
excluded from comparison and from the fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

Shape = tuple[int, int, int]  # (C, H, W)
NormKind = Literal["batch", "layer", "group"]
ActKind = Literal["relu", "relu6", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The base of all layers; by default shapes pass unchanged."""

    kind: ClassVar[str] = ""
    module: ClassVar[str] = ""
    uses_batch_statistics: ClassVar[bool] = False  # a BatchNorm inside the layer itself
    name: str = field(default="", compare=False)

    def out_channels(self, channels: int) -> int:
        """Number of output channels for `channels` input channels; ValueError where they do not fit."""
        return channels

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width; ValueError where the input is too small or does not fit."""
        return height, width

    def children(self) -> tuple[tuple[Layer, ...], ...]:
        """The sequences of layers inside this one, each applied to this layer's own input."""
        return ()

    def taps(self) -> tuple[int, int]:
        """Extent of the spatial kernel `(kernel, dilation)`; `(1, 1)` for layers that look at one pixel."""
        return (1, 1)

    @classmethod
    def as_token_mixer(cls, channels: int, *, size: int, kernel: int) -> tuple[Layer, ...]:
        """What `mixer=KIND` puts in the place of a depthwise convolution of `kernel` pixels on `channels` channels and a map of `size` x
        `size` pixels. Installed layers that are token mixers have this; ValueError where they do not fit."""
        raise NotImplementedError

    @classmethod
    def as_channel_mixer(cls, channels: int, hidden: int, *, out: int, act: ActKind, bias: bool) -> tuple[Layer, ...]:
        """What `channel-mixer=KIND` puts in the place of two 1x1 convolutions from `channels` to `out`, of `hidden` channels between them.
        Installed layers that are channel mixers have this."""
        raise NotImplementedError

    def output(self, shape: Shape) -> Shape:
        """Output shape for an input of `shape` = (C, H, W)."""
        return (self.out_channels(shape[0]), *self.out_size(shape[1], shape[2]))


Layers = tuple[Layer, ...]


def window_size(size: int, kernel: int, stride: int, padding: int, dilation: int = 1) -> int:
    """Output length of a sliding window, as in torch's Conv2d; ValueError where the window does not fit."""
    out = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    if out < 1:
        raise ValueError(f"a {kernel}x{kernel} window with stride {stride} does not fit {size} pixels")
    return out


@dataclass(frozen=True, kw_only=True)
class Conv(Layer):
    """A convolution. `padding=None` means "same" for odd kernels: dilation * (kernel - 1) // 2.

    A 1x1 convolution of stride 1 is what papers also call a linear layer over channels: one spelling for both.
    """

    kind: ClassVar[str] = "conv"
    module: ClassVar[str] = "conv:ConvModule"
    out: int
    kernel: int = 1
    stride: int = 1
    padding: int | None = None
    dilation: int = 1
    groups: int = 1
    bias: bool = False

    def __post_init__(self) -> None:
        if self.padding is None:
            object.__setattr__(self, "padding", self.dilation * (self.kernel - 1) // 2)
        if self.out % self.groups:
            raise ValueError(f"{self.out} output channels do not divide into {self.groups} groups")

    def out_channels(self, channels: int) -> int:
        if channels % self.groups:
            raise ValueError(f"{channels} input channels do not divide into {self.groups} groups")
        return self.out

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        pad = self.padding or 0
        return (
            window_size(height, self.kernel, self.stride, pad, self.dilation),
            window_size(width, self.kernel, self.stride, pad, self.dilation),
        )

    def taps(self) -> tuple[int, int]:
        return (self.kernel, self.dilation)


@dataclass(frozen=True, kw_only=True)
class Norm(Layer):
    """Normalisation over channels: "batch" (per channel over N, H, W), "layer" (per pixel over C) or "group" (one
    group over C, H, W)."""

    kind: ClassVar[str] = "norm"
    module: ClassVar[str] = "norm:norm_module"
    norm: NormKind
    eps: float = 1e-5


@dataclass(frozen=True, kw_only=True)
class Act(Layer):
    """A pointwise activation."""

    kind: ClassVar[str] = "act"
    module: ClassVar[str] = "norm:act_module"
    act: ActKind


@dataclass(frozen=True, kw_only=True)
class MaxPool(Layer):
    """Max pooling with "same" padding for odd kernels."""

    kind: ClassVar[str] = "max-pool"
    module: ClassVar[str] = "conv:MaxPoolModule"
    kernel: int = 3
    stride: int = 2

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        pad = (self.kernel - 1) // 2
        return window_size(height, self.kernel, self.stride, pad), window_size(width, self.kernel, self.stride, pad)


@dataclass(frozen=True, kw_only=True)
class Residual(Layer):
    """`shortcut(x) + scale * body(x)`: identity where `shortcut` is empty; a learned scale per channel ("layer
    scale") where `layer_scale`. Residuals that stand directly in a block carry its stochastic depth."""

    kind: ClassVar[str] = "residual"
    module: ClassVar[str] = "residual:ResidualModule"
    body: Layers
    shortcut: Layers = ()
    layer_scale: bool = False

    def out_channels(self, channels: int) -> int:
        through, past = channels_through(self.body, channels), channels_through(self.shortcut, channels)
        if through != past:
            raise ValueError(f"a residual adds {through} channels to {past}")
        return through

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        through, past = size_through(self.body, height, width), size_through(self.shortcut, height, width)
        if through != past:
            raise ValueError(f"a residual adds a map of {through} to one of {past}")
        return through

    def children(self) -> tuple[Layers, ...]:
        return (self.body, self.shortcut)


@dataclass(frozen=True, kw_only=True)
class Gate(Layer):
    """`x * body(x)`: the body's output, broadcast, gates its input."""

    kind: ClassVar[str] = "gate"
    module: ClassVar[str] = "residual:GateModule"
    body: Layers

    def children(self) -> tuple[Layers, ...]:
        return (self.body,)


@dataclass(frozen=True, kw_only=True)
class SqueezeExcite(Layer):
    """Squeeze-and-excitation: `x * gate(W2 act(W1 mean(x)))` with `hidden` channels between (1709.01507)."""

    kind: ClassVar[str] = "squeeze-excite"
    module: ClassVar[str] = "squeeze_excite:SqueezeExciteModule"
    hidden: int
    act: ActKind = "relu"
    gate: ActKind = "sigmoid"


def channels_through(layers: Layers, channels: int) -> int:
    """Channels after `layers`, one after another."""
    for layer in layers:
        channels = layer.out_channels(channels)
    return channels


def size_through(layers: Layers, height: int, width: int) -> tuple[int, int]:
    """Height and width after `layers`, one after another."""
    for layer in layers:
        height, width = layer.out_size(height, width)
    return height, width


def depthwise(channels: int, kernel: int, *, stride: int = 1, bias: bool = False, dilation: int = 1, name: str = "") -> Conv:
    """A depthwise convolution: one filter a channel."""
    return Conv(out=channels, kernel=kernel, stride=stride, groups=channels, bias=bias, dilation=dilation, name=name or "depthwise")


def mlp(channels: int, hidden: int, *, act: ActKind = "gelu", bias: bool = True, out: int | None = None) -> Layers:
    """The channel mixer of transformers: 1x1 to `hidden`, activation, 1x1 back (names fc1, act, fc2)."""
    return (
        Conv(out=hidden, bias=bias, name="fc1"),
        Act(act=act, name="act"),
        Conv(out=out or channels, bias=bias, name="fc2"),
    )
