"""What `vitnas latency run`, `bundle` and `import` and `vitnas models latency` do: each one function that gives what to print."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...roadmap.zoo import variant
from ..store import Store
from .bursts import is_reference
from .device import OFFERED, Conditions, LatencyError, check_installed
from .front import Entry, fastest, front
from .measure import Subject, measure
from .protocol import NARROW, Disturbed, Effort
from .quiet import HostBusy
from .reading import Reading
from .readings import earlier_sessions, import_file
from .subjects import FILE_SIZE, is_file, published, subjects_of, unfit

Say = Callable[[str], None]
Measure = Callable[..., list[Reading]]  # as `measure`
DIFFERENT = 0.02  # of the references' time, from which on readings of two files are said not to compare
WIDEST = 0.1  # half width of the intervals of a front, which are drawn
PATIENCE = 60.0  # seconds that a command waits for trainings on this host to end their epochs
PAPER = ["top-1 (paper)", "front"]
HEADER = ["network", "typical", "95 % interval", "p10", "median", "p90", "p99", "memory", "device"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Readings as a table (`header`, `rows`), notes for below it, and plain data. `entries` are those of `models latency`, one a reading.

    `refused` says which networks that were asked for have no reading, where that is so: it is shown last, as an error.
    """

    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    refused: str = ""

    @property
    def header(self) -> list[str]:
        """Column titles."""
        extra = ["images/s"] if any(r.quantity == "throughput" or r.key.conditions.batch > 1 for r in self.readings) else []
        energy = ["energy"] if any(r.joules is not None for r in self.readings) else []
        paper = PAPER if self.entries else []
        return [HEADER[0], *paper, *HEADER[1:-1], *energy, *extra, HEADER[-1]]

    @property
    def label(self) -> str:
        """On which device and how, in one line; input sizes that differ are not named."""
        if not self.readings:
            return ""
        key = self.readings[0].key
        sizes = {r.key.conditions.input_size for r in self.readings}
        return key.label if len(sizes) == 1 else key.label.replace(f", {key.conditions.input_size} pixels", ", each at its own input size")

    @property
    def rows(self) -> list[list[str]]:
        """One row of cells a reading."""
        out = []
        for i, r in enumerate(self.readings):
            latency, entry = r.latency, self.entries[i] if self.entries else None
            cells = {
                "network": r.name,
                "top-1 (paper)": f"{entry.top1:.1f} %" if entry and entry.top1 is not None else "",
                "front": "front" if entry and entry.front else "",
                "typical": f"{latency.typical:.3f} ms",
                "95 % interval": f"{latency.low:.3f} to {latency.high:.3f}" + ("" if r.latency.half_width <= NARROW else " (wide)"),
                "p10": f"{latency.p10:.3f}",
                "median": f"{latency.median:.3f}",
                "p90": f"{latency.p90:.3f}",
                "p99": f"{latency.p99:.3f}",
                "memory": "" if r.memory_mb is None else f"{r.memory_mb:.0f} MB",
                "energy": "" if r.joules is None else f"{r.joules * 1e3:.1f} mJ",
                "images/s": f"{r.images_per_second:.0f}",
                "device": r.key.label,
            }
            out.append([cells[column] for column in self.header])
        return out

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        data: dict[str, Any] = {"readings": [r.to_dict() | {"images_per_second": r.images_per_second} for r in self.readings]}
        if self.entries:
            data["networks"] = [e.to_dict() for e in self.entries]
        return data | {"notes": [*self.notes, *([self.refused] if self.refused else [])]}


def measured(measuring: Measure | None, *arguments: Any, **options: Any) -> tuple[list[Reading], str]:
    """What `measuring` gives (`measure`, where that is None), and which networks have no reading because their intervals stayed too wide
    or the host was not quiet, in words; raised instead where that leaves no other reading."""
    try:
        return (measuring or measure)(*arguments, **options), ""
    except (Disturbed, HostBusy) as error:
        if not error.readings:
            raise
        return list(error.readings), str(error)


def run(
    store: Store,
    names: Sequence[str],
    *,
    device: str = "cpu",
    backend: str = "eager",
    batch: int = 1,
    precision: str = "fp32",
    threads: int = 1,
    input_size: int | None = None,
    cache: str = "warm",
    throughput: bool = False,
    seconds: float = 2.0,
    again: bool = False,
    new_baseline: bool = False,
    measuring: Measure | None = None,
    say: Say = lambda text: None,
) -> Report:
    """Measure published networks, files with networks, and studies' arms on this device, or take what the store knows.

    `measuring` is what measures, where that is not this machine.
    """
    if throughput and batch != 1:
        raise LatencyError("batch: --throughput finds the batch itself: leave --batch out")
    conditions = Conditions(device=device, backend=backend, batch=batch, precision=precision, threads=threads, cache=cache)
    subjects = subjects_of(store, names, input_size=input_size)
    readings, refused = measured(
        measuring,
        store,
        subjects,
        conditions,
        Effort(seconds=seconds),
        saturate=throughput,
        again=again or new_baseline,  # readings at the old speed would not compare
        new_baseline=new_baseline,
        patience=PATIENCE,
        say=say,
    )
    return Report(readings=tuple(readings), notes=(*sizes_taken(names, input_size), *notes_on(readings)), refused=refused)


def bundle(
    store: Store,
    names: Sequence[str],
    out: Path,
    *,
    batch: int = 1,
    precision: str = "fp32",
    input_size: int | None = None,
    cache: str = "warm",
    say: Say = lambda text: None,
) -> list[str]:
    """Write a bundle of the named networks into the folder `out`; gives lines to print."""
    from .bundle import write_bundle

    if precision not in OFFERED["onnxruntime", "cpu"]:
        raise LatencyError(f"precision: a bundle computes in {' or '.join(OFFERED['onnxruntime', 'cpu'])}, not in {precision}")
    conditions = Conditions(backend="onnxruntime", batch=batch, precision=precision, cache=cache)
    written = write_bundle(out, subjects_of(store, names, input_size=input_size), conditions, say=say)
    return [
        *sizes_taken(names, input_size),
        f"{len(written)} networks in {out}: {', '.join(written)}",
        f"copy the folder to the device and run there: python {out.name}/measure.py (needs numpy and onnxruntime)",
        "bring the readings back: vitnas latency import readings.json",
    ]


def bring_back(store: Store, file: Path) -> Report:
    """Import the readings that a bundle wrote."""
    found = import_file(store, file)
    readings = [r for r in found if not is_reference(r.name)]
    notes = [f"{len(readings)} readings are in {store.root}", *notes_on(readings)]
    for reference in {r.key.hash: r for r in reversed(found) if is_reference(r.name)}.values():  # the first of each key
        usual = earlier_sessions(store, reference.fingerprint, reference.key)[0]
        if abs(reference.reference_ms / usual - 1) > DIFFERENT:
            notes.append(
                f"in this file's first session the references took {reference.reference_ms:.2f} ms, in that of the readings known before "
                f"{usual:.2f} ms: the two do not compare to better than that; measure all with one bundle and one --out"
            )
    return Report(readings=tuple(readings), notes=tuple(dict.fromkeys(notes)))


def models_latency(
    store: Store,
    names: Sequence[str] = (),
    *,
    everything: bool = False,
    min_accuracy: float | None = None,
    input_size: int | None = None,
    device: str = "cpu",
    backend: str = "eager",
    batch: int = 1,
    precision: str = "fp32",
    threads: int = 1,
    seconds: float = 2.0,
    measuring: Measure | None = None,
    say: Say = lambda text: None,
) -> Report:
    """Measure published networks (all of them, or those named) and set their papers' accuracy against the latency.

    Networks that cannot be measured are told of in the notes. The fastest network of at least `min_accuracy` (%) is named there too.
    """
    from .deploy import deployed_spec

    if everything == bool(names):
        raise LatencyError("name networks, or take all published ones with --all")
    conditions = Conditions(device=device, backend=backend, batch=batch, precision=precision, threads=threads)
    if measuring is None:
        check_installed(backend)
    if everything:
        chosen = published(input_size=input_size)
    else:
        rated = {(s.name, s.spec.fingerprint): top1 for s, top1 in published(input_size=input_size)}
        chosen = [(s, rated.get((s.name, s.spec.fingerprint))) for s in subjects_of(store, names, input_size=input_size)]
    resized = [s.name for s, top1 in chosen if top1 is not None and s.input_size != variant(s.name).input_size]
    chosen = [(s, None if s.name in resized else top1) for s, top1 in chosen]
    left_out = [f"left out: {reason}" for reason in unfit(input_size)] if everything and input_size else []

    def skip(subject: Subject, error: LatencyError) -> None:
        left_out.append(f"left out: {error}")
        say(f"left out: {error}")

    asked = [s for s, _ in chosen]
    effort = Effort(seconds=seconds, narrow=Effort.widest, widest=WIDEST)
    readings, refused = measured(measuring, store, asked, conditions, effort, skip=skip, patience=PATIENCE, say=say)
    accuracy = {(s.name, deployed_spec(s.spec).fingerprint, s.input_size): top1 for s, top1 in chosen}
    entries = [
        Entry(
            name=r.name,
            top1=accuracy[r.name, r.fingerprint, r.key.conditions.input_size],
            milliseconds=r.latency.typical,
            low=r.latency.low,
            high=r.latency.high,
        )
        for r in readings
    ]
    marked = front(entries)
    notes = [*left_out, *notes_on(readings)]
    if resized:
        notes.append(f"{len(resized)} networks have no accuracy here: the papers' is not of {input_size} pixels: leave --input-size out")
    if any(e.front for e in marked):
        notes.append("on the front: " + ", ".join(e.name for e in sorted(marked, key=lambda e: e.milliseconds) if e.front))
    if min_accuracy is not None:
        best = fastest(marked, min_accuracy)
        notes.append(
            f"the fastest at {min_accuracy:g} % or more is {best.name}: {best.top1:.1f} %, {best.milliseconds:.2f} ms"
            if best
            else f"none of these networks reaches {min_accuracy:g} %"
            if any(e.top1 is not None for e in entries)
            else "--min-accuracy: none of these networks has a known accuracy here"
        )
    return Report(readings=tuple(readings), entries=tuple(marked), notes=tuple(notes), refused=refused)


def sizes_taken(names: Sequence[str], input_size: int | None) -> list[str]:
    """A note where a file's network is taken at a size that neither it nor the user gave."""
    files = [name for name in names if is_file(name)]
    return (
        [f"{', '.join(files)}: at {FILE_SIZE} pixels, as files do not say: --input-size gives another"] if files and not input_size else []
    )


def anew(*names: str) -> str:
    """How readings that are known are made better: without --again the store's would come back."""
    named = " ".join(names) if len(names) <= 3 else "NAMES"
    return f"`vitnas latency run {named} --again --seconds N`, with a larger N under the same conditions, takes new ones"


def notes_on(readings: Sequence[Reading]) -> list[str]:
    """What a reader must know: that devices or conditions differ, that intervals are wide, what was repeated."""
    out = []
    machines = {(r.key.processor, r.key.accelerator, tuple(sorted(r.key.versions.items()))) for r in readings}
    conditions = {
        (r.key.conditions.backend, r.key.conditions.precision, r.key.conditions.threads, r.key.conditions.cache) for r in readings
    }
    if len(machines) > 1 or len(conditions) > 1:
        out.append("these readings are of different devices or conditions and do not compare: see the last column")
    sizes = {r.key.conditions.input_size for r in readings}
    if len(sizes) > 1:
        out.append(f"input sizes differ: {', '.join(map(str, sorted(sizes)))} pixels")
    wide = {r.name: r.latency.half_width for r in readings if r.latency.half_width > NARROW}
    if wide:
        out.append(
            f"{len(wide)} of {len(readings)} intervals are wider than ±{NARROW:.0%} (up to ±{max(wide.values()):.1%}): "
            f"{anew(*sorted(wide))}"
        )
    out += sorted({note for r in readings for note in r.notes})
    return out
