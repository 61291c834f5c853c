"""The live view of a search: the best network, the front, the hypervolume and the time left in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..search.choosing import front, scored
from ..search.engine import Engine
from ..search.state import Run
from .live import duration
from .search_ready import Search
from .search_record import keep, label

WORDS = {"search": "", "replicate": " again", "final": " from scratch on all images"}


class SearchView:
    """Follows a search; everything it shows is the engine's, asked by the thread that drives it: Rich's own draws what is made here. `also`
    is told of every finished training (the tracker), which waits while `still` is held."""

    def __init__(
        self, search: Search, engine: Engine, console: Console, *, also: Callable[[str], None], still: AbstractContextManager[Any]
    ) -> None:
        self.search, self.engine, self.console, self.also, self.still = search, engine, console, also, still
        self.began, self.ended = time.monotonic(), 0
        self.now: dict[str, tuple[Run, int]] = {}
        self.busy, self.shown = "", 0.0
        self.live: Live | None = None

    def __enter__(self) -> SearchView:
        if self.console.is_terminal and not self.console.no_color:
            self.live = Live(self._table(), console=self.console, refresh_per_second=1, transient=True)
            self.live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.live:
            self.live.stop()

    def started(self, run: Run) -> None:
        """A training starts."""
        if not self.ended and not self.now:  # networks that were measured before the first say nothing of how long the others take
            self.began = time.monotonic()
        self.now[run.trial] = (run, 0)
        self._refresh()

    def epoch(self, run: Run, record: dict[str, Any]) -> None:
        """A training has ended an epoch."""
        self.now[run.trial] = (run, record["epoch"])
        if time.monotonic() - self.shown >= 1:  # epochs may be short
            self._refresh()

    def lost(self, run: Run) -> None:
        """A training's worker was lost."""
        self._say(f"{self._name(run)}: its worker was lost; it goes on from its last epoch")

    def finished(self, run: Run) -> None:
        """A training has ended, and the engine knows."""
        self.now.pop(run.trial, None)
        self.ended += 1
        keep(self.search, self.engine)
        self.also(run.trial)
        self._refresh()
        if not self.live or run.error:
            epochs = self.search.store.trial(run.trial).epochs
            what = f"{self._name(run)}, {epochs} epoch{'s' * (epochs != 1)}, seed {run.seed}{WORDS[run.purpose]}"
            self._say(f"{what}: {self._came_to(run)}; {self._standing()}")

    @staticmethod
    def _came_to(run: Run) -> str:
        if run.error:
            return f"failed: {run.error}"
        if run.accuracy is None:
            return "diverged"
        return f"{'test' if run.purpose == 'final' else 'validation'} {run.accuracy:.2f} %"

    @contextmanager
    def measuring(self, count: int, where: str) -> Iterator[None]:
        """While networks are measured, `where` in words; nothing is logged meanwhile."""
        self.busy = f"measuring {count} network{'s' * (count != 1)} {where}"
        if not self.live:
            self._say(self.busy)
        self._refresh()
        try:
            with self.still:
                yield
        finally:
            self.busy = ""
            self._refresh()

    def waits(self, line: str) -> None:
        """What a measuring says: that it has to wait is shown, its steps are not."""
        if line.startswith("waiting "):
            self._say(line)

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _name(self, run: Run) -> str:
        met = self.engine.state.met.get(run.candidate)
        return label(met) if met else self.search.names[run.candidate]

    def _standing(self) -> str:
        e = self.engine
        own = set(e.state.new())
        tried = {r.candidate for r in e.state.runs.values() if r.candidate in own and r.status != "running"}
        of, few = f"{len(tried)}/{e.problem.trials} networks", front(e.problem, e.state, e.book)
        stands = f"{len(few)} on the front, hypervolume {e.hypervolume():.4f}" if few else "none trained to the end yet"
        return f"{of}, {stands}, {self._left()}"

    def _left(self) -> str:
        """Of the search for candidates, by the trainings that ended since this process began."""
        e = self.engine
        if (chosen := e.state.chosen) is not None:
            last = [r for r in e.state.runs.values() if r.purpose == "final" and r.candidate in (*chosen["finalists"], chosen["published"])]
            ended, most = sum(r.status != "running" for r in last), len(chosen["finalists"]) + bool(chosen["published"])
            return f"{ended}/{most * e.problem.seeds} trainings of finalists"
        if e.state.stopped is not None:
            return "the search for networks has ended: further seeds of those near the front"
        if not self.ended:
            return "time left unknown yet"
        left = (time.monotonic() - self.began) / self.ended * max(1, e.problem.trials - e.trained + len(self.now))
        if e.problem.seconds is not None:
            left = min(left, e.problem.seconds - e.seconds())
        return f"about {duration(left)} left"

    def _refresh(self) -> None:
        if self.live:
            self.live.update(self._table())
            self.shown = time.monotonic()

    def _table(self) -> Group:
        e, book = self.engine, self.search.book
        found = scored(e.problem, e.state, e.book)
        best = max(found, key=lambda c: found[c], default=None)
        table = Table(box=None)
        table.add_column("on the front")
        table.add_column("val top-1 (%)", justify="right")
        for o in e.problem.costs:
            table.add_column(o.axis, justify="right")
        for c in front(e.problem, e.state, e.book):
            mark = " (best)" if c == best else ""
            table.add_row(label(e.state.met[c]) + mark, f"{found[c]:.2f}", *(o.show(book.cost(c, o.name)) for o in e.problem.costs))
        now = ", ".join(f"{self._name(run)} {epoch}/{run.epochs}" for run, epoch in self.now.values())
        heads = [Text(f"{self.search.name}: {self._standing()}", style="bold"), Text(self.busy or (f"in training: {now}" if now else ""))]
        return Group(*heads, table)
