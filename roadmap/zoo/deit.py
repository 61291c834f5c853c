"""DeiT (2012.12877), with and without its distillation token, and the plain ViT (2010.11929) that it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..layers import Norm
from ..mixers import Attention, ClassTokens
from ..spec import Head, NetSpec, Stage
from .entry import Variant, spelled_out
from .transformer import grid, patches, pre_norm_block

if TYPE_CHECKING:
    from ..weights import Dialect


def network(
    name: str, width: int, heads: int, *, depth: int = 12, patch: int = 16, distilled: bool = False, input_size: int, classes: int
) -> NetSpec:
    """A vision transformer of one stage that classifies by its class token; `distilled` adds a second token with a classifier of its own.

    The position embedding is made for `input_size`, a multiple of `patch`.
    """
    block = pre_norm_block(Attention(heads=heads, name="attention"), width, hidden=4 * width, eps=1e-6)
    tokens = ClassTokens(grid=grid(name, input_size, patch), distillation=distilled, name="tokens")
    return NetSpec(
        name=name,
        stem=(patches(width, patch), tokens),
        stages=(Stage(blocks=(block,) * depth),),
        head=Head(pool="tokens", after=(Norm(norm="layer", eps=1e-6, name="norm"),), classifiers=tokens.count, classes=classes),
    )


def dialects() -> tuple[Dialect, ...]:
    """The names of timm, which the official repository shares."""
    from ..weights import Dialect, by_rules

    rename = by_rules(
        (r"^stem\.patches\.", "patch_embed.proj."),
        (r"^stem\.tokens\.class_token$", "cls_token"),
        (r"^stem\.tokens\.distillation_token$", "dist_token"),
        (r"^stem\.tokens\.position$", "pos_embed"),
        (r"^stages\.0\.", ""),
        (r"token_mixer\.body\.norm\.", "norm1."),
        (r"token_mixer\.body\.attention\.", "attn."),
        (r"channel_mixer\.body\.norm\.", "norm2."),
        (r"channel_mixer\.body\.", "mlp."),
        (r"^head\.after\.norm\.", "norm."),
        (r"^head\.classifiers\.0\.linear\.", "head."),
        (r"^head\.classifiers\.1\.linear\.", "head_dist."),
    )
    return (Dialect(name="timm", rename=rename, linear=r"fc[12]\.weight$"),)


def _variant(
    system: str,
    name: str,
    width: int,
    *,
    top1: float | None = None,
    size: int = 224,
    distilled: bool = False,
    source: str = "2012.12877, Table 5",
) -> Variant:
    patched = f"{spelled_out(name).removesuffix('-384').removesuffix('-16')}-patch16-{size}"
    return Variant(
        name=name.lower(),
        aliases=(spelled_out(name), patched, *((name.lower().replace("-16", ""),) if system == "ViT" else ())),
        system=system,
        spec=lambda input_size=size, classes=1000: network(
            name, width, width // 64, distilled=distilled, input_size=input_size, classes=classes
        ),
        input_size=size,
        sizes="any multiple of 16; the position embedding is made for it",
        micro=f"{system.lower()}-micro",
        top1=top1,
        source=source,
        dialects=dialects,
    )


def _micro(system: str, *, distilled: bool) -> Variant:
    return Variant(
        name=f"{system.lower()}-micro",
        system=system,
        spec=lambda input_size=32, classes=10: network(
            f"{system} micro", 48, 3, depth=4, patch=4, distilled=distilled, input_size=input_size, classes=classes
        ),
        input_size=32,
        sizes="any multiple of 4; the position embedding is made for it",
        micro=f"{system.lower()}-micro",
        dialects=dialects,
    )


VARIANTS = (
    _variant("ViT", "ViT-S-16", 384, source="2106.10270, Table 2"),
    _variant("ViT", "ViT-S-16-384", 384, size=384, source="2106.10270, Table 2"),
    _variant("ViT", "ViT-B-16", 768, source="2010.11929, Table 1"),
    _variant("ViT", "ViT-B-16-384", 768, top1=77.9, size=384),
    _micro("ViT", distilled=False),
    _variant("DeiT", "DeiT-Ti", 192, top1=72.2),
    _variant("DeiT", "DeiT-S", 384, top1=79.8),
    _variant("DeiT", "DeiT-B", 768, top1=81.8),
    _variant("DeiT", "DeiT-B-384", 768, top1=83.1, size=384),
    _variant("DeiT", "DeiT-Ti-distilled", 192, top1=74.5, distilled=True),
    _variant("DeiT", "DeiT-S-distilled", 384, top1=81.2, distilled=True),
    _variant("DeiT", "DeiT-B-distilled", 768, top1=83.4, distilled=True),
    _variant("DeiT", "DeiT-B-distilled-384", 768, top1=84.5, size=384, distilled=True),
    _micro("DeiT", distilled=True),
)
