"""Steps and tracks: which design decisions exist, what they need, and what a choice of them is (no torch).

A Track is a base network, its steps in the paper's order and what the paper reported. Each Step owns exactly one field
of the track's Decisions (or, as a training technique, one group of fields of the recipe), so steps commute: a choice
is a mapping from step to value, and every legal choice is a network.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

from .numbers import PLAIN, Numbers
from .spec import NetSpec

Value = str | int | float | tuple[str, ...]
Choice = Mapping[str, Value]  # step name -> value; steps that are absent keep the base's value


class StepError(ValueError):
    """A step that does not exist, or a choice that is not legal; the message names the next move."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One toggle.

    `field` is the field it owns and `value` what it sets there; `levels` are all values of that field, for
    `field=value`, and `more` gives those that installed packages add, looked up when one is named. `adopted` steps make up
    `all`; the others are shown when asked for. `spatial` marks a step that only shapes the spatial convolution and so has no
    effect where another token mixer replaces it. `techniques` are the members of a group (the recipe). A step whose owner is
    the recipe, and which is no technique, sets the Recipe's field of that name.
    """

    name: str
    title: str
    field: str
    value: Value
    levels: tuple[Value, ...] = ()
    more: Callable[[], tuple[Value, ...]] = tuple
    requires: tuple[str, ...] = ()
    adopted: bool = True
    spatial: bool = False
    owner: Literal["network", "recipe"] = "network"
    techniques: tuple[str, ...] = ()
    definition: str


@dataclass(frozen=True, kw_only=True)
class Paper:
    """What the paper reports for one rung: top-1 (%) with its standard deviation, GMACs, latency (ms)."""

    top1: float | None = None
    sd: float | None = None
    gmacs: float | None = None
    ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A size at which a track can be run: base widths and depths are the track's own business, keyed by `name`."""

    name: str
    input_size: int
    description: str


@dataclass(frozen=True, kw_only=True)
class Track:
    """A base, ordered steps, and the paper's table (keyed by rung name: the base, `step` or `step=value`).

    `numbers` are the fields of `Numbers` that its network takes, each with the steps that it requires. `convolutions` says for every
    stage under which choice it has convolutions of the stage's kernel that no token mixer replaces; None for under none.
    """

    name: str
    title: str
    base: str
    decisions: Callable[..., Any]
    network: Callable[..., NetSpec]
    steps: tuple[Step, ...]
    scales: tuple[Scale, ...]
    paper: Mapping[str, Paper] = field(default_factory=dict)
    paper_source: str = ""
    goal: str = ""
    numbers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    convolutions: tuple[Choice | None, ...] = ({},) * 4

    def step(self, name: str) -> Step:
        """The step called `name` (case and separators ignored; a field's name will do); StepError names the nearest."""
        wanted = squash(name)
        for step in self.steps:
            if wanted in (squash(step.name), squash(step.field)):
                return step
        known = [s.name for s in self.steps]
        near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise StepError(f"unknown step {name!r} on track {self.name}: {hint}")

    def scale(self, name: str) -> Scale:
        """The scale called `name`."""
        for scale in self.scales:
            if scale.name == name:
                return scale
        raise StepError(f"track {self.name} has no scale {name!r}; it has {', '.join(s.name for s in self.scales)}")

    def spec(
        self, choice: Choice, *, scale: str = "paper", input_size: int | None = None, classes: int = 1000, numbers: Numbers = PLAIN
    ) -> NetSpec:
        """The network of `choice` with `numbers` in place of its own; StepError where that is not legal or the input does not fit."""
        check(self, choice)
        size = input_size or self.scale(scale).input_size
        network = {s.field: choice[s.name] for s in self.steps if s.owner == "network" and s.name in choice}
        further: dict[str, Any] = {"numbers": numbers} if numbers != PLAIN else {}
        for name in numbers.named:
            self.check_number(name, choice)
        return self.network(self.decisions(**network), scale=self.scale(scale).name, input_size=size, classes=classes, **further)

    def check_number(self, name: str, choice: Choice) -> None:
        """Raise StepError where the track does not take the field `name` of `Numbers`, or `choice` lacks a step that it requires."""
        if name not in self.numbers:
            known = ", ".join(n.replace("_", "-") for n in self.numbers) or "none"
            raise StepError(f"track {self.name} takes no {name.replace('_', '-')}; of such numbers it takes {known}")
        for step in self.numbers[name]:
            if choice.get(step) != self.step(step).value:
                raise StepError(f"{name.replace('_', '-')} requires {step}: add it, or leave {name.replace('_', '-')} to the track")


@cache
def squash(name: str) -> str:
    """A name without case and separators: `ConvNeXt_T`, `convnext-t` and `convnext/t` are one."""
    return re.sub(r"[-_/. ]", "", name.lower())


def check(track: Track, choice: Choice) -> None:
    """Raise StepError where a chosen step lacks one it requires, naming the step to add."""
    for step in track.steps:
        if step.name not in choice:
            continue
        for name in step.requires:
            needed = track.step(name)
            if choice.get(name) != needed.value:
                raise StepError(f"{rung_name(step, choice[step.name])} requires {name}: add it, or drop {step.name}")


def requirement_closure(track: Track, name: str) -> tuple[str, ...]:
    """All steps that `name` requires, directly or not."""
    out: list[str] = []
    for needed in track.step(name).requires:
        out += [*requirement_closure(track, needed), needed]
    return tuple(dict.fromkeys(out))


def dependants(track: Track, name: str) -> tuple[str, ...]:
    """All steps that require `name`, directly or not."""
    return tuple(s.name for s in track.steps if name in requirement_closure(track, s.name))


def rung_name(step: Step, value: Value) -> str:
    """`step` for its adopted value, `field=value` for another one."""
    if value == step.value and step.adopted:
        return step.name
    shown = "/".join(value) if isinstance(value, tuple) and len(set(value)) > 1 else value[0] if isinstance(value, tuple) else value
    return f"{step.field.replace('_', '-')}={shown}"


@dataclass(frozen=True)
class Rung:
    """One network of a roadmap. `parent` is the index of the rung it is compared with (None for the base); a side rung
    shows an alternative value and is not continued."""

    name: str
    choice: Choice
    parent: int | None
    side: bool = False


@dataclass(frozen=True)
class Selection:
    """The steps a user named, in the track's order, with what was passed over and why."""

    track: Track
    chosen: tuple[tuple[Step, tuple[Value, ...]], ...]
    notes: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()  # techniques taken out of the recipe

    def final(self) -> dict[str, Value]:
        """The choice with every selected step at the value that is continued."""
        return {step.name: adopted_value(step, values) for step, values in self.chosen}

    def cumulative(self) -> list[Rung]:
        """The base and a rung a step, each on top of those before it; alternatives stand beside theirs."""
        rungs = [Rung(self.track.base, {}, None)]
        here: dict[str, Value] = {}
        parent = 0
        for step, values in self.chosen:
            if step.techniques:
                here = here | dict.fromkeys(sorted(self.dropped), "off")
            continued = adopted_value(step, values)
            for value in values:
                choice = here | {step.name: value}
                rungs.append(Rung(rung_name(step, value), choice, parent, side=value != continued))
            here = here | {step.name: continued}
            parent = next(i for i, r in reversed(list(enumerate(rungs))) if r.choice == here)
        for rung in rungs:
            check(self.track, rung.choice)
        return rungs


def adopted_value(step: Step, values: tuple[Value, ...]) -> Value:
    """The value that later rungs build on: the paper's where it is among them, else the last."""
    return step.value if step.adopted and step.value in values else values[-1]


def parse_value(step: Step, text: str) -> Value:
    """`text` as a value of `step`; per-stage values are written `a/b/c/d`, or `a` for all stages."""
    per_stage = isinstance(step.value, tuple)
    parts = [p.strip() for p in text.split("/")] if per_stage else [text.strip()]
    known = _by_name(step.levels)
    if any(squash(p) not in known for p in parts):
        known |= _by_name(step.more())
    bad = [p for p in parts if squash(p) not in known or p.startswith("-")]
    if bad or (per_stage and len(parts) not in (1, len(step.value))):  # type: ignore[arg-type]
        levels = ", ".join(str(v[0]) if isinstance(v, tuple) else str(v) for v in known.values())
        shape = f" (one, or {len(step.value)} separated by /)" if isinstance(step.value, tuple) else ""
        raise StepError(f"{step.field.replace('_', '-')} cannot be {text!r}; it can be {levels}{shape}")
    if not per_stage:
        return known[squash(parts[0])]
    stages = parts * (len(step.value) // len(parts)) if len(parts) == 1 else parts  # type: ignore[arg-type]
    return tuple(known[squash(p)][0] for p in stages)  # type: ignore[index]


def _by_name(levels: tuple[Value, ...]) -> dict[str, Value]:
    return {squash(str(v[0] if isinstance(v, tuple) else v)): v for v in levels}


def select(track: Track, text: str) -> Selection:
    """Parse `--steps`: `all`, `none`, names, `field=value`, `field@stage=value`, ranges `a..b`, and `-name` to take out. Terms with a
    stage add up to one value per step, the other stages keep the base's.

    StepError for an unknown step or value, a selection that is not legal in the track's order, and for a step that is
    named although the chosen mixers leave it nothing to act on.
    """
    values: dict[str, list[Value]] = {}
    staged: dict[str, Value] = {}
    named: set[str] = set()
    dropped: set[str] = set()
    techniques = {t for s in track.steps for t in s.techniques}
    group = next((s for s in track.steps if s.techniques), None)
    order = [s.name for s in track.steps]
    terms = [t.strip() for t in text.split(",") if t.strip()]
    if not terms:
        raise StepError("no steps given: say all, none, or names from `vitnas steps`")
    for term in terms:
        if term.lower() == "none":
            values.clear()
        elif term.lower() == "all":
            for step in track.steps:
                if step.adopted:
                    values.setdefault(step.name, []).append(step.value)
        elif ".." in term:
            first, _, last = (part for part in term.partition(".."))
            if not first or not last:
                raise StepError(f"{term}: a range needs both ends, such as {order[0]}..{order[-1]}")
            a, b = order.index(track.step(first).name), order.index(track.step(last).name)
            if a > b:
                raise StepError(f"{term}: {last} comes before {first} on track {track.name}; write {last}..{first}")
            for step in track.steps[a : b + 1]:
                if step.adopted:
                    values.setdefault(step.name, []).append(step.value)
        elif term.startswith("-"):
            technique = next((t for t in techniques if squash(t) == squash(term[1:])), None)
            if technique:
                dropped.add(technique)
            else:
                values.pop(track.step(term[1:]).name, None)
        else:
            name, equals, value = term.partition("=")
            if equals and not value.strip():
                raise StepError(f"{term} lacks its value: write it after the =, or leave the = out")
            name, _, stage = name.partition("@")
            step = track.step(name)
            named.add(step.name)
            level = _level(step, value, stage, staged.get(step.name))
            if stage:
                values[step.name] = [v for v in values.get(step.name, []) if v != staged.get(step.name)]
                staged[step.name] = level
            values.setdefault(step.name, []).append(level)
    if group and group.name in values and (both := sorted(techniques & values.keys())):
        raise StepError(f"{both[0]} is part of {group.name}: leave one of them out (-{both[0]} takes it out of {group.name})")
    if dropped and not (group and group.name in values):
        raise StepError(f"-{min(dropped)} takes a technique out of the recipe step, which is not chosen")
    base = track.decisions()
    chosen: list[tuple[Step, tuple[Value, ...]]] = []
    for step in track.steps:
        if step.name in values:
            if step.owner == "network" and getattr(base, step.field) in values[step.name]:
                raise StepError(f"{rung_name(step, getattr(base, step.field))} is what {track.base} has already: leave it out")
            ordered = [v for v in step.levels if v in values[step.name]] if step.levels else []
            rest = [v for v in dict.fromkeys(values[step.name]) if v not in ordered]
            chosen.append((step, (*ordered, *rest)))
    return _applicable(Selection(track, tuple(chosen), dropped=frozenset(dropped)), named)


def _level(step: Step, value: str, stage: str, so_far: Value | None = None) -> Value:
    if not value:
        if not step.adopted and step.levels:
            raise StepError(f"{step.name} needs a value: {step.name}={_levels(step)}")
        return step.value
    if stage:
        if not isinstance(step.value, tuple) or not stage.isdigit() or not 1 <= int(stage) <= len(step.value):
            raise StepError(f"{step.name}@{stage}: only per-stage steps take a stage, from 1 to 4")
        whole = parse_value(step, value)
        base = so_far or step.levels[0]
        return tuple(w if i == int(stage) - 1 else b for i, (w, b) in enumerate(zip(whole, base, strict=True)))  # type: ignore[arg-type]
    return parse_value(step, value)


def _levels(step: Step) -> str:
    return "|".join(str(v[0]) if isinstance(v, tuple) else str(v) for v in step.levels)


def _applicable(selection: Selection, named: set[str]) -> Selection:
    """Pass over the steps that shape the spatial convolution where the chosen mixers leave none to shape: those without which the final
    network is the same. One that another chosen step requires stays; one that was named is refused."""
    track, final = selection.track, selection.final()
    if "mixer" not in final:
        return selection
    mixer = rung_name(track.step("mixer"), final["mixer"])
    needed = {n for name in final for n in requirement_closure(track, name)}
    notes, kept = list(selection.notes), []
    for step, values in selection.chosen:
        if step.spatial and step.name not in needed and _idle(track, final, step.name):
            if step.name in named:
                raise StepError(f"{step.name} shapes the spatial convolution, which {mixer} replaces in every block: drop one of them")
            notes.append(f"{step.name} passed over: {mixer} replaces the convolution that it shapes")
            continue
        kept.append((step, values))
    return replace(selection, chosen=tuple(kept), notes=tuple(notes))


def _idle(track: Track, final: Choice, name: str) -> bool:
    """Whether the network of `final` is the same without step `name`; no for a choice that is not legal, which is refused elsewhere."""
    network = {k: v for k, v in final.items() if track.step(k).owner == "network"}
    try:
        return track.spec(network) == track.spec({k: v for k, v in network.items() if k != name})
    except StepError:
        return False
