"""A Design: networks to train, as choices of steps, and the effects that they tell. No torch, no data, no seeds."""

from __future__ import annotations

from dataclasses import dataclass

from ...roadmap.steps import Choice, Rung, Selection, Step, Value, check, rung_name
from ..effect import Effect
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
        """The steps of `selection` that `fixed` does not hold. DesignError where nothing is left, or where what is fixed is not legal.

        A fixed group of techniques of which `selection` names members holds the others.
        """
        held: dict[str, Value] = dict.fromkeys(sorted(selection.dropped), "off")
        for step, value in (fixed.final() if fixed else {}).items():
            named = [s.name for s, _ in selection.chosen if s.name in selection.track.step(step).techniques]
            rest = [t for t in selection.track.step(step).techniques if t not in named]
            held |= {t: selection.track.step(t).value for t in rest} if named else {step: value}
        for step in fixed.final() if fixed else {}:
            missing = [r for r in selection.track.step(step).requires if held.get(r) != selection.track.step(r).value]
            if missing:
                raise DesignError(f"fix: {step} requires {missing[0]}: fix it too")
        steps = tuple((s, v) for s, v in selection.chosen if s.name not in held)
        if not steps:
            raise DesignError("steps: nothing is left to vary: name steps that --fix does not hold")
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
        on = [rung_name(s, choice[s.name]) for s, _ in self.steps if s.name in choice]
        return "+".join(on) or "base"
