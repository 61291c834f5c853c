"""What Swin, DeiT and MLP-Mixer share: patches, and the block of a token mixer and a channel mixer with norms before them."""

from __future__ import annotations

from ..layers import Conv, Layer, Norm, Residual, mlp
from ..spec import Block


def patches(width: int, patch: int) -> Conv:
    """The patch embedding: each `patch` x `patch` tile of pixels becomes one token of `width` channels."""
    return Conv(out=width, kernel=patch, stride=patch, padding=0, bias=True, name="patches")


def grid(name: str, input_size: int, patch: int) -> int:
    """Patches along each side; ValueError where `patch` does not divide the input."""
    if input_size < patch or input_size % patch:
        raise ValueError(f"{name} takes {patch}x{patch} patches: the input size must be a multiple of {patch}, not {input_size}")
    return input_size // patch


def pre_norm_block(mixer: Layer, channels: int, *, hidden: int, eps: float) -> Block:
    """`x + mixer(norm(x))`, then `x + mlp(norm(x))` with `hidden` channels between."""

    def norm() -> Norm:
        return Norm(norm="layer", eps=eps, name="norm")

    return Block(
        body=(
            Residual(body=(norm(), mixer), name="token_mixer"),
            Residual(body=(norm(), *mlp(channels, hidden)), name="channel_mixer"),
        )
    )
