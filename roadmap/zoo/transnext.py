"""TransNeXt (2311.17132): aggregated attention over neighbours and a pooled map, and a convolutional gated linear unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..layers import Conv, Layer, Layers, Norm, Residual, window_size
from ..mixers import AggregatedAttention, CosineAttention, conv_glu
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect

Four = tuple[int, int, int, int]


def transnext(
    name: str,
    width: int,
    depths: Four,
    *,
    ratios: Four = (8, 4, 2, 1),
    head_width: int = 24,
    mlp_ratios: Four = (8, 8, 4, 4),
    trained_size: int = 224,
    pool: int | None = None,
    stem_stride: int = 4,
    input_size: int = 224,
    classes: int = 1000,
) -> NetSpec:
    """TransNeXt with `width` channels in the first stage. Maps are pooled `ratios` times a stage for aggregated attention (1: attention
    is global), or to `pool` pixels whatever the input ("linear inference", Section 3.3); `trained_size` is the input size in which the
    position bias measures offsets: that of the weights' pre-training."""
    if input_size < 8 * stem_stride:
        raise ValueError(f"{name} needs an input of {8 * stem_stride} pixels or more, not {input_size}")
    sizes, trained = map_sizes(input_size, stem_stride), map_sizes(trained_size, stem_stride)
    stages = []
    for i, (depth, ratio, mlp_ratio) in enumerate(zip(depths, ratios, mlp_ratios, strict=True)):
        channels = width * 2**i
        heads = channels // head_width
        mixer: Layer = CosineAttention(heads=heads, size=sizes[i], trained_size=trained[i], name="attention")
        if ratio > 1:
            pooled = sizes[i] // ratio if pool is None else pool
            mixer = AggregatedAttention(heads=heads, size=sizes[i], trained_size=trained[i], pool=pooled, name="attention")
        body = (
            Residual(body=(_norm(), mixer), name="token_mixer"),
            Residual(body=(_norm(), *conv_glu(channels, 2 * mlp_ratio * channels // 3)), name="channel_mixer"),
        )
        stages.append(Stage(transition=_embedding(channels, 3, 2) if i else (), blocks=(Block(body=body),) * depth, after=(_norm(),)))
    stem = _embedding(width, 2 * stem_stride - 1, stem_stride)
    return NetSpec(name=name, stem=stem, stages=tuple(stages), head=Head(classes=classes))


def map_sizes(input_size: int, stem_stride: int) -> list[int]:
    """Height and width of the map in each stage."""
    sizes = [window_size(input_size, 2 * stem_stride - 1, stem_stride, stem_stride - 1)]
    for _ in range(3):
        sizes.append(window_size(sizes[-1], 3, 2, 1))
    return sizes


def _norm() -> Norm:
    return Norm(norm="layer", eps=1e-6, name="norm")


def _embedding(width: int, kernel: int, stride: int) -> Layers:
    return (Conv(out=width, kernel=kernel, stride=stride, bias=True, name="conv"), Norm(norm="layer", name="norm"))


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
        (r"token_mixer\.body\.norm\.", "norm1."),
        (r"channel_mixer\.body\.norm\.", "norm2."),
        (r"token_mixer\.body\.attention\.", "attn."),
        (r"attn\.query$", "attn.query_embedding"),
        (r"attn\.window_bias$", "attn.relative_pos_bias_local"),
        (r"attn\.tokens$", "attn.learnable_tokens"),
        (r"attn\.token_bias$", "attn.learnable_bias"),
        (r"attn\.reduce\.", "attn.sr."),
        (r"attn\.position\.(fc\d)\.", r"attn.cpb_\1."),
        (r"channel_mixer\.body\.gate\.depthwise\.", "mlp.dwconv.dwconv."),
        (r"channel_mixer\.body\.", "mlp."),
        (r"^head\.classifiers\.0\.linear\.", "head."),
    )
    tables = r"^(relative_pos_index|relative_coords_table)\d$|\.(seq_length_scale|padding_mask)$"
    return (Dialect(name="official", rename=rename, linear=r"channel_mixer\.body\.fc[12]\.weight", constant=tables),)


def _variant(
    name: str,
    width: int,
    depths: Four,
    top1: float,
    *,
    ratios: Four = (8, 4, 2, 1),
    native: int = 224,
    trained_size: int = 224,
    source: str = "2311.17132; official README",
) -> Variant:
    return Variant(
        name=name.lower(),
        system="TransNeXt",
        spec=lambda input_size=native, classes=1000: transnext(
            name, width, depths, ratios=ratios, trained_size=trained_size, input_size=input_size, classes=classes
        ),
        input_size=native,
        sizes="any size from 64" if ratios[3] > 1 else "any size from 32",
        micro="transnext-micro-32",
        top1=top1,
        source=source,
        dialects=dialects,
    )


VARIANTS = (
    _variant("TransNeXt-Micro", 48, (2, 2, 15, 2), 82.5),
    _variant("TransNeXt-Tiny", 72, (2, 2, 15, 2), 84.0),
    _variant("TransNeXt-Small", 72, (5, 5, 22, 5), 84.7),
    _variant("TransNeXt-Base", 96, (5, 5, 23, 5), 84.8),
    _variant("TransNeXt-Small-384", 72, (5, 5, 22, 5), 86.0, native=384),
    _variant("TransNeXt-Base-384", 96, (5, 5, 23, 5), 86.2, native=384),
    _variant(
        "TransNeXt-Micro-AAAA",
        48,
        (2, 2, 15, 2),
        82.6,
        ratios=(16, 8, 4, 2),
        native=256,
        trained_size=256,
        source="2311.17132, Table 9",
    ),
    Variant(
        name="transnext-micro-32",
        system="TransNeXt",
        spec=lambda input_size=32, classes=10: transnext(
            "TransNeXt micro",
            16,
            (1, 1, 2, 1),
            head_width=8,
            mlp_ratios=(4, 4, 2, 2),
            trained_size=32,
            stem_stride=2,
            input_size=input_size,
            classes=classes,
        ),
        input_size=32,
        sizes="any size from 16",
        micro="transnext-micro-32",
        dialects=dialects,
    ),
)
