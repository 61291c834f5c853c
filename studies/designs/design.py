"""A Design: networks to train, as choices of steps, and the effects that they tell. No torch, no data, no seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...roadmap.steps import Choice, Rung, Selection, Step, Value, adopted_value, check, rung_name
from ..effect import Effect, Estimand, Weights
from ..study import StudyError


class DesignError(StudyError):
    """A design that cannot be made of these steps; the message names the next move."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """Rungs (the arms: index 0 is the reference) and effects, whose weights point at them by index. `notes` go under every table."""

    rungs: tuple[Rung, ...]
    effects: tuple[Effect, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Factors:
    """What a design varies: each of `steps` is absent or at one of its values; `fixed` is in every arm.

    `Factors.of` takes a user's selection. A choice is legal where every step has what it requires.
    """

    selection: Selection
    fixed: Choice
    steps: tuple[tuple[Step, tuple[Value, ...]], ...]

    @classmethod
    def of(cls, selection: Selection, fixed: Selection | None = None) -> Factors:
        """The steps of `selection` that `fixed` does not hold.

        DesignError where nothing is left, where what is fixed is not legal, or where a step could never be on, for what it requires is
        neither varied nor fixed. A fixed group of techniques of which the selection names members holds the others.
        """
        track = selection.track
        held = fixed.final() if fixed else {}
        for name, value in held.items():
            missing = [r for r in track.step(name).requires if held.get(r) != track.step(r).value]
            if missing:
                raise DesignError(f"fix: {rung_name(track.step(name), value)} requires {missing[0]}: fix it too")
        steps = tuple((s, v) for s, v in selection.chosen if s.name not in held)
        if not steps:
            raise DesignError("steps: nothing is left to vary: name steps that --fix does not hold")
        varied = {s.name: v for s, v in steps}
        for step, _ in steps:
            for name in step.requires:
                needed = track.step(name).value
                if held.get(name) != needed and needed not in varied.get(name, ()):
                    raise DesignError(f"steps: {step.name} requires {name}: add it to the steps, or hold it with --fix {name}")
        group = next((s for s in track.steps if s.techniques and s.name in held), None)
        if group:
            off = selection.dropped | (fixed.dropped if fixed else frozenset())
            held = dict.fromkeys(sorted(off | (varied.keys() & set(group.techniques))), "off") | held
        return cls(selection=selection, fixed=held, steps=steps)

    def legal(self, choice: Choice) -> bool:
        """Whether every step of `choice` has what it requires."""
        try:
            check(self.selection.track, choice)
        except ValueError:
            return False
        return True

    def name(self, choice: Choice) -> str:
        """`base`, or the steps that are on beside the fixed ones, in the track's order, joined by +."""
        on = [rung_name(s, choice[s.name]) for s, values in self.steps if choice.get(s.name) in values]
        return "+".join(on) or "base"

    def everything(self) -> dict[str, Value]:
        """Every varied step at the value that a roadmap builds on."""
        return {s.name: adopted_value(s, values) for s, values in self.steps}

    def rung(self, picked: Choice, *, parent: int | None = None, name: str = "", side: bool = False) -> Rung:
        """The network of `picked` on top of what is fixed, without the techniques that the user took out of a picked recipe."""
        grouped = any(s.techniques and s.name in picked for s, _ in self.steps)
        off: Choice = dict.fromkeys(sorted(self.selection.dropped), "off") if grouped else {}
        return Rung(name or self.name(picked), {**off, **self.fixed, **picked}, parent, side)

    def effect(
        self,
        step: Step,
        value: Value,
        weights: Mapping[int, float],
        estimand: Estimand,
        *,
        note: str = "",
        along: tuple[str, ...] = (),
        aliases: tuple[str, ...] = (),
        sampled: tuple[Weights, ...] = (),
    ) -> Effect:
        """The effect of `step` at `value`, with its name, title and row of the paper. Dependants that come `along` are in the name."""
        name = rung_name(step, value)
        title = step.title if name == step.name else f"{step.title} {name.partition('=')[2]}"
        more = f" + {len(along)} dependant{'s' * (len(along) > 1)}" if along else ""
        return Effect(
            name=name + more,
            title=title + more,
            estimand=estimand,
            weights=sparse(weights),
            note=note,
            along=along,
            aliases=aliases,
            sampled=sampled,
            paper_key=name if name in self.selection.track.paper else "",
        )

    def notes(self) -> tuple[str, ...]:
        """What holds for every design of these factors: what is in every arm."""
        track = self.selection.track
        varied = {s.name for s, _ in self.steps}
        held = [rung_name(track.step(k), v) if v != "off" else f"no {k}" for k, v in self.fixed.items() if k not in varied]
        return (f"in every arm: {', '.join(held)}",) if held else ()


def sparse(weights: Mapping[int, float]) -> Weights:
    """Weights by arm, in the arms' order, those of 0 left out."""
    return tuple((arm, float(w)) for arm, w in sorted(weights.items()) if abs(w) > 1e-12)
