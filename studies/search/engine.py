"""The engine of a search: a state machine that says what to do next, and takes in what came of it.

    next() --> Measure these networks | Train this | Wait for what runs | Over

Every step it decides and every outcome it is told is a record in the log, written before anything follows from it; the engine that is
made of the log of a search that was killed goes on where that one stopped. Trainings without an outcome are handed out again first; the
store knows whether they have one.

    candidates are proposed --> limits that are counted or predicted --> measured --> limits --> trained, by rungs
    --> those on or near the front once more, with other seeds --> finalists, from scratch on all images, scored on the test split
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..objectives import Objective
from .book import Book
from .choosing import contenders, hypervolume, known_front, ripe, winner
from .halving import Costs, Done, Halving, Promote, Replicate, Score, Wait
from .log import Log, Record
from .state import Purpose, Run, State

GAIN_OVER = 10  # trainings over which the hypervolume must have grown by --min-gain
BATCH = 8  # networks measured together


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is searched for. `limits` are by objective, in base units (ms, a number); `trials` networks are trained at most, for `seconds`
    at most, while the hypervolume grows by `min_gain` over the last trainings. `rule` says who is trained on and how often; `finalists`
    networks are trained again with `seeds` seeds each. `chance` is the top-1 (%) of guessing."""

    objectives: tuple[Objective, ...]
    limits: Mapping[str, float]
    min_accuracy: float | None
    trials: int
    seconds: float | None
    min_gain: float | None
    rule: Halving
    finalists: int
    seeds: int
    chance: float

    @property
    def costs(self) -> tuple[Objective, ...]:
        """The objectives that are no accuracy."""
        return tuple(o for o in self.objectives if o.source != "trained")


@dataclass(frozen=True)
class Measure:
    """Measure these candidates, then tell `measured`."""

    candidates: tuple[str, ...]


@dataclass(frozen=True)
class Train:
    """Run this training, then tell `told`."""

    run: Run


@dataclass(frozen=True)
class Hold:
    """Nothing to hand out until something that runs has ended."""


@dataclass(frozen=True)
class Over:
    """All is done."""


Step = Measure | Train | Hold | Over


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A candidate that a searcher proposes. `by` is its name, or what took its place; `details` go into the log."""

    candidate: str
    point: tuple[tuple[str, str], ...]
    by: str
    details: Mapping[str, Any]


class Proposer(Protocol):
    """Who proposes candidates. Everything it knows is in the search's state, or in what it is told here."""

    def propose(self, count: int) -> Sequence[Proposal]:
        """Up to `count` candidates that were not proposed before and break no known limit; none where none is left."""

    def told(self, candidate: str, values: tuple[float, ...] | None, *, stopped: bool) -> None:
        """What a candidate came to: its objectives' values, None where it failed or broke a limit when measured. `stopped`: so far."""


class Trials(Protocol):
    """What makes trainings: the id of a candidate's trial."""

    def __call__(self, candidate: str, *, seed: int, rung: int, final: bool) -> str: ...


class Nothing(ValueError):
    """No network of the space keeps to the limits; the message says how near the nearest comes."""


class Engine:
    """A search at work. `elapsed` gives the seconds since this process began to search; those before it are in the log.

    `published` gives, when the finalists are known, the candidates of published networks within these costs among which one is trained
    like the candidate named, best first; they are in the book by then. `approach` looks for networks nearer to the limits, where none is
    known that keeps to them.
    """

    def __init__(
        self,
        problem: Problem,
        log: Log,
        state: State,
        proposer: Proposer,
        book: Book,
        trials: Trials,
        *,
        elapsed: Callable[[], float],
        published: Callable[[Mapping[str, float], str], Sequence[str]] = lambda most, like: (),
        approach: Callable[[], None] = lambda: None,
        batch: int = 1,
    ) -> None:
        self.problem, self.log, self.state, self.proposer, self.book, self.trials = problem, log, state, proposer, book, trials
        self._elapsed, self._published, self._approach, self._batch = elapsed, published, approach, batch
        self._before = state.at
        self._closed_at: float | None = None
        self._again = deque(state.running())
        self._exhausted = False
        self._nearest: float | None = None  # how far above the limits the nearest network was when no candidates were left
        self._checked = False
        book.learn(state.measured)

    # --- what it is told ------------------------------------------------------------------------------------------

    def measured(self, values: Mapping[str, Mapping[str, tuple[float, float, float]]], failed: Mapping[str, str]) -> None:
        """What came of a Measure: by candidate and quantity the value with its interval; and why others could not be measured."""
        for candidate, found in values.items():
            self._note({"what": "measure", "candidate": candidate, "values": {k: list(v) for k, v in found.items()}})
        for candidate, reason in failed.items():
            self._note({"what": "unmeasurable", "candidate": candidate, "reason": reason})
        self.book.learn(self.state.measured)
        for candidate in values:
            if ripe(self.problem, self.state, self.book, candidate):
                self.proposer.told(candidate, self._values(candidate, len(self.problem.rule.rungs) - 1), stopped=False)
        for met in list(self.state.met.values()):
            if not met.refused and met.id in failed:
                self._refuse(met.id, failed[met.id], "not measurable")
            elif not met.refused and met.id in values and (broken := self.book.broken(met.id)):
                self._refuse(met.id, broken.words, broken.quantity)

    def told(self, trial: str, accuracy: float | None, status: Literal["complete", "diverged", "failed"], error: str = "") -> None:
        """What came of a training: its top-1 (%), on test for a final one, on validation for others."""
        run = self.state.runs[trial]
        if run.status != "running":
            return
        self._again = deque(r for r in self._again if r.trial != trial)
        self._note({"what": "tell", "trial": trial, "accuracy": accuracy, "status": status, **({"error": error} if error else {})})
        if run.purpose == "final":
            return
        met = self.state.met[run.candidate]
        if run.purpose == "search":
            top = run.rung == len(self.problem.rule.rungs) - 1
            self.proposer.told(met.id, self._values(met.id, run.rung), stopped=not top)

    # --- what to do next ------------------------------------------------------------------------------------------

    def next(self) -> Step:
        """The next step. Raises Nothing where no network of the space keeps to the limits."""
        if self._again:
            return Train(self._again.popleft())
        if probes := self.book.probes(self.state.measured, self.state.unmeasurable):
            return Measure(tuple(probes))
        self._refuse_broken()
        if known := known_front(self.problem, self.state, self.book):
            return Measure(tuple(known[:BATCH]))
        reason = self.stop_reason()
        if reason and self._closed_at is None:
            self._closed_at = self.seconds()
        ended = {"reason": reason, "trained": self.trained} | ({"min-gain": self.problem.min_gain} if reason == "gain" else {})
        if reason and (self.state.stopped is None or any(self.state.stopped.get(k) != v for k, v in ended.items())):
            self._note({"what": "stop", **ended, "hypervolume": self.hypervolume()})
        for decision in self._decisions(closed=bool(reason)):
            purpose: Purpose = "search" if isinstance(decision, Promote) else "replicate"
            return self._train(decision.candidate, seed=decision.seed, rung=decision.rung, purpose=purpose)
        if not reason:
            step = self._new_candidate()
            if step is not None:
                return step
            return self.next()  # the space is exhausted: closed from here on
        if any(r.purpose != "final" for r in self.state.running()):
            return Hold()
        return self._finish()

    def stop_reason(self) -> str:
        """Why no new candidates are taken: trials, time, gain or space; empty while they are."""
        p = self.problem
        if self.trained >= p.trials:
            return "trials"
        if p.seconds is not None and self.seconds() >= p.seconds:
            return "time"
        if p.min_gain is not None and (self._gain() < p.min_gain or self._ended_by_gain()):
            return "gain"
        return "space" if self._exhausted else ""

    def _new_candidate(self) -> Step | None:
        """Train the next candidate that is ready, or measure those that are not, or have some proposed."""
        waiting = [m.id for m in self.state.met.values() if not (m.runs or m.refused or m.known)]
        unmeasured = [c for c in waiting if not self.book.complete(c)]
        ready = [c for c in waiting if c not in unmeasured]
        if ready:
            return self._train(ready[0], seed=0, rung=0, purpose="search")
        if unmeasured:
            return Measure(tuple(unmeasured[:BATCH]))
        most = self.problem.trials - self.trained
        proposals = self.proposer.propose(min(most, max(self._batch, BATCH if self.book.measures else 1)))
        for p in proposals:
            self._note({"what": "propose", "candidate": p.candidate, "point": [list(x) for x in p.point], "by": p.by, **p.details})
        if proposals:
            return self._new_candidate()
        known = set(self.book.pool)
        self._approach()
        fresh = (c for c in self.book.pool if c not in known and c not in self.state.met and not self.book.broken(c))
        if any(all(math.isfinite(self.book.cost(c, o.name)) for o in self.problem.costs) for c in fresh):
            return self._new_candidate()
        nearest = min((self.book.excess(c) for c in self.book.pool if c in self.state.measured), default=math.inf)
        nearer, self._nearest = self._nearest is None or nearest < self._nearest, nearest
        usable = (m.id for m in self.state.met.values() if m.runs and not m.refused)
        if not any(self.book.complete(c) and not self.book.broken(c) for c in usable):
            candidates = self.book.nearest({*self.state.measured, *self.state.unmeasurable}) if nearer and self.book.measures else []
            if candidates:  # predictions may be wrong: look at what is predicted to come nearest
                return Measure(tuple(candidates[:BATCH]))
            reasons = [] if self.state.measured else [*self.state.unmeasurable.values()]
            raise Nothing(f"no network could be measured: {reasons[0]}" if reasons else self.book.unreachable())
        self._exhausted = True
        return None

    def _refuse_broken(self) -> None:
        """Refuse what was measured above a limit before the process ended that would have."""
        for met in [] if self._checked else [*self.state.met.values()]:
            open_yet = not met.refused and met.id in self.state.measured and (met.known or not met.runs)
            if open_yet and (broken := self.book.broken(met.id)):
                self._refuse(met.id, broken.words, broken.quantity)
        self._checked = True

    def _decisions(self, *, closed: bool) -> list[Promote | Replicate]:
        """Trainings of candidates that have been trained before, as the rule has it. Replications at the top go to contenders alone."""
        costs, scores = self._scores()
        pending = {(r.candidate, r.rung, r.seed) for r in self.state.running() if r.purpose != "final"}
        if not scores:
            return []
        decisions = self.problem.rule.decide(costs, scores, pending, closed=closed)
        if isinstance(decisions[0], Done | Wait):
            return []
        top = len(self.problem.rule.rungs) - 1
        own = [d for d in decisions if isinstance(d, Promote | Replicate)]
        if any(isinstance(d, Replicate) and d.rung == top for d in own):
            few = set(contenders(self.problem, self.state, self.book))
            own = [d for d in own if d.rung < top or d.candidate in few]
        return own

    def _scores(self) -> tuple[Costs, list[Score]]:
        """All outcomes on validation, and the costs of their candidates, as the rule takes them. What was known before the search and
        breaks a limit is not among them: it would be promoted."""
        scores = [
            Score(candidate=r.candidate, rung=r.rung, seed=r.seed, value=r.accuracy)
            for r in self.state.runs.values()
            if r.status != "running" and r.purpose != "final" and self.book.complete(r.candidate) and not self.book.broken(r.candidate)
        ]
        names = [o.name for o in self.problem.costs]
        return {s.candidate: tuple(self.book.cost(s.candidate, n) for n in names) for s in scores}, scores

    def _finish(self) -> Step:
        """The finalists, trained again on all images and scored on the test split, and a published network alike."""
        if self.state.chosen is None or not self.state.running():  # while finalists are trained nothing changes that they are chosen by
            step = self._choose()
            if step is not None:
                return step
        assert self.state.chosen is not None
        published = self.state.chosen["published"]
        for candidate in (*self.state.chosen["finalists"], *([published] if published else [])):
            for seed in range(self.problem.seeds):
                trial = self.trials(candidate, seed=seed, rung=len(self.problem.rule.rungs) - 1, final=True)
                if trial not in self.state.runs:
                    return self._train(candidate, seed=seed, rung=len(self.problem.rule.rungs) - 1, purpose="final")
        return Hold() if self.state.running() else Over()

    def _choose(self) -> Step | None:
        """Choose finalists, winner and published network, where they changed; a step where something is to be done before, or nothing is
        to be chosen."""
        finalists = contenders(self.problem, self.state, self.book)
        if not finalists:
            return Hold() if self.state.running() else Over()
        most = {o.name: max(self.book.cost(c, o.name) for c in finalists) for o in self.problem.costs}
        best = winner(self.problem, self.state, self.book, finalists)
        within = {**self.problem.limits, **most}  # finalists keep to the limits, so `most` is no looser
        offered = [c for c in self._published(within, best or finalists[0]) if c not in self.state.unmeasurable]
        if unmeasured := [c for c in offered if not self.book.complete(c)][:BATCH]:
            return Measure(tuple(unmeasured))
        kept = [c for c in offered if all(self.book.cost(c, k) <= v for k, v in within.items())]
        choice: Record = {
            "what": "choose",
            "finalists": finalists,
            "winner": best,
            "published": kept[0] if kept else None,
            "variant": self.book.entries[kept[0]].name if kept else None,
        }
        if self.state.chosen is None or any(self.state.chosen.get(k) != v for k, v in choice.items()):
            self._note(choice)
        return None

    # --- numbers for people and for the log -----------------------------------------------------------------------

    @property
    def trained(self) -> int:
        """Candidates of this search's own that are or were in training."""
        return len(self.state.new())

    def seconds(self) -> float:
        """How long the search for candidates has run, over all sessions; what comes after its end does not count."""
        return self._before + self._elapsed() if self._closed_at is None else self._closed_at

    def hypervolume(self) -> float:
        """Of the candidates trained so far (see `choosing.hypervolume`)."""
        return hypervolume(self.problem, self.state, self.book)

    def _gain(self) -> float:
        """By which share the hypervolume grew over the last whole trainings; without end while there are too few."""
        top = len(self.problem.rule.rungs) - 1
        whole = [t for t in self.state.told if self.state.runs[t].rung == top]
        if len(whole) <= GAIN_OVER:
            return float("inf")
        late = set(whole[-GAIN_OVER:])
        before = hypervolume(self.problem, self.state, self.book, told=[t for t in self.state.told if t not in late])
        return self.hypervolume() / before - 1 if before > 0 else float("inf")

    def _ended_by_gain(self) -> bool:
        """Whether it ended so before, under the same condition: seeds that follow move the hypervolume a little, and open nothing again."""
        ended = self.state.stopped or {}
        same = ended.get("trained") == self.trained and ended.get("min-gain") == self.problem.min_gain
        return ended.get("reason") == "gain" and same

    # --- records --------------------------------------------------------------------------------------------------

    def _note(self, record: Record) -> None:
        record["at"] = round(self.seconds(), 3)
        self.log.add(record)
        self.state.apply(record)

    def _train(self, candidate: str, *, seed: int, rung: int, purpose: Purpose) -> Train:
        trial = self.trials(candidate, seed=seed, rung=rung, final=purpose == "final")
        epochs = self.problem.rule.rungs[rung]
        self._note(
            {"what": "train", "candidate": candidate, "trial": trial, "seed": seed, "rung": rung, "epochs": epochs, "purpose": purpose}
        )
        return Train(self.state.runs[trial])

    def _refuse(self, candidate: str, reason: str, quantity: str) -> None:
        self._note({"what": "refuse", "candidate": candidate, "reason": reason, "quantity": quantity})
        self.proposer.told(candidate, None, stopped=False)

    def _values(self, candidate: str, rung: int) -> tuple[float, ...] | None:
        mean = self.state.mean(candidate, rung)
        if mean is None:
            return None
        return (mean, *(self.book.cost(candidate, o.name) for o in self.problem.costs))
