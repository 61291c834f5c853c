"""Optuna's samplers over a space: limits come before results, a search goes on where its log ends, and the sampler learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState

from vitnas.studies.search.optuna_samplers import SAMPLERS, Entry, OptunaSearcher, Point, Sampler, early_stopping_refusal
from vitnas.studies.search.optuna_view import Mirror, StorageError, importance
from vitnas.studies.search.pareto import hypervolume
from vitnas.studies.search.space import Space
from vitnas.studies.search.space_file import load_space

OBJECTIVES = {"accuracy": True, "cost": False}
TEXT = """
steps: all
vary:
  depths@1: [1, 2, 3, 4]
  depths@2: [1, 2, 3, 4]
  depths@4: [1, 2, 3, 4]
  mixer@3: [conv, attention, circular]
  kernels@3: [3, 5, 7, 9]
  expansions: [2, 3, 4]
"""
TARGET = {"depths@1": 1.0, "depths@2": 0.0, "depths@4": 0.4, "kernels@3": 0.67, "expansions": 0.5}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small matrices gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def space() -> Space:
    return load_space(TEXT, "convnext-t", "micro", classes=10)


@pytest.fixture(scope="module")
def small() -> Space:
    """12 points, of which the two input sizes make no difference to the network but to the candidate."""
    return load_space("steps: all\nvary:\n  kernels: [3, 5, 7]\n  input-size: [32, 40]\n  gelu: [off, on]\n", "convnext-t", "micro")


def value_of(space: Space) -> Callable[[Point], tuple[float, float]]:
    """A made-up accuracy with its best at `TARGET`, and a cost that rises with every number and with attention."""
    places = {d.name: {x: i / (len(d.levels) - 1) for i, x in enumerate(d.levels)} for d in space.dimensions}

    def value(point: Point) -> tuple[float, float]:
        at = {n: places[n][x] for n, x in point}
        mixer = dict(point)["mixer@3"]
        off = [(at.get(n, t) - t) ** 2 for n, t in TARGET.items()]
        accuracy = 1 - sum(off) / len(TARGET) - (0.2 if mixer == "circular" else 0)
        return accuracy, sum(at.get(n, 0.5) for n in TARGET) / len(TARGET) + (0.3 if mixer == "attention" else 0)

    return value


def cap(sampler: Sampler) -> int:
    """Proposals that may break a limit: few of the GP's, each of which takes it a second."""
    return 4 if sampler == "gp" else 32


def searched(
    space: Space, sampler: Sampler, trials: int, *, seed: int = 0, limit: float = 9.0, objectives: dict[str, bool] = OBJECTIVES
) -> OptunaSearcher:
    """A search of `trials` networks whose cost is at most `limit`, two at a time as parallel workers have it."""
    value, found = value_of(space), OptunaSearcher(space, sampler, objectives, seed=seed)
    within = [p for p in space.points() if value(p)[1] <= limit]
    waiting: list[Point] = []
    for _ in range(trials):
        proposal = found.ask(lambda p: value(p)[1] <= limit, cap(sampler), lambda: within)
        assert proposal is not None
        waiting.append(proposal.point)
        if len(waiting) == 2:
            found.tell(waiting[0], value(waiting.pop(0))[: len(objectives)])
    for point in waiting:
        found.tell(point, value(point)[: len(objectives)])
    return found


def asked(searcher: OptunaSearcher) -> list[Point]:
    return [e.point for e in searcher.log if e.kind == "asked"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_breaks_a_limit_is_never_a_result(space: Space, sampler: Sampler) -> None:
    """Every complete trial of Optuna's keeps to it, is one that was proposed, and has the values that were told; the rest FAILed."""
    value = value_of(space)
    searcher = searched(space, sampler, 12, limit=0.4)
    trials = searcher.study.get_trials()
    complete = [t for t in trials if t.state is TrialState.COMPLETE]
    assert all(value(p)[1] <= 0.4 for p in asked(searcher))
    assert all(t.values[1] <= 0.4 for t in complete) and {tuple(t.values) for t in complete} == {value(p) for p in asked(searcher)}
    assert {t.state for t in trials} == {TrialState.COMPLETE, TrialState.FAIL}
    assert len(trials) > 2 * len(complete), "the limit turned proposals down"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_search_goes_on_where_its_log_ends(space: Space, sampler: Sampler) -> None:
    """A new searcher that is given the log proposes what the old one would have, to the last level."""
    undisturbed = searched(space, sampler, 13, seed=3, limit=0.6)
    half = len(undisturbed.log) - 5
    resumed = OptunaSearcher(space, sampler, OBJECTIVES, seed=3)
    resumed.replay(undisturbed.log[:half])
    value, left = value_of(space), undisturbed.log[half:]
    within = [p for p in space.points() if value(p)[1] <= 0.6]
    assert resumed.log == undisturbed.log[:half] and [e.kind for e in left].count("asked") == 2
    for entry in left:
        if entry.kind == "asked":
            proposal = resumed.ask(lambda p: value(p)[1] <= 0.6, cap(sampler), lambda: within)
            assert proposal is not None and proposal.point == entry.point
        elif entry.kind == "told":
            resumed.tell(entry.point, entry.values)
    assert resumed.log == undisturbed.log


def test_other_seeds_propose_other_networks(space: Space) -> None:
    """Of random search too."""
    assert asked(searched(space, "random", 5, seed=1)) != asked(searched(space, "random", 5, seed=2))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_at_the_cap_a_random_feasible_network_takes_the_place(space: Space, sampler: Sampler) -> None:
    """Where proposals and draws miss the few that keep to the limits, those that the caller knows; none twice, then None."""
    rng = np.random.default_rng(0)
    few = [space.draw(rng) for _ in range(2)]
    searcher = OptunaSearcher(space, sampler, OBJECTIVES)
    found = [searcher.ask(lambda p: p in few, 3, known=lambda: few) for _ in range(3)]
    assert {p.point for p in found if p} == set(few) and found[2] is None
    assert all(p.random and p.rejected == 3 for p in found[:2] if p)


def test_no_feasible_network_at_all(space: Space) -> None:
    """None is proposed, whether or not there were some before."""
    assert OptunaSearcher(space, "tpe", OBJECTIVES).ask(lambda p: False, 5) is None
    assert searched(space, "tpe", 2).ask(lambda p: False, 5) is None


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_small_space_is_searched_to_its_end(small: Space, sampler: Sampler) -> None:
    """Every network once, none twice, then None; repeats that a sampler insists on count again with their result."""
    searcher, points = OptunaSearcher(small, sampler, OBJECTIVES), list(small.points())
    found = []
    while (proposal := searcher.ask(lambda p: True, 4, known=lambda: points)) is not None:
        found.append(proposal.point)
        searcher.tell(proposal.point, (float(len(found)), float(points.index(proposal.point))))
    assert sorted(found) == sorted(points)
    repeats = [e for e in searcher.log if e.kind == "repeat"]
    told = {e.point: e.values for e in searcher.log if e.kind == "told"}
    assert repeats and all(e.values == told[e.point] for e in repeats)


def test_early_stopping(space: Space) -> None:
    """TPE and random take part in it, as PRUNED; NSGA-II and GP refuse it and say why."""
    for sampler in SAMPLERS:
        refusal = early_stopping_refusal(sampler)
        searcher = OptunaSearcher(space, sampler, OBJECTIVES)
        proposal = searcher.ask(lambda p: True, 1)
        assert proposal is not None
        if refusal is None:
            searcher.tell(proposal.point, (0.5, 0.5), stopped=True)
            assert searcher.study.trials[-1].state is TrialState.PRUNED
        else:
            assert "learns from complete trials alone; take tpe or random, or --scheduler none" in refusal
            with pytest.raises(ValueError, match="cannot stop early"):
                searcher.tell(proposal.point, (0.5, 0.5), stopped=True)
    assert [early_stopping_refusal(s) is None for s in SAMPLERS] == [True, False, False, True]


def test_what_is_not_finite_failed(space: Space) -> None:
    """Optuna would take infinity for a result."""
    searcher = OptunaSearcher(space, "tpe", OBJECTIVES)
    for values in ((float("inf"), 1.0), (float("nan"), 1.0), None):
        proposal = searcher.ask(lambda p: True, 8)
        assert proposal is not None
        searcher.tell(proposal.point, values)
    assert [e.kind for e in searcher.log] == ["asked", "failed"] * 3
    assert not searcher.study.get_trials(states=(TrialState.COMPLETE,))


def test_an_unknown_sampler(space: Space) -> None:
    """Is told what there is."""
    with pytest.raises(ValueError, match=r"unknown sampler 'cmaes' of Optuna; there are tpe, nsga2, gp, random"):
        OptunaSearcher(space, "cmaes", OBJECTIVES)  # type: ignore[arg-type]


@pytest.mark.parametrize(("sampler", "trials", "seeds"), [("nsga2", 150, 3), ("gp", 18, 2)])
def test_samplers_find_better_fronts_than_random_search(space: Space, sampler: Sampler, trials: int, seeds: int) -> None:
    """The mean hypervolume over some seeds of as many trainings; the limit holds for both."""
    value = value_of(space)

    def reached(name: Sampler) -> float:
        volumes = []
        for seed in range(seeds):
            points = np.array([value(p) for p in asked(searched(space, name, trials, seed=seed, limit=0.8))])
            volumes.append(hypervolume(np.stack([points[:, 0], 1 - points[:, 1]], 1), np.zeros(2)))
        return float(np.mean(volumes))

    assert reached(sampler) > reached("random")


def test_tpe_finds_a_more_accurate_network_than_random_search(space: Space) -> None:
    """Within a limit, the mean of the best of 30 over some seeds: accuracy as the one objective."""
    value, alone = value_of(space), {"accuracy": True}

    def best(sampler: Sampler) -> float:
        runs = [searched(space, sampler, 30, seed=seed, limit=0.6, objectives=alone) for seed in range(5)]
        return float(np.mean([max(value(p)[0] for p in asked(run)) for run in runs]))

    assert best("tpe") > best("random")


def test_importance_finds_what_matters(space: Space) -> None:
    """Of results that one dimension decides, half as much another, and the rest not at all; shares of a whole."""
    rng = np.random.default_rng(0)
    points = {space.draw(rng) for _ in range(120)}
    at = {d.name: d.levels.index for d in space.dimensions}
    found = importance(space, {p: 2.0 * at["depths@2"](dict(p)["depths@2"]) + at["expansions"](dict(p)["expansions"]) for p in points})
    assert list(found)[:2] == ["depths@2", "expansions"] and set(found) == {d.name for d in space.dimensions}
    assert sum(found.values()) == pytest.approx(1) and found["depths@2"] > 0.7 and found["depths@1"] < 0.02
    with pytest.raises(ValueError, match="two results or more, not 1"):
        importance(space, {next(iter(points)): 1.0})


def mirrored(url: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="mine", storage=url).get_trials()


def test_a_mirror_for_the_dashboard(space: Space, tmp_path: Path) -> None:
    """One trial a network, running until it is told; written again after more was told, or from the start, it is the same."""
    url = f"sqlite:///{tmp_path / 'search.db'}"
    searcher = searched(space, "tpe", 4)
    running = searcher.ask(lambda p: True, 8)
    assert running is not None
    Mirror(url, "mine", space, OBJECTIVES).write(searcher.log)
    told = {e.point: e.values for e in searcher.log if e.kind == "told"}
    first = mirrored(url)
    assert [tuple(t.values) for t in first if t.state is TrialState.COMPLETE] == list(told.values())
    assert [t.state for t in first].count(TrialState.RUNNING) == 1
    assert {t.user_attrs["candidate"] for t in first} == {space.candidate(p).id for p in asked(searcher)}
    searcher.tell(running.point, None)
    mirror = Mirror(url, "mine", space, OBJECTIVES)
    for _ in range(2):
        mirror.write(searcher.log)
        assert [t.state for t in mirrored(url)] == [TrialState.COMPLETE] * 4 + [TrialState.FAIL]
    assert optuna.load_study(study_name="mine", storage=url).metric_names == ["accuracy", "cost"]


def test_a_mirror_of_trainings_that_stop_early(space: Space, tmp_path: Path) -> None:
    """PRUNED; one that goes on later is a second trial, with its result."""
    url = f"sqlite:///{tmp_path / 'search.db'}"
    first, second = (space.draw(np.random.default_rng(seed)) for seed in range(2))
    log = [Entry("stopped", first), Entry("stopped", second)]
    Mirror(url, "mine", space, OBJECTIVES).write(log)
    for _ in range(2):
        Mirror(url, "mine", space, OBJECTIVES).write([*log, Entry("told", first, (0.5, 0.25))])
    assert [(t.state, t.values) for t in mirrored(url)] == [
        (TrialState.PRUNED, None),
        (TrialState.PRUNED, None),
        (TrialState.COMPLETE, [0.5, 0.25]),
    ]


@pytest.mark.parametrize(
    ("objectives", "text", "message"),
    [
        ({"accuracy": True}, TEXT, r"study mine in .* has maximize accuracy, minimize cost, this search maximize accuracy: give"),
        ({"accuracy": True, "macs": False}, TEXT, r"has maximize accuracy, minimize cost, this search maximize accuracy, minimize macs"),
        ({"accuracy": True, "cost": True}, TEXT, r"this search maximize accuracy, maximize cost"),
        (OBJECTIVES, TEXT.replace("[2, 3, 4]", "[2, 3]"), r"study mine in .* is of another space"),
    ],
)
def test_a_mirror_of_another_search_is_refused(space: Space, tmp_path: Path, objectives: dict[str, bool], text: str, message: str) -> None:
    """Optuna would keep the old directions silently."""
    url = f"sqlite:///{tmp_path / 'search.db'}"
    Mirror(url, "mine", space, OBJECTIVES).write([Entry("asked", next(space.points()))])
    with pytest.raises(StorageError, match=message):
        Mirror(url, "mine", load_space(text, "convnext-t", "micro", classes=10), objectives)
    assert len(mirrored(url)) == 1


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all/x.db", "foo://x", "mysql://me:secret@127.0.0.1:1/x"])
def test_a_storage_that_cannot_be_opened(space: Space, url: str) -> None:
    """Is refused in one line, with what a URL looks like."""
    with pytest.raises(StorageError, match=r"cannot be opened \(.*\): give a URL such as sqlite:///search.db") as error:
        Mirror(url, "mine", space, OBJECTIVES)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)
