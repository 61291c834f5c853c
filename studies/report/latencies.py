"""The column of latencies: readings of the store for a study's arms, what must be said of them, and what the effects change in them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..latency.column import Column, read_column
from ..latency.device import Conditions
from ..latency.protocol import NARROW
from ..latency.reading import Reading
from ..plan import Plan
from ..statistics.means import Interval
from ..store import Store
from ..study import Study
from .effects import EffectRow


@dataclass(frozen=True, kw_only=True)
class Timed:
    """The typical latency (ms) of a pass of the network that stands for an arm, its 95 % interval and its 99th percentile, all at the
    device's usual speed. Arms with equal
    `network` have one reading."""

    network: str
    ms: float
    interval: Interval
    p99: float


@dataclass(frozen=True, kw_only=True)
class Latencies:
    """Readings by the arm's index, `of` which network (in words) on which `device`, and the sentences that go with them."""

    by_arm: Mapping[int, Timed]
    of: str = ""
    device: str = ""
    notes: tuple[str, ...] = ()


def latencies(store: Store, plan: Plan) -> Latencies | None:
    """What the store knows of the latencies that the study asks for; None where it asks for none."""
    if not plan.study.latency:
        return None
    column = read_column(store, plan.study.folder_name)
    if column is None:
        return Latencies(by_arm={}, notes=("Latency has not been measured yet: the same command does it.",))
    found = {arm.index: r for arm in plan.arms if (r := column.reading(store, arm.name, arm.fingerprint))}
    timed = {
        index: Timed(
            network=f"{r.fingerprint} {r.key.conditions.input_size}",
            ms=r.latency.typical,
            interval=Interval(low=r.latency.low, high=r.latency.high),
            p99=r.latency.p99 * r.latency.factor,
        )
        for index, r in found.items()
    }
    device = next((r.key.label for r in found.values()), "")
    return Latencies(by_arm=timed, of=column.of, device=device, notes=_notes(column, plan, found, device))


def _notes(column: Column, plan: Plan, found: Mapping[int, Reading], device: str) -> tuple[str, ...]:
    out, arms = [], plan.arms
    if found:
        out.append(
            f"ms: the typical time of one pass, with its 95 % interval; of each arm {column.of}, in deployment form. Device: {device}. The "
            "weights are random and do not decide the time."
        )
    if found and plan.effects:
        out.append(
            "The change in latency that goes with an effect is in %, by the effect's weights over the logarithms of the arms' ms: slower "
            "(+) or faster (-)."
        )
    wide = [arms[index].name for index, r in found.items() if r.latency.half_width > NARROW]
    if wide:
        out.append(f"{len(wide)} of {len(found)} latencies are less certain than 1 % either way: {_anew(plan.study)}.")
    left_out = {name: place.left_out for name, place in column.places.items() if place.left_out}
    out += [f"Latency of {name}: not measured, {reason}." for name, reason in left_out.items()]
    missing = [arm.name for arm in arms if arm.index not in found and arm.name not in left_out]
    if missing and column.refused:
        out.append(f"Latency is missing for {len(missing)} of {len(arms)} arms ({column.refused}); the same command tries again.")
    elif missing:
        out.append(f"Latency is missing for {len(missing)} of {len(arms)} arms: the same command measures it.")
    return tuple(out)


def _anew(study: Study) -> str:
    """How known readings are made better: a report takes the latest, and the study's command measures nothing that is known."""
    if study.latency_scale:
        return (
            "a command `vitnas latency run FILE.json --again --seconds N` with the twin's network in the file, N larger and the conditions "
            "of this study takes a new one"
        )
    usual = Conditions()
    own = {
        "input-size": (study.latency_size, None),
        "device": (study.latency_device, usual.device),
        "backend": (study.latency_backend, usual.backend),
        "precision": (study.latency_precision, usual.precision),
        "threads": (study.latency_threads, usual.threads),
        "batch": (study.latency_batch, usual.batch),
    }
    options = "".join(f" --{name} {value}" for name, (value, default) in own.items() if value != default)
    return f"`vitnas latency run {study.folder_name}{options} --again --seconds N` takes new ones, N more than {study.latency_seconds:g}"


def with_latency(plan: Plan, effects: Sequence[EffectRow], known: Mapping[int, Timed]) -> tuple[EffectRow, ...]:
    """The effects with the change in latency (%) that goes with each: its weights over the logarithms of its arms' latencies.

    The interval takes the readings of different networks for independent; a network on both sides cancels.
    """
    out = []
    for effect, row in zip(plan.effects, effects, strict=True):
        if effect.weights and all(arm in known for arm, _ in effect.weights):
            latency, interval = _change([(known[arm], weight) for arm, weight in effect.weights])
            row = replace(row, latency=latency, latency_interval=interval)
        out.append(row)
    return tuple(out)


def _change(parts: Sequence[tuple[Timed, float]]) -> tuple[float, Interval]:
    weights: dict[str, float] = {}
    for timed, weight in parts:
        weights[timed.network] = weights.get(timed.network, 0.0) + weight
    timed_by = {timed.network: timed for timed, _ in parts}
    value = variance = 0.0
    for network, weight in weights.items():
        if abs(weight) < 1e-9:
            continue
        timed = timed_by[network]
        value += weight * math.log(timed.ms)
        variance += (weight * math.log(timed.interval.high / timed.interval.low) / 2) ** 2
    half = math.sqrt(variance)
    return _percent(value), Interval(low=_percent(value - half), high=_percent(value + half))


def _percent(log_ratio: float) -> float:
    return 100 * math.expm1(log_ratio)
