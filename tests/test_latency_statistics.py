"""From bursts to latencies: drift, spread and disturbance, on made-up bursts whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from vitnas.studies.latency.bursts import REFERENCE, Block, Pace, notes_with_drift, quarter, run_block, timed, warm_up
from vitnas.studies.latency.estimate import estimate, interval, middle_mean, student, without_drift
from vitnas.studies.latency.protocol import Disturbed, Effort, disturbed, run_session
from vitnas.studies.latency.quiet import Look, disturbance

TRUE_MS = {REFERENCE: 5.0, "small": 1.0, "small again": 1.0, "large": 20.0}


def made_up(
    rng: np.random.Generator,
    *,
    drift: float = 0.0,
    noise: float = 0.01,
    allocation: float = 0.0,
    rounds: int = 8,
    slow_from: int | None = None,
) -> Block:
    """A block of bursts of three passes; `drift` slows all networks alike, a round at a time."""
    own = {name: math.exp(rng.normal(0, allocation)) if allocation else 1.0 for name in TRUE_MS}
    out = []
    for i in range(rounds):
        common = math.exp(abs(rng.normal(0, drift))) if drift else 1.0
        common *= 1.3 if slow_from is not None and i >= slow_from else 1.0
        out.append({n: [ms / 1e3 * own[n] * common * math.exp(rng.normal(0, noise)) for _ in range(3)] for n, ms in TRUE_MS.items()})
    return Block(rounds=out, notes=[""] * rounds)


def session(rng: np.random.Generator, processes: int = 3, blocks: int = 4, **options: float) -> list[tuple[int, Block]]:
    """Several processes of several blocks."""
    return [(p, made_up(rng, **options)) for p in range(processes) for _ in range(blocks)]  # type: ignore[arg-type]


def test_latencies_are_the_true_ones() -> None:
    """Without drift every network's median is its true time."""
    found = estimate(session(np.random.default_rng(0)))
    for name, truth in TRUE_MS.items():
        assert found[name].median == pytest.approx(truth, rel=0.005)
        assert found[name].p10 < found[name].median < found[name].p90 <= found[name].p99
        assert (found[name].processes, found[name].blocks, found[name].bursts, found[name].passes) == (3, 12, 96, 288)


def test_drift_cancels_between_networks() -> None:
    """Two entries of one network agree much better with drift taken out than by their plain medians."""
    ours, plain = [], []
    for seed in range(40):
        blocks = session(np.random.default_rng(seed), processes=1, blocks=2, drift=0.2, noise=0.005)
        found = estimate(blocks)
        ours.append(abs(math.log(found["small"].median / found["small again"].median)))
        first = [np.mean(block.rounds[i]["small"]) for _, block in blocks for i in range(0, 8, 2)]
        second = [np.mean(block.rounds[i]["small again"]) for _, block in blocks for i in range(1, 8, 2)]
        plain.append(abs(math.log(np.median(first) / np.median(second))))
    assert np.quantile(ours, 0.95) < 0.2 * np.quantile(plain, 0.95)


def test_drift_of_others_leaves_own_noise_alone() -> None:
    """A network's own slow burst is not explained away by itself: what is subtracted comes from the others."""
    values = np.zeros((4, 6))
    values[1, 2] = 0.5
    corrected = without_drift(values)
    assert corrected[1, 2] == pytest.approx(0.5)
    assert np.abs(np.delete(corrected, 1, axis=0)).max() == pytest.approx(0.0)


@pytest.mark.parametrize("allocation", [0.0, 0.02])
def test_intervals_hold_the_truth(allocation: float) -> None:
    """At least nine in ten intervals hold the true time, also where every allocation has a speed of its own."""
    inside = 0
    for seed in range(200):
        found = estimate(session(np.random.default_rng(seed), allocation=allocation))["large"]
        inside += found.low <= TRUE_MS["large"] <= found.high
    assert inside >= 180


def test_the_spread_of_processes_widens_the_interval() -> None:
    """Bursts that agree within a process do not make an interval narrow when processes differ."""
    owner = np.repeat(np.arange(6), 10)
    process = owner // 2
    apart = np.array([0.0, 0.1, -0.1])[process] + np.random.default_rng(0).normal(0, 1e-3, 60)
    _, half = interval(apart, owner, process)
    assert half > 0.1
    _, together = interval(apart - np.array([0.0, 0.1, -0.1])[process], owner, process)
    assert together < 0.01


@pytest.mark.parametrize("degrees", [1, 2, 5, 11, 15, 16, 40, 1000])
def test_student_quantiles(degrees: int) -> None:
    """The table and its continuation are scipy's quantiles."""
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.005)


def test_a_few_late_bursts_do_not_move_the_centre() -> None:
    """Neither many times the usual in one burst of six, nor one that is early."""
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 50.0, 0.0, 1.0])
    assert middle_mean(values) == pytest.approx(np.sort(values)[2:6].mean())
    assert middle_mean(np.array([3.0])) == 3.0
    assert middle_mean(np.array([3.0, 4.0])) == 3.5


def test_rounds_that_were_disturbed_do_not_count() -> None:
    """A round with a note changes nothing, however slow it was."""
    block = made_up(np.random.default_rng(0))
    slow = {name: [t * 3 for t in times] for name, times in block.rounds[0].items()}
    with_slow = Block(rounds=[*block.rounds, slow, slow], notes=[*block.notes, "noise", "noise"])
    assert estimate([(0, with_slow)]) == estimate([(0, block)])


def test_drift_of_the_reference_is_noted() -> None:
    """Rounds in which the reference is slow are marked, one late burst among fast ones is not."""
    block = made_up(np.random.default_rng(0), rounds=12, slow_from=8)
    notes = notes_with_drift(block, 0.05)
    assert not any(notes[:7]) and all("reference" in n for n in notes[9:])
    single = made_up(np.random.default_rng(0), rounds=12)
    single.rounds[5][REFERENCE] = [t * 2 for t in single.rounds[5][REFERENCE]]
    assert not any(notes_with_drift(single, 0.05))


def test_quarter_is_the_lower_quartile() -> None:
    """The value that a fourth of the others lie below."""
    assert quarter([5.0, 1.0, 2.0, 4.0, 3.0]) == 2.0
    assert quarter([7.0]) == 7.0


def look_of(**values: float) -> Look:
    """Counters after one second in which this process alone used one core."""
    counters = {"wall": 1.0, "own": 1.0, "busy": 1.0, "steal": 0.0, "waited": 0.0, "clock": 0.0} | values
    return Look(**counters, counted=True)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, ""),
        ({"busy": 1.08}, ""),
        ({"busy": 1.5}, "other processes"),
        ({"steal": 0.2}, "hypervisor"),
        ({"waited": 0.1}, "waited"),
        ({"clock": 2000.0}, "clock"),
    ],
)
def test_what_counts_as_a_disturbance(change: dict[str, float], word: str) -> None:
    """Load of others, stolen time, waiting for a core and a fallen clock do; a busy tick or two do not."""
    start = Look(0.0, 0.0, 0.0, 0.0, 0.0, 3000.0, True)
    found = disturbance(start, look_of(**change), foreign=0.1, best_clock=3000.0)
    assert word in found if word else not found


def test_any_load_is_accepted_where_asked() -> None:
    """With no bound on others' load nothing is a disturbance."""
    start = Look(0.0, 0.0, 0.0, 0.0, 0.0, 3000.0, True)
    assert not disturbance(start, look_of(busy=9.0, waited=0.9), foreign=math.inf, best_clock=3000.0)


def test_a_block_runs_every_network_in_every_round() -> None:
    """Rounds hold all networks, bursts leave their first passes out, and orders differ between rounds."""
    calls: list[str] = []

    def network(name: str) -> object:
        return timed(lambda: calls.append(name))

    bursts = {name: network(name) for name in (REFERENCE, "a", "b", "c")}
    once = dict.fromkeys(bursts, 1e-3)
    pace = Pace(seconds=0.1, burst=4e-3, foreign=math.inf, drift=math.inf)
    block = run_block(bursts, once, pace, seed=1)  # type: ignore[arg-type]
    assert len(block.rounds) >= 2
    assert all(set(r) == set(bursts) and all(len(times) == 3 for times in r.values()) for r in block.rounds)
    per_round = [tuple(dict.fromkeys(calls[4 + i * 16 : 4 + (i + 1) * 16])) for i in range(len(block.rounds))]
    assert all(sorted(order) == sorted(bursts) for order in per_round)
    assert len(set(per_round)) > 1


def test_warm_up_runs_three_passes_at_least() -> None:
    """Even with no time to spend; it gives the seconds of a pass."""
    passes: list[int] = []

    def burst(count: int) -> list[float]:
        passes.append(count)
        return [0.002] * count

    assert warm_up({"a": burst}, 0.0) == {"a": 0.002}
    assert sum(passes) == 3


EFFORT = Effort(seconds=1.0, processes=2, allocations=2, extend=2, repeats=1, energy=False)


def run_made_up(results: list[list[Block]], effort: Effort = EFFORT, reference_ms: float | None = None) -> tuple[object, int]:
    """A session whose processes give `results` one after another; how many were started."""
    from vitnas.studies.latency.device import Conditions

    started = 0

    def start(job: dict[str, object]) -> dict[str, object]:
        nonlocal started
        blocks = results[min(started, len(results) - 1)]
        started += 1
        return {"blocks": [vars(b) for b in blocks], "memory": {}, "joules": {}, "pinned": True}

    candidates = [{"name": name} for name in TRUE_MS]
    return run_session(candidates, Conditions(), effort, start, reference_ms=reference_ms), started


def blocks_of(seed: int, **options: float) -> list[Block]:
    """One process's two blocks."""
    rng = np.random.default_rng(seed)
    return [made_up(rng, **options) for _ in range(2)]  # type: ignore[arg-type]


def test_a_session_ends_when_intervals_are_narrow() -> None:
    """Quiet processes need no further ones; noisy ones are followed by as many as are allowed, and the session says it is not narrow."""
    quiet, started = run_made_up([blocks_of(i, noise=0.001) for i in range(4)])
    assert quiet.narrow and started == 2  # type: ignore[attr-defined]
    noisy, started = run_made_up(
        [blocks_of(i, noise=0.3) for i in range(4)], Effort(**vars(EFFORT) | {"drift": math.inf, "between": math.inf})
    )
    assert not noisy.narrow and started == 4  # type: ignore[attr-defined]


def loud(seed: int) -> list[Block]:
    """One process of which most rounds were disturbed."""
    blocks = blocks_of(seed)
    for block in blocks:
        block.notes = ["other processes used 1.00 cores"] * 6 + ["", ""]
    return blocks


def test_a_disturbed_process_is_repeated_then_refused() -> None:
    """One loud process is measured again and the session tells of it; one that stays loud ends the session without a reading."""
    kept, started = run_made_up([blocks_of(0, noise=0.001), loud(1), blocks_of(2, noise=0.001)])
    assert started == 3 and "repeated" in kept.notes[0]  # type: ignore[attr-defined]
    with pytest.raises(Disturbed, match="other processes"):
        run_made_up([blocks_of(0, noise=0.001), loud(1)])


def test_a_slow_reference_is_a_disturbance() -> None:
    """A process is refused where the reference is slower than in the others, or than in an earlier session; a faster one is not."""
    blocks = blocks_of(0, noise=0.001)
    slower = [Block(rounds=[{n: [t * 1.2 for t in ts] for n, ts in r.items()} for r in b.rounds], notes=b.notes) for b in blocks]
    assert not disturbed(blocks, slower, EFFORT, None)
    assert "slower than in the other processes" in disturbed(slower, blocks, EFFORT, None)
    assert not disturbed(blocks, [], EFFORT, 5.0)
    assert "earlier session" in disturbed(slower, [], EFFORT, 5.0)


def faster(blocks: list[Block], factor: float) -> list[Block]:
    """The same blocks on a machine that takes `factor` of the time."""
    return [Block(rounds=[{n: [t * factor for t in ts] for n, ts in r.items()} for r in b.rounds], notes=b.notes) for b in blocks]


def test_processes_that_turn_out_slow_are_left_out() -> None:
    """Where later processes are faster, the first one was disturbed all along: it is replaced, and the reading is that of the others."""
    quiet = [faster(blocks_of(i, noise=0.001), 0.8) for i in range(1, 4)]
    found, started = run_made_up([blocks_of(0, noise=0.001), *quiet], EFFORT)
    assert started == 3 and "left out" in found.notes[0]  # type: ignore[attr-defined]
    assert found.latencies["large"].median == pytest.approx(0.8 * TRUE_MS["large"], rel=0.01)  # type: ignore[attr-defined]
    ever_faster = [faster(blocks_of(i, noise=0.001), 0.8**i) for i in range(9)]
    with pytest.raises(Disturbed, match="left out"):
        run_made_up(ever_faster, Effort(**vars(EFFORT) | {"extend": 0}))
