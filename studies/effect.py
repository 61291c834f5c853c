"""An Effect: what a study estimates of a step, as a weighted sum of its arms' means. Every design is arms and effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from ..roadmap.liveness import Liveness

Estimand = Literal[
    "in the paper's order",
    "in the order given",
    "at the base corner",
    "at the modern corner",
    "averaged over legal subsets",
    "main effect plus aliases",
    "averaged over legal orders",
    "the reference again",
    "against the first level",
]
ESTIMANDS: tuple[Estimand, ...] = get_args(Estimand)

AT_BEST = "each arm at its best"  # the context of effects whose arms have their tuned settings

Weights = tuple[tuple[int, float], ...]  # (index of an arm, weight); the weights of an effect sum to 0


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One effect, in points of top-1 once `weights` meet the arms' means.

    `order` is 1 for the effect of one step (or one level against the base's), 2 for an interaction of two: how many points more the
    first pays with the second than without. `context` says under which level of a factor it is taken ("scale=small"); an interaction
    with a factor has order 2. `along` are further steps that come or go with it. `aliases` are interactions that the design cannot
    tell from it. `sampled` holds the weights by single orders where `weights` are their mean over a sample. `paper_key` finds the
    paper's own delta.
    """

    name: str
    title: str
    estimand: Estimand
    weights: Weights
    order: Literal[1, 2] = 1
    context: str = ""
    along: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    note: str = ""
    sampled: tuple[Weights, ...] = ()
    liveness: Liveness = field(default_factory=Liveness)
    paper_key: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for plan.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Effect:
        """The effect written by `to_dict`."""

        def weights(rows: Any) -> Weights:
            return tuple((int(arm), float(weight)) for arm, weight in rows)

        return cls(
            **{
                **data,
                "weights": weights(data["weights"]),
                "sampled": tuple(weights(rows) for rows in data["sampled"]),
                "along": tuple(data["along"]),
                "aliases": tuple(data["aliases"]),
                "liveness": Liveness(**data["liveness"]),
            }
        )
