"""ConvNeXt (2201.03545): the goal of the roadmap at five sizes, and the isotropic variants of its Section 3.3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..layers import Act, Conv, Norm, Residual, depthwise
from ..spec import Block, Head, NetSpec, Stage
from ..tracks.convnext import MODERN, T_SIZES, Size, network
from .entry import Variant, spelled_out

if TYPE_CHECKING:
    from ..weights import Dialect


def convnext(name: str, width: int, depths: tuple[int, int, int, int], *, input_size: int, classes: int) -> NetSpec:
    """ConvNeXt with `width` channels in the first stage and `depths` blocks a stage."""
    size = Size(widths=(width, width, width), blocks=depths, ratio=depths, stem_stride=4)
    return network(MODERN, sizes={"paper": size}, base="", goal=name, input_size=input_size, classes=classes)


def isotropic(name: str, width: int, depth: int, *, layer_scale: bool, input_size: int, classes: int) -> NetSpec:
    """Isotropic ConvNeXt: 16x16 patches, one stage, no norm in the stem; input a multiple of 16."""
    if input_size % 16:
        raise ValueError(f"{name} takes 16x16 patches: the input size must be a multiple of 16, not {input_size}")
    body = (
        depthwise(width, 7, bias=True, name="spatial"),
        Norm(norm="layer", eps=1e-6, name="norm_spatial"),
        Conv(out=4 * width, bias=True, name="pointwise1"),
        Act(act="gelu", name="act_pointwise1"),
        Conv(out=width, bias=True, name="pointwise2"),
    )
    block = Block(body=(Residual(body=body, layer_scale=layer_scale, name="residual"),))
    return NetSpec(
        name=name,
        stem=(Conv(out=width, kernel=16, stride=16, padding=0, bias=True, name="conv"),),
        stages=(Stage(blocks=(block,) * depth),),
        head=Head(after=(Norm(norm="layer", eps=1e-6, name="norm"),), classes=classes),
    )


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository and of timm."""
    from ..weights import Dialect, by_rules

    linear = r"pointwise[12]\.weight"
    official = by_rules(
        (r"^stem\.conv\.", "downsample_layers.0.0."),
        (r"^stem\.norm\.", "downsample_layers.0.1."),
        (r"^stages\.(\d+)\.transition\.norm\.", r"downsample_layers.\1.0."),
        (r"^stages\.(\d+)\.transition\.downsample\.", r"downsample_layers.\1.1."),
        (r"^stages\.(\d+)\.blocks\.(\d+)\.residual\.", r"stages.\1.\2."),
        (r"\.scale$", ".gamma"),
        (r"body\.spatial\.", "dwconv."),
        (r"body\.norm_spatial\.", "norm."),
        (r"body\.pointwise(\d)\.", r"pwconv\1."),
        (r"^head\.after\.norm\.", "norm."),
        (r"^head\.classifiers\.0\.linear\.", "head."),
    )
    timm = by_rules(
        (r"^stem\.conv\.", "stem.0."),
        (r"^stem\.norm\.", "stem.1."),
        (r"transition\.norm\.", "downsample.0."),
        (r"transition\.downsample\.", "downsample.1."),
        (r"residual\.", ""),
        (r"\.scale$", ".gamma"),
        (r"body\.spatial\.", "conv_dw."),
        (r"body\.norm_spatial\.", "norm."),
        (r"body\.pointwise(\d)\.", r"mlp.fc\1."),
        (r"^head\.after\.norm\.", "head.norm."),
        (r"^head\.classifiers\.0\.linear\.", "head.fc."),
    )
    return (Dialect(name="official", rename=official, linear=linear), Dialect(name="timm", rename=timm, linear=linear))


def isotropic_dialects() -> tuple[Dialect, ...]:
    """The names of the official repository's isotropic networks: a bare stem, and blocks numbered without a stage."""
    from ..weights import Dialect, by_rules

    official = dialects()[0]
    flat = by_rules((r"^stem\.conv\.", "stem."), (r"^stages\.0\.", ""), (r"\.residual\.", "."))
    return (Dialect(name="official", rename=lambda name, spec: official.rename(flat(name, spec), spec), linear=official.linear),)


def _sized(name: str, width: int, depths: tuple[int, int, int, int], top1: float | None) -> Variant:
    return Variant(
        name=name.lower(),
        aliases=(spelled_out(name),),
        system="ConvNeXt",
        spec=lambda input_size=224, classes=1000: convnext(name, width, depths, input_size=input_size, classes=classes),
        micro="convnext-micro",
        top1=top1,
        source="2201.03545, Table 1",
        dialects=dialects,
    )


def _isotropic(name: str, width: int, depth: int, layer_scale: bool, top1: float) -> Variant:
    return Variant(
        name=name.lower(),
        aliases=(name.lower().replace("iso", "isotropic"), spelled_out(name).replace("iso", "isotropic")),
        system="ConvNeXt",
        spec=lambda input_size=224, classes=1000: isotropic(
            name, width, depth, layer_scale=layer_scale, input_size=input_size, classes=classes
        ),
        sizes="any multiple of 16",
        micro="convnext-micro",
        top1=top1,
        source="2201.03545, Table 2",
        dialects=isotropic_dialects,
    )


VARIANTS = (
    _sized("ConvNeXt-T", 96, (3, 3, 9, 3), 82.1),
    _sized("ConvNeXt-S", 96, (3, 3, 27, 3), 83.1),
    _sized("ConvNeXt-B", 128, (3, 3, 27, 3), 83.8),
    _sized("ConvNeXt-L", 192, (3, 3, 27, 3), 84.3),
    _sized("ConvNeXt-XL", 256, (3, 3, 27, 3), None),
    _isotropic("ConvNeXt-iso-S", 384, 18, False, 79.7),
    _isotropic("ConvNeXt-iso-B", 768, 18, False, 82.0),
    _isotropic("ConvNeXt-iso-L", 1024, 36, True, 82.6),
    Variant(
        name="convnext-micro",
        system="ConvNeXt",
        spec=lambda input_size=32, classes=10: network(
            MODERN, sizes=T_SIZES, base="", goal="ConvNeXt", scale="micro", input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any size from 16",
        micro="convnext-micro",
        dialects=dialects,
    ),
)
