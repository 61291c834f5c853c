"""A summary as text: the terminal's table, Markdown, LaTeX and CSV. All show the same cells."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from ..statistics.deltas import Interval
from .summary import Row, Summary

if TYPE_CHECKING:
    from rich.console import Console

Table = list[list[str]]  # the first line is the header

STYLES = {"helps": "green", "hurts": "red", "equivalent": "cyan", "undecided": "dim"}
LEFT = ("rung", "verdict")  # columns of words; all others hold numbers


def number(value: float | None, *, sign: bool = False) -> str:
    """Points or percent with two decimals; empty where there is none."""
    if value is None:
        return ""
    value = round(value, 2) + 0.0  # no -0.00
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def span(interval: Interval | None, *, sign: bool = False) -> str:
    """`[low, high]`, or nothing."""
    return "" if interval is None else f"[{number(interval.low, sign=sign)}, {number(interval.high, sign=sign)}]"


def macs_unit(summary: Summary) -> tuple[float, str]:
    """(multiply-adds in one unit, the unit's name) that suits the study's networks."""
    return (1e9, "GMACs") if max(r.macs for r in summary.rows) >= 1e9 else (1e6, "MMACs")


def percent(summary: Summary) -> str:
    """The confidence of the intervals, as a column's name."""
    return f"{100 * summary.confidence:g} %"


def label(row: Row) -> str:
    """The rung's name; alternatives are led in by "or"."""
    return f"or {row.name}" if row.side else row.name


def results_table(summary: Summary) -> Table:
    """The main table; columns that would be empty are left out."""
    unit, unit_name = macs_unit(summary)
    alone = percent(summary)
    judged = ["delta", alone, f"simultaneous {alone}", "verdict"]
    lines = [["rung", "Mparams", unit_name, "n", "top-1", "sd", "corrupted", *judged, "paper", "its delta"]]
    for r in summary.rows:
        lines.append(
            [
                label(r),
                f"{r.params / 1e6:.2f}",
                f"{r.macs / unit:.2f}",
                str(r.n),
                number(r.mean),
                number(r.sd),
                number(r.corrupted.mean if r.corrupted else None),
                number(r.delta.value, sign=True) if r.delta else "",
                span(r.delta.interval, sign=True) if r.delta else "",
                span(r.delta.simultaneous, sign=True) if r.delta else "",
                r.verdict,
                number(r.paper.top1) if r.paper else "",
                number(r.paper.delta, sign=True) if r.paper else "",
            ]
        )
    return without_empty(lines)


def without_empty(lines: Table) -> Table:
    """The table without the columns that hold nothing below their header."""
    keep = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    return [[line[i] for i in keep] for line in lines]


def select_columns(lines: Table, *leave_out: str) -> Table:
    """The table without the named columns."""
    keep = [i for i, name in enumerate(lines[0]) if name not in leave_out]
    return [[line[i] for i in keep] for line in lines]


def seeds_table(summary: Summary) -> Table:
    """Top-1 (%) by rung and seed."""
    seeds = list(dict.fromkeys(r.seed for row in summary.rows for r in row.replicates))
    lines = [["rung", *(f"seed {s}" for s in seeds)]]
    for row in summary.rows:
        cells = {
            r.seed: "not run" if r.top1 is None else number(r.top1) + (" (diverged)" * (r.status == "diverged")) for r in row.replicates
        }
        lines.append([label(row), *(cells.get(s, "") for s in seeds)])
    return lines


def corruptions_table(summary: Summary) -> Table:
    """Top-1 (%) by rung and corruption, the mean over severities and seeds; no lines where nothing was scored."""
    scored = [r for r in summary.rows if r.corrupted]
    names = list(scored[0].corrupted.by_corruption) if scored and scored[0].corrupted else []
    lines = [["rung", "as they are", "corrupted", *names]]
    for r in scored:
        if r.corrupted:
            lines.append([label(r), number(r.mean), number(r.corrupted.mean), *(number(r.corrupted.by_corruption[n]) for n in names)])
    return lines


def recipe_table(summary: Summary) -> Table:
    """The recipe's fields at both ends of the study, with the word "same" where they agree."""
    first, last = summary.recipes
    names = [r.name for r in summary.rows if not r.side and not r.placebo] or [r.name for r in summary.rows]
    if len(names) == 1:
        return [["field", names[0]], *([k.replace("_", "-"), _field(v)] for k, v in first.items())]
    lines = [["field", names[0], names[-1]]]
    return lines + [[k.replace("_", "-"), _field(v), "same" if v == last[k] else _field(last[k])] for k, v in first.items()]


def _field(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(_field(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "whole batch" if value is None else str(value) or "none"


def headline(summary: Summary) -> str:
    """One line that says what was studied."""
    data = f"{summary.data['name']} at {summary.data['input_size']} pixels"
    scale = f"scale {summary.scale}, " if summary.track else ""
    return f"{summary.title} on {data}: {scale}{summary.epochs} epochs, n = {summary.n}"


def print_table(summary: Summary, console: Console) -> None:
    """The main table and what must be known beside it; plain lines without a terminal or with NO_COLOR."""
    lines = results_table(summary)
    if not console.is_terminal or console.no_color:
        for text in [headline(summary), "", *plain(lines), "", *summary.footers]:
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable

    if console.width < 130:
        lines = select_columns(lines, percent(summary), "Mparams", "sd")
    if console.width < 100:
        lines = select_columns(lines, "paper", "its delta", "n")
    table = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in lines[0]:
        table.add_column(name, justify="left" if name in LEFT else "right", no_wrap=name != "verdict")
    for row, line in zip(summary.rows, lines[1:], strict=True):
        styled = [f"[{STYLES[row.word]}]{c}[/]" if h == "verdict" and row.word else _rich(c) for h, c in zip(lines[0], line, strict=True)]
        table.add_row(*styled, style="dim" if row.side else "")
    console.print(headline(summary), markup=False, highlight=False, style="bold")
    console.print(table)
    for footer in summary.footers:
        console.print(footer, markup=False, highlight=False, style="dim")


def _rich(cell: str) -> str:
    return cell.replace("[", r"\[")


def plain(lines: Table) -> list[str]:
    """The table as lines of aligned text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(c.ljust(w) if h in LEFT else c.rjust(w) for h, c, w in zip(lines[0], line, widths, strict=True)).rstrip()
        for line in lines
    ]


def markdown(lines: Table) -> str:
    """The table in GitHub's Markdown; numbers stand right."""
    rule = ["---" if name in (*LEFT, "field") else "---:" for name in lines[0]]
    rows = [[c.replace("|", r"\|") for c in line] for line in (lines[0], rule, *lines[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in rows) + "\n"


def to_csv(summary: Summary) -> str:
    """One line an arm, numbers unrounded, values of seeds joined by spaces (a missing one is a hyphen)."""
    records = [csv_record(r) for r in summary.rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def csv_record(row: Row) -> dict[str, object]:
    """A row's cells by column."""
    low, high = _ends(row.interval)
    delta, paper = row.delta, row.paper
    delta_low, delta_high = _ends(delta.interval if delta else None)
    all_low, all_high = _ends(delta.simultaneous if delta else None)
    return {
        "index": row.index,
        "name": row.name,
        "title": row.title,
        "parent": row.parent,
        "side": int(row.side),
        "choice": " ".join(f"{k}={v}" for k, v in row.choice.items()),
        "network": row.network,
        "fingerprint": row.fingerprint,
        "params": row.params,
        "macs": row.macs,
        "epochs": row.epochs,
        "n": row.n,
        "top1_mean": row.mean,
        "top1_sd": row.sd,
        "top1_low": low,
        "top1_high": high,
        "corrupted_mean": row.corrupted.mean if row.corrupted else None,
        "corrupted_sd": row.corrupted.sd if row.corrupted else None,
        "delta": delta.value if delta else None,
        "delta_low": delta_low,
        "delta_high": delta_high,
        "delta_simultaneous_low": all_low,
        "delta_simultaneous_high": all_high,
        "word": row.word,
        "verdict": row.verdict,
        "diverged": row.diverged,
        "missing": row.missing,
        "liveness": row.liveness,
        "same_as": row.same_as,
        "seeds": " ".join(str(r.seed) for r in row.replicates),
        "top1": " ".join("-" if r.top1 is None else repr(r.top1) for r in row.replicates),
        "paper_top1": paper.top1 if paper else None,
        "paper_sd": paper.sd if paper else None,
        "paper_delta": paper.delta if paper else None,
        "paper_gmacs": paper.gmacs if paper else None,
    }


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (interval.low, interval.high) if interval else (None, None)
