"""The measuring of a search's candidates: where its readings are taken, tried again where the host or the node is not fit, and told."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from ..latency.deploy import deployed_spec
from ..latency.device import Conditions, DeviceKey, LatencyError
from ..latency.measure import Subject, TooWide
from ..latency.protocol import Disturbed
from ..latency.quiet import HostBusy
from ..latency.reading import Reading
from ..latency.readings import Need, last_baseline
from ..search.engine import Engine
from ..search.state import State
from ..store import Store
from ..study import StudyError
from .elsewhere import NodeLost, Place, quiet_place
from .measured import conditions_of, effort_of, renamed
from .search_ready import Search
from .search_view import SearchView

ATTEMPTS = 3  # at measuring, where the host is not quiet or the node is lost
PAUSE = 60.0  # seconds until a node that was lost is tried again
PATIENCE = 86400.0  # seconds that a measuring waits for the longest epoch to end
WIDEST = 0.1  # half width of an interval; searches reckon with it, and trainings wait meanwhile
NEEDS: Mapping[str, Need] = {"memory": "memory_mb", "energy": "joules"}  # what a reading may lack, by objective


def comparable(reading: Reading) -> tuple[float, float, float]:
    """What networks are compared by: the latency (ms) with its interval."""
    return (reading.latency.typical, reading.latency.low, reading.latency.high)


def device_of(key: DeviceKey) -> str:
    """The device and how it measures, in words, whatever the input size."""
    return key.label.replace(f", {key.conditions.input_size} pixels", ", each at its own input size")


def baseline_of(store: Store, key: DeviceKey) -> str:
    """Since when the device's present speed is taken for normal: readings from before do not compare."""
    return last_baseline(store, key) or "the first baseline"


def quantities(reading: Reading) -> dict[str, tuple[float, float, float] | None]:
    """What a reading tells, by objective, with intervals; None where the device does not tell."""
    p99 = reading.latency.p99 * reading.latency.factor  # at the speed that the latency is told at
    memory, joules = reading.memory_mb, reading.joules
    millijoules = None if joules is None else joules * 1e3
    return {
        "latency": comparable(reading),
        "latency-p99": (p99, p99, p99),  # without interval
        "memory": None if memory is None else (memory, memory, memory),
        "energy": None if millijoules is None else (millijoules, millijoules, millijoules),
    }


def needs_of(search: Search) -> list[Need]:
    """What a reading of this search must tell, of what it may lack."""
    return [NEEDS[q] for q in search.book.quantities if q in NEEDS]


def measure(search: Search, engine: Engine, candidates: tuple[str, ...], listener: SearchView) -> None:
    """Measure candidates on the device, trainings pausing at the end of their epochs meanwhile, and tell the engine. A host that is not
    quiet is asked again, and so is a node that was lost."""
    values: dict[str, Mapping[str, tuple[float, float, float]]] = {}
    failed: dict[str, str] = {}
    tells: set[str] = set()
    untold: set[str] = set()
    subjects = {c: search.subject(c) for c in candidates}
    conditions, effort = conditions_of(search.study), replace(effort_of(search.study), widest=WIDEST)

    def skip(subject: Subject, error: LatencyError) -> None:
        failed.update({c: str(renamed(error)) for c, s in subjects.items() if s.name == subject.name})

    for attempt in range(1, ATTEMPTS + 1):
        try:
            with quiet_place() as place, listener.measuring(len(subjects), place.where):
                _check_device(search, engine.state, place, conditions)
                readings = place.measure(
                    search.store,
                    list(subjects.values()),
                    conditions,
                    effort,
                    needs=needs_of(search),
                    skip=skip,
                    patience=PATIENCE,
                    say=listener.waits,
                )
            break
        except (HostBusy, Disturbed, NodeLost) as error:
            if attempt == ATTEMPTS and isinstance(error, TooWide) and (error.readings or search.readings):
                readings = list(error.readings)
                break
            if attempt == ATTEMPTS:
                kind = next(k for k in (HostBusy, Disturbed, NodeLost) if isinstance(error, k))
                raise kind(f"{renamed(error)}; nothing is lost, the same command goes on") from None
            if isinstance(error, NodeLost):
                listener.waits(f"waiting for the node: {renamed(error)}")
                time.sleep(PAUSE)
            else:
                listener.waits(f"waiting for a quiet host: attempt {attempt} of {ATTEMPTS} ended: {renamed(error)}")
        except LatencyError as error:
            raise renamed(error) from None
    by_place = {(r.fingerprint, r.key.conditions.input_size): r for r in readings}
    for c, subject in subjects.items():
        reading = by_place.get((deployed_spec(subject.spec).fingerprint, subject.input_size))
        if c in failed or reading is None:
            failed.setdefault(c, f"its interval stayed wider than ±{WIDEST:.0%}")
            continue
        told = {q: v for q, v in quantities(reading).items() if v is not None}
        tells |= set(told)
        missing = [q for q in search.book.quantities if q not in told]
        if not missing:
            values[c] = told
            continue
        failed[c] = f"the device did not tell its {missing[0]}"
        untold |= set(missing)
    never = [] if search.readings else [q for q in search.book.quantities if q in untold - tells]
    if never:
        raise StudyError(f"objectives: this device does not tell {never[0]}: leave it out")
    search.readings.update(values)
    engine.measured(values, failed)


def _check_device(search: Search, state: State, place: Place, conditions: Conditions) -> None:
    """NodeLost where `place` is another device than the search was begun on, such as this machine while the quiet node is away; StudyError
    where the device has a new baseline since."""
    begin = state.begin or {}
    if not (begun := begin.get("latency-device")):
        return
    key = place.key(conditions)
    if (now := device_of(key)) != begun:
        raise NodeLost(f"the search was begun with readings of {begun}, and {place.where} they would be of {now}: start that node again")
    since = baseline_of(search.store, key)
    if begin.get("latency-baseline", since) != since:
        raise StudyError(f"latency-baseline: the device has a new one since {search.name} was begun: begin anew with another --name")
