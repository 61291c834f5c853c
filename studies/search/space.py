"""Search spaces: which networks a search may propose. A space has dimensions with levels; a point is one legal choice of them.

    space.draw(rng) -> point      space.candidate(point) -> network, input size, techniques; one id for all spellings of one candidate

A dimension applies under some choices of the dimensions before it alone: a step where what it requires is chosen, a kernel where a
convolution is left that has it. Where it does not apply it is absent from the point. What a track refuses beyond that (an expansion that
makes no whole number of channels) is no point. So every point is legal and has one spelling; two points may still be one network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...roadmap.mixing import TOKEN_MIXERS
from ...roadmap.numbers import OWN, PER_STAGE, Numbers
from ...roadmap.spec import NetSpec, canonical_json
from ...roadmap.steps import Step, Track, Value, requirement_closure
from . import space_size
from .space_size import Estimate, Tree

Point = tuple[tuple[str, str], ...]  # (dimension, level) of those that apply, in the space's order
Levels = Mapping[str, str]
Kind = Literal["step", "number", "size", "technique"]
KERNEL_FREE = frozenset(TOKEN_MIXERS) - {"conv", "rep-dw"}  # token mixers that no kernel size shapes
CACHED = 16384  # networks
TRIES = 1000  # draws for one that the track does not refuse


class SpaceError(ValueError):
    """A space that cannot be searched; the message names what to change."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """What varies: a step, a number, the input size or a technique (`kind`, `key`), in one stage (counted from 0) or in all.

    `values` are what the `levels` set, None for what the track has of its own. `ordered`: neighbouring levels are alike. `reads` are the
    dimensions that decide whether this one applies.
    """

    name: str
    levels: tuple[str, ...]
    ordered: bool
    kind: Kind
    key: str
    stage: int | None = None
    values: tuple[Any, ...]
    reads: tuple[str, ...] = ()

    @property
    def usual(self) -> str:
        """The level it takes when it comes to apply: the middle one, or the first where they have no order."""
        return self.levels[len(self.levels) // 2 if self.ordered else 0]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a point stands for. `techniques` of the recipe are those that are on, `input_size` is in pixels."""

    spec: NetSpec
    input_size: int
    techniques: tuple[str, ...]

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits, equal where the trained network, the input size and the techniques are."""
        return candidate_id(self.spec, self.input_size, self.techniques)


def candidate_id(spec: NetSpec, input_size: int, techniques: Iterable[str]) -> str:
    """The id of a candidate."""
    text = canonical_json([spec.fingerprint, input_size, sorted(techniques)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Space:
    """All points of a track at a scale. `fixed` are dimensions of one level, which no point names; `steps` the steps of every network that
    has what they require; `techniques` those of every recipe. `notes` say what of a space's file was passed over.
    """

    def __init__(
        self,
        name: str,
        track: Track,
        scale: str,
        dimensions: Sequence[Dimension],
        *,
        fixed: Sequence[Dimension] = (),
        steps: Mapping[str, Value] | None = None,
        techniques: Sequence[str] = (),
        classes: int = 1000,
        notes: Sequence[str] = (),
    ) -> None:
        self.name, self.track, self.scale, self.classes = name, track, track.scale(scale).name, classes
        self.techniques, self.notes = tuple(techniques), tuple(notes)
        self._steps = dict(steps or {})
        base = track.decisions()
        self._step = {s.name: s for s in track.steps}
        self._own: dict[str, Any] = {s.name: getattr(base, s.field) for s in track.steps if s.owner == "network"}
        self._mixes = "mixer" in self._step
        self._set: dict[tuple[Kind, str], list[Dimension]] = {}
        for d in (*fixed, *dimensions):
            self._set.setdefault((d.kind, d.key), []).append(d)
        self._constant = {d.name: d.levels[0] for d in fixed}
        self.dimensions: tuple[Dimension, ...] = tuple(self._in_order(dimensions))
        self._by_name = {d.name: d for d in self.dimensions}
        self.tree = Tree(self.dimensions, self.applies)
        self._network = lru_cache(maxsize=CACHED)(self._built)

    # --- points ---------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator) -> Point:
        """A point at random, each with the same chance."""
        for _ in range(TRIES):
            point = self.tree.draw(rng)
            if self.refusal(point) is None:
                return point
        raise SpaceError(f"none of {TRIES} points of space {self.name} is legal: {self.refusal(point)}")

    def walk(self, ask: Callable[[str, tuple[str, ...]], str]) -> Point:
        """The point that `ask` chooses: it is given every dimension that applies with its levels, in order. Where the track refuses what
        comes out, the nearest legal point in its stead."""
        levels: dict[str, str] = {}
        for d in self.dimensions:
            if self.applies(d, levels):
                levels[d.name] = ask(d.name, d.levels)
        return self.legal(levels)

    def neighbours(self, point: Point) -> list[Point]:
        """The points that one changed dimension leads to, or where the track refuses that, the same and one more. What comes to apply is
        at its usual level, what no longer applies is absent."""
        out: dict[Point, None] = {}
        for name, level in point:
            for other in self._others(name, level):
                near = self.canonical({**dict(point), name: other})
                if self.refusal(near) is None:
                    out[near] = None
                else:
                    out |= dict.fromkeys(p for p in self._one_more(near, name) if self.refusal(p) is None)
        return list(out)

    def _one_more(self, point: Point, name: str) -> Iterator[Point]:
        """The points with one other dimension than `name` changed, which stays as it is."""
        here = dict(point)
        for more, level in point:
            for other in self._others(more, level) if more != name else ():
                near = self.canonical({**here, more: other})
                if dict(near).get(name) == here[name]:
                    yield near

    def _others(self, name: str, level: str) -> list[str]:
        return [x for x in self._by_name[name].levels if x != level]

    def legal(self, wanted: Levels, *, first: str | None = None) -> Point:
        """The point of these levels; those that do not apply are left out, missing ones usual. Where the track refuses it, the levels are
        taken up one after another from `start`, that of `first` before others, until no further one stays legal."""
        point = self.canonical(wanted)
        if self.refusal(point) is None:
            return point
        names = [d.name for d in self.dimensions if d.name in wanted]
        if first is not None:
            names = [n for n in names if n in (*self._by_name[first].reads, first)] + names
        levels, before = dict(self.start), dict[str, str]()
        while levels != before:  # a later level may make room for an earlier one
            before = levels
            for name in names:
                if levels.get(name) != wanted[name]:
                    tried = self.canonical({**levels, name: wanted[name]})
                    if self.refusal(tried) is None:
                        levels = dict(tried)
        return self.canonical(levels)

    def canonical(self, wanted: Levels) -> Point:
        """The spelling of these levels, legal or not: those that apply, missing ones at their usual level."""
        levels: dict[str, str] = {}
        for d in self.dimensions:
            if self.applies(d, levels):
                levels[d.name] = wanted.get(d.name, d.usual)
        return tuple(levels.items())

    @cached_property
    def start(self) -> Point:
        """A legal point to start from: every dimension at its usual level, or the first legal one drawn with a fixed seed."""
        point = self.canonical({})
        return point if self.refusal(point) is None else self.draw(np.random.default_rng(0))

    def points(self) -> Iterator[Point]:
        """All points, in a fixed order."""
        return (p for p in self.tree.points() if self.refusal(p) is None)

    @cached_property
    def exact(self) -> bool:
        """Whether `spelled` is exact: all was looked at, or the track refused none of the points that were."""
        return self.tree.total <= space_size.ENUMERABLE or self._legal_share == 1

    def spelled(self) -> int:
        """How many points there are; where `exact` is not so, as many as the share of legal ones among 500 lets expect."""
        return self._spelled

    def distinct(self, rng: np.random.Generator, sample: int = 100) -> Estimate:
        """How many distinct candidates there are (see `space_size.distinct`)."""
        return space_size.distinct(self, rng, sample)

    @cached_property
    def _spelled(self) -> int:
        if self.tree.total <= space_size.ENUMERABLE:
            return sum(1 for _ in self.points())
        return self.tree.total if self.exact else round(self.tree.total * self._legal_share)

    @cached_property
    def _legal_share(self) -> float:
        rng = np.random.default_rng(0)
        return sum(self.refusal(self.tree.draw(rng)) is None for _ in range(500)) / 500

    # --- what a point stands for ----------------------------------------------------------------------------------

    def candidate(self, point: Point) -> Candidate:
        """The network, input size and techniques of a point; SpaceError where the track refuses it."""
        network = self._network(self._of_network(point))
        if isinstance(network, str):
            raise SpaceError(f"{', '.join(f'{k}={v}' for k, v in point)} is no point of space {self.name}: {network}")
        levels = dict(point)
        return Candidate(spec=network, input_size=self._size(levels), techniques=self._on(levels))

    def refusal(self, point: Point) -> str | None:
        """Why the track refuses a point; None where it does not."""
        network = self._network(self._of_network(point))
        return network if isinstance(network, str) else None

    def encode(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """`(n, d)`: ordered dimensions from 0 to 1, a column a level for others; what does not apply is in the middle of all levels."""
        columns, start = {}, 0
        for d in self.dimensions:
            width = 1 if d.ordered else len(d.levels)
            columns[d.name] = slice(start, start + width)
            start += width
        neutral = np.concatenate([[0.5] if d.ordered else np.full(len(d.levels), 1 / len(d.levels)) for d in self.dimensions])
        out = np.tile(neutral, (len(points), 1))
        for row, point in zip(out, points, strict=True):
            for name, level in point:
                d = self._by_name[name]
                i = d.levels.index(level)
                row[columns[name]] = i / (len(d.levels) - 1) if d.ordered else np.eye(len(d.levels))[i]
        return out

    def choice(self, point: Point) -> dict[str, Value]:
        """The steps of a point's network."""
        levels = dict(point)
        values = {name: self._value(self._step[name], levels) for name in self._own}
        return {k: v for k, v in values.items() if v is not None and v != self._own[k]}

    def numbers(self, point: Point) -> Numbers:
        """The numbers of a point's network."""
        levels, found = dict(point), {}
        for (kind, key), dimensions in self._set.items():
            if kind != "number":
                continue
            value: Any = OWN if key in PER_STAGE else None
            for d in dimensions:
                chosen = self._chosen(d, levels)
                if chosen is not None:
                    value = _placed(value, chosen, d.stage)
            if value is not None:
                found[key] = value
        return Numbers(**found)

    def _built(self, point: Point) -> NetSpec | str:
        try:
            return self.track.spec(
                self.choice(point), scale=self.scale, input_size=self._size(dict(point)), classes=self.classes, numbers=self.numbers(point)
            )
        except ValueError as error:
            return str(error)

    def _of_network(self, point: Point) -> Point:
        return tuple(x for x in point if self._by_name[x[0]].kind != "technique")

    def _size(self, levels: Levels) -> int:
        for d in self._set.get(("size", "input-size"), ()):
            return int(self._chosen(d, levels))
        return self.track.scale(self.scale).input_size

    def _on(self, levels: Levels) -> tuple[str, ...]:
        """The techniques that are on; one that is set itself goes before its group."""
        on = dict.fromkeys(self.techniques, True)
        members = {s.name: s.techniques for s in self.track.steps if s.techniques}
        chosen = {key: self._chosen(found[0], levels) for (kind, key), found in self._set.items() if kind == "technique"}
        for key in sorted(chosen, key=lambda k: k not in members):
            on |= dict.fromkeys(members.get(key, (key,)), chosen[key])
        return tuple(name for name, is_on in on.items() if is_on)

    # --- what applies ---------------------------------------------------------------------------------------------

    def applies(self, d: Dimension, levels: Levels) -> bool:
        """Whether a dimension applies, given the levels of those before it."""
        if d.kind == "step":
            step = self._step[d.key]
            return self._has_all(step.requires, levels) and (not self._only_spatial(step) or self._shows(step, levels))
        if d.kind == "number":
            stages = range(4) if d.stage is None else (d.stage,)
            return self._has_all(self.track.numbers[d.key], levels) and (
                d.key != "kernels" or any(self._convolves(i, levels) for i in stages)
            )
        return True

    def _has_all(self, names: Iterable[str], levels: Levels) -> bool:
        return all(self._value(step := self._step[n], levels) == step.value for n in names)

    def _value(self, step: Step, levels: Levels) -> Value | None:
        """What a step is set to; None for what the base has."""
        if not self._has_all(step.requires, levels):
            return None
        value = self._steps.get(step.name)
        for d in self._set.get(("step", step.name), ()):
            chosen = self._chosen(d, levels)
            if d.stage is None:
                value = chosen
            else:
                own = self._own[step.name]
                value = _placed(value or own, own[d.stage] if chosen is None else chosen, d.stage)
        return value

    def _chosen(self, d: Dimension, levels: Levels) -> Any:
        level = levels.get(d.name, self._constant.get(d.name))
        return None if level is None else d.values[d.levels.index(level)]

    def _only_spatial(self, step: Step) -> bool:
        return step.spatial and not any(step.name in s.requires for s in self.track.steps)

    def _shows(self, step: Step, levels: Levels) -> bool:
        """Whether a step that shapes convolutions finds one whose kernel is its to decide."""
        kernels = self._set.get(("number", "kernels"), ())
        own = {d.stage for d in kernels if None not in d.values}
        return None not in own and any(i not in own and self._convolves(i, levels) for i in range(4))

    def _convolves(self, stage: int, levels: Levels) -> bool:
        """Whether a stage has convolutions of its kernel."""
        kept = self.track.convolutions[stage]
        if kept is not None and all(self._is(self._step[k], v, levels) for k, v in kept.items()):
            return True
        if not self._mixes:
            return True
        mixer = self._value(self._step["mixer"], levels)
        return not isinstance(mixer, tuple) or mixer[stage] not in KERNEL_FREE

    def _is(self, step: Step, value: Value, levels: Levels) -> bool:
        set_to = self._value(step, levels)
        return value == (self._own[step.name] if set_to is None else set_to)

    def can_have(self, name: str) -> bool:
        """Whether any network of the space has the step called `name` at the value that others require."""
        value = self._step[name].value
        return self._steps.get(name) == value or any(value in d.values for d in self._set.get(("step", name), ()))

    # --- the order of dimensions ----------------------------------------------------------------------------------

    def _in_order(self, dimensions: Sequence[Dimension]) -> Iterator[Dimension]:
        """The dimensions, each after those that it reads."""
        varied = {d.name for d in dimensions}
        left = [replace(d, reads=tuple(n for n in self._reads(d) if n in varied and n != d.name)) for d in dimensions]
        placed: set[str] = set()
        while left:
            d = next(d for d in left if placed.issuperset(d.reads))
            left.remove(d)
            placed.add(d.name)
            yield d

    def _reads(self, d: Dimension) -> list[str]:
        names: list[str] = []
        shapes = d.kind == "number" and d.key == "kernels"
        if d.kind == "step":
            names += requirement_closure(self.track, d.key)
            shapes = self._only_spatial(self._step[d.key])
        elif d.kind == "number":
            names += self.track.numbers[d.key]
        if shapes:
            names += [s.name for s in self.track.steps if s.name == "mixer"]
            names += [k for kept in self.track.convolutions if kept for k in kept]
        closed = [c for n in names for c in (*requirement_closure(self.track, n), n)]
        return [e.name for name in dict.fromkeys(closed) for e in self._set.get(("step", self._step[name].name), ())]


def _placed(whole: Any, value: Any, stage: int | None) -> Any:
    """`whole` with `value` in a stage; `value` for all where it is no stage's."""
    if stage is None:
        return (value,) * 4 if isinstance(whole, tuple) and not isinstance(value, tuple) else value
    return tuple(value if i == stage else w for i, w in enumerate(whole))
