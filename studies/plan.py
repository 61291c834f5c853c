"""A Plan: the arms of a study and their trials, before anything runs. It is written into the study's folder as plan.json, and
together with the trials' results it is all that a report needs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ..roadmap.liveness import Liveness
from ..roadmap.steps import Choice
from .effect import Effect, Weights
from .recipe import Recipe
from .study import Study
from .trial import Trial

__all__ = ["Arm", "Liveness", "Plan"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One row of a study: a network and a recipe, trained once a seed.

    `parent` is the index of the arm it is compared with (None for the first); a `side` arm shows an alternative and nothing builds
    on it. `same_as` is the index of an earlier arm with the same network and recipe, whose trials it shares. `choice` holds
    the toggles (step -> value). `paper_key` finds its row in the track's published table. `context` says which levels of the study's
    factors it has ("scale=small"); `setting` holds the factors by which tuned recipe fields were multiplied, and `tunes` the index of the
    arm whose settings a study of kind `tune` tries.
    """

    index: int
    name: str
    title: str
    parent: int | None
    side: bool
    choice: Choice
    network: str
    fingerprint: str
    params: int
    macs: int
    macs_conv_linear: int
    recipe: Recipe
    epochs: int
    trials: tuple[str, ...]  # trial ids, one a seed
    seeds: tuple[int, ...]
    liveness: Liveness = field(default_factory=Liveness)
    same_as: int | None = None
    paper_key: str = ""
    placebo: bool = False
    context: str = ""
    fraction: float = 1.0
    setting: Mapping[str, float] = field(default_factory=dict)
    tunes: int | None = None
    split: str = ""  # that it is scored on, where it is not the study's


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Arms, the effects that they tell, and what is common to them. `trials` holds every distinct trial once; it is not written to
    plan.json (the store has them). `looks` are the numbers of seeds at which the study was judged before and is judged now, where there
    were several."""

    study: Study
    arms: tuple[Arm, ...]
    effects: tuple[Effect, ...] = ()
    data: Mapping[str, Any]  # name, fingerprint, classes, counts, duplicates, input size
    notes: tuple[str, ...] = ()
    looks: tuple[int, ...] = ()
    trials: tuple[Trial, ...] = ()

    def root(self, arm: Arm) -> int:
        """The index of the arm whose trials `arm` uses: its own, unless it is the same network and recipe as an earlier one."""
        while arm.same_as is not None:
            arm = self.arms[arm.same_as]
        return arm.index

    @property
    def distinct(self) -> tuple[int, ...]:
        """Indices of the arms that have trials of their own."""
        return tuple(a.index for a in self.arms if a.same_as is None)

    def row(self, weights: Weights) -> list[float]:
        """`weights` over the distinct arms, in their order: those of arms that share their trials are added up, and 0 where they cancel."""
        out = dict.fromkeys(self.distinct, 0.0)
        for arm, weight in weights:
            out[self.root(self.arms[arm])] += weight
        return [weight if abs(weight) > 1e-9 else 0.0 for weight in out.values()]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for plan.json."""
        return {
            "study": self.study.to_dict(),
            "arms": [asdict(a) | {"recipe": a.recipe.to_dict(), "choice": dict(a.choice), "setting": dict(a.setting)} for a in self.arms],
            "effects": [e.to_dict() for e in self.effects],
            "data": dict(self.data),
            "notes": list(self.notes),
            "looks": list(self.looks),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Plan:
        """The plan written by `to_dict`, without the trials themselves."""

        def arm(a: dict[str, Any]) -> Arm:
            choice = {k: tuple(v) if isinstance(v, list) else v for k, v in a["choice"].items()}
            return Arm(
                **a
                | {
                    "recipe": Recipe.from_dict(a["recipe"]),
                    "choice": choice,
                    "trials": tuple(a["trials"]),
                    "seeds": tuple(a["seeds"]),
                    "liveness": Liveness(**a["liveness"]),
                }
            )

        study = Study(**{k.replace("-", "_"): v for k, v in data["study"].items()})
        found = cls(
            study=study,
            arms=tuple(arm(a) for a in data["arms"]),
            effects=tuple(Effect.from_dict(e) for e in data["effects"]),
            data=data["data"],
            notes=tuple(data["notes"]),
            looks=tuple(data["looks"]),
        )
        found._check()
        return found

    def _check(self) -> None:
        """ValueError where the parts do not belong together."""
        arms = len(self.arms)
        inside = all(0 <= i < arms and math.isfinite(w) for e in self.effects for i, w in (*e.weights, *(x for s in e.sampled for x in s)))
        whole = all(len(a.trials) == len(a.seeds) and a.index == i for i, a in enumerate(self.arms))
        linked = all(0 <= i < a.index for a in self.arms for i in (a.parent, a.same_as) if i is not None)
        if not (arms and inside and whole and linked and all(isinstance(n, int) for n in self.looks)):
            raise ValueError("arms, effects, trials and looks of this plan do not belong together")
