"""MLP-Mixer (2105.01601): one MLP across tokens, one across channels, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..layers import Norm
from ..mixers import TokenMlp
from ..spec import Head, NetSpec, Stage
from .entry import Variant
from .transformer import grid, patches, pre_norm_block

if TYPE_CHECKING:
    from ..weights import Dialect, State


def network(name: str, width: int, depth: int, patch: int, *, input_size: int, classes: int) -> NetSpec:
    """A Mixer of `depth` blocks: width/2 units in the MLP across tokens, 4 width in the one across channels (Table 1)."""
    tokens = grid(name, input_size, patch) ** 2
    block = pre_norm_block(TokenMlp(tokens=tokens, hidden=width // 2, name="token_mlp"), width, hidden=4 * width, eps=1e-6)
    return NetSpec(
        name=name,
        stem=(patches(width, patch),),
        stages=(Stage(blocks=(block,) * depth),),
        head=Head(before=(Norm(norm="layer", eps=1e-6, name="norm"),), classes=classes),
    )


def dialects() -> tuple[Dialect, ...]:
    """The names of timm, and of the official JAX code (.npz).

    The official code takes the tanh approximation of GELU, a default of its library; timm and this package take the exact one of the paper.
    """
    from ..weights import Dialect, by_rules

    timm = by_rules(
        (r"^stem\.patches\.", "stem.proj."),
        (r"^stages\.0\.", ""),
        (r"token_mixer\.body\.norm\.", "norm1."),
        (r"token_mixer\.body\.token_mlp\.", "mlp_tokens."),
        (r"channel_mixer\.body\.norm\.", "norm2."),
        (r"channel_mixer\.body\.", "mlp_channels."),
        (r"^head\.before\.norm\.", "norm."),
        (r"^head\.classifiers\.0\.linear\.", "head."),
    )
    google = by_rules(
        (r"norm\.weight$", "norm.scale"),
        (r"weight$", "kernel"),
        (r"^stem\.patches\.", "stem/"),
        (r"^stages\.0\.blocks\.(\d+)\.", r"MixerBlock_\1/"),
        (r"token_mixer\.body\.norm\.", "LayerNorm_0/"),
        (r"token_mixer\.body\.token_mlp\.", "token_mixing/"),
        (r"channel_mixer\.body\.norm\.", "LayerNorm_1/"),
        (r"channel_mixer\.body\.", "channel_mixing/"),
        (r"fc1\.", "Dense_0/"),
        (r"fc2\.", "Dense_1/"),
        (r"^head\.before\.norm\.", "pre_head_layer_norm/"),
        (r"^head\.classifiers\.0\.linear\.", "head/"),
    )
    linear = r"fc[12]\.weight$"
    return (
        Dialect(name="timm", rename=timm, linear=linear),
        Dialect(name="google", rename=google, linear=linear, unpack=inputs_last, pack=inputs_first),
    )


def inputs_last(state: State, spec: NetSpec) -> State:
    """JAX's kernels (in, out) and (height, width, in, out) as torch's weights (out, in) and (out, in, height, width)."""
    return {k: (v.permute(3, 2, 0, 1) if v.ndim == 4 else v.t()) if k.endswith("kernel") else v for k, v in state.items()}


def inputs_first(state: State, spec: NetSpec) -> State:
    """The inverse of `inputs_last`."""
    return {k: (v.permute(2, 3, 1, 0) if v.ndim == 4 else v.t()).contiguous() if k.endswith("kernel") else v for k, v in state.items()}


def _variant(name: str, width: int, depth: int, patch: int, top1: float | None = None, source: str = "2105.01601, Table 1") -> Variant:
    return Variant(
        name=name.lower(),
        aliases=(f"mlp-{name.lower()}", f"{name.lower()}-224"),
        system="MLP-Mixer",
        spec=lambda input_size=224, classes=1000: network(name, width, depth, patch, input_size=input_size, classes=classes),
        sizes=f"any multiple of {patch}; the MLPs across tokens are made for it",
        micro="mixer-micro",
        top1=top1,
        source=source,
        dialects=dialects,
    )


VARIANTS = (
    _variant("Mixer-S-32", 512, 8, 32),
    _variant("Mixer-S-16", 512, 8, 16),
    _variant("Mixer-B-32", 768, 12, 32),
    _variant("Mixer-B-16", 768, 12, 16, 76.44, "2105.01601, Table 3, ImageNet-1K alone"),
    _variant("Mixer-L-32", 1024, 24, 32),
    _variant("Mixer-L-16", 1024, 24, 16, 71.76, "2105.01601, Table 3, ImageNet-1K alone"),
    _variant("Mixer-H-14", 1280, 32, 14),
    Variant(
        name="mixer-micro",
        system="MLP-Mixer",
        spec=lambda input_size=32, classes=10: network("Mixer micro", 64, 4, 4, input_size=input_size, classes=classes),
        input_size=32,
        sizes="any multiple of 4; the MLPs across tokens are made for it",
        micro="mixer-micro",
        dialects=dialects,
    ),
)
