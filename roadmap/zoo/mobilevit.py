"""MobileViT (2110.02178): inverted residuals, and transformers over the pixels that share a place in their 2x2 patch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..layers import Act, Conv, Layer, Layers, Norm, Residual, mlp
from ..mixers import Attention, Concat, Unfold, inverted_residual, round_channels
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect

Three = tuple[int, int, int]


def mobilevit(
    name: str,
    widths: tuple[int, int, int, int, int],
    transformer: Three,
    *,
    expansion: int,
    depths: Three = (2, 4, 3),
    convs: int = 3,
    stem_stride: int = 2,
    first: int = 16,
    head: int | None = None,
    input_size: int,
    classes: int,
) -> NetSpec:
    """MobileViT with `widths` channels in its five stages, `transformer` channels and `depths` layers in the transformers of the last
    three, `convs` inverted residuals in the second. Any input from the total stride on: maps of odd size are resized inside."""
    least = stem_stride * 16
    if input_size < least:
        raise ValueError(f"{name} has a total stride of {least}: the input size must be {least} or more, not {input_size}")

    def mobile(channels: int, out: int, stride: int) -> Layers:
        return inverted_residual(channels, round_channels(channels * expansion), out, stride=stride, act="silu")

    blocks = [Block(body=mobile(widths[0], widths[1], 2))]
    blocks += [Block(body=mobile(widths[1], widths[1], 1))] * (convs - 1)
    stages = [Stage(blocks=(Block(body=mobile(first, widths[0], 1)),)), Stage(blocks=tuple(blocks))]
    for i in range(3):
        block = Block(body=_transformer_block(widths[i + 2], transformer[i], depths[i]))
        # The last map is the widened one, for the classifier as for whatever takes this network as a backbone.
        after = _conv_norm_act(head or 4 * widths[4], 1) if i == 2 else ()
        stages.append(Stage(transition=mobile(widths[i + 1], widths[i + 2], 2), blocks=(block,), after=after))
    return NetSpec(
        name=name,
        stem=_conv_norm_act(first, 3, stride=stem_stride),
        stages=tuple(stages),
        head=Head(classes=classes),
    )


def _conv_norm_act(out: int, kernel: int, name: str = "", stride: int = 1) -> Layers:
    suffix = f"_{name}" if name else ""
    return (
        Conv(out=out, kernel=kernel, stride=stride, name=name or "conv"),
        Norm(norm="batch", name=f"norm{suffix}"),
        Act(act="silu", name=f"act{suffix}"),
    )


def _transformer_block(channels: int, width: int, depth: int) -> Layers:
    """3x3 and 1x1 convolutions, unfold, transformer layers, fold, 1x1 back; a 3x3 over that and the input together."""

    def norm(name: str = "norm") -> Norm:
        return Norm(norm="layer", name=name)

    layers: list[Layer] = []
    for i in range(depth):
        layers.append(Residual(body=(norm(), Attention(heads=4, name="attention")), name=f"attention{i}"))
        layers.append(Residual(body=(norm(), *mlp(width, 2 * width, act="silu")), name=f"mlp{i}"))
    body = (
        *_conv_norm_act(channels, 3, "local"),
        Conv(out=width, name="widen"),
        Unfold(patch=2, body=(*layers, norm()), name="transformer"),
        *_conv_norm_act(channels, 1, "project"),
    )
    return (Concat(body=body, name="global"), *_conv_norm_act(channels, 3, "fuse"))


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository (apple/ml-cvnets) and of timm."""
    from ..weights import Dialect, by_rules

    linear = r"attention\.(qkv|proj)\.weight|fc[12]\.weight"
    inside = r"^(stages\.\d+\.)blocks\.0\.global\.body\."
    official = by_rules(
        (r"^stem\.conv\.", "conv_1.block.conv."),
        (r"^stem\.norm\.", "conv_1.block.norm."),
        (r"^stages\.4\.after\.(conv|norm)\.", r"conv_1x1_exp.block.\1."),
        (r"^head\.classifiers\.0\.linear\.", "classifier.fc."),
        (r"transformer\.body\.attention(\d+)\.body\.norm\.", r"global_rep.\1.pre_norm_mha.0."),
        (r"transformer\.body\.attention(\d+)\.body\.attention\.qkv\.", r"global_rep.\1.pre_norm_mha.1.qkv_proj."),
        (r"transformer\.body\.attention(\d+)\.body\.attention\.proj\.", r"global_rep.\1.pre_norm_mha.1.out_proj."),
        (r"transformer\.body\.mlp(\d+)\.body\.norm\.", r"global_rep.\1.pre_norm_ffn.0."),
        (r"transformer\.body\.mlp(\d+)\.body\.fc1\.", r"global_rep.\1.pre_norm_ffn.1."),
        (r"transformer\.body\.mlp(\d+)\.body\.fc2\.", r"global_rep.\1.pre_norm_ffn.4."),
        (inside + r"norm_local\.", r"\g<1>1.local_rep.conv_3x3.block.norm."),
        (inside + r"local\.", r"\g<1>1.local_rep.conv_3x3.block.conv."),
        (inside + r"widen\.", r"\g<1>1.local_rep.conv_1x1.block.conv."),
        (inside + r"norm_project\.", r"\g<1>1.conv_proj.block.norm."),
        (inside + r"project\.", r"\g<1>1.conv_proj.block.conv."),
        (inside, r"\g<1>1."),
        (r"blocks\.0\.norm_fuse\.", "1.fusion.block.norm."),
        (r"blocks\.0\.fuse\.", "1.fusion.block.conv."),
        (r"transition\.", "0.block."),
        (r"blocks\.(\d+)\.(residual\.body\.)?", r"\1.block."),
        (r"\.norm_expand\.", ".exp_1x1.block.norm."),
        (r"\.norm_depthwise\.", ".conv_3x3.block.norm."),
        (r"\.norm_project\.", ".red_1x1.block.norm."),
        (r"\.expand\.", ".exp_1x1.block.conv."),
        (r"\.depthwise\.", ".conv_3x3.block.conv."),
        (r"\.project\.", ".red_1x1.block.conv."),
        (r"^stages\.(\d+)\.", lambda m: f"layer_{int(m[1]) + 1}."),
    )
    timm = by_rules(
        (r"^stem\.norm\.", "stem.bn."),
        (r"^stages\.4\.after\.conv\.", "final_conv.conv."),
        (r"^stages\.4\.after\.norm\.", "final_conv.bn."),
        (r"^head\.classifiers\.0\.linear\.", "head.fc."),
        (r"transformer\.body\.norm\.", "norm."),
        (r"transformer\.body\.attention(\d+)\.body\.norm\.", r"transformer.\1.norm1."),
        (r"transformer\.body\.attention(\d+)\.body\.attention\.", r"transformer.\1.attn."),
        (r"transformer\.body\.mlp(\d+)\.body\.norm\.", r"transformer.\1.norm2."),
        (r"transformer\.body\.mlp(\d+)\.body\.", r"transformer.\1.mlp."),
        (inside + r"norm_local\.", r"\g<1>1.conv_kxk.bn."),
        (inside + r"local\.", r"\g<1>1.conv_kxk.conv."),
        (inside + r"widen\.", r"\g<1>1.conv_1x1."),
        (inside + r"norm_project\.", r"\g<1>1.conv_proj.bn."),
        (inside + r"project\.", r"\g<1>1.conv_proj.conv."),
        (inside, r"\g<1>1."),
        (r"blocks\.0\.norm_fuse\.", "1.conv_fusion.bn."),
        (r"blocks\.0\.fuse\.", "1.conv_fusion.conv."),
        (r"transition\.", "0."),
        (r"blocks\.(\d+)\.(residual\.body\.)?", r"\1."),
        (r"\.norm_expand\.", ".conv1_1x1.bn."),
        (r"\.norm_depthwise\.", ".conv2_kxk.bn."),
        (r"\.norm_project\.", ".conv3_1x1.bn."),
        (r"\.expand\.", ".conv1_1x1.conv."),
        (r"\.depthwise\.", ".conv2_kxk.conv."),
        (r"\.project\.", ".conv3_1x1.conv."),
    )

    def rename(name: str, spec: NetSpec) -> str:
        if found := re.match(r"stages\.(\d+)\.blocks\.0\.global\.body\.transformer\.body\.norm\.(.*)", name):
            stage = int(found[1])
            return f"layer_{stage + 1}.1.global_rep.{_depth(spec, stage)}.{found[2]}"
        return official(name, spec)

    return (Dialect(name="official", rename=rename, linear=linear), Dialect(name="timm", rename=timm, linear=linear))


def _depth(spec: NetSpec, stage: int) -> int:
    """Number of transformer layers in a stage."""
    concat = spec.stages[stage].blocks[0].body[0]
    return next(len(layer.body) // 2 for layer in concat.children()[0] if isinstance(layer, Unfold))


def _variant(name: str, widths: tuple[int, int, int, int, int], transformer: Three, expansion: int, head: int, top1: float) -> Variant:
    return Variant(
        name=name.lower(),
        system="MobileViT",
        spec=lambda input_size=256, classes=1000: mobilevit(
            name, widths, transformer, expansion=expansion, head=head, input_size=input_size, classes=classes
        ),
        input_size=256,
        micro="mobilevit-micro",
        top1=top1,
        source="2110.02178, Table 4 and Figure 6",
        dialects=dialects,
    )


VARIANTS = (
    _variant("MobileViT-XXS", (16, 24, 48, 64, 80), (64, 80, 96), 2, 320, 69.0),
    _variant("MobileViT-XS", (32, 48, 64, 80, 96), (96, 120, 144), 4, 384, 74.8),
    _variant("MobileViT-S", (32, 64, 96, 128, 160), (144, 192, 240), 4, 640, 78.4),
    Variant(
        name="mobilevit-micro",
        system="MobileViT",
        spec=lambda input_size=32, classes=10: mobilevit(
            "MobileViT-micro",
            (16, 24, 32, 40, 48),
            (48, 56, 64),
            expansion=2,
            depths=(1, 1, 2),
            convs=1,
            stem_stride=1,
            input_size=input_size,
            classes=classes,
        ),
        input_size=32,
        sizes="any size from 16",
        micro="mobilevit-micro",
        dialects=dialects,
    ),
)
