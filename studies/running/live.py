"""The live view of a running study: a table of arms in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..plan import Arm, Plan
from ..trial import TrialResult


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    s = max(0, round(seconds))
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60:02d} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60:02d} min"


class View:
    """Follows a study's trials. In a terminal (and without NO_COLOR) it draws a table; else it prints a line a finished trial.

    `also` is told of every finished trial (the tracker), `on_failure` of all that failed so far, with the reasons.
    `unscored` are known trials that are to be scored on more, without training. Time left comes from the epochs done since the start.
    """

    def __init__(
        self,
        plan: Plan,
        known: dict[str, TrialResult],
        console: Console,
        *,
        also: Callable[[str], None],
        unscored: Collection[str] = (),
        on_failure: Callable[[dict[str, str]], None] = lambda failed: None,
    ) -> None:
        self.on_failure = on_failure
        self.plan, self.console, self.also = plan, console, also
        self.results = {k: r for k, r in known.items() if k not in unscored}
        self.todo = [t for t in plan.trials if t.id not in self.results]
        self.arms = {trial: arm for arm in reversed(plan.arms) for trial in arm.trials}
        self.latest: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, str] = {}
        self.began = time.monotonic()
        self.epochs_done = 0
        self.resumed = {t.id: t.epochs for t in self.todo if t.id in unscored}
        self.live: Live | None = None

    def __enter__(self) -> View:
        if self.console.is_terminal and not self.console.no_color:
            self.live = Live(get_renderable=self._table, console=self.console, refresh_per_second=2, transient=True)
            self.live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.live:
            self.live.stop()

    def started(self, trial_id: str) -> None:
        self.latest.setdefault(trial_id, {"epoch": 0, "top1": None})

    def epoch(self, trial_id: str, record: dict[str, Any]) -> None:
        self.resumed.setdefault(trial_id, record["epoch"] - 1)
        self.latest[trial_id] = record
        self.epochs_done += 1

    def finished(self, trial_id: str, result: TrialResult) -> None:
        if trial_id in self.results:
            return
        self.results[trial_id] = result
        self.also(trial_id)
        if not self.live:
            done = sum(t.id in self.results for t in self.todo)
            self.console.print(f"[{done}/{len(self.todo)}] {self._label(trial_id)}: {outcome(result)}; {self._left()}", highlight=False)

    def lost(self, trial_id: str) -> None:
        self.console.print(f"{self._label(trial_id)}: its worker was lost; it goes on from its last epoch", highlight=False, markup=False)

    def failed(self, trial_id: str, error: str) -> None:
        self.errors[trial_id] = error
        self.on_failure(self.errors)
        self.console.print(f"{self._label(trial_id)} failed: {error}", highlight=False, markup=False)

    def _label(self, trial_id: str) -> str:
        arm = self.arms[trial_id]
        return f"{arm.name}, seed {arm.seeds[arm.trials.index(trial_id)]}"

    def _left(self) -> str:
        todo = sum(t.epochs - self.resumed.get(t.id, 0) for t in self.todo if t.id not in self.errors)
        left = todo - self.epochs_done
        if not self.epochs_done or left <= 0:
            return "nearly done" if left <= 0 else "time left unknown yet"
        return f"{duration((time.monotonic() - self.began) / self.epochs_done * left)} left"

    def _table(self) -> Group:
        done = sum(t.id in self.results for t in self.todo)
        table = Table(box=None)
        for column, justify in (("", "right"), ("arm", "left"), ("seeds", "left"), ("val top-1", "right"), ("MMACs", "right")):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for arm in self.plan.arms:
            table.add_row(str(arm.index), arm.title, self._seeds(arm), self._so_far(arm), f"{arm.macs / 1e6:,.1f}")
        return Group(Text(f"{self.plan.study.folder_name}: {done}/{len(self.todo)} trials, {self._left()}", style="bold"), table)

    def _seeds(self, arm: Arm) -> str:
        marks = []
        for trial in arm.trials:
            if trial in self.results:
                marks.append("[red]diverged[/]" if self.results[trial].status == "diverged" else "[green]done[/]")
            elif trial in self.errors:
                marks.append("[red]failed[/]")
            elif trial in self.latest:
                marks.append(f"[cyan]{self.latest[trial]['epoch']}/{arm.epochs}[/]")
            else:
                marks.append("[dim]·[/]")
        return "  ".join(marks)

    def _so_far(self, arm: Arm) -> str:
        values = [r.scores["validation"].top1 for t in arm.trials if (r := self.results.get(t)) and "validation" in r.scores]
        values += [v for t in arm.trials if t not in self.results and (v := self.latest.get(t, {}).get("top1")) is not None]
        return f"{sum(values) / len(values):.1f}" if values else ""


def outcome(result: TrialResult) -> str:
    """A result in a few words."""
    if result.status == "diverged":
        return f"diverged in epoch {result.diverged_epoch}"
    scores = ", ".join(f"{name} {score.top1:.1f} %" for name, score in result.scores.items())
    return f"{scores} in {duration(result.seconds)}"
