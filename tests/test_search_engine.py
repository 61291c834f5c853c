"""The engine of a search on made-up accuracies: who is trained, how often, when it ends; and that its log is enough to go on."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitnas.studies.objectives import parse_objectives
from vitnas.studies.search.book import Book
from vitnas.studies.search.choosing import front, hypervolume, hypervolumes, scored
from vitnas.studies.search.engine import Engine, Hold, Measure, Nothing, Over, Problem, Train
from vitnas.studies.search.halving import Halving
from vitnas.studies.search.log import Log, read_log
from vitnas.studies.search.pool import Pool
from vitnas.studies.search.proposers import optuna_entries, proposer_of
from vitnas.studies.search.space import Space
from vitnas.studies.search.space_file import load_space
from vitnas.studies.search.space_size import extremes
from vitnas.studies.search.state import Run, State

PROBLEM = Problem(
    objectives=parse_objectives("accuracy,macs"),
    limits={},
    min_accuracy=None,
    trials=8,
    seconds=None,
    min_gain=None,
    rule=Halving(rungs=(9,)),
    finalists=2,
    seeds=2,
    chance=10.0,
)


@cache
def space() -> Space:
    return load_space("micro", "convnext-t", "micro", classes=10)


@cache
def filled() -> Pool:
    pool = Pool(space(), Book(PROBLEM.objectives, {}))
    pool.fill(200, 0)
    return pool


class Bench:
    """A search whose trainings and measurements are made up: larger networks are better and slower, seeds differ by 0.2 points."""

    def __init__(self, folder: Path, problem: Problem, sampler: str = "vitnas", *, drawn: tuple[Space, int] | None = None) -> None:
        self.problem, self.book = problem, Book(problem.objectives, problem.limits)
        self.pool = Pool(drawn[0] if drawn else space(), self.book)
        if drawn:
            self.pool.fill(drawn[1], 0)
        for candidate in () if drawn else filled().own:
            self.pool.take(filled().points[candidate])
        self.pool.whole = not drawn
        self.log = Log(folder)
        self.state = State(self.log.records)
        for met in self.state.met.values():
            (self.pool.take if met.by == "vitnas" else self.pool.enter)(met.point)
        proposer = proposer_of(sampler, problem, self.pool, self.log.records, self.state, seed=0)
        elapsed, approach = (lambda: float(len(self.log.records))), self.pool.extend
        self.engine = Engine(problem, self.log, self.state, proposer, self.book, self.trial, elapsed=elapsed, approach=approach)
        self.trained: list[str] = []
        self.measured: list[str] = []

    def trial(self, candidate: str, *, seed: int, rung: int, final: bool) -> str:
        return f"{candidate}-{seed}-{rung}-{'final' if final else 'search'}"

    def accuracy(self, candidate: str, seed: int, rung: int) -> float:
        size = np.log(self.book.entries[candidate].counted.macs)
        return float(min(99.0, 3 * size + 0.2 * seed + 2 * rung + int(candidate[:2], 16) / 16))

    def ms(self, candidate: str) -> float:
        return float(self.book.entries[candidate].counted.macs / 1e6 + int(candidate[2:4], 16) / 256)

    def measure(self, candidate: str) -> dict[str, tuple[float, float, float]]:
        return {"latency": (self.ms(candidate),) * 3}

    def step(self) -> bool:
        """One step; whether it was not the last."""
        step = self.engine.next()
        assert not isinstance(step, Hold)
        if isinstance(step, Measure):
            self.measured += step.candidates
            self.engine.measured({c: self.measure(c) for c in step.candidates}, {})
        elif isinstance(step, Train):
            run = step.run
            self.trained.append(run.trial)
            self.engine.told(run.trial, self.accuracy(run.candidate, run.seed, run.rung), "complete")
        return not isinstance(step, Over)

    def run(self) -> Bench:
        while self.step():
            pass
        return self


def write_known(folder: Path, candidates: Sequence[str], *, epochs: int = 9, accuracy: float | None = None) -> None:
    """A log that begins with trainings that the store had."""
    folder.mkdir(exist_ok=True)
    records: list[dict[str, Any]] = [{"what": "begin"}]
    for c in candidates:
        point = [list(x) for x in filled().points[c]]
        known = {"what": "known", "candidate": c, "point": point, "by": "the store", "trial": f"{c}-before", "seed": 0, "rung": 0}
        records.append(known | {"epochs": epochs, "accuracy": accuracy or 40.0 + int(c[:2], 16) / 8})
    (folder / "search.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def test_a_search_trains_what_was_asked_for_and_no_training_twice(tmp_path: Path) -> None:
    """Eight networks, replicas of those on or near the front, two finalists with two seeds each on all images."""
    bench = Bench(tmp_path, PROBLEM).run()
    assert max(Counter(bench.trained).values()) == 1
    assert len(bench.state.new()) == 8 and bench.state.stopped is not None and bench.state.stopped["reason"] == "trials"
    finals = [r for r in bench.state.runs.values() if r.purpose == "final"]
    assert len(finals) == 4 and bench.state.chosen is not None
    chosen = bench.state.chosen
    assert {r.candidate for r in finals} == set(chosen["finalists"])
    assert chosen["winner"] == max(chosen["finalists"], key=lambda c: scored(PROBLEM, bench.state, bench.book)[c])
    assert all(len(bench.state.accuracies(c, 0)) >= 2 for c in chosen["finalists"])
    runs = list(bench.state.runs.values())
    for candidate in chosen["finalists"]:
        assert bench.state.of(candidate) == [r for r in runs if r.candidate == candidate and r.purpose != "final"]
        assert bench.state.of(candidate, purpose=["final"]) == [r for r in finals if r.candidate == candidate]
    assert bench.state.of("nobody") == []


@pytest.mark.parametrize("sampler", ["vitnas", "tpe"])
def test_the_log_is_enough_to_go_on(tmp_path: Path, sampler: str) -> None:
    """Cut off after any record and begun again, a search trains nothing again that had ended, and comes to the same end."""
    whole = Bench(tmp_path, PROBLEM, sampler).run()
    lines = (tmp_path / "search.jsonl").read_text().splitlines(keepends=True)
    for cut in range(1, len(lines), 9):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "search.jsonl").write_text("".join(lines[:cut]) + '{"what": "te')
        before = {r["trial"] for r in read_log(folder) if r["what"] == "tell"}
        again = Bench(folder, PROBLEM, sampler).run()
        assert not before & set(again.trained)
        assert before | set(again.trained) == set(again.state.runs)
        assert set(again.state.runs) == set(whole.state.runs)


def test_a_finished_search_can_be_extended(tmp_path: Path) -> None:
    """With more trials it goes on and trains new networks alone."""
    first = Bench(tmp_path, PROBLEM).run()
    more = Bench(tmp_path, replace(PROBLEM, trials=11)).run()
    assert len(more.state.new()) == 11
    assert not set(first.trained) & set(more.trained)
    assert not Bench(tmp_path, replace(PROBLEM, trials=11)).run().trained


def test_halving_ends_trainings_early(tmp_path: Path) -> None:
    """Of the networks that start, the better ones alone go on to the last rung, those on the front among them."""
    problem = replace(PROBLEM, rule=Halving(rungs=(1, 3, 9), eta=3.0), trials=18)
    bench = Bench(tmp_path, problem).run()
    started = {r.candidate for r in bench.state.runs.values() if r.rung == 0 and r.purpose == "search"}
    ended = {r.candidate for r in bench.state.runs.values() if r.rung == 2 and r.purpose == "search"}
    assert len(started) == 18 and 2 <= len(ended) < 12
    assert set(front(problem, bench.state, bench.book)) <= ended
    same_volumes(bench)


def test_latency_is_measured_before_training_and_limits_hold(tmp_path: Path) -> None:
    """Nothing above the limit is trained, nothing is measured twice, and all that is trained was measured."""
    latencies = sorted(Bench(tmp_path, PROBLEM).ms(c) for c in filled().own)
    limit = latencies[len(latencies) // 3]
    folder = tmp_path / "limited"
    folder.mkdir()
    bench = Bench(folder, replace(PROBLEM, objectives=parse_objectives("accuracy,latency"), limits={"latency": limit})).run()
    assert max(Counter(bench.measured).values()) == 1
    trained = {r.candidate for r in bench.state.runs.values()}
    assert trained and trained <= set(bench.measured)
    assert all(bench.ms(c) <= limit for c in trained)


def test_a_network_that_was_measured_too_slow_is_not_trained_after_a_kill(tmp_path: Path) -> None:
    """Where the process ended after the measurements were written and before what they mean was."""
    problem = replace(PROBLEM, objectives=parse_objectives("accuracy,latency"), limits={"latency": 1.2})
    Bench(tmp_path, problem).run()
    lines = (tmp_path / "search.jsonl").read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    cut = next(i for i, r in enumerate(records) if r["what"] == "refuse")
    slow = records[cut]["candidate"]
    (tmp_path / "search.jsonl").write_text("".join(lines[:cut]))
    again = Bench(tmp_path, problem).run()
    assert again.state.met[slow].refused and slow not in {r.candidate for r in again.state.runs.values()}
    assert all(again.ms(r.candidate) <= 1.2 for r in again.state.runs.values())


def test_a_limit_below_all_networks_says_how_near_the_nearest_comes(tmp_path: Path) -> None:
    """For what is counted, and for what is measured."""
    with pytest.raises(Nothing, match=r"max-params: no network was found in this space that keeps to 10: the smallest of .* has "):
        Bench(tmp_path, replace(PROBLEM, limits={"params": 10.0})).run()
    folder = tmp_path / "latency"
    folder.mkdir()
    bench = Bench(folder, replace(PROBLEM, objectives=parse_objectives("accuracy,latency"), limits={"latency": 1e-3}))
    with pytest.raises(Nothing, match=r"max-latency: .* the fastest of \d+ measured has ") as refused:
        bench.run()
    assert f"has {min(bench.ms(c) for c in bench.measured):.3g} ms" in str(refused.value)


@pytest.mark.parametrize("sampler", ["vitnas", "tpe", "nsga2"])
@pytest.mark.parametrize("known", [0, 3])
def test_a_latency_limit_below_all_networks_is_told_alike_whoever_proposes(tmp_path: Path, sampler: str, known: int) -> None:
    """Also where the store has trainings of networks that break it."""
    write_known(tmp_path, filled().own[:known])
    bench = Bench(tmp_path, replace(PROBLEM, objectives=parse_objectives("accuracy,latency"), limits={"latency": 1e-3}), sampler)
    with pytest.raises(Nothing, match=r"the fastest of .* measured has "):
        bench.run()
    assert bench.measured and not bench.trained


@pytest.mark.parametrize("sampler", ["vitnas", "tpe", "nsga2", "gp", "random"])
def test_samplers_learn_of_known_trainings_once_they_are_measured(tmp_path: Path, sampler: str) -> None:
    """Once each, with all values, where they keep to the limit; the log tells a sampler the same in the same order."""
    known = filled().own[::7]
    speeds = sorted(Bench(tmp_path / "none", PROBLEM).ms(c) for c in known)
    limit = speeds[len(speeds) // 2]
    problem = replace(PROBLEM, objectives=parse_objectives("accuracy,latency"), limits={"latency": limit}, trials=6)
    write_known(tmp_path, known)
    bench = Bench(tmp_path, problem, sampler).run()
    assert any(c in bench.measured for c in known) and len(bench.state.new()) == 6
    assert not {bench.state.runs[t].candidate for t in bench.trained if bench.state.runs[t].purpose == "search"} & set(known)
    told = Counter(e.point for e in optuna_entries(bench.log.records, problem, bench.pool) if e.kind == "told")
    values = [e.values for e in optuna_entries(bench.log.records, problem, bench.pool) if e.kind == "told"]
    assert set(told.values()) == {1} and all(v is not None and np.isfinite(v).all() and v[1] <= limit for v in values)
    assert {bench.pool.points[c] for c in known if c in bench.measured and bench.ms(c) <= limit} <= set(told)
    lines = (tmp_path / "search.jsonl").read_text().splitlines(keepends=True)
    trained = [i for i, line in enumerate(lines) if json.loads(line)["what"] in ("train", "tell")]  # a batch of readings is not cut
    if sampler != "vitnas":
        again = proposer_of(sampler, problem, bench.pool, bench.log.records, bench.state, seed=0)
        assert again.searcher.log == bench.engine.proposer.searcher.log  # type: ignore[attr-defined]
    for cut in trained[1::5]:
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "search.jsonl").write_text("".join(lines[:cut]))
        assert set(Bench(folder, problem, sampler).run().state.runs) == set(bench.state.runs)


def test_samplers_learn_the_mean_of_known_seeds(tmp_path: Path) -> None:
    """Of a network that the store has with several, whichever of them comes first."""
    (c,) = filled().own[:1]
    write_known(tmp_path, [c], accuracy=80.0)
    second = json.loads((tmp_path / "search.jsonl").read_text().splitlines()[1]) | {"trial": f"{c}-2", "seed": 1, "accuracy": 82.0}
    with (tmp_path / "search.jsonl").open("a") as file:
        file.write(json.dumps(second) + "\n")
    (entry,) = optuna_entries(read_log(tmp_path), PROBLEM, filled())
    assert entry.kind == "told" and entry.values is not None and entry.values[0] == 81.0


def test_known_networks_that_break_a_limit_are_not_trained_on(tmp_path: Path) -> None:
    """By what is counted: no higher rung, no other seed, no final."""
    macs = sorted(filled().book.cost(c, "macs") for c in filled().own)
    problem = replace(PROBLEM, rule=Halving(rungs=(1, 3, 9), eta=3.0), limits={"macs": macs[len(macs) // 2]})
    known = filled().own[::5]
    write_known(tmp_path, known, epochs=1, accuracy=98.0)
    bench = Bench(tmp_path, problem).run()
    large = {c for c in known if bench.book.broken(c)}
    assert large and not large & {bench.state.runs[t].candidate for t in bench.trained}


def test_latency_limits_that_no_draw_keeps_to_are_approached(tmp_path: Path) -> None:
    """In a large space, by what is predicted, before it is said that there is none."""
    large = load_space("convnext", "convnext-t", "micro", classes=10)
    problem = replace(PROBLEM, objectives=parse_objectives("accuracy,latency"), limits={"latency": 1.0}, trials=2, finalists=1, seeds=1)
    bench = Bench(tmp_path, problem, drawn=(large, 20))
    limit = 0.7 * min(bench.ms(c) for c in bench.pool.own)
    folder = tmp_path / "limited"
    folder.mkdir()
    bench = Bench(folder, replace(problem, limits={"latency": limit}), drawn=(large, 20)).run()
    assert len(bench.state.new()) == 2 and all(bench.ms(c) <= limit for c in bench.state.new())
    again = Bench(folder, replace(problem, limits={"latency": limit}, trials=4), drawn=(large, 20)).run()  # made anew, without them
    assert len(again.state.new()) == 4 and all(again.ms(c) <= limit for c in again.state.new())


def test_a_cost_of_nothing_has_a_place_on_the_front(tmp_path: Path) -> None:
    """A device that tells 0 for some networks, or for all."""
    for zeros in ("89abcdef", "0123456789abcdef"):

        class Idle(Bench):
            def measure(self, candidate: str, zeros: str = zeros) -> dict[str, tuple[float, float, float]]:
                return {"energy": (0.0 if candidate[0] in zeros else self.ms(candidate),) * 3}

        folder = tmp_path / zeros
        folder.mkdir()
        bench = Idle(folder, replace(PROBLEM, objectives=parse_objectives("accuracy,energy"))).run()
        assert len(bench.state.new()) == 8 and bench.engine.hypervolume() > 0


def test_under_an_accuracy_the_cheapest_that_reaches_it_wins(tmp_path: Path) -> None:
    """The other way round: the winner is the cheapest of those that reach it, or there is none."""
    all_of = sorted(Bench(tmp_path, PROBLEM).accuracy(c, 0, 0) for c in filled().own)
    folder = tmp_path / "reached"
    folder.mkdir()
    problem = replace(PROBLEM, min_accuracy=all_of[len(all_of) // 2])
    bench = Bench(folder, problem).run()
    found = scored(problem, bench.state, bench.book)
    able = [c for c, v in found.items() if v >= all_of[len(all_of) // 2]]
    assert bench.state.chosen is not None
    assert bench.state.chosen["winner"] == min(able, key=lambda c: bench.book.cost(c, "macs"))
    folder = tmp_path / "missed"
    folder.mkdir()
    assert (Bench(folder, replace(PROBLEM, min_accuracy=99.9)).run().state.chosen or {})["winner"] is None


def test_it_ends_by_time_and_by_gain(tmp_path: Path) -> None:
    """The made-up clock counts records; accuracies that are all alike gain nothing."""
    timed = Bench(tmp_path, replace(PROBLEM, trials=60, seconds=30.0)).run()
    assert timed.state.stopped is not None and timed.state.stopped["reason"] == "time" and len(timed.state.new()) < 60
    folder = tmp_path / "gain"
    folder.mkdir()
    gained = Bench(folder, replace(PROBLEM, trials=60, min_gain=0.5)).run()
    assert gained.state.stopped is not None and gained.state.stopped["reason"] == "gain" and 11 <= len(gained.state.new()) < 60


def test_what_follows_the_end_by_gain_opens_nothing_again(tmp_path: Path) -> None:
    """Seeds that are added then move the hypervolume a little."""
    bench = Bench(tmp_path, replace(PROBLEM, trials=60, min_gain=0.5))
    while bench.state.stopped is None:
        assert bench.step()
    before = len(bench.state.new())
    bench.engine._gain = lambda: 9.0  # type: ignore[method-assign]
    assert len(bench.run().state.new()) == before and bench.state.stopped["reason"] == "gain"


def test_networks_known_from_short_trainings_go_on_where_costs_are_measured(tmp_path: Path) -> None:
    """Those that may be on the front of their rung are measured, and promoted with the others."""
    objectives, known = parse_objectives("accuracy,latency"), filled().own[::5]
    write_known(tmp_path, known, epochs=1)
    bench = Bench(tmp_path, replace(PROBLEM, objectives=objectives, rule=Halving(rungs=(1, 3, 9), eta=3.0))).run()
    promoted = {r.candidate for r in bench.state.runs.values() if r.rung > 0}
    assert promoted & set(known)


def test_networks_that_cannot_be_measured_end_no_search_but_the_last(tmp_path: Path) -> None:
    """Where none can be, it says why."""
    bench = Bench(tmp_path, replace(PROBLEM, objectives=parse_objectives("accuracy,latency")))
    with pytest.raises(Nothing, match="no network could be measured: too wide"):
        while not isinstance(step := bench.engine.next(), Over):
            assert isinstance(step, Measure)
            bench.engine.measured({}, dict.fromkeys(step.candidates, "too wide"))


def test_probes_that_cannot_be_measured_are_replaced(tmp_path: Path) -> None:
    """By others, until costs can be predicted: the search goes on to its last trial."""
    bench = Bench(tmp_path, replace(PROBLEM, objectives=parse_objectives("accuracy,latency")))
    step = bench.engine.next()
    assert isinstance(step, Measure) and len(step.candidates) == 12
    bench.engine.measured({c: bench.measure(c) for c in step.candidates[5:]}, dict.fromkeys(step.candidates[:5], "too wide"))
    bench.run()
    assert len(bench.state.new()) == 8 and bench.state.stopped is not None and bench.state.stopped["reason"] == "trials"


def test_a_search_by_accuracy_and_five_costs(tmp_path: Path) -> None:
    """Proposes, ends, and proposes the same again where it goes on."""

    class Costly(Bench):
        def measure(self, candidate: str) -> dict[str, tuple[float, float, float]]:
            ms = self.ms(candidate)
            return {"latency": (ms,) * 3, "latency-p99": (1.1 * ms + 0.1,) * 3, "memory": (2.0 + ms**0.5,) * 3}

    objectives = parse_objectives("accuracy,latency,latency-p99,macs,params,memory")
    problem = replace(PROBLEM, objectives=objectives, trials=24, rule=Halving(rungs=(9,)))
    whole = Costly(tmp_path, problem).run()
    assert len(whole.state.new()) == 24 and 0 < whole.engine.hypervolume() < 1
    lines = (tmp_path / "search.jsonl").read_text().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(lines) if json.loads(line)["what"] == "tell") + 1
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "search.jsonl").write_text("".join(lines[:cut]))
    assert set(Costly(folder, problem).run().state.runs) == set(whole.state.runs)


def test_gain_is_of_whole_trainings(tmp_path: Path) -> None:
    """With rungs, ten short trainings without a whole one are no sign of the end."""
    problem = replace(PROBLEM, rule=Halving(rungs=(3, 9), eta=2.0), trials=60, min_gain=1e9)
    bench = Bench(tmp_path, problem).run()
    stop = next(i for i, r in enumerate(bench.log.records) if r["what"] == "stop" and r["reason"] == "gain")
    runs = {r["trial"]: r for r in bench.log.records[:stop] if r["what"] == "train"}
    whole = [r for r in bench.log.records[:stop] if r["what"] == "tell" and runs[r["trial"]]["rung"] == 1]
    assert len(whole) > 10


def test_a_failed_training_is_not_proposed_again(tmp_path: Path) -> None:
    """It counts as a network that was tried, and stands on no front."""
    bench = Bench(tmp_path, PROBLEM)
    step = bench.engine.next()
    assert isinstance(step, Train)
    bench.engine.told(step.run.trial, None, "diverged")
    bench.run()
    assert step.run.candidate not in scored(PROBLEM, bench.state, bench.book)
    assert max(Counter(bench.trained).values()) == 1


@pytest.mark.parametrize("purpose", ["replicate", "final"])
def test_a_network_that_diverges_with_one_seed_does_not_win(tmp_path: Path, purpose: str) -> None:
    """However accurate it is with the others: as long as there are networks that do not."""
    best = (Bench(tmp_path, PROBLEM).run().state.chosen or {})["winner"]
    folder = tmp_path / purpose
    folder.mkdir()
    bench = Bench(folder, PROBLEM)
    while not isinstance(step := bench.engine.next(), Over):
        assert isinstance(step, Train)
        run, fails = step.run, step.run.candidate == best and step.run.purpose == purpose
        bench.engine.told(
            run.trial, None if fails else bench.accuracy(run.candidate, run.seed, run.rung), "diverged" if fails else "complete"
        )
    assert any(r.status == "diverged" and r.purpose == purpose for r in bench.state.runs.values())
    assert bench.state.chosen is not None and bench.state.chosen["winner"] not in (None, best)
    assert (best in front(PROBLEM, bench.state, bench.book)) == (purpose == "final")
    same_volumes(bench)


def same_volumes(bench: Bench) -> None:
    """The volumes in one go are those of each training and the ones before it."""
    told = bench.state.told
    each = [hypervolume(bench.problem, bench.state, bench.book, told=told[: i + 1]) for i in range(len(told))]
    assert hypervolumes(bench.problem, bench.state, bench.book) == pytest.approx(each) and each[-1] > 0


def test_a_published_network_keeps_to_the_finalists_costs(tmp_path: Path) -> None:
    """Also where a limit is looser; it is made like the winner."""
    asked: list[tuple[dict[str, float], str]] = []
    limit = 10 * max(filled().book.cost(c, "macs") for c in filled().own)
    bench = Bench(tmp_path, replace(PROBLEM, limits={"macs": limit}))

    def published(most: Mapping[str, float], like: str) -> list[str]:
        asked.append((dict(most), like))
        return []

    bench.engine._published = published
    bench.run()
    assert bench.state.chosen is not None and asked
    dearest = max(bench.book.cost(c, "macs") for c in bench.state.chosen["finalists"])
    assert asked[-1] == ({"macs": dearest}, bench.state.chosen["winner"])


def test_below_a_least_accuracy_networks_are_worth_nothing(tmp_path: Path) -> None:
    """The sampler goes where networks may reach it, not to cheap ones that cannot."""
    accuracies = sorted(Bench(tmp_path, PROBLEM).accuracy(c, 0, 0) for c in filled().own)
    least = accuracies[int(0.8 * len(accuracies))]
    tried = {}
    for name, wanted in (("plain", None), ("least", least)):
        folder = tmp_path / name
        folder.mkdir()
        bench = Bench(folder, replace(PROBLEM, trials=24, min_accuracy=wanted)).run()
        tried[name] = sum(bench.accuracy(c, 0, 0) >= least for c in bench.state.new())
    assert tried["least"] > tried["plain"]


def test_seeds_and_finalists_are_trained_side_by_side(tmp_path: Path) -> None:
    """As many as are asked for at once: replicas of different networks, and all finalists."""
    bench = Bench(tmp_path, PROBLEM)
    most: Counter[str] = Counter()
    flying = deque[Run]()
    while not isinstance(step := bench.engine.next(), Over):
        if isinstance(step, Train):
            flying.append(step.run)
            bench.trained.append(step.run.trial)
            for purpose, count in Counter(r.purpose for r in flying).items():
                most[purpose] = max(most[purpose], count)
        if isinstance(step, Hold) or len(flying) == 4:
            run = flying.popleft()
            bench.engine.told(run.trial, bench.accuracy(run.candidate, run.seed, run.rung), "complete")
    assert not flying and max(Counter(bench.trained).values()) == 1
    assert most["replicate"] > 1 and most["final"] == 4


def test_limits_that_no_draw_keeps_to_are_approached() -> None:
    """In a space of 10^10 networks, a limit a hundredth above the smallest that single changes lead to: the pool has some within it, and
    says how small the smallest is where there is none."""
    large = load_space("convnext", "convnext-t", "micro", classes=10)
    least = extremes(large, np.random.default_rng(0), 20)[0].macs
    pool = Pool(large, Book(PROBLEM.objectives, {"macs": 1.01 * least}))
    pool.fill(10, 0)
    assert pool.feasible and len(pool.own) > len(pool.feasible)
    assert all(pool.book.cost(c, "macs") <= 1.01 * least for c in pool.feasible)
    none = Pool(large, Book(PROBLEM.objectives, {"macs": 0.5 * least}))
    none.fill(10, 0)
    assert not none.feasible and "the smallest of" in none.book.unreachable()
    assert min(none.book.cost(c, "macs") for c in none.own) <= 1.01 * least


def test_the_pool_is_extended_up_to_its_size() -> None:
    """In a space of 10^10 networks under a tight limit: more at each call, and no end at the first few."""
    large = load_space("convnext", "convnext-t", "micro", classes=10)
    least = extremes(large, np.random.default_rng(0), 20)[0].macs
    pool = Pool(large, Book(PROBLEM.objectives, {"macs": 1.1 * least}))
    pool.size, pool.few = 450, 200
    pool.take(large.draw(np.random.default_rng(0)))
    pool.approach()
    within = [sum(pool.book.excess(c) <= 1 for c in pool.own)]
    for _ in range(3):
        pool.extend()
        within.append(sum(pool.book.excess(c) <= 1 for c in pool.own))
    assert 200 <= within[0] < within[1] < within[2] == within[3] and within[3] >= 450


def test_a_small_space_ends_by_space(tmp_path: Path) -> None:
    """Under a limit too, once all that keep to it were trained."""
    macs = sorted(filled().book.cost(c, "macs") for c in filled().own)
    bench = Bench(tmp_path, replace(PROBLEM, trials=500, limits={"macs": macs[14]})).run()
    assert bench.state.stopped is not None and bench.state.stopped["reason"] == "space" and len(bench.state.new()) >= 15


@pytest.mark.parametrize("garbage", [b'{"what": "te\n', b"[1, 2]\n", b"\xa7\x00\xff\n"])
def test_a_damaged_log_is_kept_and_said(tmp_path: Path, garbage: bytes) -> None:
    """What can be read goes on; the file as it was stays. A torn last line is no damage."""
    Bench(tmp_path, PROBLEM).run()
    path = tmp_path / "search.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], garbage, *lines[6:]]))
    log = Log(tmp_path)
    assert len(log.records) == 5 and "from line 6 on" in log.damage
    assert len((tmp_path / "search.jsonl.damaged").read_bytes().splitlines()) == len(lines)
    assert path.read_bytes() == b"".join(lines[:5])
    path.write_bytes(b"".join([*lines[:5], garbage]))
    assert not Log(tmp_path).damage and path.read_bytes() == b"".join(lines[:5])
