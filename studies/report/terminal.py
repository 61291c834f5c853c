"""A summary in the terminal: coloured tables that fit its width; plain lines without a terminal or with NO_COLOR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..effect import Estimand
from .effects_table import LATENCY, effect_notes, effects_tables
from .summary import Summary
from .tables import LEFT, Table, headline, percent, plain, results_table, select_columns

if TYPE_CHECKING:
    from rich.console import Console

STYLES = {"helps": "green", "hurts": "red", "equivalent": "cyan", "undecided": "dim"}
IN_THE_ROADMAP: tuple[Estimand, ...] = ("in the paper's order",)  # its effects stand beside the rungs


def print_table(summary: Summary, console: Console) -> None:
    """The effects by estimand, the arms, and what must be known beside them. A roadmap's effects stand beside its rungs."""
    effects = effects_tables(summary, leave_out=() if summary.ablation else IN_THE_ROADMAP)
    notes = [n for n in effect_notes(summary) if summary.ablation]
    footers = [*notes, *summary.footers]
    arms = results_table(summary)
    if not console.is_terminal or console.no_color:
        tables = [["", heading, *plain(table)] for heading, _, table in effects]
        main = ["", *plain(arms)]
        parts = [*tables, main] if summary.ablation else [main, *tables]
        for text in [*summary.alarms, headline(summary), *(line for part in parts for line in part), "", *footers]:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    for alarm in summary.alarms:
        console.print(alarm, markup=False, highlight=False, style="bold red")
    console.print(headline(summary), markup=False, highlight=False, style="bold")
    if not summary.ablation:
        _print_arms(summary, arms, console)
    for heading, members, table in effects:
        console.print(heading, markup=False, highlight=False)
        _print(_narrowed(table, summary, console.width), [e.word or "" for e in members], [""] * len(members), console)
    if summary.ablation:
        _print_arms(summary, arms, console)
    for footer in footers:
        console.print(footer, markup=False, highlight=False, style="dim")


def _print_arms(summary: Summary, lines: Table, console: Console) -> None:
    if console.width < 130:
        lines = select_columns(lines, percent(summary), f"ms, {percent(summary)}", "Mparams", "sd")
    if console.width < 100:
        lines = select_columns(lines, "paper", "its delta", "n", "diverged")
    _print(lines, [r.word or "" for r in summary.rows], ["dim" if r.side or r.placebo else "" for r in summary.rows], console)


def _narrowed(lines: Table, summary: Summary, width: int) -> Table:
    """The columns that a terminal of that width has room for."""
    alone = percent(summary)
    if width < 200:
        lines = select_columns(lines, "logit", f"logit, simultaneous {alone}", "with")
    if width < 160:
        lines = select_columns(lines, "p", alone, f"{LATENCY} {alone}", "paper")
    if width < 125:
        lines = select_columns(lines, f"new images too {alone}", "aliases")
    return select_columns(lines, "n", "adjusted p", "diverged") if width < 100 else lines


def _print(lines: Table, words: Sequence[str], styles: Sequence[str], console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    table = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in lines[0]:
        free = name in ("verdict", "aliases", "with", "under", "note", "by rank")
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=not free)
    for line, word, style in zip(lines[1:], words, styles, strict=True):
        cells = [f"[{STYLES[word]}]{_rich(c)}[/]" if h == "verdict" and word else _rich(c) for h, c in zip(lines[0], line, strict=True)]
        table.add_row(*cells, style=style)
    console.print(table)


def _rich(cell: str) -> str:
    return cell.replace("[", r"\[")
