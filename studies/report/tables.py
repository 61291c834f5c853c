"""A summary as text: the terminal's table, Markdown, LaTeX and CSV. All show the same cells."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

from ..statistics.means import Interval
from .summary import Row, Summary

Table = list[list[str]]  # the first line is the header

LEFT = (  # columns of words
    *("rung", "arm", "effect", "verdict", "note", "under", "with", "by rank", "aliases", "field", "step", "image"),
    *("network", "what it is", "dimension"),
)
DELTAS = ("word", "verdict", "parent", "paper_delta")  # columns of the CSV that an ablation's arms do not have, beside the deltas


def number(value: float | None, *, sign: bool = False) -> str:
    """Points or percent with two decimals; empty where there is none."""
    if value is None:
        return ""
    value = round(value, 2) + 0.0  # no -0.00
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def span(interval: Interval | None, *, sign: bool = False) -> str:
    """`[low, high]`, or nothing."""
    return "" if interval is None else f"[{number(interval.low, sign=sign)}, {number(interval.high, sign=sign)}]"


def milliseconds(value: float | None) -> str:
    """A latency with four digits that count; empty where there is none."""
    return "" if value is None else f"{value:#.4g}".rstrip(".")


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
    """The table of arms; columns that would be empty are left out. The deltas of a roadmap stand beside its rungs, but for the placebo's,
    which is of another kind; the effects of an ablation have tables of their own."""
    unit, unit_name = macs_unit(summary)
    alone = percent(summary)
    judged = ["delta", alone, f"simultaneous {alone}", "verdict"]
    sizes = ["Mparams", unit_name, "ms", f"ms, {alone}", "n", "diverged", "top-1", "sd", "corrupted"]
    lines = [["arm" if summary.ablation else "rung", *sizes, *judged, "paper", "its delta"]]
    for r in summary.rows:
        lines.append(
            [
                label(r),
                f"{r.params / 1e6:.2f}",
                f"{r.macs / unit:.2f}",
                milliseconds(r.ms),
                f"[{milliseconds(r.ms_interval.low)}, {milliseconds(r.ms_interval.high)}]" if r.ms_interval else "",
                str(r.n),
                _diverged(r, summary.rows),
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
    if summary.ablation:
        lines = select_columns(lines, "delta", alone, f"simultaneous {alone}", "verdict", "its delta")
        lines = [[*line, note] for line, note in zip(lines, ["note", *(r.note for r in summary.rows)], strict=True)]
    return without_empty(lines)


def _diverged(row: Row, rows: Sequence[Row]) -> str:
    return f"{row.diverged}/{row.n}" if any(r.diverged for r in rows) else ""


def without_empty(lines: Table) -> Table:
    """The table without the columns that hold nothing below their header."""
    keep = [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]
    return [[line[i] for i in keep] for line in lines]


def select_columns(lines: Table, *leave_out: str) -> Table:
    """The table without the named columns."""
    keep = [i for i, name in enumerate(lines[0]) if name not in leave_out]
    return [[line[i] for i in keep] for line in lines]


def seeds_table(summary: Summary) -> Table:
    """Top-1 (%) by rung and seed; the placebo's seeds, which are of a range of their own, stand from the left and are named beside it."""
    longest = max(len(row.replicates) for row in summary.rows)
    shared = next((row for row in summary.rows if len(row.replicates) == longest and not row.placebo), summary.rows[0])
    seeds = [r.seed for r in shared.replicates]
    lines = [["arm" if summary.ablation else "rung", *(f"seed {s}" for s in seeds)]]
    for row in summary.rows:
        cells = ["not run" if r.top1 is None else number(r.top1) + (" (diverged)" * (r.status == "diverged")) for r in row.replicates]
        own = f" (seeds {row.replicates[0].seed} to {row.replicates[-1].seed})" if row.placebo else ""
        lines.append([label(row) + own, *cells, *[""] * (len(seeds) - len(cells))])
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


def headline(summary: Summary) -> str:
    """One line that says what was studied."""
    data = f"{summary.data['name']} at {summary.data['input_size']} pixels"
    scale = f"scale {summary.scale}, " if summary.track else ""
    design = f", {summary.study.get('design', 'leave-one-out')}" if summary.study["kind"] == "ablate" else ""
    return f"{summary.title}{design} on {data}: {scale}{summary.epochs} epochs, n = {summary.n}"


def plain(lines: Table) -> list[str]:
    """The table as lines of aligned text."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(c.ljust(w) if h in LEFT else c.rjust(w) for h, c, w in zip(lines[0], line, widths, strict=True)).rstrip()
        for line in lines
    ]


def markdown(lines: Table) -> str:
    """The table in GitHub's Markdown; numbers stand right."""
    rule = ["---" if name in LEFT else "---:" for name in lines[0]]
    rows = [[c.replace("|", r"\|") for c in line] for line in (lines[0], rule, *lines[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in rows) + "\n"


def to_csv(summary: Summary) -> str:
    """One line an arm, numbers unrounded, values of seeds joined by spaces (a missing one is a hyphen)."""
    records = [csv_record(r) for r in summary.rows]
    if summary.ablation:
        records = [{k: v for k, v in r.items() if not k.startswith("delta") and k not in DELTAS} for r in records]
    return csv_text(records)


def csv_text(records: Sequence[Mapping[str, object]]) -> str:
    """Records of the same keys as CSV with a header."""
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def csv_record(row: Row) -> dict[str, object]:
    """A row's cells by column."""
    low, high = ends(row.interval)
    delta, paper = row.delta, row.paper
    delta_low, delta_high = ends(delta.interval if delta else None)
    all_low, all_high = ends(delta.simultaneous if delta else None)
    return {
        "index": row.index,
        "name": row.name,
        "title": row.title,
        "parent": row.parent,
        "side": int(row.side),
        "context": row.context,
        "placebo": int(row.placebo),
        "choice": " ".join(f"{k}={v}" for k, v in row.choice.items()),
        "network": row.network,
        "fingerprint": row.fingerprint,
        "params": row.params,
        "macs": row.macs,
        "ms": row.ms,
        "ms_low": row.ms_interval.low if row.ms_interval else None,
        "ms_high": row.ms_interval.high if row.ms_interval else None,
        "ms_p99": row.ms_p99,
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


def ends(interval: Interval | None) -> tuple[float | None, float | None]:
    """Both ends, or twice None."""
    return (interval.low, interval.high) if interval else (None, None)
