"""LeViT (2104.01136): a convolutional stem, attention with offset biases that shrinks the map between stages, BatchNorm throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..layers import Act, Conv, Layers, MaxPool, Norm, Residual
from ..mixers import OffsetAttention, ShrinkingAttention
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect

Three = tuple[int, int, int]


def levit(
    name: str,
    widths: Three,
    key: int,
    heads: Three,
    depths: Three,
    *,
    strides: tuple[int, ...] = (2, 2, 2, 2),
    input_size: int,
    classes: int,
) -> NetSpec:
    """LeViT with `key` channels a head for queries and keys, twice that for values, and two classifiers; `strides` are those of the
    stem's convolutions. Input sizes must be multiples of the stem's total stride."""
    total = 1
    for stride in strides:
        total *= stride
    if input_size % total:
        raise ValueError(f"{name} makes patches of {total} pixels: the input size must be a multiple of {total}, not {input_size}")
    size = input_size // total
    stages = []
    for i, (width, n_heads, depth) in enumerate(zip(widths, heads, depths, strict=True)):
        transition: Layers = ()
        if i > 0:
            transition = (*_shrink(widths[i - 1], width, key, size), Residual(body=_mlp(width), name="mlp"))
            size = -(-size // 2)
        attention = OffsetAttention(heads=n_heads, key=key, value=2 * key, grid=(size, size), name="attend")
        body = (*_conv_norm(n_heads * 4 * key, "qkv"), attention, _act(), *_conv_norm(width, "proj"))
        block = Block(body=(Residual(body=body, name="attention"), Residual(body=_mlp(width), name="mlp")))
        stages.append(Stage(transition=transition, blocks=(block,) * depth))
    stem: list[Act | Conv | Norm] = []
    for i, stride in enumerate(strides, 1):
        stem.append(Conv(out=widths[0] >> (len(strides) - i), kernel=3, stride=stride, name=f"conv{i}"))
        stem.append(Norm(norm="batch", name=f"norm{i}"))
        if i < len(strides):
            stem.append(Act(act="hardswish", name=f"act{i}"))
    return NetSpec(name=name, stem=tuple(stem), stages=tuple(stages), head=Head(classifiers=2, classifier_norm=True, classes=classes))


def _conv_norm(out: int, name: str) -> Layers:
    return (Conv(out=out, name=name), Norm(norm="batch", name=f"norm_{name}"))


def _act() -> Act:
    return Act(act="hardswish", name="act")


def _mlp(width: int) -> Layers:
    return (*_conv_norm(2 * width, "fc1"), _act(), *_conv_norm(width, "fc2"))


def _shrink(width: int, out: int, key: int, size: int) -> Layers:
    heads = width // key
    shrink = ShrinkingAttention(
        heads=heads,
        key=key,
        value=4 * key,
        grid=(size, size),
        # A max-pool over single pixels takes every second one.
        query=(MaxPool(kernel=1, stride=2, name="subsample"), *_conv_norm(heads * key, "q")),
        key_value=_conv_norm(heads * 5 * key, "kv"),
        name="shrink",
    )
    return (shrink, _act(), *_conv_norm(out, "proj"))


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository (its linear form) and of timm (`levit_*`)."""
    from ..weights import Dialect, by_rules

    linear = r"\.(qkv|q|kv|proj|fc1|fc2)\.weight"

    def flat(name: str, spec: NetSpec) -> str:
        """The official list `blocks`: attention and MLP of every block, shrinking attention and its MLP, in one numbering."""
        parts = name.split(".")
        if parts[0] != "stages":
            return name
        stage = int(parts[1])
        first = sum(2 * len(s.blocks) + 2 for s in spec.stages[:stage])
        if parts[2] == "blocks":
            return ".".join((f"blocks.{first + 2 * int(parts[3]) + (parts[4] == 'mlp')}", *parts[4:]))
        return ".".join((f"blocks.{first - 2 + (parts[3] == 'mlp')}", *parts[3:]))

    official = by_rules(
        (r"^stem\.(conv|norm)(\d)\.", lambda m: f"patch_embed.{2 * int(m[2]) - 2}.{'c' if m[1] == 'conv' else 'bn'}."),
        (r"attention\.body\.attend\.bias\.table", "m.attention_biases"),
        (r"shrink\.bias\.table", "attention_biases"),
        (r"(attention|mlp)\.body\.", "m."),
        (r"shrink\.(query|key_value)\.", ""),
        (r"norm_(qkv|kv|q|proj|fc1|fc2)\.", r"\1.bn."),
        (r"\.(qkv|kv|q|proj|fc1|fc2)\.weight", r".\1.c.weight"),
        (r"\.q\.", ".q.1."),
        (r"\.proj\.", ".proj.1."),
        (r"\.fc1\.", ".0."),
        (r"\.fc2\.", ".2."),
        (r"^head\.classifiers\.0\.", "head."),
        (r"^head\.classifiers\.1\.", "head_dist."),
        (r"^(head\w*)\.norm\.", r"\1.bn."),
        (r"^(head\w*)\.linear\.", r"\1.l."),
    )
    timm = by_rules(
        (r"^stem\.conv(\d)\.", r"stem.conv\1.linear."),
        (r"^stem\.norm(\d)\.", r"stem.conv\1.bn."),
        (r"attention\.body\.attend\.bias\.table", "attn.attention_biases"),
        (r"transition\.mlp\.", "downsample.mlp."),
        (r"transition\.shrink\.bias\.table", "downsample.attn_downsample.attention_biases"),
        (r"transition\.shrink\.(query|key_value)\.", "downsample.attn_downsample."),
        (r"transition\.", "downsample.attn_downsample."),
        (r"attention\.body\.", "attn."),
        (r"mlp\.body\.", "mlp."),
        (r"norm_(qkv|kv|q|proj|fc1|fc2)\.", r"\1.bn."),
        (r"\.(qkv|kv|q|proj|fc1|fc2)\.weight", r".\1.linear.weight"),
        (r"\.q\.", ".q.ln."),
        (r"\.proj\.", ".proj.ln."),
        (r"\.fc([12])\.", r".ln\1."),
        (r"^head\.classifiers\.0\.", "head."),
        (r"^head\.classifiers\.1\.", "head_dist."),
        (r"^(head\w*)\.norm\.", r"\1.bn."),
    )

    constant = r"attention_bias_idxs$"
    return (
        Dialect(name="official", rename=lambda name, spec: official(flat(name, spec), spec), linear=linear, constant=constant),
        Dialect(name="timm", rename=timm, linear=linear, constant=constant),
    )


def _variant(name: str, widths: Three, key: int, heads: Three, depths: Three, top1: float) -> Variant:
    return Variant(
        name=name.lower(),
        system="LeViT",
        spec=lambda input_size=224, classes=1000: levit(name, widths, key, heads, depths, input_size=input_size, classes=classes),
        sizes="any multiple of 16",
        micro="levit-micro",
        top1=top1,
        source="2104.01136, Table 3",
        dialects=dialects,
    )


VARIANTS = (
    _variant("LeViT-128S", (128, 256, 384), 16, (4, 6, 8), (2, 3, 4), 76.6),
    _variant("LeViT-128", (128, 256, 384), 16, (4, 8, 12), (4, 4, 4), 78.6),
    _variant("LeViT-192", (192, 288, 384), 32, (3, 5, 6), (4, 4, 4), 80.0),
    _variant("LeViT-256", (256, 384, 512), 32, (4, 6, 8), (4, 4, 4), 81.6),
    _variant("LeViT-384", (384, 512, 768), 32, (6, 9, 12), (4, 4, 4), 82.6),
    Variant(
        name="levit-micro",
        system="LeViT",
        spec=lambda input_size=32, classes=10: levit(
            "LeViT-micro", (48, 64, 96), 16, (3, 4, 4), (1, 2, 2), strides=(2, 2), input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any multiple of 4",
        micro="levit-micro",
        dialects=dialects,
    ),
)
