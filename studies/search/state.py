"""Where a search stands: what its log says, record by record. Nothing else is kept anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Literal

from .log import Record

Point = tuple[tuple[str, str], ...]
Purpose = Literal["search", "replicate", "final"]
Status = Literal["running", "complete", "diverged", "failed"]
KNOWN: dict[str, Any] = {"purpose": "search", "status": "complete"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training of the search. `rung` counts from 0; `accuracy` (%) is on validation, of a `final` one on test."""

    trial: str
    candidate: str
    seed: int
    rung: int
    epochs: int
    purpose: Purpose
    status: Status = "running"
    accuracy: float | None = None
    error: str = ""


@dataclass(kw_only=True)
class Met:
    """A candidate that was proposed, or known from the store. `refused` says why it is not trained, `quantity` what decided it."""

    id: str
    number: int
    point: Point
    by: str
    refused: str = ""
    quantity: str = ""
    known: bool = False
    runs: list[str] = field(default_factory=list)


class State:
    """The fold of a log. `measured` are values by candidate and quantity; `at` is the time of the last record (s)."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.begin: Record | None = None
        self.met: dict[str, Met] = {}
        self.runs: dict[str, Run] = {}
        self._by_candidate: dict[str, dict[str, None]] = {}  # its trials, in order
        self.measured: dict[str, Mapping[str, float]] = {}
        self.unmeasurable: dict[str, str] = {}
        self.told: list[str] = []  # the search's own first trainings, in the order in which they ended
        self.stopped: Record | None = None
        self.chosen: Record | None = None
        self.at = 0.0
        for record in records:
            self.apply(record)

    def apply(self, record: Record) -> None:
        """Take in one record."""
        self.at = max(self.at, float(record.get("at", 0.0)))
        match record["what"]:
            case "begin":
                self.begin = record
            case "propose":
                self._meet(record)
                self.stopped = self.chosen = None  # a search that goes on
            case "known":
                self._meet(record)
                run = Run(**{k: record[k] for k in ("trial", "candidate", "seed", "rung", "epochs", "accuracy")}, **KNOWN)
                self._enter(run)
                self.met[run.candidate].runs.append(run.trial)
            case "refuse":
                met = self.met[record["candidate"]]
                met.refused, met.quantity = record["reason"], record["quantity"]
            case "measure":
                self.measured[record["candidate"]] = {k: v[0] for k, v in record["values"].items()}
            case "unmeasurable":
                self.unmeasurable[record["candidate"]] = record["reason"]
            case "train":
                run = Run(**{k: record[k] for k in ("trial", "candidate", "seed", "rung", "epochs", "purpose")})
                self._enter(run)
                if run.candidate in self.met and run.trial not in self.met[run.candidate].runs:
                    self.met[run.candidate].runs.append(run.trial)
            case "tell":
                self._told(record)
            case "stop":
                self.stopped = record
            case "choose":
                self.chosen = record

    def _meet(self, record: Record) -> None:
        name = record["candidate"]
        if name not in self.met:
            point = tuple((k, v) for k, v in record["point"])
            self.met[name] = Met(id=name, number=len(self.met), point=point, by=record["by"], known=record["what"] == "known")

    def _enter(self, run: Run) -> None:
        self.runs[run.trial] = run
        self._by_candidate.setdefault(run.candidate, {})[run.trial] = None

    def _told(self, record: Record) -> None:
        run = self.runs[record["trial"]]
        self.runs[run.trial] = replace(run, status=record["status"], accuracy=record["accuracy"], error=record.get("error", ""))
        if run.purpose == "search" and run.trial not in self.told:
            self.told.append(run.trial)

    def of(self, candidate: str, *, purpose: Iterable[Purpose] = ("search", "replicate")) -> list[Run]:
        """The candidate's trainings of these purposes."""
        wanted = tuple(purpose)
        return [r for t in self._by_candidate.get(candidate, ()) if (r := self.runs[t]).purpose in wanted]

    def running(self) -> list[Run]:
        """Trainings that have no outcome yet."""
        return [r for r in self.runs.values() if r.status == "running"]

    def accuracies(self, candidate: str, rung: int) -> list[float]:
        """Validation top-1 (%) at a rung, one a seed."""
        met = self.met.get(candidate)
        found = (self.runs[t] for t in (met.runs if met else ()))
        return [r.accuracy for r in found if r.rung == rung and r.purpose != "final" and r.accuracy is not None]

    def mean(self, candidate: str, rung: int) -> float | None:
        """The mean of `accuracies`, or None."""
        values = self.accuracies(candidate, rung)
        return fmean(values) if values else None

    def diverged(self, candidate: str, rung: int, *, final: bool = False) -> int:
        """With how many seeds it diverged at a rung; with `final`, as a finalist too."""
        met = self.met.get(candidate)
        found = (self.runs[t] for t in (met.runs if met else ()))
        return sum(r.rung == rung and r.status == "diverged" and (final or r.purpose != "final") for r in found)

    def new(self) -> list[str]:
        """Candidates that this search trains itself, in the order of their proposal."""
        return [m.id for m in self.met.values() if not m.known and m.runs]
