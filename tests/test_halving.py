"""Successive halving with known costs and noise: what it promises, on made-up searches and on a real table of three seeds."""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitnas.studies.search.halving import Decision, Done, Halving, Promote, Replicate, Score, Training, Wait, rungs

RUNGS = (1, 3, 9)
TABLE = Path(os.environ.get("VITNAS_SHARED", "shared")) / "nas-tables" / "nb_macro.csv.gz"


class World:
    """Candidates with costs and true values that grow with the rungs; a training's score is a function of the training alone."""

    def __init__(self, seed: int, number: int, *, noise: float = 0.4, costs: int = 1, failing: float = 0.05) -> None:
        rng = np.random.default_rng(seed)
        self.costs = {f"c{i:02}": tuple(float(x) for x in rng.integers(1, 12, costs)) for i in range(number)}
        self.value = {c: 3 * np.log(sum(x)) + float(rng.normal()) for c, x in self.costs.items()}
        self.seed, self.noise, self.failing = seed, noise, failing

    def score(self, training: Training) -> Score:
        candidate, rung, seed = training
        rng = random.Random(f"{self.seed} {training}")
        fails = rng.random() < self.failing
        value = self.value[candidate] + rung + rng.gauss(0, self.noise)
        return Score(candidate=candidate, rung=rung, seed=seed, value=None if fails else value)


def search(rule: Halving, world: World, *, workers: int, shuffle: int) -> tuple[list[Score], list[tuple[list[Score], list[Decision]]]]:
    """Drive a search to its end with `workers` trainings at a time that end in random order; the scores, and all decisions with what was
    known at the time."""
    rng = random.Random(shuffle)
    new = [(c, 0, 0) for c in world.costs]
    pending: list[Training] = []
    scores: list[Score] = []
    history = []
    while True:
        while len(pending) < workers:
            decisions = rule.decide(world.costs, scores, pending, closed=not new)
            history.append((list(scores), decisions))
            first = decisions[0]
            if isinstance(first, Promote | Replicate):
                pending.append((first.candidate, first.rung, first.seed))
            elif new and isinstance(first, Wait):
                pending.append(new.pop(0))
            else:
                break
        if not pending:
            assert history[-1][1] == [Done()]
            return scores, history
        scores.append(world.score(pending.pop(rng.randrange(len(pending)))))


RULES = [Halving(rungs=RUNGS, synchronous=s, k=k, worth=w, noise=0.4) for s in (False, True) for k, w in ((0, 1), (1, 0), (1, 1))]
worlds = st.builds(World, st.integers(0, 10**6), st.integers(1, 25), costs=st.integers(1, 2))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(world=worlds, rule=st.sampled_from(RULES), shuffle=st.integers(0, 99))
def test_nobody_is_promoted_over_a_candidate_that_passes_over_it(world: World, rule: Halving, shuffle: int) -> None:
    """Whoever moves up, all candidates of no more cost that are ahead of it beyond noise move up with it or have done so; what diverged
    never does. Decisions are the same when asked again, and no training is asked for twice."""
    scores, history = search(rule, world, workers=3, shuffle=shuffle)
    trainings = [(s.candidate, s.rung, s.seed) for s in scores]
    assert len(trainings) == len(set(trainings))
    asked = set()
    for known, decisions in history:
        for d in decisions:
            if isinstance(d, Promote):
                asked.add((d.candidate, d.rung))
        for d in decisions:
            if not isinstance(d, Promote):
                continue
            board = {s.candidate: s for s in rule.standings(world.costs, known, d.rung - 1)}
            own = board[d.candidate]
            assert own.mean is not None
            for other in board.values():
                cheaper = all(a <= b for a, b in zip(world.costs[other.candidate], world.costs[d.candidate], strict=True))
                if other.mean is not None and other is not own and cheaper:
                    ahead = (other.mean - own.mean) / np.hypot(other.error, own.error)
                    assert ahead <= rule.k or (other.candidate, d.rung) in asked


@settings(max_examples=20, deadline=None, derandomize=True)
@given(world=worlds, rule=st.sampled_from([r for r in RULES if r.synchronous]))
def test_synchronous_halving_does_not_depend_on_arrival(world: World, rule: Halving) -> None:
    """Two workers or seven, whatever ends first: the same trainings."""
    one, other = (search(rule, world, workers=w, shuffle=w)[0] for w in (2, 7))
    assert {(s.candidate, s.rung, s.seed, s.value) for s in one} == {(s.candidate, s.rung, s.seed, s.value) for s in other}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(world=worlds, rule=st.sampled_from([r for r in RULES if r.k]), shuffle=st.integers(0, 99))
def test_nobody_near_the_front_is_left_behind(world: World, rule: Halving, shuffle: int) -> None:
    """At the end every candidate of a rung that is near the front at its cost has moved up, with one seed or with all; 1 in eta has
    moved up at least; and those on the front of the top rung have two seeds."""
    scores, _ = search(rule, world, workers=3, shuffle=shuffle)
    for rung in range(len(RUNGS) - 1):
        above = {s.candidate for s in scores if s.rung == rung + 1}
        board = rule.standings(world.costs, scores, rung)
        sound = [s for s in board if s.mean is not None]
        assert {s.candidate for s in sound if s.rank == 0} <= above
        assert {s.candidate for s in sound[: len(board) // 3]} <= above
        assert all(s.seeds <= (2 if rule.worth == 1 else 1) for s in board)
    for f in rule.finalists(world.costs, scores):
        assert f.seeds <= rule.final_seeds and (f.place == "off" or f.seeds >= 2)


def test_without_tolerance_it_is_halving_by_non_dominated_rank() -> None:
    """k = 0, synchronous: the third that moves up fills whole fronts, each counted by its definition, and no seed is repeated."""
    for seed in range(10):
        world = World(seed, 24, costs=2, failing=0.0)
        rule = Halving(rungs=(1, 3), synchronous=True, k=0, final_seeds=1)
        scores, _ = search(rule, world, workers=4, shuffle=seed)
        first = {s.candidate: s.value for s in scores if s.rung == 0}
        assert len(scores) == 24 + 8 and {s.seed for s in scores} == {0}
        left, fronts = set(first), []
        while left:
            front = {c for c in left if not any(_dominates(world, first, d, c) for d in left)}
            fronts.append(front)
            left -= front
        up, taken = {s.candidate for s in scores if s.rung == 1}, 0
        for front in fronts:
            assert len(up & front) == min(len(front), 8 - taken)
            taken += len(up & front)


def _dominates(world: World, value: Mapping[str, float | None], a: str, b: str) -> bool:
    cheaper = all(x <= y for x, y in zip(world.costs[a], world.costs[b], strict=True))
    return cheaper and (value[a] or 0.0) > (value[b] or 0.0)


def test_asynchronous_halving_promotes_before_all_have_started() -> None:
    """With three scores the best moves up at once, near ones wait; with two nobody does."""
    rule = Halving(rungs=RUNGS, noise=0.1)
    costs = dict.fromkeys("abc", (1.0,))
    scores = [Score(candidate=c, rung=0, seed=0, value=v) for c, v in (("a", 50.0), ("b", 50.05), ("c", 40.0))]
    assert rule.decide(costs, scores[:2]) == [Wait()]
    assert rule.decide(costs, scores) == [Promote("b", 1, 0)]
    assert rule.decide(costs, scores, [("b", 1, 0)]) == [Wait()]
    assert rule.decide(costs, scores, closed=True) == [Promote("b", 1, 0), Promote("a", 1, 0)]


def test_another_seed_before_moving_up_where_that_is_dear() -> None:
    """From 1 epoch to 9 a second seed costs an eighth of moving up: who is near the front gets one, then moves up or is left behind."""
    rule = Halving(rungs=(1, 9), noise=0.1, synchronous=True, final_seeds=1)
    costs = dict.fromkeys("abc", (1.0,))
    scores = [Score(candidate=c, rung=0, seed=0, value=v) for c, v in (("a", 50.0), ("b", 50.05), ("c", 40.0))]
    assert rule.decide(costs, scores, closed=True) == [Replicate("a", 0, 1)]
    assert rule.decide(costs, scores, [("a", 0, 1)], closed=True) == [Wait()]
    for second, up in ((50.08, ["b", "a"]), (49.0, ["b"])):
        more = [*scores, Score(candidate="a", rung=0, seed=1, value=second)]
        assert rule.decide(costs, more, closed=True) == [Promote(c, 1, 0) for c in up]


def test_noise_is_pooled_over_replicated_candidates() -> None:
    """Few replicates leave the expected noise, many replace it, rung by rung; values that differ between candidates do not enter."""
    rule, rng = Halving(rungs=RUNGS, noise=1.0), np.random.default_rng(0)
    pair = [Score(candidate="a", rung=0, seed=s, value=v) for s, v in enumerate((1.0, 2.0))]
    assert rule.noise_at([], 0) == 1.0
    assert rule.noise_at(pair, 0) == pytest.approx(((4 * 1.0 + 0.5) / 5) ** 0.5) == pytest.approx(rule.noise_at(pair, 1))
    many = [
        Score(candidate=str(c), rung=1, seed=s, value=100 * c + v) for c in range(200) for s, v in enumerate(rng.normal(0, 0.2, 3).tolist())
    ]
    assert rule.noise_at(many, 1) == pytest.approx(((4 * 1.0 + 400 * 0.2**2) / 404) ** 0.5, rel=0.1)


def test_finalists_are_replicated_until_the_front_is_settled() -> None:
    """A clear front takes two seeds each and no more; an open pair gets all its seeds unless the difference is small enough to be known;
    a clear loser gets none."""
    costs = {"fast": (1.0,), "slow": (2.0,), "near": (2.1,), "bad": (3.0,)}
    rule = Halving(rungs=(9,), noise=0.3, final_seeds=4)

    def run(rule: Halving, truth: Mapping[str, float]) -> dict[str, tuple[int, str]]:
        scores = [Score(candidate=c, rung=0, seed=0, value=v) for c, v in truth.items()]
        for _ in range(20):
            decisions = rule.decide(costs, scores, closed=True)
            if decisions == [Done()]:
                return {f.candidate: (f.seeds, f.place) for f in rule.finalists(costs, scores)}
            for d in decisions:
                assert isinstance(d, Replicate)
                wobble = 0.3 * (-1) ** d.seed
                scores.append(Score(candidate=d.candidate, rung=0, seed=d.seed, value=truth[d.candidate] + wobble))
        raise AssertionError("it does not end")

    clear = run(rule, {"fast": 50.0, "slow": 60.0, "near": 70.0, "bad": 40.0})
    assert clear == {"fast": (2, "on"), "slow": (2, "on"), "near": (2, "on"), "bad": (1, "off")}
    open_ = run(rule, {"fast": 50.0, "slow": 60.0, "near": 60.02, "bad": 40.0})
    assert open_ == {"fast": (2, "on"), "slow": (4, "on"), "near": (4, "open"), "bad": (1, "off")}
    content = run(Halving(rungs=(9,), noise=0.3, final_seeds=4, indifference=1.0), {"fast": 50.0, "slow": 60.0, "near": 60.02, "bad": 40.0})
    assert content["near"] == (2, "open")


def test_rungs() -> None:
    """By a factor from the top down to the least; a factor that is none, or no epochs, are refused."""
    assert rungs(1, 27, 3) == (1, 3, 9, 27) and rungs(2, 20, 3) == (2, 7, 20) and rungs(5, 5, 3) == (5,)
    for bad in ((0, 9, 3.0), (9, 3, 3.0), (1, 9, 1.0)):
        with pytest.raises(ValueError, match="by a factor above 1"):
            rungs(*bad)
    with pytest.raises(ValueError, match="ascending"):
        Halving(rungs=(3, 1))
    with pytest.raises(ValueError, match="eta above 1"):
        Halving(rungs=(1, 3), eta=1)


def replay(rule: Halving, accuracy: np.ndarray, macs: np.ndarray, pool: Sequence[int], order: Sequence[int]) -> tuple[set[int], int]:
    """Halving on a table's rows, whose score at every rung is that of the training's seed: who reaches the top, and epochs spent."""
    costs = {str(i): (float(macs[i]),) for i in pool}
    scores = [Score(candidate=str(i), rung=0, seed=0, value=float(accuracy[i, order[0]])) for i in pool]
    epochs = len(pool) * rule.rungs[0]
    while (decisions := rule.decide(costs, scores, closed=True)) != [Done()]:
        for d in decisions:
            assert isinstance(d, Promote | Replicate)
            scores.append(Score(candidate=d.candidate, rung=d.rung, seed=d.seed, value=float(accuracy[int(d.candidate), order[d.seed]])))
            epochs += rule.rungs[d.rung] - (rule.rungs[d.rung - 1] if isinstance(d, Promote) else 0)
    return {int(s.candidate) for s in scores if s.rung == len(rule.rungs) - 1}, epochs


@pytest.mark.skipif(not TABLE.exists(), reason=f"needs {TABLE} (set VITNAS_SHARED)")
@pytest.mark.parametrize("steps", [(1, 3, 9), (1, 9)])
def test_on_a_real_table_it_keeps_more_of_the_front_than_asha_at_equal_cost(steps: tuple[int, ...]) -> None:
    """NAS-Bench-Macro, 20 pools of 60 networks, halving by one seed's accuracy: of the front by the mean of three seeds, more reaches the
    top rung where noise is minded than by plain halving of at least the same epochs."""
    with gzip.open(TABLE, "rt") as file:
        rows = list(csv.DictReader(file))
    accuracy = np.array([[float(r[f"acc_seed{s}"]) for s in range(3)] for r in rows])
    macs = np.array([float(r["macs"]) for r in rows])
    kept: list[float] = []
    peers: list[float] = []
    for number in range(20):
        rng = np.random.default_rng(number)
        pool, order = rng.choice(len(rows), 60, replace=False).tolist(), rng.permutation(3).tolist()
        best, front = 0.0, set()
        for i in sorted(pool, key=lambda i: macs[i]):
            if accuracy[i].mean() > best:
                best = accuracy[i].mean()
                front.add(int(i))
        top, epochs = replay(Halving(rungs=steps, synchronous=True, noise=0.2, final_seeds=1), accuracy, macs, pool, order)
        for eta in np.arange(8, 1, -0.25):
            plain = Halving(rungs=steps, synchronous=True, eta=float(eta), k=0, final_seeds=1)
            peer, spent = replay(plain, accuracy, macs, pool, order)
            if spent >= epochs:
                break
        assert spent >= epochs
        kept.append(len(front & top) / len(front))
        peers.append(len(front & peer) / len(front))
    assert fmean(kept) > fmean(peers) + 0.02
    assert sum(a < b for a, b in zip(kept, peers, strict=True)) < sum(a > b for a, b in zip(kept, peers, strict=True))
