"""Designs that change one step at a time: in an order, from everything on, and from the base.

Each estimates a step at one place among the networks: what it adds there, with the steps that happen to be on. Only without
interactions are the three the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...roadmap.steps import Choice, Rung, StepError, Value, adopted_value, rung_name
from ..effect import Effect, Estimand
from .design import Design, DesignError, Factors
from .lattice import closure, dependants

Key = frozenset[tuple[str, Value]]


def cumulative(factors: Factors, *, order: Sequence[str] = ()) -> Design:
    """Steps on top of one another, in the track's order or in `order` (all varied steps by name, each after what it requires).

    k + 1 networks for k steps of one level; an alternative level is one more, which nothing builds on. An effect is a network minus the
    one before the step. DesignError where `order` is not an order of these steps, or not a legal one.
    """
    ranked = _ranked(factors, order)
    names = [factors.steps[i][0].name for i in ranked]
    own = ranked == sorted(ranked)
    base = factors.selection.track.base if not factors.fixed else "base"
    rungs: list[Rung] = [factors.rung({}, name=base)]
    effects: list[Effect] = []
    here: dict[str, Value] = {}
    parent = 0
    for i in ranked:
        step, values = factors.steps[i]
        continued = adopted_value(step, values)
        onward = parent
        for value in values:
            rungs.append(factors.rung({**here, step.name: value}, parent=parent, name=rung_name(step, value), side=value != continued))
            at = len(rungs) - 1
            onward = at if value == continued else onward
            estimand: Estimand = "in the paper's order" if own else "in the order given"
            effects.append(factors.effect(step, value, {at: 1.0, parent: -1.0}, estimand))
        here[step.name] = continued
        parent = onward
    notes = () if own else (f"order of the steps, not the paper's: {', '.join(names)}",)
    return Design(rungs=tuple(rungs), effects=tuple(effects), notes=(*factors.notes(), *notes))


def leave_one_out(factors: Factors) -> Design:
    """Everything on, and everything but one step: what each step adds to the modern network.

    k + 1 networks for k steps of one level. A step takes those that require it with it: that effect is the sum of theirs. An
    alternative level is compared with the adopted one, everything else on.
    """
    everything = factors.everything()
    shared = _Networks(factors)
    shared.at(everything, name="all")
    effects: list[Effect] = []
    for i, (step, values) in enumerate(factors.steps):
        along = tuple(factors.steps[j][0].name for j in sorted(dependants(factors, i)))
        rest = {k: v for k, v in everything.items() if k != step.name and k not in along}
        adopted = rung_name(step, everything[step.name])
        too = f"without {', '.join(along)} too, which require it" if along else ""
        out = shared.at(rest, parent=0, name=f"all but {adopted}" + ("" if not along else " and what requires it"))
        effects.append(
            factors.effect(step, everything[step.name], {0: 1.0, out: -1.0}, "at the modern corner", note=too, along=along),
        )
        for value in values:
            if value == everything[step.name]:
                continue
            other = shared.at({**rest, step.name: value}, parent=0, name=f"all with {rung_name(step, value)}", side=True)
            note = f"against {adopted}" + (f"; {too}" if too else "")
            effects.append(factors.effect(step, value, {other: 1.0, 0: -1.0}, "at the modern corner", note=note, along=along))
    return Design(rungs=tuple(shared.rungs), effects=tuple(effects), notes=factors.notes())


def add_one_in(factors: Factors) -> Design:
    """The base, and the base with one step: what each adds to the network that everybody starts from.

    A step that requires others is compared on top of exactly those: a network with its requirements, which steps share where they
    require the same. At most 2 k + 1 networks for k steps of one level.
    """
    shared = _Networks(factors)
    shared.at({})
    effects: list[Effect] = []
    for i, (step, values) in enumerate(factors.steps):
        below = [factors.steps[j][0] for j in sorted(closure(factors, i))]
        under: Choice = {s.name: s.value for s in below}
        parent = shared.at(under, parent=0)
        note = f"on top of {', '.join(under)}" if under else ""
        for value in values:
            at = shared.at({**under, step.name: value}, parent=parent)
            effects.append(factors.effect(step, value, {at: 1.0, parent: -1.0}, "at the base corner", note=note))
    return Design(rungs=tuple(shared.rungs), effects=tuple(effects), notes=factors.notes())


class _Networks:
    """Rungs, one for each choice, in the order in which they were first asked for."""

    def __init__(self, factors: Factors) -> None:
        self.factors = factors
        self.rungs: list[Rung] = []
        self._index: dict[Key, int] = {}

    def at(self, picked: Choice, *, parent: int | None = None, name: str = "", side: bool = False) -> int:
        """The index of the rung of `picked`, which is added where it is new."""
        key = frozenset(picked.items())
        if key not in self._index:
            self._index[key] = len(self.rungs)
            ordered = {s.name: picked[s.name] for s, _ in self.factors.steps if s.name in picked}
            self.rungs.append(self.factors.rung(ordered, parent=parent if self.rungs else None, name=name, side=side))
        return self._index[key]


def _ranked(factors: Factors, order: Sequence[str]) -> list[int]:
    """Indices of the steps in `order`; the track's own where it is empty."""
    names = [s.name for s, _ in factors.steps]
    if not order:
        wanted = names
    else:
        try:
            wanted = [factors.selection.track.step(n).name for n in order]
        except StepError as error:
            raise DesignError(f"order: {error}") from None
    for name in wanted:
        if name not in names:
            raise DesignError(f"order: {name} is not among the steps that vary: leave it out, or add it to --steps")
        if wanted.count(name) > 1:
            raise DesignError(f"order: {name} is named twice: name every step once")
    missing = [n for n in names if n not in wanted]
    if missing:
        raise DesignError(f"order: {missing[0]} is missing: name every step once")
    here: dict[str, Value] = dict(factors.fixed)
    for name in wanted:
        step, values = factors.steps[names.index(name)]
        for value in values:
            if not factors.legal({**here, name: value}):
                lacking = next(r for r in step.requires if here.get(r) != factors.selection.track.step(r).value)
                raise DesignError(f"order: {name} requires {lacking}: put {lacking} before it")
        here[name] = adopted_value(step, values)
    return [names.index(n) for n in wanted]
