"""The latencies of a study's arms: what is to be measured, how long that takes, and the measuring itself, after the training.

A measuring that is refused loses nothing: what is known stays known, the study's report says why the rest is missing, and the same command
measures again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..designs.twins import measured_as, twins
from ..latency.column import Column, Place, write_column
from ..latency.device import Conditions, DeviceKey, LatencyError, check_installed
from ..latency.measure import GROUP, Subject, check_threads, device_key
from ..latency.protocol import Effort
from ..latency.quiet import HostBusy
from ..plan import Plan
from ..store import Store
from ..study import Study, StudyError
from .elsewhere import Here, quiet_place

START = 12.0  # seconds of a session beside the measuring: processes that start and load their networks
DEPLOY = 1.0  # seconds to bring a network into its deployment form

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What measuring the arms of a study comes to: distinct networks, how many of them are `known`, and about how many seconds the others
    take. `device` says where and how."""

    networks: int
    known: int
    seconds: float
    device: str


def conditions_of(study: Study) -> Conditions:
    """How the study wants its networks to be run; StudyError for a combination that no backend offers."""
    try:
        return Conditions(
            device=study.latency_device,
            backend=study.latency_backend,
            precision=study.latency_precision,
            threads=study.latency_threads,
            batch=study.latency_batch,
        )
    except LatencyError as error:
        raise renamed(error) from None


def effort_of(study: Study) -> Effort:
    """How much is measured, and what counts as disturbed."""
    return Effort(seconds=study.latency_seconds)


def check_latency(study: Study) -> None:
    """StudyError where this machine cannot measure as the study asks, before anything is trained."""
    conditions = conditions_of(study)
    if os.environ.get("RAY_ADDRESS"):  # the cluster may have a node for it
        return
    try:
        _check_here(conditions)
    except LatencyError as error:
        raise renamed(error) from None


def key_of(study: Study) -> DeviceKey:
    """The key of the study's readings, from where they are taken: the cluster's quiet node, else this machine; StudyError where they cannot
    be taken there as the study asks."""
    conditions = conditions_of(study)
    try:
        with quiet_place() as place:
            if isinstance(place, Here):
                _check_here(conditions)
            return place.key(conditions)
    except LatencyError as error:
        raise renamed(error) from None


def _check_here(conditions: Conditions) -> None:
    check_installed(conditions.backend)
    check_threads(conditions)
    device_key(conditions)


def renamed(error: ValueError) -> StudyError:
    """The error with options by their names in studies: `--backend` is `--latency-backend` there."""
    text = re.sub(r"--(device|backend|precision|threads|batch)\b", r"--latency-\1", str(error))
    text = re.sub(r"--input-size\b", "--latency-size", text)
    return StudyError(re.sub(r"^(device|backend|precision|threads|batch):", r"latency-\1:", text))


def ahead(store: Store, plan: Plan) -> Ahead:
    """What the measuring of `plan` comes to."""
    column, subjects = _asked(plan, key_of(plan.study))
    distinct = {(p.fingerprint, p.input_size): column.reading(store, name, p.arm) for name, p in column.places.items()}
    known = sum(reading is not None for reading in distinct.values())
    left = len(distinct) - known
    sessions = -(-left // GROUP)
    assert column.key is not None
    size = max(subject.input_size for subject in subjects.values())
    shown = replace(column.key, conditions=replace(column.key.conditions, input_size=size))
    return Ahead(
        networks=len(distinct),
        known=known,
        seconds=plan.study.latency_seconds * (left + sessions) + START * sessions + DEPLOY * left,
        device=shown.label,
    )


def measure_arms(store: Store, plan: Plan, *, say: Say) -> None:
    """Measure the networks of all arms that the store does not know yet, and note in the study's folder which stands for which arm."""
    study, name = plan.study, plan.study.folder_name
    conditions = conditions_of(study)
    column, subjects = _asked(plan, None)
    left_out: dict[str, str] = {}

    def skip(subject: Subject, error: LatencyError) -> None:
        left_out[subject.name] = str(renamed(error))

    try:
        with quiet_place() as place:
            column = replace(column, key=place.key(conditions))
            wanted = [s for arm, s in subjects.items() if not column.reading(store, arm, column.places[arm].arm)]
            write_column(store, name, column)
            if wanted:
                say(f"measuring the latency of {len(wanted)} arms")
                place.measure(store, wanted, conditions, effort_of(study), skip=skip, say=say)
    except (LatencyError, HostBusy) as error:
        column = replace(column, refused=str(renamed(error)))
        say(f"latency was not measured: {column.refused}; nothing is lost, the same command measures again")
    places = {arm: replace(p, left_out=_shared(left_out, arm, column)) for arm, p in column.places.items()}
    write_column(store, name, replace(column, places=places))


def _asked(plan: Plan, key: DeviceKey | None) -> tuple[Column, dict[str, Subject]]:
    """The study's column under `key`, and the subjects by the arms' names."""
    from ..latency.deploy import deployed_spec

    subjects, places = {}, {}
    for arm, (spec, size) in zip(plan.arms, twins(plan), strict=True):
        subjects[arm.name] = Subject(name=arm.name, spec=replace(spec, name=arm.name), input_size=size)
        places[arm.name] = Place(arm=arm.fingerprint, fingerprint=deployed_spec(spec).fingerprint, input_size=size)
    of = measured_as(plan.study, plan.data["classes"], int(plan.data["input_size"]))
    return Column(key=key, of=of, places=places), subjects


def _shared(left_out: dict[str, str], name: str, column: Column) -> str:
    """Why the arm's network was left out: what was found of it may have been found under another arm's name."""
    own = column.places[name]
    same = (n for n, p in column.places.items() if (p.fingerprint, p.input_size) == (own.fingerprint, own.input_size))
    return next((left_out[n] for n in same if n in left_out), "")
