"""VAN (2202.09741): large kernel attention between two 1x1 convolutions, in four stages with overlapping patch embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..layers import Act, Conv, Layers, Norm, Residual, depthwise
from ..mixers import large_kernel_attention
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect

Four = tuple[int, int, int, int]


def van(name: str, widths: Four, depths: Four, *, stem_stride: int = 4, input_size: int = 224, classes: int = 1000) -> NetSpec:
    """VAN with `widths` channels and `depths` blocks a stage; MLPs widen 8, 8, 4, 4 times."""
    if input_size < 8 * stem_stride:
        raise ValueError(f"{name} needs an input of {8 * stem_stride} pixels or more, not {input_size}")
    stages = []
    for i, (width, depth, ratio) in enumerate(zip(widths, depths, (8, 8, 4, 4), strict=True)):
        stages.append(
            Stage(
                transition=_embedding(width, 3, 2) if i else (),
                blocks=(_block(width, ratio * width),) * depth,
                after=(Norm(norm="layer", eps=1e-6, name="norm"),),
            )
        )
    return NetSpec(name=name, stem=_embedding(widths[0], 7, stem_stride), stages=tuple(stages), head=Head(classes=classes))


def _embedding(width: int, kernel: int, stride: int) -> Layers:
    return (Conv(out=width, kernel=kernel, stride=stride, bias=True, name="conv"), Norm(norm="batch", name="norm"))


def _block(width: int, hidden: int) -> Block:
    attention = Residual(
        body=(
            Conv(out=width, bias=True, name="pointwise1"),
            Act(act="gelu", name="act"),
            large_kernel_attention(width),
            Conv(out=width, bias=True, name="pointwise2"),
        ),
        name="attention",
    )
    mlp = (
        Conv(out=hidden, bias=True, name="fc1"),
        depthwise(hidden, 3, bias=True),
        Act(act="gelu", name="act"),
        Conv(out=width, bias=True, name="fc2"),
    )
    return Block(
        body=(
            Residual(body=(Norm(norm="batch", name="norm"), attention), layer_scale=True, name="token_mixer"),
            Residual(body=(Norm(norm="batch", name="norm"), *mlp), layer_scale=True, name="channel_mixer"),
        )
    )


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository."""
    from ..weights import Dialect, by_rules

    rename = by_rules(
        (r"^stem\.conv\.", "patch_embed1.proj."),
        (r"^stem\.norm\.", "patch_embed1.norm."),
        (r"^stages\.(\d+)\.transition\.conv\.", lambda m: f"patch_embed{int(m[1]) + 1}.proj."),
        (r"^stages\.(\d+)\.transition\.norm\.", lambda m: f"patch_embed{int(m[1]) + 1}.norm."),
        (r"^stages\.(\d+)\.after\.norm\.", lambda m: f"norm{int(m[1]) + 1}."),
        (r"^stages\.(\d+)\.blocks\.", lambda m: f"block{int(m[1]) + 1}."),
        (r"token_mixer\.scale$", "layer_scale_1"),
        (r"channel_mixer\.scale$", "layer_scale_2"),
        (r"token_mixer\.body\.norm\.", "norm1."),
        (r"channel_mixer\.body\.norm\.", "norm2."),
        (r"token_mixer\.body\.attention\.body\.", "attn."),
        (r"attn\.pointwise(\d)\.", r"attn.proj_\1."),
        (r"gate\.body\.local\.", "spatial_gating_unit.conv0."),
        (r"gate\.body\.dilated\.", "spatial_gating_unit.conv_spatial."),
        (r"gate\.body\.pointwise\.", "spatial_gating_unit.conv1."),
        (r"channel_mixer\.body\.depthwise\.", "mlp.dwconv.dwconv."),
        (r"channel_mixer\.body\.", "mlp."),
        (r"^head\.classifiers\.0\.linear\.", "head."),
    )
    return (Dialect(name="official", rename=rename),)


def _variant(name: str, widths: Four, depths: Four, top1: float | None) -> Variant:
    return Variant(
        name=name.lower(),
        system="VAN",
        spec=lambda input_size=224, classes=1000: van(name, widths, depths, input_size=input_size, classes=classes),
        micro="van-micro",
        top1=top1,
        source="2202.09741; official README",
        dialects=dialects,
    )


VARIANTS = (
    _variant("VAN-B0", (32, 64, 160, 256), (3, 3, 5, 2), 75.4),
    _variant("VAN-B1", (64, 128, 320, 512), (2, 2, 4, 2), 81.1),
    _variant("VAN-B2", (64, 128, 320, 512), (3, 3, 12, 3), 82.8),
    _variant("VAN-B3", (64, 128, 320, 512), (3, 5, 27, 3), 83.9),
    _variant("VAN-B4", (64, 128, 320, 512), (3, 6, 40, 3), None),
    _variant("VAN-B5", (96, 192, 480, 768), (3, 3, 24, 3), None),
    _variant("VAN-B6", (96, 192, 384, 768), (6, 6, 90, 6), None),
    Variant(
        name="van-micro",
        system="VAN",
        spec=lambda input_size=32, classes=10: van(
            "VAN micro", (8, 16, 32, 48), (1, 1, 2, 1), stem_stride=2, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any size from 16",
        micro="van-micro",
        dialects=dialects,
    ),
)
