"""Who proposes: our own searcher over the pool, or one of Optuna's. Both are made anew from the search's log whenever it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from .choosing import ripe
from .engine import Problem, Proposal, Proposer
from .log import Record
from .pool import Pool
from .pool_searcher import PoolSearcher
from .space import Point
from .state import State

if TYPE_CHECKING:
    from .optuna_samplers import Entry, OptunaSearcher

INITIAL = 10  # trainings before the model proposes, at most
CAP = 100  # proposals that may break a limit or repeat a network before a random one takes their place
LOWER = 2.0  # times the variance of a whole training that an accuracy from a lower rung has


class PoolProposer:
    """The searcher `vitnas`: what is known of the pool without training goes in, and every accuracy so far."""

    def __init__(self, problem: Problem, pool: Pool, state: State, *, seed: int) -> None:
        self.problem, self.pool, self.state, self.seed = problem, pool, state, seed

    def propose(self, count: int) -> list[Proposal]:
        """See `engine.Proposer`."""
        book, names = self.pool.book, [o.name for o in self.problem.costs]
        values = self._values()
        met, failed = self.state.met, self.state.unmeasurable
        rows = [c for c in self.pool.own if c in values or self._runs(c) or not (c in met or c in failed or book.broken(c))]
        rows = list(dict.fromkeys([*rows, *values]))
        costs = np.array([[book.cost(c, n) for n in names] for c in rows]).reshape(len(rows), len(names))
        sound = np.isfinite(costs).all(axis=1) if names else np.ones(len(rows), dtype=bool)
        rows, costs = [c for c, s in zip(rows, sound, strict=True) if s], costs[sound]
        if all(c in met for c in rows):
            return []
        counted = np.log([[book.cost(c, "params"), book.cost(c, "macs")] for c in rows])
        searcher = PoolSearcher(
            self.pool.space.encode([self.pool.points[c] for c in rows]),
            costs if names else np.ones((len(rows), 1)),
            counted=counted,
            seed=self.seed,
            reference=self.problem.min_accuracy,
            initial=min(INITIAL, max(2, self.problem.trials // 3)),
        )
        for i, c in enumerate(rows):
            for value, noise in values.get(c, ()):
                searcher.tell(i, value, noise=noise)
            if c in met and c not in values:
                (searcher.pending if self._runs(c) else searcher.forbid)(i)
        return [Proposal(candidate=rows[i], point=self.pool.points[rows[i]], by="vitnas", details={}) for i in searcher.ask(count)]

    def told(self, candidate: str, values: tuple[float, ...] | None, *, stopped: bool) -> None:
        """Nothing to keep: the state has it."""

    def _runs(self, candidate: str) -> bool:
        """Whether it is in training, or about to be."""
        met = self.state.met.get(candidate)
        return met is not None and not met.refused and (not met.runs or any(self.state.runs[t].status == "running" for t in met.runs))

    def _values(self) -> dict[str, list[tuple[float, float]]]:
        """Accuracies (%) by candidate with the variance each has, in trainings: those of the highest rung that it reached. What rungs lack
        of whole trainings is made up for by what candidates that reached both gained between them."""
        top = len(self.problem.rule.rungs) - 1
        gain = [0.0] * (top + 1)
        for rung in range(top - 1, -1, -1):
            both = [(self.state.mean(c, rung), self.state.mean(c, rung + 1)) for c in self.state.met]
            gain[rung] = gain[rung + 1] + fmean([b - a for a, b in both if a is not None and b is not None] or [0.0])
        out = {}
        for c in self.state.met:
            reached = next((r for r in range(top, -1, -1) if self.state.accuracies(c, r)), None)
            if reached is not None and self.pool.book.complete(c):
                noise = 1.0 if reached == top else LOWER
                out[c] = [(value + gain[reached], noise) for value in self.state.accuracies(c, reached)]
        return out


class OptunaProposer:
    """One of Optuna's samplers; limits are kept to before it is told anything."""

    def __init__(self, searcher: OptunaSearcher, pool: Pool, state: State) -> None:
        self.searcher, self.pool, self.state = searcher, pool, state

    def propose(self, count: int) -> list[Proposal]:
        """See `engine.Proposer`."""
        out = []
        for _ in range(count):
            before = len(self.searcher.log)
            found = self.searcher.ask(self._feasible, CAP, lambda: filter(self._feasible, [self.pool.points[c] for c in self.pool.own]))
            if found is None:
                break
            repeats = [[list(x) for x in e.point] for e in self.searcher.log[before:] if e.kind == "repeat"]
            by = f"random, after {CAP} by {self.searcher.sampler}" if found.random else self.searcher.sampler
            details = {"rejected": found.rejected, "repeats": repeats, "random": found.random}
            out.append(Proposal(candidate=self.pool.enter(found.point), point=found.point, by=by, details=details))
        return out

    def told(self, candidate: str, values: tuple[float, ...] | None, *, stopped: bool) -> None:
        """See `engine.Proposer`."""
        self.searcher.tell(self.pool.points[candidate], values, stopped=stopped)

    def _feasible(self, point: Point) -> bool:
        candidate = self.pool.enter(point)
        met = self.state.met.get(candidate)
        untold = met is not None and met.known and not self.searcher.met(point)  # trained before and worth no measurement so far
        return not untold and self.pool.book.broken(candidate) is None


def optuna_entries(records: Iterable[Record], problem: Problem, pool: Pool) -> list[Entry]:
    """What Optuna's searcher wrote into its own log, from that of the search. Of a network known from the store it learns the mean of all
    its seeds."""
    from .optuna_samplers import Entry, Kind

    out: list[Entry] = []
    records = list(records)
    last = {r["candidate"]: i for i, r in enumerate(records) if r["what"] == "known"}
    state, top = State(), len(problem.rule.rungs) - 1
    told: set[str] = set()
    pool.book.learn({r["candidate"]: {k: v[0] for k, v in r["values"].items()} for r in records if r["what"] == "measure"})

    def values(candidate: str, rung: int) -> tuple[float, ...] | None:
        mean = state.mean(candidate, rung)
        return None if mean is None else (mean, *(pool.book.cost(candidate, o.name) for o in problem.costs))

    for i, r in enumerate(records):
        state.apply(r)
        whole = r["what"] in ("known", "measure") and i >= last.get(r["candidate"], i)
        if whole and r["candidate"] not in told and ripe(problem, state, pool.book, r["candidate"]):
            told.add(r["candidate"])
            out.append(Entry("told", pool.points[r["candidate"]], values(r["candidate"], top)))
        elif r["what"] == "propose":
            out += [Entry("repeat", tuple((k, v) for k, v in p)) for p in r.get("repeats", ())]
            out.append(Entry("asked", tuple((k, v) for k, v in r["point"])))
        elif r["what"] == "refuse":
            out.append(Entry("failed", pool.points[r["candidate"]]))
        elif r["what"] == "tell" and (run := state.runs[r["trial"]]).purpose == "search":
            found = values(run.candidate, run.rung)
            kind: Kind = "failed" if found is None else "told" if run.rung == top else "stopped"
            told.add(run.candidate)
            out.append(Entry(kind, pool.points[run.candidate], found))
    return out


def proposer_of(sampler: str, problem: Problem, pool: Pool, records: Sequence[Record], state: State, *, seed: int) -> Proposer:
    """The proposer called `sampler`, where the one that wrote `records` was; ValueError where it does not go with early stopping."""
    if sampler == "vitnas":
        return PoolProposer(problem, pool, state, seed=seed)
    from .optuna_samplers import OptunaSearcher, early_stopping_refusal

    refusal = early_stopping_refusal(sampler)  # type: ignore[arg-type]
    if refusal and len(problem.rule.rungs) > 1:
        raise ValueError(refusal)
    directions: Mapping[str, bool] = {o.name: o.maximise for o in problem.objectives}
    searcher = OptunaSearcher(pool.space, sampler, directions, seed=seed)  # type: ignore[arg-type]
    searcher.replay(optuna_entries(records, problem, pool))
    return OptunaProposer(searcher, pool, state)
