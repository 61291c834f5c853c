"""measure(): the one entry that everybody uses. What the store knows is taken from it; the rest is measured, recorded and given.

subjects (networks with input sizes) --deploy--> files --sessions of a dozen--> readings --> store
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...roadmap.spec import NetSpec, from_dict
from ..gate import PATIENCE, GateClosed, measuring
from ..store import Store
from .device import Conditions, DeviceKey, LatencyError, check_installed, library_versions, processor_model, version_of, visible_gpu
from .protocol import ANY_LOAD, Disturbed, Effort, Session, in_process, run_session
from .quiet import HostBusy, alone, usable_cores
from .reading import Quantity, Reading, readings_of
from .readings import Need, earlier_sessions, known, known_throughput, last_baseline, record

if TYPE_CHECKING:
    from .protocol import Start

GROUP = 12  # networks a session: each round holds them all, and they are in memory together
FAILED = 2  # sessions in a row after which no more are tried
WORKER = "vitnas.studies.latency.worker"
SATURATED = 1.05  # twice the batch must give this many times the images a second, or the device is saturated

Say = Callable[[str], None]


class TooWide(Disturbed):
    """Networks' intervals stayed too wide; `readings` are those of the other networks that were asked for, which are recorded."""

    def __init__(self, message: str, readings: Sequence[Reading] = ()) -> None:
        super().__init__(message)
        self.readings = tuple(readings)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network that is to be measured: `input_size` in pixels; `name` is for people."""

    name: str
    spec: NetSpec
    input_size: int


def measure(
    store: Store,
    subjects: Sequence[Subject],
    conditions: Conditions,
    effort: Effort | None = None,
    *,
    saturate: bool = False,
    again: bool = False,
    new_baseline: bool = False,
    needs: Sequence[Need] = (),
    skip: Callable[[Subject, LatencyError], None] | None = None,
    patience: float = PATIENCE,
    say: Say = lambda text: None,
) -> list[Reading]:
    """The readings of `subjects` in their order; networks that are one in deployment form share one reading.

    Known readings are taken from the store, unless `again`, where they are as narrow as the effort's `widest`, not from before the last new
    baseline, and have all of `needs`; those that are measured may lack it still. `conditions.input_size` is replaced by each subject's own.
    `saturate` doubles the batch until images a second stop growing and gives the throughput there. `new_baseline` forgets how fast the
    reference networks used to be, after a change of the machine, and measures all again. With `skip`, networks that cannot be deployed,
    exported or run are handed to it and left out; without it their LatencyError is raised. Trainings on this host wait at the end of their
    epoch meanwhile. `Disturbed` where the host is not quiet, HostBusy where another measuring or an epoch goes on for `patience` seconds:
    nothing is recorded then beyond the sessions that were complete, which the error has as its `readings`; sessions that follow are tried,
    until two in a row have failed. `TooWide`, after all sessions, where networks' intervals stayed too wide: all others are recorded.
    """
    from .deploy import deployed_spec

    effort = effort or Effort()
    again = again or new_baseline  # readings at the old speed would not compare
    check_threads(conditions)
    look_up, since = known_throughput if saturate else known, None if again else last_baseline(store, device_key(conditions))
    found: dict[tuple[str, str], Reading] = {}
    wanted: dict[tuple[str, str], Subject] = {}
    wide: dict[tuple[str, str], str] = {}
    away: list[str] = []
    trouble: Disturbed | HostBusy | None = None  # the first
    failed = 0  # sessions in a row
    places: list[tuple[Subject, tuple[str, str]]] = []
    for subject in subjects:
        fingerprint, key = deployed_spec(subject.spec).fingerprint, device_key(replace(conditions, input_size=subject.input_size))
        place = (fingerprint, key.hash)
        places.append((subject, place))
        before = None if again else look_up(store, fingerprint, key, widest=effort.widest, since=since, needs=needs)
        if before is not None:
            found[place] = before
        elif place not in found:
            wanted.setdefault(place, subject)
    if wanted:
        check_installed(conditions.backend)
        todo = list(wanted.items())
        if len(todo) > GROUP:  # like beside like: one slow network leaves fast ones few rounds
            todo.sort(key=lambda pair: _macs(pair[1]))
        while todo and failed < FAILED:
            few = 1 if saturate else together([s.spec for _, s in todo])
            group, todo = todo[:few], todo[few:]
            try:
                with host_to_itself(patience, say):  # trainings go on between sessions
                    recorded = _group(store, dict(group), conditions, effort, saturate, new_baseline, skip, wide, away, say)
            except (Disturbed, HostBusy) as error:
                trouble, failed = trouble or error, failed + 1
                if todo or trouble is not error:  # an only session is told by the error that is raised
                    say(f"{len(group)} network{'s have' if len(group) > 1 else ' has'} no reading: {error}")
                continue
            failed = 0
            found |= recorded or {}
            new_baseline = new_baseline and recorded is None
    readings = [replace(found[place], name=subject.name) for subject, place in places if place in found]
    same = f"the same command{' without --again and --new-baseline' * again}"
    if trouble:
        if readings:
            trouble = type(trouble)(f"{trouble}; {len(readings)} of {len(places)} networks have readings: {same} goes on with the others")
            trouble.readings = readings
        raise trouble
    if wide:
        raise TooWide(
            f"not recorded, their intervals stayed wider than ±{effort.widest:.0%}: {', '.join(wide.values())}"
            + "".join(f"; {words}" for words in dict.fromkeys(away))
            + f"; others are: {same} measures these again, when nothing else runs or for more seconds",
            readings,
        )
    return readings


@contextlib.contextmanager
def host_to_itself(patience: float, say: Say) -> Iterator[None]:
    """Neither a training nor another measuring on this host; HostBusy where that takes more than `patience` seconds."""
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(measuring(patience, say=say))
        except GateClosed as error:
            raise HostBusy(str(error)) from None
        held.enter_context(alone(min(patience, PATIENCE)))  # trainings wait meanwhile
        yield


def _macs(subject: Subject) -> float:
    from ...roadmap.counts import count

    try:
        return count(subject.spec, subject.input_size).macs
    except ValueError:
        return math.inf  # it does not fit that size, which is told when it is deployed


def together(specs: Sequence[NetSpec]) -> int:
    """How many of the first of `specs` are measured in one session: a dozen, or as many as have their weights in a fourth of the memory."""
    from .deploy import free_memory, parameters

    room, few = free_memory() / 4, 0
    for spec in specs[:GROUP]:
        room -= 4 * parameters(spec)
        if few and room < 0:
            break
        few += 1
    return few


def _group(
    store: Store,
    group: dict[tuple[str, str], Subject],
    conditions: Conditions,
    effort: Effort,
    saturate: bool,
    new_baseline: bool,
    skip: Callable[[Subject, LatencyError], None] | None,
    wide: dict[tuple[str, str], str],
    away: list[str],
    say: Say,
) -> dict[tuple[str, str], Reading] | None:
    """One session's readings, recorded; by place. None where there was no session, as no network could be run. Networks whose intervals
    stayed too wide go to `wide`, in words, and how far the speed then was from that of the first session to `away`."""
    from .deploy import deployed_spec, references, write_candidate, write_references

    places = {
        label: (deployed_spec(spec).fingerprint, device_key(replace(conditions, input_size=size, batch=1)))
        for label, (spec, size) in references().items()
    }
    earlier = [] if new_baseline else earlier_sessions(store, *next(iter(places.values())))
    with tempfile.TemporaryDirectory(prefix="vitnas-latency-") as name:
        folder = Path(name)
        start = in_process(folder, WORKER)
        entries = write_references(folder, conditions)
        if saturate:
            ((place, subject),) = group.items()
            try:
                batch = saturating_batch(folder, entries, subject, conditions, effort, start, say)
            except LatencyError as error:
                if skip is None:
                    raise
                skip(subject, error)
                return None
            conditions = replace(conditions, batch=batch)
        ready: dict[str, tuple[tuple[str, str], Subject]] = {}
        for place, subject in group.items():
            label = f"{subject.name} {place[0]} {subject.input_size}"
            say(f"deploying {subject.name}")
            try:
                entry = write_candidate(folder, label, subject.spec, replace(conditions, input_size=subject.input_size))
            except LatencyError as error:
                if skip is None:
                    raise
                skip(subject, error)
                continue
            entries.append(entry)
            ready[label] = (place, subject)
        session = _session(entries, ready, conditions, effort, start, earlier, skip, say)
    if session is None:
        return None
    for label, half in session.wide.items():
        place, subject = ready.pop(label)
        wide[place] = f"{subject.name} (±{half:.1%})"
    if session.wide and session.away:
        away.append(session.away)
    networks = [(label, label, *place) for label, place in places.items()]  # first, as what arrives before a new baseline is old
    networks += [
        (label, subject.name, place[0], device_key(replace(conditions, input_size=subject.input_size)))
        for label, (place, subject) in ready.items()
    ]
    quantity: Quantity = "throughput" if saturate else "latency"
    readings = readings_of(session, networks, quantity=quantity, baseline=new_baseline)
    for reading in readings:
        record(store, reading)
    by_label = {label: reading for (label, *_), reading in zip(networks, readings, strict=True)}
    return {place: by_label[label] for label, (place, _) in ready.items()}


def _session(
    entries: list[dict[str, Any]],
    ready: dict[str, tuple[tuple[str, str], Subject]],
    conditions: Conditions,
    effort: Effort,
    start: Start,
    earlier: Sequence[float],
    skip: Callable[[Subject, LatencyError], None] | None,
    say: Say,
) -> Session | None:
    """Run the session; networks that do not run are left out of it where `skip` takes them (they leave `ready`)."""
    while ready:
        try:
            return run_session(entries, conditions, effort, start, earlier=earlier, say=say)
        except LatencyError as error:
            bad = [label for label in ready if str(error).startswith(f"{label} ") or str(error).startswith(f"{label}:")]
            if skip is None or not bad:
                raise type(error)(_shown(str(error), ready)) from None
            for label in bad:
                subject = ready.pop(label)[1]
                skip(subject, LatencyError(str(error).replace(label, subject.name)))
                entries = [e for e in entries if e["name"] != label]
    return None


def _shown(text: str, ready: dict[str, tuple[tuple[str, str], Subject]]) -> str:
    """An error's text with networks by the names that people know."""
    for label, (_, subject) in ready.items():
        text = text.replace(label, subject.name)
    return text


def saturating_batch(
    folder: Path,
    references: Sequence[dict[str, Any]],
    subject: Subject,
    conditions: Conditions,
    effort: Effort,
    start: Start,
    say: Say,
    *,
    most: int = 1024,
) -> int:
    """The smallest power of two of images beyond which doubling gives less than 5 % more images a second, twice in a row.

    `references` are the references' entries in a job. A batch that does not fit in memory ends the doubling; LatencyError where not even
    one image fits.
    """
    from .deploy import write_candidate

    brief = replace(
        effort,
        seconds=0.5,
        processes=1,
        allocations=1,
        extend=0,
        repeats=0,
        energy=False,
        **ANY_LOAD,
    )
    best, best_batch, flat, batch = 0.0, 1, 0, 1
    while batch <= most and flat < 2:
        now = replace(conditions, batch=batch, input_size=subject.input_size)
        try:
            entry = write_candidate(folder, subject.name, subject.spec, now)
            session = run_session([*references, entry], now, brief, start)
        except LatencyError as error:
            if batch == 1 or "memory" not in str(error):
                raise
            break
        rate = batch / session.latencies[subject.name].typical * 1e3
        say(f"{subject.name}: {rate:.0f} images/s at a batch of {batch}")
        if rate > best * SATURATED:
            best, best_batch, flat = rate, batch, 0
        else:
            flat += 1
        batch *= 2
    return best_batch


def device_key(conditions: Conditions) -> DeviceKey:
    """The key of readings taken here under `conditions`; LatencyError where the backend is not installed. No torch is imported."""
    versions = library_versions(conditions)
    if conditions.backend in ("onnxruntime", "openvino"):
        exporter = version_of("torch")
        versions |= {"torch": exporter} if exporter else {}
    accelerator = ""
    if conditions.device == "cuda":
        accelerator, driver = _gpu()
        versions["driver"] = driver
    return DeviceKey(processor=processor_model(), accelerator=accelerator, versions=versions, conditions=conditions)


def _gpu() -> tuple[str, str]:
    """Name and driver of the GPU that CUDA takes for the first; LatencyError where there is none.

    A part of a GPU (MIG) is not listed and stands for any.
    """
    asked = ["nvidia-smi", "--query-gpu=index,uuid,name,driver_version", "--format=csv,noheader"]
    visible = visible_gpu()
    with contextlib.suppress(OSError, ValueError):
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            index, uuid, name, driver = line.split(", ")
            if visible.startswith("MIG-") or visible == index or (visible.startswith("GPU-") and uuid.startswith(visible)):
                return name, driver
    where = (
        f"nvidia-smi finds none that CUDA_VISIBLE_DEVICES={visible} names"
        if "CUDA_VISIBLE_DEVICES" in os.environ
        else "nvidia-smi finds none"
    )
    raise LatencyError(f"device: no CUDA GPU is visible here ({where}): use --device cpu")


def check_threads(conditions: Conditions) -> None:
    """LatencyError where more threads are asked for than there are cores to pin them to."""
    cores = len(usable_cores())
    if conditions.device == "cpu" and conditions.threads > cores:
        raise LatencyError(f"threads: {conditions.threads} are asked for, this process may use {cores} cores: use --threads {cores}")


@contextlib.contextmanager
def deployed_files(subjects: Sequence[Subject], conditions: Conditions) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A folder with the networks of `subjects`, each under its own name, and the references: a session's entries, for benchmarks."""
    from .deploy import write_candidate, write_references

    with tempfile.TemporaryDirectory(prefix="vitnas-latency-") as name:
        folder = Path(name)
        entries = [write_candidate(folder, s.name, s.spec, replace(conditions, input_size=s.input_size)) for s in subjects]
        yield folder, [*write_references(folder, conditions), *entries]


def reference_place() -> tuple[str, int]:
    """Where the first reference network's readings are kept: the fingerprint of its deployment form, and its input size in pixels."""
    from .deploy import deployed_spec, references

    spec, size = next(iter(references().values()))
    return deployed_spec(spec).fingerprint, size


def measure_here(
    subjects: Sequence[dict[str, Any]],
    conditions: dict[str, Any],
    effort: dict[str, Any],
    *,
    saturate: bool = False,
    new_baseline: bool = False,
    keep_going: bool = False,
    patience: float = PATIENCE,
    earlier: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """`measure` for another host's driver: plain data in (name, spec, input_size), readings as plain data out, for its `record`.

    This is what a task on a cluster's node with a device runs; nothing stays on the node. `earlier` are the first reference's readings
    there so far. Out come `readings` (the references' among them), `left_out` (why, for each subject that could not be measured, else
    nothing; with `keep_going`) and `refused` with its `kind` where measuring ended with an error: what was recorded before that is kept.
    """
    asked = [Subject(name=s["name"], spec=from_dict(s["spec"]), input_size=s["input_size"]) for s in subjects]
    left_out = [""] * len(asked)
    refused: ValueError | None = None

    def skip(subject: Subject, error: LatencyError) -> None:
        left_out[asked.index(subject)] = str(error)

    with tempfile.TemporaryDirectory(prefix="vitnas-latency-") as name:
        store = Store(name)
        before = {record(store, Reading.from_dict(r)) for r in earlier}
        try:
            measure(
                store,
                asked,
                Conditions(**conditions),
                Effort(**effort),
                saturate=saturate,
                new_baseline=new_baseline,
                skip=skip if keep_going else None,
                patience=patience,
            )
        except (LatencyError, HostBusy) as error:
            refused = error
        files = sorted(set(store.root.glob("readings/*/*/*.json")) - before, key=lambda path: path.name)  # in the order of their arrival
        readings = [json.loads(path.read_text()) for path in files]
    kind = next((k.__name__ for k in (TooWide, Disturbed, HostBusy, LatencyError) if isinstance(refused, k)), "")
    told = {"refused": str(refused) if refused else "", "kind": kind}
    return {"readings": readings, "left_out": left_out, **told}
