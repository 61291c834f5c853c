"""Optuna proposes: its TPE, NSGA-II, GP and random search over a space, by ask and tell.

What Optuna is told is a view of the search's own log and can be rebuilt from it: every proposal comes from a sampler made for it, with a
seed of its own, so that it depends on the log alone and not on how often the search was interrupted.

What its source (5.0) and trials with it say, and so what is done here:

- A proposal that breaks a limit stays RUNNING until one keeps to it, and is then told FAIL. Nothing learns from FAIL, so limits never
  count as results; while it is RUNNING, TPE (`constant_liar`) counts it as bad and the GP as done, so that the next one is another.
- What is proposed is not what is recorded: a walk through the space makes a proposal legal, and the point that comes out is enqueued as
  a trial of its own. NSGA-II's and the GP's cover the whole space, dimensions that do not apply at their first or middle level, for both
  model only what all trials have, and draw the rest at random.
- Optuna's NSGA-II breeds from trials that have a generation, and an enqueued or added trial has none until `relative_params` is read.
- `inf` is COMPLETE for Optuna: what is not finite is told FAIL here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

Point = tuple[tuple[str, str], ...]
Sampler = Literal["tpe", "nsga2", "gp", "random"]
Kind = Literal["asked", "told", "failed", "stopped", "repeat"]
SAMPLERS: tuple[Sampler, ...] = ("tpe", "nsga2", "gp", "random")
WHOLE = ("nsga2", "gp")  # record a level of every dimension
POPULATION = 50


class Dimension(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def levels(self) -> tuple[str, ...]: ...
    @property
    def ordered(self) -> bool: ...


class Candidate(Protocol):
    @property
    def id(self) -> str: ...


class Space(Protocol):
    @property
    def dimensions(self) -> Sequence[Dimension]: ...
    def walk(self, ask: Callable[[str, tuple[str, ...]], str]) -> Point: ...
    def draw(self, rng: np.random.Generator) -> Point: ...
    def candidate(self, point: Point) -> Candidate: ...


@dataclass(frozen=True)
class Entry:
    """A line of the log. A `repeat` is a proposal of what was trained before, counted with its result."""

    kind: Kind
    point: Point
    values: tuple[float, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A point to train; how many proposals before it broke a limit, and how many were asked before; `random` where none was left."""

    point: Point
    rejected: int
    repeats: int
    random: bool


def early_stopping_refusal(sampler: Sampler) -> str | None:
    """Why a sampler cannot do with trainings that stop early; None where it can."""
    if sampler not in WHOLE:
        return None
    name = {"nsga2": "NSGA-II", "gp": "GP"}[sampler]
    return (
        f"--sampler {sampler} cannot stop early: Optuna's {name} learns from complete trials alone; take tpe or random, or --scheduler none"
    )


def build(sampler: Sampler, seed: int, objectives: int) -> optuna.samplers.BaseSampler:
    """Optuna's sampler with every argument set here, so that another version of Optuna changes no search without saying so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if sampler == "tpe":
            return optuna.samplers.TPESampler(
                n_startup_trials=10, n_ei_candidates=24, seed=seed, multivariate=objectives == 1, group=objectives == 1, constant_liar=True
            )
        if sampler == "nsga2":
            return optuna.samplers.NSGAIISampler(
                population_size=POPULATION, mutation_prob=None, crossover_prob=0.9, swapping_prob=0.5, seed=seed
            )
        if sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=10, deterministic_objective=False, warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


class OptunaSearcher:
    """One of Optuna's samplers over a space. `objectives`: name, and whether more of it is better. `study` is Optuna's own, in memory;
    `log` is all that it can be rebuilt from."""

    repeats_told = True

    def __init__(self, space: Space, sampler: Sampler, objectives: Mapping[str, bool], *, seed: int = 0) -> None:
        if sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler {sampler!r} of Optuna; there are {', '.join(SAMPLERS)}")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.sampler, self.objectives, self.seed = space, sampler, dict(objectives), seed
        self.log: list[Entry] = []
        self.study = optuna.create_study(directions=directions(objectives))
        self._distributions = {d.name: distribution(d) for d in space.dimensions}
        self._pending: dict[str, optuna.Trial] = {}
        self._results: dict[str, tuple[float, ...] | None] = {}
        self._ids: dict[Point, str] = {}

    def ask(self, feasible: Callable[[Point], bool], cap: int, known: Callable[[], Iterable[Point]] = tuple) -> Proposal | None:
        """The next point to train, or None where no new feasible one is found.

        After `cap` proposals that break a limit or repeat a point, a random feasible point takes their place: of `cap` draws from the
        space, else of those that the caller has (`known`, called then only).
        """
        self.study.sampler = self._fresh()
        tried: list[optuna.Trial] = []
        rejected = repeats = 0
        point = None
        try:
            while point is None and len(tried) < cap:
                trial = self.study.ask()
                tried.append(trial)
                found = self.space.walk(partial(self._suggest, trial))
                if not feasible(found):
                    rejected += 1
                elif not self.met(found):
                    point = found
                else:
                    repeats += 1
                    self._repeat(found)
        finally:
            for trial in tried:
                self.study.tell(trial, state=TrialState.FAIL)
        random = point is None
        if point is None:
            point = self._at_random(feasible, cap, known)
        if point is None:
            return None
        self._register(point)
        return Proposal(point=point, rejected=rejected, repeats=repeats, random=random)

    def tell(self, point: Point, values: Sequence[float] | None, *, stopped: bool = False) -> None:
        """What a point came to; None (or a value that is not finite): it failed. `stopped`: early, with values of a lower rung, which
        Optuna is not told. A point that was not asked for, such as one that an earlier search trained, is welcome too."""
        refusal = early_stopping_refusal(self.sampler)
        if stopped and refusal:
            raise ValueError(refusal)
        name = self._id(point)
        assert self._results.get(name) is None, f"{name} was told before"
        trial = self._pending.pop(name, None) or self._record(point)
        sound = values is not None and all(map(math.isfinite, values))
        self._results[name] = tuple(map(float, values)) if values is not None and sound and not stopped else None
        kind: Kind = "failed" if not sound else "stopped" if stopped else "told"
        self.log.append(Entry(kind, point, self._results[name]))
        self._finish(trial, kind, self._results[name])

    def met(self, point: Point) -> bool:
        """Whether it was asked or told."""
        return self._id(point) in self._pending or self._id(point) in self._results

    def replay(self, log: Iterable[Entry]) -> None:
        """Bring a new searcher to where the one that wrote `log` was."""
        for entry in log:
            if entry.kind == "asked":
                self._register(entry.point)
            elif entry.kind == "repeat":
                self._repeat(entry.point)
            else:
                self.tell(entry.point, entry.values, stopped=entry.kind == "stopped")

    def _fresh(self) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence((self.seed, len(self.log))).generate_state(1)[0])
        return build(self.sampler, seed, len(self.objectives))

    def _suggest(self, trial: optuna.Trial, name: str, levels: tuple[str, ...]) -> str:
        known = self._distributions[name]
        if isinstance(known, IntDistribution):
            return levels[trial.suggest_int(name, known.low, known.high)]
        return str(trial.suggest_categorical(name, levels))

    def _id(self, point: Point) -> str:
        if point not in self._ids:
            self._ids[point] = self.space.candidate(point).id
        return self._ids[point]

    def _register(self, point: Point) -> None:
        self.log.append(Entry("asked", point))
        self._pending[self._id(point)] = self._record(point)

    def _repeat(self, point: Point) -> None:
        """A point that has a result counts again with it, without another training; one that is pending or failed does not."""
        values = self._results.get(self._id(point))
        if values is not None and self.repeats_told:
            self.log.append(Entry("repeat", point, values))
            self._finish(self._record(point), "told", values)

    def _record(self, point: Point) -> optuna.Trial:
        """A running trial of the point."""
        levels = dict(point)
        chosen = {d.name: d for d in self.space.dimensions if d.name in levels or self.sampler in WHOLE}
        self.study.enqueue_trial({n: internal(d, levels.get(n)) for n, d in chosen.items()})
        trial = self.study.ask({n: self._distributions[n] for n in chosen})
        if self.sampler == "nsga2":
            assert trial.relative_params is not None  # reading it gives the trial its generation
        return trial

    def _finish(self, trial: optuna.Trial, kind: Kind, values: tuple[float, ...] | None) -> None:
        state = {"told": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}[kind]
        self.study.tell(trial, list(values) if values else None, state=state)

    def _at_random(self, feasible: Callable[[Point], bool], cap: int, known: Callable[[], Iterable[Point]]) -> Point | None:
        rng = np.random.default_rng((self.seed, len(self.log)))
        drawn = (self.space.draw(rng) for _ in range(cap))
        new = next((p for p in drawn if feasible(p) and not self.met(p)), None)
        if new is not None:
            return new
        left = [p for p in known() if not self.met(p)]
        return left[int(rng.integers(len(left)))] if left else None


def directions(objectives: Mapping[str, bool]) -> list[Literal["minimize", "maximize"]]:
    """Optuna's words."""
    return ["maximize" if more else "minimize" for more in objectives.values()]


def distribution(dimension: Dimension) -> BaseDistribution:
    """Ordered levels by their index, so that neighbours are neighbours to a sampler; others by name."""
    return IntDistribution(0, len(dimension.levels) - 1) if dimension.ordered else CategoricalDistribution(dimension.levels)


def internal(dimension: Dimension, level: str | None) -> Any:
    """A level as the distribution has it; None, where the dimension does not apply: the middle or the first."""
    if dimension.ordered:
        return len(dimension.levels) // 2 if level is None else dimension.levels.index(level)
    return dimension.levels[0] if level is None else level
