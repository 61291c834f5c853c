"""A search's measuring where the host is not quiet, the node is lost or the device does not tell all."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vitnas.studies.latency.deploy import deployed_spec
from vitnas.studies.latency.device import Conditions, DeviceKey
from vitnas.studies.latency.estimate import Latency
from vitnas.studies.latency.measure import Subject, TooWide, device_key
from vitnas.studies.latency.protocol import Disturbed, Effort
from vitnas.studies.latency.reading import Reading
from vitnas.studies.running.elsewhere import NodeLost
from vitnas.studies.running.search import beginning, engine_of, prepare_search
from vitnas.studies.running.search_measure import measure, quantities
from vitnas.studies.running.search_view import SearchView
from vitnas.studies.search.log import Log
from vitnas.studies.search.state import State
from vitnas.studies.store import Store
from vitnas.studies.study import Study, StudyError

LATENCY = Latency(
    typical=1.8, low=1.7, high=1.9, median=2.0, p10=1.9, p90=2.2, p99=3.0, processes=1, blocks=1, bursts=1, passes=9, factor=0.9
)


def test_p99_is_told_at_the_speed_of_latency() -> None:
    """What the clock gave is of one session's speed; it has no interval."""
    reading = Reading(fingerprint="f", name="n", key=None, latency=LATENCY, narrow=True, reference_ms=1.0)  # type: ignore[arg-type]
    assert quantities(reading)["latency-p99"] == pytest.approx((2.7, 2.7, 2.7))


def reading(subject: Subject, conditions: Conditions) -> Reading:
    """One of a network as it is deployed."""
    key = device_key(replace(conditions, input_size=subject.input_size))
    fingerprint = deployed_spec(subject.spec).fingerprint
    return Reading(fingerprint=fingerprint, name=subject.name, key=key, latency=LATENCY, narrow=True, reference_ms=1.0)


class Unsteady:
    """A place where networks stay wide, all but `steady`; no host is so at will."""

    where = "on an unsteady host"

    def __init__(self, steady: int) -> None:
        self.steady, self.asked = steady, 0

    def measure(self, store: Store, subjects: list[Subject], conditions: Conditions, effort: Effort, **options: Any) -> list[Reading]:
        """Never all of them."""
        self.asked += 1
        raise TooWide("not recorded", [reading(s, conditions) for s in subjects[: self.steady]])


@pytest.mark.parametrize("steady", [0, 2])
def test_a_network_that_stays_wide_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steady: int) -> None:
    """After several tries, which are told, and the search goes on without it; where all do, the host is not quiet."""
    study = Study(kind="search", name="s", objectives="accuracy,latency", track="convnext-t", scale="micro")
    search = prepare_search(Store(tmp_path), study, say=lambda line: None)
    search.pool.fill(10, 0)
    (tmp_path / "log").mkdir()
    engine = engine_of(search, log := Log(tmp_path / "log"), State(log.records))
    place = Unsteady(steady)
    monkeypatch.setattr("vitnas.studies.running.search_measure.quiet_place", lambda: nullcontext(place))
    console = Console(record=True, file=io.StringIO(), width=200)
    with SearchView(search, engine, console, also=lambda trial: None, still=nullcontext()) as view:
        if not steady:
            with pytest.raises(Disturbed, match="not recorded; nothing is lost, the same command goes on"):
                measure(search, engine, tuple(search.pool.own[:4]), view)
            assert not log.records
            return
        measure(search, engine, tuple(search.pool.own[:4]), view)
    assert place.asked == 3 and set(engine.state.measured) == set(search.pool.own[:2])
    assert "waiting for a quiet host: attempt 2 of 3 ended: not recorded" in console.export_text()
    assert set(engine.state.unmeasurable) == set(search.pool.own[2:4])


class Leaving:
    """A node that is lost as often as `times`; with `other` another device answers then in its place."""

    where = "on the node with latency"

    def __init__(self, times: int, *, other: bool) -> None:
        self.times, self.other, self.asked = times, other, 0

    def key(self, conditions: Conditions) -> DeviceKey:
        """That of this machine, or of another."""
        self.asked += 1
        key = device_key(conditions)
        return replace(key, processor="another board") if self.other and self.asked <= self.times else key

    def measure(self, store: Store, subjects: list[Subject], conditions: Conditions, effort: Effort, **options: Any) -> list[Reading]:
        """All of them, when it is there."""
        if self.asked <= self.times:
            assert not self.other, "nothing is measured on another device"
            raise NodeLost("on: no node with latency can be used: start it with a GPU (`--num-gpus 1`), or use --device cpu")
        return [reading(s, conditions) for s in subjects]


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("times", [2, 3])
def test_a_node_that_is_lost_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int, other: bool) -> None:
    """Also where this machine would take its place, whose readings do not compare. After several tries the search ends in a line."""
    study = Study(kind="search", name="s", objectives="accuracy,latency", track="convnext-t", scale="micro")
    search = prepare_search(Store(tmp_path), study, say=lambda line: None)
    search.pool.fill(10, 0)
    own = search.pool.own[:4]
    (tmp_path / "log").mkdir()
    log = Log(tmp_path / "log")
    log.add(beginning(search) | {"at": 0.0})
    engine = engine_of(search, log, State(log.records))
    place = Leaving(times, other=other)
    monkeypatch.setattr("vitnas.studies.running.search_measure.quiet_place", lambda: nullcontext(place))
    monkeypatch.setattr("vitnas.studies.running.search_measure.PAUSE", 0.0)
    with SearchView(search, engine, Console(quiet=True), also=lambda trial: None, still=nullcontext()) as view:
        if times == 2:
            measure(search, engine, tuple(own), view)
            assert set(engine.state.measured) == set(own) and not view.busy
            return
        says = "they would be of another board" if other else "or use --latency-device cpu"
        with pytest.raises(NodeLost, match=f"{says}.*; nothing is lost, the same command goes on"):
            measure(search, engine, tuple(own), view)
    assert not engine.state.measured and not engine.state.unmeasurable


class Deaf:
    """A place that tells no energy of the networks in `lacks`; it notes how it was asked."""

    where = "on a deaf host"

    def __init__(self, lacks: Sequence[str]) -> None:
        self.lacks, self.options = lacks, {}  # type: ignore[var-annotated]

    def measure(self, store: Store, subjects: list[Subject], conditions: Conditions, effort: Effort, **options: Any) -> list[Reading]:
        """All of them."""
        self.options = options
        options["say"]("deploying net-000")
        options["say"]("waiting for the trainings on this host to end their epochs")
        return [replace(reading(s, conditions), joules=None if s.name in self.lacks else 0.2) for s in subjects]


def test_a_reading_without_energy_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network alone, as long as any reading tells it; readings of the store that lack it are no answer. A measuring waits for long
    epochs, and says so."""
    study = Study(kind="search", name="s", objectives="accuracy,energy", track="convnext-t", scale="micro")
    search = prepare_search(Store(tmp_path), study, say=lambda line: None)
    search.pool.fill(10, 0)
    own = search.pool.own
    (tmp_path / "log").mkdir()
    engine = engine_of(search, log := Log(tmp_path / "log"), State(log.records))
    place = Deaf(own[:3])
    monkeypatch.setattr("vitnas.studies.running.search_measure.quiet_place", lambda: nullcontext(place))
    console = Console(record=True, file=io.StringIO(), width=200)
    with SearchView(search, engine, console, also=lambda trial: None, still=nullcontext()) as view:
        with pytest.raises(StudyError, match="this device does not tell energy: leave it out"):
            measure(search, engine, tuple(own[:2]), view)
        assert not log.records
        measure(search, engine, tuple(own[:2] + own[3:5]), view)
        measure(search, engine, (own[2],), view)
    assert engine.state.unmeasurable == dict.fromkeys(own[:3], "the device did not tell its energy")
    assert set(engine.state.measured) == set(own[3:5])
    assert place.options["needs"] == ["joules"] and place.options["patience"] >= 24 * 3600
    said = console.export_text()
    assert "waiting for the trainings on this host to end their epochs" in said and "deploying" not in said
