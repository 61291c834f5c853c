"""The pool of a search: distinct networks of its space, all of them where it is small, else as many as are drawn, and their costs."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np

from .book import Book
from .space import Candidate, Point, Space

DRAWS = 4  # times the size of the pool, at most
FEW = 200  # networks within limits that no draw keeps to


class Pool:
    """Candidates by id, with the point that each stands for. `own` are those of the pool itself; others may be entered (proposals of
    samplers that do not go by the pool, published networks). `whole` says whether the pool is the space."""

    def __init__(self, space: Space, book: Book) -> None:
        self.space, self.book = space, book
        self.points: dict[str, Point] = {}
        self.candidates: dict[str, Candidate] = {}
        self.own: list[str] = []
        self.whole = False
        self.size = self.few = FEW
        self._around: set[str] = set()  # those whose neighbours are all among its own

    def enter(self, point: Point) -> str:
        """Enter what a point stands for, and its costs; gives the candidate's id."""
        return self.add(self.space.candidate(point), point)

    def add(self, candidate: Candidate, point: Point = (), name: str = "") -> str:
        """Enter a candidate; gives its id. ValueError where its input size does not fit it."""
        if candidate.id not in self.candidates:
            self.book.add(candidate.id, name or candidate.id, candidate.spec, candidate.input_size)
            self.candidates[candidate.id], self.points[candidate.id] = candidate, point
        elif name:
            self.book.entries[candidate.id] = replace(self.book.entries[candidate.id], name=name)
        return candidate.id

    def fill(self, size: int, seed: int) -> None:
        """Look at every point where there are no more than `size`, else draw until `size` distinct networks keep to what is counted; where
        few do, go where more would."""
        self.whole, self.size, self.few = self.space.tree.total <= size, size, min(size, FEW)
        if self.whole:
            for point in self.space.points():
                self.take(point)
            return
        rng = np.random.default_rng(seed)
        kept = 0
        for _ in range(DRAWS * size):
            if kept == size:
                return
            known = len(self.own)
            name = self.take(self.space.draw(rng))
            kept += len(self.own) > known and self.book.broken(name) is None
        if kept < self.few:
            self.approach()

    def extend(self) -> None:
        """Where all within limits were tried: `approach` more, as far as the pool's size goes."""
        within = sum(self.book.excess(c) <= 1 for c in self.own) if self.book.limits else 0
        self.few = min(self.size, max(self.few, within + FEW))
        self.approach()

    def approach(self) -> None:
        """Where limits are so tight that few draws keep to them: from the network that breaks them least by single changes to one that
        does, and from those that do to others, up to `few`. By latency and other measured costs as far as they are predicted."""
        if self.whole or not self.book.limits:
            return
        excess = self.book.excess
        here = min(self.own, key=excess)
        while (over := excess(here)) > 1:
            here = min(map(self.take, self.space.neighbours(self.points[here])), key=excess, default=here)
            if excess(here) >= over:
                return
        found = dict.fromkeys(c for c in self.own if excess(c) <= 1)
        todo = deque(c for c in found if c not in self._around)
        while todo and len(found) < self.few:
            self._around.add(here := todo.popleft())
            for near in map(self.take, self.space.neighbours(self.points[here])):
                if len(found) < self.few and near not in found and excess(near) <= 1:
                    found[near] = None
                    todo.append(near)

    def take(self, point: Point) -> str:
        """Enter a point as one of the pool's own; gives the candidate's id."""
        name = self.enter(point)
        if name not in self.book.pool:
            self.book.own(name)
            self.own.append(name)
        return name

    @property
    def feasible(self) -> list[str]:
        """Those of the pool that break no limit, as far as is known."""
        return [c for c in self.own if self.book.broken(c) is None]
