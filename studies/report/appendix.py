"""The appendix: everything that a reader needs to repeat a study, the values derived for each arm included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .derived import differing, field
from .summary import Summary
from .tables import Table, label

COMMAND = "vitnas sweep study.yaml"


def recipe_table(summary: Summary) -> Table:
    """The recipe's fields at both ends of a roadmap, with the word "same" where they agree; of other studies, the first arm's."""
    first, last = summary.recipes
    names = [r.name for r in summary.rows if not r.side and not r.placebo] or [r.name for r in summary.rows]
    if len(names) == 1 or summary.ablation:
        return [["field", names[0]], *([k.replace("_", "-"), field(v)] for k, v in first.items())]
    lines = [["field", names[0], names[-1]]]
    return lines + [[k.replace("_", "-"), field(v), "same" if v == last[k] else field(last[k])] for k, v in first.items()]


def derived_table(summary: Summary) -> Table:
    """The derived values in which the arms differ, a line an arm; only a header where there are none."""
    rows = [r.derived for r in summary.rows]
    names = differing(rows)
    lines = [["arm" if summary.ablation else "rung", *names]]
    return lines + [[label(r), *(r.derived.get(n, "") for n in names)] for r in summary.rows] if names else lines


def common_values(summary: Summary) -> dict[str, str]:
    """The derived values that all arms share."""
    rows = [r.derived for r in summary.rows]
    apart = set(differing(rows))
    return {name: value for name, value in rows[0].items() if name not in apart} if rows else {}


def facts(summary: Summary) -> dict[str, str]:
    """Data, split, seeds and command, by name."""
    data: Mapping[str, Any] = summary.data
    seeds = sorted({r.seed for row in summary.rows for r in row.replicates if not row.placebo})
    placebo = sorted({r.seed for row in summary.rows for r in row.replicates if row.placebo})
    out = {
        "data": f"{data['name']}, {data['classes']} classes, at {data['input_size']} pixels",
        "data fingerprint": str(data["fingerprint"]),
        "split": f"validation held out of train by split seed {data['split_seed']}; reported: {summary.split}",
        "part of train used": f"{100 * float(data['fraction']):g} %",
        "epochs": summary.epochs,
        "seeds": _ranges(seeds),
        "placebo's seeds": _ranges(placebo),
        "track and scale": f"{summary.track}, {summary.scale}" if summary.track else "",
        **{f"{kind} settings": settings for kind, settings in summary.declaration.items()},
        "command": f"`{COMMAND}` in the study's folder; trials that the store has are not run again",
    }
    return {k: v for k, v in out.items() if v}


def appendix_dict(summary: Summary) -> dict[str, Any]:
    """The appendix as plain data for report.json; the recipes and the arms' derived values stand there under `recipes` and `rows`."""
    return {"facts": facts(summary), "common": common_values(summary)}


def _ranges(seeds: list[int]) -> str:
    if not seeds:
        return ""
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds))
