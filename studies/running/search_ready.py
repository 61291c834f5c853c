"""A search that is ready to run: what the driver, the record and the view of it share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ...roadmap.steps import Track
from ...roadmap.zoo import VARIANTS, variant
from ...roadmap.zoo.entry import Variant
from ..data.prepare import Prepared
from ..latency.measure import Subject
from ..search.book import Book
from ..search.engine import Problem
from ..search.pool import Pool
from ..search.space import Space
from ..search.trainings import Trainings
from ..store import Store
from ..study import Study
from ..training.run_trial import How
from .cluster import Cluster
from .execution import Machine

OFFERED = 8  # published networks that are measured to find one within the limits


@dataclass(frozen=True, kw_only=True)
class Search:
    """A search that is ready to run. `data` gives the prepared data at an input size (pixels), `size` is the space's usual one."""

    store: Store
    study: Study
    track: Track
    space: Space
    book: Book
    pool: Pool
    problem: Problem
    trainings: Trainings
    machine: Machine
    data: Callable[[int], Prepared]
    size: int
    cluster: Cluster | None = None
    names: dict[str, str] = field(default_factory=dict)  # of published networks, by candidate
    readings: dict[str, Mapping[str, tuple[float, float, float]]] = field(default_factory=dict)  # by candidate and quantity, with intervals

    @property
    def name(self) -> str:
        """The study's folder."""
        return self.study.folder_name

    @property
    def folder(self) -> Path:
        """Where the log and the report are."""
        return self.store.studies / self.name

    @cached_property
    def points(self) -> int:
        """How many points the space has."""
        return self.space.spelled()

    def how(self) -> How:
        """How its trials run."""
        m, s = self.machine, self.study
        return How(
            device=m.device,
            threads=m.threads,
            micro_batch=s.micro_batch,
            compile=m.compile,
            executor=s.executor,
            processes=m.processes,
        )

    def subject(self, candidate: str) -> Subject:
        """The candidate as something to measure."""
        found = self.pool.candidates[candidate]
        return Subject(name=self.names.get(candidate, candidate), spec=found.spec, input_size=found.input_size)

    def published(self, most: Mapping[str, float], like: str) -> list[str]:
        """Candidates of published networks that keep to `most` as far as that is counted or predicted (what cannot be is left to the
        measurement), the most accurate by its paper first, then the largest; with the input size and the techniques of the candidate
        `like`."""
        if self.study.published == "none":
            return []
        small = {v.micro for v in VARIANTS}
        named = [v for v in VARIANTS if (v.name in small) == (self.study.scale == "micro")]
        named = [variant(self.study.published)] if self.study.published != "auto" else named
        found = []
        for v in named:
            candidate = self.enter_published(v, like)
            if candidate and not any(self.book.interval(candidate, k)[0] > limit for k, limit in most.items()):
                found.append((v.top1 or 0.0, self.book.entries[candidate].counted.params, candidate))
        return [c for _, _, c in sorted(found, reverse=True)][:OFFERED]

    def enter_published(self, network: Variant, like: str) -> str | None:
        """The candidate that a published network is, trained as the candidate `like`; None where its shape does not go with that one's
        input size."""
        alike = self.pool.candidates[like]
        try:
            spec = network.spec(input_size=alike.input_size, classes=self.space.classes)
            candidate = self.pool.add(replace(alike, spec=spec), name=network.name)
        except ValueError:
            return None
        self.names[candidate] = network.name
        return candidate
