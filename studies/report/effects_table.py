"""The effects as text: one table for each kind, since effects of different kinds are different questions; and as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from ..effect import AT_BEST, Estimand
from ..statistics.means import Interval
from .effects import EffectRow, in_order, question
from .summary import Summary
from .tables import Table, csv_text, ends, number, percent, span, without_empty

LATENCY = "latency, %"


def effects_tables(summary: Summary, *, leave_out: Sequence[Estimand] = ()) -> list[tuple[str, list[EffectRow], Table]]:
    """(heading, effects, their table) for each estimand of the study, interactions apart; columns that would be empty are left out."""
    out = []
    for estimand, members in in_order(summary.effects):
        for order in (1, 2):
            found = [e for e in members if e.order == order and estimand not in leave_out]
            if found:
                out.append((question(estimand, order), found, without_empty(_table(summary, found))))
    return out


def _table(summary: Summary, members: Sequence[EffectRow]) -> Table:
    alone = percent(summary)
    diverged = any(e.diverged for e in summary.effects)
    intervals = [alone, f"simultaneous {alone}", f"new images too {alone}"]
    further = ["by rank", "logit", f"logit, simultaneous {alone}", LATENCY, f"{LATENCY} {alone}", "paper", "aliases"]
    lines = [["effect", "under", "with", "n", "diverged", "points", *intervals, "p", "adjusted p", "verdict", *further]]
    for e in members:
        lines.append(
            [
                e.name,
                e.context or ("the shared setting" if any(AT_BEST in other.context for other in members) else ""),
                ", ".join(e.along),
                "" if e.same_network else str(e.n),
                f"{e.diverged}/{e.trials}" if diverged and not e.same_network else "",
                number(e.value, sign=True),
                span(e.interval, sign=True),
                span(e.simultaneous, sign=True),
                span(e.images, sign=True),
                p_value(e.p),
                p_value(e.p_adjusted),
                e.verdict,
                e.rank or "" if diverged else "",
                number(e.logit, sign=True),
                span(e.logit_interval, sign=True),
                change(e.latency),
                f"[{change(e.latency_interval.low)}, {change(e.latency_interval.high)}]" if e.latency_interval else "",
                number(e.paper, sign=True) if e.estimand == "in the paper's order" else "",
                "; ".join(e.aliases),
            ]
        )
    return lines


def change(percent: float | None) -> str:
    """A change in latency (%) with one decimal; empty where there is none."""
    return "" if percent is None else f"{round(percent, 1) + 0.0:+.1f}"


def p_value(p: float | None) -> str:
    """A p-value with two digits, small ones as a bound."""
    if p is None:
        return ""
    return "<0.0002" if p < 2e-4 else f"{p:.2g}" if p < 0.995 else "1"


def effect_notes(summary: Summary) -> list[str]:
    """One line for each effect of which something more must be said, such as what comes or goes with it."""
    out = []
    for e in summary.effects:
        along = f"with {', '.join(e.along)}" if e.along else ""
        alive = f"{e.liveness_note}" if e.liveness != "live" else ""
        said = "; ".join(part for part in (e.note or along, alive) if part)
        if said:
            out.append(f"{e.label}: {said}")
    return list(dict.fromkeys(out))


def placebo_note(summary: Summary) -> str:
    """A sentence on the placebo for figures that have no row for it; nothing where the study has none."""
    found = next((e for e in summary.effects if e.placebo and e.value is not None), None)
    if found is None:
        return ""
    around = f" {span(found.simultaneous, sign=True)}" if found.simultaneous else ""
    return f" Placebo: {number(found.value, sign=True)} points{around}, {found.verdict}."


def effects_csv(summary: Summary) -> str:
    """One line an effect, numbers unrounded: only lines of one `estimand` may be compared. `arms` are names with weights."""
    return csv_text([_record(e) for _, members in in_order(summary.effects) for e in members])


def _record(e: EffectRow) -> dict[str, object]:
    record: dict[str, object] = {
        "estimand": e.estimand,
        "name": e.name,
        "title": e.title,
        "order": e.order,
        "context": e.context,
        "along": " ".join(e.along),
        "aliases": "; ".join(e.aliases),
        "value": e.value,
        "se": e.se,
        "df": e.df,
    }
    intervals: dict[str, Interval | None] = {"alone": e.interval, "simultaneous": e.simultaneous, "images": e.images}
    for name, interval in intervals.items():
        record[f"{name}_low"], record[f"{name}_high"] = ends(interval)
    record |= {"p": e.p, "p_adjusted": e.p_adjusted, "word": e.word, "verdict": e.verdict, "rank_word": e.rank, "logit": e.logit}
    record["logit_low"], record["logit_high"] = ends(e.logit_interval)
    return record | {
        "orders_se": e.orders_se,
        "paper_delta": e.paper,
        "latency_change": e.latency,
        "latency_change_low": e.latency_interval.low if e.latency_interval else None,
        "latency_change_high": e.latency_interval.high if e.latency_interval else None,
        "n": e.n,
        "trials": e.trials,
        "diverged": e.diverged,
        "liveness": e.liveness,
        "same_network": int(e.same_network),
        "note": e.note,
        "arms": "; ".join(f"{weight:+.6g} {name}" for name, weight in e.arms),
    }
