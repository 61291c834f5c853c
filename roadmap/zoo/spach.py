"""SPACH (2108.13002): one framework in which convolution, self-attention and an MLP across tokens are plugged in as the spatial mixer.

Every block adds a 3x3 depthwise convolution, its conditional position encoding, to its input; beside it stands attention, a token
MLP, or nothing, which makes the convolution the spatial mixer. An MLP over channels follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..layers import Act, Conv, Layer, Layers, Norm, Residual, depthwise, mlp
from ..mixers import Attention, TokenMlp
from ..spec import Block, Head, NetSpec, Stage
from .entry import Variant
from .transformer import grid

if TYPE_CHECKING:
    from ..weights import Dialect, State

Mixer = Literal["conv", "attn", "mlp"]
Run = tuple[Mixer, int]  # blocks of one kind
Arch = tuple[tuple[Run, ...], ...]  # runs by stage

EPS = 1e-6


def network(
    name: str, width: int, heads: int, ratio: int, arch: Arch, *, patch: int, deep_stem: bool = False, input_size: int, classes: int
) -> NetSpec:
    """SPACH of one stage or several: the width doubles from stage to stage, the number of heads stays.

    `ratio` is the expansion of the MLPs over channels; those across tokens have half as many units as tokens. `deep_stem` puts four
    convolutions in the place of the patch embedding's one.
    """
    total = patch * 2 ** (len(arch) - 1)
    size = grid(name, input_size, total) * total // patch
    stages = []
    for i, runs in enumerate(arch):
        channels, tokens = width * 2**i, (size // 2**i) ** 2
        transition: Layers = ()
        if i > 0:
            transition = (Conv(out=channels, kernel=2, stride=2, padding=0, name="conv"), Norm(norm="group", name="norm"))
        blocks = tuple(_block(kind, channels, heads, ratio, tokens) for kind, depth in runs for _ in range(depth))
        stages.append(Stage(transition=transition, blocks=blocks))
    return NetSpec(
        name=name,
        stem=_stem(width, patch, deep=deep_stem),
        stages=tuple(stages),
        head=Head(before=(_norm(),), classes=classes),
    )


def _norm() -> Norm:
    return Norm(norm="layer", eps=EPS, name="norm")


def _stem(width: int, patch: int, *, deep: bool) -> Layers:
    if not deep:
        return (Conv(out=width, kernel=patch, stride=patch, padding=0, bias=True, name="patches"), _norm())
    layers: list[Layer] = []
    for i, (kernel, stride) in enumerate(((7, 2), (3, 1), (3, 1)), 1):
        layers += [Conv(out=64, kernel=kernel, stride=stride, name=f"conv{i}"), Norm(norm="batch", name=f"norm{i}")]
        layers.append(Act(act="relu", name=f"act{i}"))
    return (*layers, Conv(out=width, kernel=patch // 2, stride=patch // 2, padding=0, bias=True, name="conv4"), _norm())


def _block(kind: Mixer, channels: int, heads: int, ratio: int, tokens: int) -> Block:
    position = Residual(body=(depthwise(channels, 3, bias=True, name="conv"),), name="position")
    token_mixer: Layer
    if kind == "conv":
        # A block inside the block: the convolution is never dropped by stochastic depth, here as beside the other mixers.
        token_mixer = Block(body=(position,), name="token_mixer")
    else:
        spatial = Attention(heads=heads, name="spatial") if kind == "attn" else TokenMlp(tokens=tokens, hidden=tokens // 2, name="spatial")
        token_mixer = Residual(body=(_norm(), spatial), shortcut=(position,), layer_scale=True, name="token_mixer")
    channel_mixer = Residual(body=(_norm(), *mlp(channels, ratio * channels)), name="channel_mixer")
    return Block(body=(token_mixer, channel_mixer))


def dialects() -> tuple[Dialect, ...]:
    """The names of the official repository."""
    from ..weights import Dialect, by_rules

    rules = by_rules(
        (r"^stem\.patches\.", "stem.proj."),
        (r"^stem\.(conv|norm)(\d)\.", lambda m: f"stem.proj.{3 * int(m[2]) - (3 if m[1] == 'conv' else 2)}."),
        (r"^stem\.norm\.", "norm1."),
        (r"^stages\.(\d+)\.transition\.conv\.", lambda m: f"layer{int(m[1]) + 1}.0.net.1.0."),
        (r"^stages\.(\d+)\.transition\.norm\.", lambda m: f"layer{int(m[1]) + 1}.0.net.1.1."),
        # From the second stage on, the downsampling is the first of a stage's modules.
        (r"^stages\.(\d+)\.blocks\.(\d+)\.", lambda m: f"layer{int(m[1]) + 1}.{int(m[2]) + (m[1] != '0')}."),
        (r"token_mixer\.(shortcut\.)?position\.body\.conv\.", "cpe_net.net.1."),
        (r"token_mixer\.scale$", "gamma_1"),
        (r"token_mixer\.body\.norm\.", "norm1."),
        (r"token_mixer\.body\.spatial\.", "spatial_func."),
        (r"channel_mixer\.body\.norm\.", "norm2."),
        (r"channel_mixer\.body\.", "channel_func."),
        (r"^head\.before\.norm\.", "norm2."),
        (r"^head\.classifiers\.0\.linear\.", "head."),
    )

    def rename(name: str, spec: NetSpec) -> str:
        theirs = rules(name, spec)
        return theirs.replace("layer1.", "blocks.", 1) if len(spec.stages) == 1 else theirs

    def pack(state: State, spec: NetSpec) -> State:
        return {k: v.view(1, 1, -1) if k.endswith("gamma_1") else v for k, v in state.items()}

    return (Dialect(name="official", rename=rename, linear=r"fc[12]\.weight$", pack=pack),)


def _variant(
    name: str, width: int, ratio: int, *runs: tuple[Run, ...], top1: float | None = None, source: str, deep_stem: bool = False
) -> Variant:
    patch = 16 if len(runs) == 1 else 4
    fixed = any(kind == "mlp" for stage in runs for kind, _ in stage)
    total = patch * 2 ** (len(runs) - 1)
    short = name.lower().replace(f"-patch{patch}-224", "")
    return Variant(
        name=name.lower(),
        aliases=(short, *((short.replace("-attn", "-trans"),) if "attn" in short else ())),
        system="SPACH",
        spec=lambda input_size=224, classes=1000: network(
            name, width, width // 32, ratio, runs, patch=patch, deep_stem=deep_stem, input_size=input_size, classes=classes
        ),
        sizes=f"any multiple of {total}" + ("; the MLPs across tokens are made for it" if fixed else ""),
        micro="spach-micro",
        top1=top1,
        source=source,
        dialects=dialects,
    )


def _single(size: str, mixer: Mixer, width: int, depth: int, ratio: int) -> Variant:
    return _variant(f"SPACH-{size}-patch16-224-{mixer}", width, ratio, ((mixer, depth),), source="2108.13002, Section 3, one stage")


def _multi(
    size: str, mixer: str, width: int, ratio: int, *runs: tuple[Run, ...], top1: float | None = None, deep_stem: bool = False
) -> Variant:
    name = f"SPACH-MS-{size}-patch4-224-{mixer}"
    return _variant(name, width, ratio, *runs, top1=top1, source="2108.13002 and its repository's table", deep_stem=deep_stem)


def _uniform(mixer: Mixer, depths: tuple[int, int, int, int]) -> Arch:
    """The same mixer in every stage but the first, which has too many tokens for any but convolutions."""
    return ((("conv", depths[0]),), *(((mixer, depth),) for depth in depths[1:]))


SHALLOW, DEEP = (2, 2, 6, 2), (3, 4, 12, 3)
HYBRID_XS: Arch = ((("conv", 3),), (("conv", 4),), (("conv", 2), ("attn", 10)), (("conv", 1), ("attn", 2)))
HYBRID_S: Arch = ((("conv", 3),), (("conv", 2), ("attn", 2)), (("conv", 2), ("attn", 10)), (("conv", 1), ("attn", 2)))
MICRO: Arch = ((("conv", 1),), (("mlp", 1),), (("conv", 1), ("attn", 1)), (("mlp", 1), ("attn", 1)))

VARIANTS = (
    _single("XXS", "mlp", 384, 12, 2),
    _single("XXS", "conv", 384, 12, 2),
    _single("XXS", "attn", 192, 12, 2),
    _single("XS", "mlp", 384, 24, 2),
    _single("XS", "conv", 384, 24, 2),
    _single("XS", "attn", 384, 12, 2),
    _single("S", "mlp", 512, 24, 3),
    _single("S", "conv", 512, 24, 3),
    _single("S", "attn", 512, 12, 3),
    _multi("XXS", "conv", 64, 2, *_uniform("conv", SHALLOW), top1=73.1),
    _multi("XXS", "mlp", 64, 2, *_uniform("mlp", SHALLOW), top1=74.5),
    _multi("XXS", "attn", 32, 2, *_uniform("attn", SHALLOW), top1=65.4),
    _multi("XS", "conv", 96, 2, *_uniform("conv", DEEP)),
    _multi("XS", "mlp", 96, 2, *_uniform("mlp", DEEP)),
    _multi("XS", "attn", 64, 2, *_uniform("attn", DEEP)),
    _multi("S", "conv", 128, 3, *_uniform("conv", DEEP), top1=81.6),
    _multi("S", "mlp", 128, 3, *_uniform("mlp", DEEP), top1=82.1),
    _multi("S", "attn", 96, 3, *_uniform("attn", DEEP), top1=82.9),
    _multi("XS", "hybrid", 96, 2, *HYBRID_XS),
    _multi("S", "hybrid", 128, 3, *HYBRID_S, top1=83.7),
    # Registered nowhere. The hybrid S with the repository's stem of four convolutions has the published 63 M parameters and 12.3 G.
    _multi("S-plus", "hybrid", 128, 3, *HYBRID_S, top1=83.9, deep_stem=True),
    Variant(
        name="spach-micro",
        system="SPACH",
        spec=lambda input_size=32, classes=10: network("SPACH micro", 16, 2, 2, MICRO, patch=2, input_size=input_size, classes=classes),
        input_size=32,
        sizes="any multiple of 16; the MLPs across tokens are made for it",
        micro="spach-micro",
        dialects=dialects,
    ),
)
