"""A step of our own on the track convnext-t: a track that extends its Decisions."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from vitnas.roadmap.layers import Layers, Residual
from vitnas.roadmap.spec import Block, NetSpec
from vitnas.roadmap.steps import Step
from vitnas.roadmap.tracks import convnext

from .layers import Highway, Spin


@dataclass(frozen=True, kw_only=True)
class Decisions(convnext.Decisions):
    spin: Literal["none", "plain", "gated"] = "none"


def network(d: Decisions, **options: Any) -> NetSpec:
    """The network of convnext-t with what `spin` puts at the beginning of every block."""
    spec = convnext.CONVNEXT_T.network(convnext.Decisions(**{f.name: getattr(d, f.name) for f in fields(convnext.Decisions)}), **options)
    if d.spin == "none":
        return spec
    first: Layers = (Spin(name="spin"),)
    if d.spin == "gated":
        first = (Highway(body=first, name="highway"),)

    def spun(block: Block) -> Block:
        residual, *rest = block.body
        assert isinstance(residual, Residual)
        return Block(body=(replace(residual, body=(*first, *residual.body)), *rest))

    stages = tuple(replace(stage, blocks=tuple(map(spun, stage.blocks))) for stage in spec.stages)
    return replace(spec, name=f"{spec.name}, {d.spin} spin", stages=stages)


SPIN = Step(
    name="spin",
    title="spin",
    field="spin",
    value="plain",
    levels=("none", "plain", "gated"),
    definition="every block begins by moving its channels by a pixel in four directions; gated: as far as a learned gate lets it",
)
TRACK = replace(
    convnext.CONVNEXT_T,
    name="acme.convnext-spin",
    title="ResNet-50 to ConvNeXt-T, with spin",
    decisions=Decisions,
    network=network,
    steps=(*convnext.CONVNEXT_T.steps, SPIN),
)
