"""RepViT (2307.09283): separated mixers, re-parameterised depthwise convolutions, squeeze-and-excitation in every other block."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..spec import NetSpec
from ..tracks.repvit import MODERN, SIZES, Size, network
from .entry import Variant

if TYPE_CHECKING:
    from ..weights import Dialect

Four = tuple[int, int, int, int]


def repvit(name: str, widths: Four, depths: Four, *, classifiers: int, input_size: int, classes: int) -> NetSpec:
    """RepViT with `widths` channels and `depths` blocks a stage, downsampling layers not counted; two classifiers for distillation."""
    size = Size(
        first=0,
        widths=widths,
        late=0,
        classifier=(0, 0),
        wide=widths,
        blocks=depths,
        ratio=depths,
        stem_stride=4,
    )
    return network(MODERN, sizes={"paper": size}, goal=name, classifiers=classifiers, input_size=input_size, classes=classes)


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository and of timm."""
    from ..weights import Dialect, by_rules

    def flat(name: str, spec: NetSpec) -> str:
        """The official list `features`: the stem, then blocks and both halves of every downsampling layer in one numbering."""
        first, firsts = 1, []
        for stage in spec.stages:
            firsts.append(first)
            first += len(stage.blocks) + 2
        if found := re.match(r"stages\.(\d+)\.blocks\.(\d+)\.(.*)", name):
            return f"features.{firsts[int(found[1])] + int(found[2])}.{found[3]}"
        if found := re.match(r"stages\.(\d+)\.transition\.(pre_block\.)?(.*)", name):
            return f"features.{firsts[int(found[1])] - (2 if found[2] else 1)}.{found[3]}"
        return name

    token_mixer = by_rules(
        (r"depthwise\.conv\.", "token_mixer.0.conv.c."),
        (r"depthwise\.norm\.", "token_mixer.0.conv.bn."),
        (r"depthwise\.scale\.", "token_mixer.0.conv1."),
        (r"depthwise\.norm_sum\.", "token_mixer.0.bn."),
        (r"squeeze_excite\.", "token_mixer.1."),
        (r"norm_depthwise\.", "token_mixer.0.bn."),
        (r"depthwise\.weight", "token_mixer.0.c.weight"),
        (r"norm_pointwise\.", "token_mixer.2.bn."),
        (r"pointwise\.", "token_mixer.2.c."),
        (r"residual\.body\.", "channel_mixer.m."),
        (r"norm_expand\.", "0.bn."),
        (r"norm_project\.", "2.bn."),
        (r"expand\.", "0.c."),
        (r"project\.", "2.c."),
        (r"^stem\.conv([12])\.", lambda m: f"features.0.{2 * int(m[1]) - 2}.c."),
        (r"^stem\.norm([12])\.", lambda m: f"features.0.{2 * int(m[1]) - 2}.bn."),
        (r"^head\.classifiers\.0\.", "classifier.classifier."),
        (r"^head\.classifiers\.1\.", "classifier.classifier_dist."),
        (r"(?<=\.)norm\.", "bn."),
        (r"linear\.", "l."),
    )
    timm = by_rules(
        (r"depthwise\.conv\.", "token_mixer.conv.c."),
        (r"depthwise\.norm\.", "token_mixer.conv.bn."),
        (r"depthwise\.scale\.", "token_mixer.conv1."),
        (r"depthwise\.norm_sum\.", "token_mixer.bn."),
        (r"squeeze_excite\.", "se."),
        (r"transition\.residual\.body\.", "downsample.ffn."),
        (r"transition\.", "downsample."),
        (r"norm_depthwise\.", "spatial_downsample.bn."),
        (r"depthwise\.weight", "spatial_downsample.c.weight"),
        (r"norm_pointwise\.", "channel_downsample.bn."),
        (r"pointwise\.", "channel_downsample.c."),
        (r"residual\.body\.", "channel_mixer."),
        (r"norm_expand\.", "conv1.bn."),
        (r"norm_project\.", "conv2.bn."),
        (r"expand\.", "conv1.c."),
        (r"project\.", "conv2.c."),
        (r"^stem\.conv([12])\.", r"stem.conv\1.c."),
        (r"^stem\.norm([12])\.", r"stem.conv\1.bn."),
        (r"^head\.classifiers\.0\.", "head.head."),
        (r"^head\.classifiers\.1\.", "head.head_dist."),
        (r"(?<=\.)norm\.", "bn."),
        (r"linear\.", "l."),
    )
    return (
        Dialect(name="official", rename=lambda name, spec: token_mixer(flat(name, spec), spec)),
        Dialect(name="timm", rename=timm),
    )


def _variants(name: str, widths: Four, depths: Four, *, plain: float | None, distilled: float) -> tuple[Variant, Variant]:
    def variant(name: str, classifiers: int, top1: float | None, source: str) -> Variant:
        return Variant(
            name=name.lower(),
            system="RepViT",
            spec=lambda input_size=224, classes=1000: repvit(
                name, widths, depths, classifiers=classifiers, input_size=input_size, classes=classes
            ),
            micro="repvit-micro",
            top1=top1,
            source=source,
            dialects=dialects,
        )

    source = "github.com/THU-MIG/RepViT, 300 epochs"
    return variant(name, 1, plain, "2307.09283, Section 3"), variant(f"{name}-distilled", 2, distilled, source)


VARIANTS = (
    *_variants("RepViT-M0.6", (40, 80, 160, 320), (1, 1, 8, 1), plain=None, distilled=74.1),
    *_variants("RepViT-M0.9", (48, 96, 192, 384), (2, 2, 14, 2), plain=77.4, distilled=78.7),
    *_variants("RepViT-M1.0", (56, 112, 224, 448), (2, 2, 14, 2), plain=None, distilled=80.0),
    *_variants("RepViT-M1.1", (64, 128, 256, 512), (2, 2, 12, 2), plain=None, distilled=80.7),
    *_variants("RepViT-M1.5", (64, 128, 256, 512), (4, 4, 24, 4), plain=None, distilled=82.3),
    *_variants("RepViT-M2.3", (80, 160, 320, 640), (6, 6, 34, 2), plain=None, distilled=83.3),
    Variant(
        name="repvit-micro",
        system="RepViT",
        spec=lambda input_size=32, classes=10: network(
            MODERN, sizes=SIZES, scale="micro", goal="RepViT", classifiers=2, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any size from 16",
        micro="repvit-micro",
        dialects=dialects,
    ),
)
