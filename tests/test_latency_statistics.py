"""From bursts to latencies: noise, spread and disturbance, on made-up bursts whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from vitnas.studies.latency.bursts import Block, Layout, Pace, is_reference, lay_out, run_block, timed, warm_up
from vitnas.studies.latency.estimate import FOLLOWS, estimate
from vitnas.studies.latency.levels import excess, levels, student, typical
from vitnas.studies.latency.protocol import ANY_LOAD, Disturbed, Effort, run_session
from vitnas.studies.latency.quiet import Look, disturbance

REFERENCE = "*reference*"
TRUE_MS = {REFERENCE: 5.0, "small": 1.0, "small again": 1.0, "large": 20.0}


def made_up(rng: np.random.Generator, *, late: float = 0.0, noise: float = 0.001, allocation: float = 0.0, rounds: int = 8) -> Block:
    """A block of bursts of three passes. A share `late` of the bursts takes up to half as long again, as beside other work."""
    own = {name: math.exp(rng.normal(0, allocation)) if allocation else 1.0 for name in TRUE_MS}
    out = []
    for _ in range(rounds):
        times = {}
        for name, ms in TRUE_MS.items():
            slow = 1 + 0.5 * rng.random() if rng.random() < late else 1.0
            times[name] = [ms / 1e3 * own[name] * slow * math.exp(rng.normal(0, noise)) for _ in range(3)]
        out.append(times)
    return Block(rounds=out, notes=[""] * rounds)


def session(rng: np.random.Generator, processes: int = 3, blocks: int = 4, **options: float) -> list[tuple[int, Block]]:
    """Several processes of several blocks."""
    return [(p, made_up(rng, **options)) for p in range(processes) for _ in range(blocks)]  # type: ignore[arg-type]


def test_latencies_are_the_true_ones() -> None:
    """Every network's typical time is its true one, and the quantiles are those of its passes."""
    found, references = estimate(session(np.random.default_rng(0)))
    assert references == pytest.approx(TRUE_MS[REFERENCE], rel=0.005)
    for name, truth in TRUE_MS.items():
        assert found[name].typical == pytest.approx(truth, rel=0.005)
        assert found[name].p10 < found[name].median < found[name].p90 <= found[name].p99
        assert (found[name].processes, found[name].blocks, found[name].bursts, found[name].passes) == (3, 12, 96, 288)


def test_late_passes_do_not_count() -> None:
    """Where two fifths of the bursts are late, two entries of one network still agree, and much better than by their means."""
    ours, means = [], []
    for seed in range(40):
        blocks = session(np.random.default_rng(seed), processes=2, blocks=4, late=0.4)
        found, _ = estimate(blocks)
        ours.append(abs(math.log(found["small"].typical / found["small again"].typical)))
        both = [np.mean([t for _, block in blocks for r in block.rounds for t in r[name]]) for name in ("small", "small again")]
        means.append(abs(math.log(both[0] / both[1])))
    assert np.quantile(ours, 0.95) < 0.1 * np.quantile(means, 0.95)


def test_typical_is_the_mean_of_the_fastest_third() -> None:
    """Of nine passes the three fastest; of one that one."""
    assert typical(np.array([9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 6.0, 5.0, 4.0])) == 2.0
    assert typical(np.array([5.0])) == 5.0


@pytest.mark.parametrize("allocation", [0.0, 0.02])
def test_intervals_agree_between_sessions(allocation: float) -> None:
    """At least nine in ten pairs of sessions have intervals that overlap, also where every allocation has a speed of its own, and they
    are not wide for nothing."""
    agree, widths = 0, []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        one, other = (estimate(session(rng, allocation=allocation))[0]["large"] for _ in range(2))
        agree += one.low <= other.high and other.low <= one.high
        widths.append(one.half_width)
    assert agree >= 90
    assert np.median(widths) < max(0.002, 1.5 * allocation)


def test_the_spread_of_processes_widens_the_interval() -> None:
    """Bursts that agree within a process do not make an interval narrow when one network's processes differ."""

    def width(levels: tuple[float, ...]) -> float:
        blocks = session(np.random.default_rng(0), processes=3, blocks=2)
        own = [(p, only("small", block, math.exp(levels[p]))) for p, block in blocks]
        return estimate(own)[0]["small"].half_width

    assert width((0.0, 0.1, -0.1)) > 0.1
    assert width((0.0, 0.0, 0.0)) < 0.01


def only(name: str, block: Block, factor: float) -> Block:
    """The same block, in which one network takes `factor` of its time."""
    return Block(rounds=[{**r, name: [t * factor for t in r[name]]} for r in block.rounds], notes=block.notes)


def test_what_slows_all_networks_of_a_block_is_drift() -> None:
    """Blocks that are 2 % slower throughout change neither times nor intervals; one network's own slow process widens its interval."""
    rng = np.random.default_rng(0)
    calm = [(p, made_up(rng)) for p in (0, 0, 1, 1)]
    drifted = [(p, faster([block], 1.02 if i % 2 else 1.0)[0]) for i, (p, block) in enumerate(calm)]
    before, after = estimate(calm)[0], estimate(drifted)[0]
    for name in TRUE_MS:
        assert after[name].typical == pytest.approx(before[name].typical * math.sqrt(1.02), rel=2e-3)
        assert after[name].half_width < before[name].half_width + 2e-3
    assert estimate([(p, only("small", block, 1 + 0.1 * p)) for p, block in calm])[0]["small"].half_width > 0.05


def test_blocks_are_compared_by_all_networks() -> None:
    """A block is as much slower as its networks are in the middle: one network's own trouble is not the block's. One without a quiet
    round is slower than any."""
    one, other = blocks_of(0)
    assert excess([*faster([one], 1.2), other]) == pytest.approx([0.2, 0.0], abs=0.01)
    alone = Block(rounds=[{**r, "small": [t * 2 for t in r["small"]]} for r in one.rounds], notes=one.notes)
    assert excess([alone, other]) == pytest.approx([0.0, 0.0], abs=0.01)
    assert excess([Block(rounds=one.rounds, notes=["noise"] * len(one.notes)), other]) == [math.inf, 0.0]


@pytest.mark.parametrize("degrees", [1, 2, 5, 11, 15, 16, 40, 1000])
def test_student_quantiles(degrees: int) -> None:
    """The table and its continuation are scipy's quantiles."""
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.005)


def test_rounds_that_were_disturbed_do_not_count() -> None:
    """A round with a note changes nothing, however slow it was."""
    block = made_up(np.random.default_rng(0))
    slow = {name: [t * 3 for t in times] for name, times in block.rounds[0].items()}
    with_slow = Block(rounds=[*block.rounds, slow, slow], notes=[*block.notes, "noise", "noise"])
    assert estimate([(0, with_slow)]) == estimate([(0, block)])


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

    bursts = {name: network(name) for name in (REFERENCE, *"abcdefg")}
    layout = Layout(blocks=1, counts=dict.fromkeys(bursts, (1, 3)))
    block = run_block(bursts, layout, Pace(seconds=0.1, foreign=math.inf), seed=1)  # type: ignore[arg-type]
    assert len(block.rounds) >= 2
    assert all(set(r) == set(bursts) and all(len(r[name]) == 3 for name in "abc") for r in block.rounds)
    assert all(len(r[REFERENCE]) == 6 for r in block.rounds)  # one burst more a round for every eight networks
    per_round = [tuple(dict.fromkeys(calls[8 + i * 36 : 8 + (i + 1) * 36])) for i in range(len(block.rounds))]
    assert all(sorted(order) == sorted(bursts) for order in per_round)
    assert len(set(per_round)) > 1


def test_blocks_are_as_many_as_leave_rounds_to_each() -> None:
    """Fast networks get all allocations, slow ones fewer; one pass at least is discarded and one timed, small networks discard three."""
    fast = lay_out({"a": 1e-3, "b": 2e-3}, Pace(seconds=2.0, blocks=4, burst=0.02))
    assert fast.blocks == 4 and fast.counts == {"a": (5, 15), "b": (3, 7)}
    slow = lay_out({"a": 0.1, "b": 0.1}, Pace(seconds=2.0, blocks=4, burst=0.02))
    assert slow.blocks == 1 and slow.counts == {"a": (1, 1), "b": (1, 1)}
    beside = lay_out({"a": 1.0, REFERENCE: 5e-3}, Pace(seconds=2.0, blocks=4, burst=0.02)).counts
    assert beside["a"] == (1, 1) and beside[REFERENCE][1] * 5e-3 == pytest.approx(0.04, rel=0.1)  # references: a fiftieth of a round
    short = lay_out({"a": 1e-3, "b": 1e-3}, Pace(seconds=0.04, blocks=4, burst=0.02))
    assert short.blocks == 1 and short.counts == {"a": (3, 2), "b": (3, 2)}


def test_warm_up_runs_two_passes_at_least() -> None:
    """Even with no time to spend; it gives the seconds of a pass."""
    passes: list[int] = []

    def burst(count: int) -> list[float]:
        passes.append(count)
        return [0.002] * count

    assert warm_up({"a": burst}, 0.0) == {"a": 0.002}
    assert sum(passes) == 2


EFFORT = Effort(seconds=1.0, processes=2, allocations=2, extend=2, repeats=1, widest=math.inf, energy=False)


def run_made_up(results: list[list[Block]], effort: Effort = EFFORT, earlier: Sequence[float] = ()) -> tuple[object, int]:
    """A session whose processes give `results` one after another; how many were started."""
    from vitnas.studies.latency.device import Conditions

    started = 0

    def start(job: dict[str, object]) -> dict[str, object]:
        nonlocal started
        blocks = results[min(started, len(results) - 1)]
        started += 1
        return {"blocks": [vars(b) for b in blocks], "memory": {}, "joules": {}, "pinned": True}

    candidates = [{"name": name} for name in TRUE_MS]
    return run_session(candidates, Conditions(), effort, start, earlier=earlier), started


def blocks_of(seed: int, **options: float) -> list[Block]:
    """One process's two blocks."""
    rng = np.random.default_rng(seed)
    return [made_up(rng, **options) for _ in range(2)]  # type: ignore[arg-type]


def test_a_session_ends_when_intervals_are_narrow() -> None:
    """Quiet processes need no further ones; noisy ones are followed by as many as are allowed, and the session says it is not narrow."""
    quiet, started = run_made_up([blocks_of(i, noise=0.001) for i in range(4)])
    assert max(one.half_width for one in quiet.latencies.values()) <= quiet.asked and started == 2  # type: ignore[attr-defined]
    noisy, started = run_made_up([blocks_of(i, noise=0.3) for i in range(4)], Effort(**vars(EFFORT) | ANY_LOAD))
    assert noisy.latencies["large"].half_width > noisy.asked and started == 4  # type: ignore[attr-defined]


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


def test_further_processes_may_be_disturbed() -> None:
    """Where enough quiet processes are there and only intervals are wide, a loud one ends the session with what it has."""
    found, started = run_made_up([blocks_of(0, noise=0.05), blocks_of(1, noise=0.05), loud(2)], Effort(**vars(EFFORT) | {"level": 0.1}))
    assert found.latencies["large"].half_width > found.asked and started == 4 and "repeated" in found.notes[-1]  # type: ignore[attr-defined]


def test_slow_blocks_count_for_less() -> None:
    """Where a third of the blocks are slower and scatter, the times at the fast blocks' level are hardly touched."""
    rng = np.random.default_rng(0)
    calm = session(rng, processes=2, blocks=4)
    noisy = [(p, faster([made_up(rng, noise=0.02)], 1.2)[0]) for p in (0, 0, 1, 1)]
    found, _ = estimate([*calm, *noisy], TRUE_MS[REFERENCE])
    assert found["large"].typical == pytest.approx(TRUE_MS["large"], rel=0.01)
    weights = levels([block for _, block in (*calm, *noisy)], None).weights
    assert weights.sum() == pytest.approx(1) and weights[0] == pytest.approx(4.3 * weights[-1], rel=0.2)


def test_how_a_network_follows_the_level_is_learned() -> None:
    """One that is slowed by half of what slows the others is told right at the usual level, though all blocks were slower; where all blocks
    had one level that cannot be known, and the interval holds it."""
    rng = np.random.default_rng(0)

    def blocks(slower: Sequence[float]) -> list[tuple[int, Block]]:
        return [(i % 2, only("small", faster([made_up(rng)], 1 + by)[0], (1 + by) ** -0.5)) for i, by in enumerate(slower)]

    found, references = estimate(blocks((0.02, 0.05, 0.08, 0.11, 0.14, 0.17)), TRUE_MS[REFERENCE])
    assert references > 1.03 * TRUE_MS[REFERENCE]
    assert found["small"].typical == pytest.approx(TRUE_MS["small"], rel=0.02)
    flat = estimate(blocks((0.1,) * 6), TRUE_MS[REFERENCE])[0]["small"]
    assert flat.low < TRUE_MS["small"] < flat.high and flat.half_width == pytest.approx(1.96 * FOLLOWS * 0.1, rel=0.2)


@pytest.mark.parametrize("factor", [1.3, 0.7])
def test_a_session_at_quite_another_speed_than_the_first_is_refused(factor: float) -> None:
    """After as many processes as are allowed; what sessions between took does not matter."""
    late = [faster(blocks_of(i, noise=0.001), factor) for i in range(9)]
    usual = TRUE_MS[REFERENCE]
    told = rf"the references took .* ms, {usual:.2f} ms in the first session .*5 processes"
    with pytest.raises(Disturbed, match=told):
        run_made_up(late, earlier=[usual, usual * factor])
    found, started = run_made_up(late)
    assert started == 2 and found.reference_ms == pytest.approx(usual * factor, rel=0.01)  # type: ignore[attr-defined]


def faster(blocks: list[Block], factor: float) -> list[Block]:
    """The same blocks on a machine that takes `factor` of the time."""
    return [Block(rounds=[{n: [t * factor for t in ts] for n, ts in r.items()} for r in b.rounds], notes=b.notes) for b in blocks]


def test_blocks_that_turn_out_slow_are_left_out() -> None:
    """Where later blocks are faster, the first ones were disturbed all along: further processes follow, and the reading is that of the
    fast ones. Where no two processes ran at one speed there is none."""
    quiet = [faster(blocks_of(i, noise=0.001), 0.7) for i in range(1, 4)]
    found, started = run_made_up([blocks_of(0, noise=0.001), *quiet])
    assert started == 3 and "2 of 6 blocks were left out: all networks were slower" in found.notes[0]  # type: ignore[attr-defined]
    assert found.latencies["large"].typical == pytest.approx(0.7 * TRUE_MS["large"], rel=0.01)  # type: ignore[attr-defined]
    half = [faster(blocks_of(0, noise=0.001), 1.4)[0], blocks_of(0, noise=0.001)[1]]
    found, started = run_made_up([half, blocks_of(1, noise=0.001)])
    assert started == 2 and found.notes[0].startswith("1 of 4 blocks")  # type: ignore[attr-defined]
    ever_faster = [faster(blocks_of(i, noise=0.001), 0.7**i) for i in range(9)]
    with pytest.raises(Disturbed, match="more than 25% slower in every process but 1"):
        run_made_up(ever_faster)


def test_networks_with_wide_intervals_have_no_reading() -> None:
    """Those that are narrow enough have one; where none is, the session has none."""
    own = [
        [Block(rounds=[{**r, "small": [t * (1 + 0.2 * i) for t in r["small"]]} for r in b.rounds], notes=b.notes) for b in blocks]
        for i, blocks in enumerate(blocks_of(i, noise=0.001) for i in range(4))
    ]
    strict = Effort(**vars(EFFORT) | {"widest": 0.03})
    found, started = run_made_up(own, strict)
    assert started == 4 and set(found.wide) == {"small"} and found.wide["small"] > 0.1  # type: ignore[attr-defined]
    assert set(found.latencies) == set(TRUE_MS) - {"small"}  # type: ignore[attr-defined]
    found, _ = run_made_up([blocks_of(i, noise=0.3) for i in range(4)], Effort(**vars(strict) | {"level": 0.3}))
    assert set(found.wide) == {n for n in TRUE_MS if not is_reference(n)}  # type: ignore[attr-defined]


def test_sessions_are_taken_to_the_speed_of_the_first() -> None:
    """A session on a machine that is 4 % slower than in the first session gives readings scaled by what the reference tells, and says so,
    whatever came between; intervals hold the reference's uncertainty too."""
    slow = [faster(blocks_of(i, noise=0.001), 1.04) for i in range(4)]
    plain, _ = run_made_up(slow)
    scaled, _ = run_made_up(slow, earlier=[TRUE_MS[REFERENCE], *[1.1 * TRUE_MS[REFERENCE]] * 2])
    one, other = plain.latencies["large"], scaled.latencies["large"]  # type: ignore[attr-defined]
    assert one.factor == pytest.approx(1.0) and other.factor == pytest.approx(1 / 1.04, rel=2e-3)
    assert other.typical == pytest.approx(one.typical * other.factor, rel=1e-3) and other.half_width > one.half_width
    assert other.p99 == pytest.approx(one.p99, rel=1e-3)
    assert scaled.latencies[REFERENCE].typical == pytest.approx(TRUE_MS[REFERENCE], rel=2e-3)  # type: ignore[attr-defined]
    assert scaled.reference_ms == pytest.approx(plain.reference_ms, rel=1e-3)  # type: ignore[attr-defined]
