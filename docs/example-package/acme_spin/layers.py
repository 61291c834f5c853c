"""The layers as data. No torch here: vitnas lists, compares and plans networks without it."""

from dataclasses import dataclass
from typing import ClassVar

from vitnas.roadmap.layers import Layer, Layers, channels_through, size_through


@dataclass(frozen=True, kw_only=True)
class Spin(Layer):
    """A token mixer: a quarter of the channels moves `by` pixels in each direction, around the map; then a factor a channel."""

    kind: ClassVar[str] = "acme.spin"
    module: ClassVar[str] = "acme_spin.modules:SpinModule"
    by: int = 1

    @classmethod
    def as_token_mixer(cls, channels: int, *, size: int, kernel: int) -> Layers:
        """`mixer=acme.spin` on every track: moves by half the kernel that it replaces."""
        return (cls(by=kernel // 2, name="spin"),)


@dataclass(frozen=True, kw_only=True)
class Highway(Layer):
    """A block: `x + gate * (body(x) - x)` with a learned gate a channel (1505.00387). The body keeps the shape."""

    kind: ClassVar[str] = "acme.highway"
    module: ClassVar[str] = "acme_spin.modules:HighwayModule"
    body: Layers

    def out_channels(self, channels: int) -> int:
        return channels_through(self.body, channels)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        return size_through(self.body, height, width)

    def children(self) -> tuple[Layers, ...]:
        return (self.body,)
