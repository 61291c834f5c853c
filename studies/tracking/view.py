"""The page on which MLflow opens a study: all arms in order, the columns that matter, the charts drawn, the report above. And its link.

MLflow's page reads such a view from an experiment tag, `mlflow.sharedViewState.<key>`, which its address names as `viewStateShareKey`.
It does so only where the address holds no search or order of its own. Names of fields are the page's (MLflow 3.17).
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Collection
from typing import Any

VIEW_KEY = "vitnas"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
VIEW_NAME = "All arms in order"
ARMS = "tags.`vitnas.kind` = 'arm'"
COLUMNS = (
    "metrics.`top1`",
    "metrics.`top1_sd`",
    "metrics.`n`",
    "metrics.`delta`",
    "metrics.`delta_low`",
    "metrics.`delta_high`",
    "tags.`vitnas.verdict`",
    "metrics.`gmacs`",
    "metrics.`mparams`",
)
ORDER = ("attributes.`Run Name`", *COLUMNS, "runDateAndNestInfo", "duration")  # the last two: when it ran, and how long
BARS = ("top1", "delta", "mmacs", "mparams")
NOT_DRAWN = ("gmacs", "top1_sd", "top1_low", "top1_high", "n", "delta_low", "delta_high", "diverged")
SECTION = "vitnas-arms"
LONGEST_NOTE = 5000  # characters of an experiment's description that any MLflow 3 takes


def view_state(*, deltas: bool = True, latency: bool = False) -> str:
    """The value of the tag: search and order, columns of the table, charts. Without `deltas` for studies whose arms have none, since
    their effects are not those of each arm against another; with `latency` for those that measure it.

    Since it got saved views, the page lists those that have a name and keep their fields packed in `state`; older ones read plain fields.
    The value is both at once, and short enough for the 5,000 characters that older servers take.
    """
    plain = _fields(deltas, latency)
    packed = base64.b64encode(zlib.compress(_json(plain).encode(), 9)).decode()
    return _json({"name": VIEW_NAME, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"} | plain)


def view_link(experiment_id: str) -> str:
    """The part of the view's address after the server's: the page, its prepared view, charts beside the list."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW_KEY}&compareRunsMode=CHART&workflowType=machine_learning"


def note(report: str, run_id: str, files: Collection[str] = (), longest: int = LONGEST_NOTE) -> str:
    """The report as an experiment's description: pictures from where the server has them, as .svg where `files` has one (which the
    page draws at a size that fits), and cut at a line where it is longer than MLflow takes."""

    def picture(found: re.Match[str]) -> str:
        svg = f"{found[2].removesuffix('.png')}.svg"
        return f"![{found[1]}](get-artifact?path={svg if svg in files else found[2]}&run_uuid={run_id})"

    text = re.sub(r"!\[([^]]*)\]\(([\w.-]+)\)", picture, report)
    if len(text) <= longest:
        return text
    end = "\n\nThe whole report is among the artifacts of the run *study*.\n"
    return text[: text.rindex("\n", 0, longest - len(end))] + end


def _fields(deltas: bool, latency: bool) -> dict[str, Any]:
    bars = [_card("BAR", key, metricKey=key) for key in BARS if deltas or key != "delta"]
    columns = [c for c in COLUMNS if deltas or ("delta" not in c and "verdict" not in c)]
    cost, not_drawn = "gmacs", list(NOT_DRAWN)
    if latency:
        cost = "latency_ms"
        not_drawn += [f"{cost}_{end}" for end in ("low", "high", "p99")]
        bars.append(_card("BAR", cost, metricKey=cost))
        columns.append(f"metrics.`{cost}`")
    axes = {"xaxis": {"key": cost, "type": "METRIC"}, "yaxis": {"key": "top1", "type": "METRIC"}}
    hidden = [_card("BAR", key, metricKey=key, deleted=True) for key in not_drawn]  # else the page adds a chart for each
    return {
        "searchFilter": ARMS,
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [*(c for c in ORDER[:-2] if c in columns or c not in COLUMNS), *columns[len(columns) - latency :], *ORDER[-2:]],
        "columnWidths": {"tags.`vitnas.verdict`": 170},
        "runsHiddenMode": "SHOW_ALL",
        "compareRunCharts": [*bars[:-2], _card("SCATTER", f"top1-{cost}", **axes), *bars[-2:], *hidden],
        "compareRunSections": [{"uuid": SECTION, "name": "Arms", "display": True, "isReordered": True, "columns": 2, "cardHeight": 440}],
        "isAccordionReordered": True,
    }


def _card(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": f"vitnas-{name}", "metricSectionId": SECTION, "runsCountToCompare": 1000} | fields


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
