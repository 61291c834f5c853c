"""What a search adds to MLflow's runs: of its networks the levels, costs and who is on the front, of itself its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..objectives import objective

METRICS = {"latency": "latency_ms", "latency-p99": "latency_ms_p99", "memory": "memory_mb", "energy": "energy_mj"}


@dataclass(frozen=True, kw_only=True)
class Network:
    """What the runs of one network have besides those of other studies."""

    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def networks(record: Mapping[str, Any]) -> dict[str, Network]:
    """By name, from a search's record (search.json): of a point the params `space.<dimension>`; measured costs with their intervals."""
    final = {f["name"]: f for f in record["final"]}
    out = {name: Network(metrics=_metrics(f["costs"]), tags={"vitnas.published": "yes"}) for name, f in final.items() if f["published"]}
    for c in record["candidates"]:
        tags = {"vitnas.proposed_by": c["by"], "vitnas.front": "yes" if c["front"] else "no"}
        tags |= {"vitnas.finalist": "winner" if final[c["name"]]["winner"] else "yes"} if c["name"] in final else {}
        params = {f"space.{name.replace('@', '.')}": level for name, level in c["point"].items()}
        out[c["name"]] = Network(params=params, metrics=_metrics(c["costs"]), tags=tags)
    return out


def totals(record: Mapping[str, Any]) -> dict[str, float]:
    """Numbers of the search itself."""
    front = sum(c["front"] for c in record["candidates"])
    winner = next((f["top1"] for f in record["final"] if f["winner"] and f["top1"] is not None), None)
    told = {
        "trained": record["trained"],
        "known": record["known"],
        "front": front,
        "epochs_trained": record["epochs"],
        "hypervolume": record["hypervolume_now"],
    }
    return {k: float(v) for k, v in told.items()} | ({} if winner is None else {"winner_test_top1": winner})


def _metrics(costs: Mapping[str, Any]) -> dict[str, float]:
    out = {}
    for name, cost in costs.items():
        if name in METRICS and cost and cost["how"] == "measured":
            scale = objective(name).scale
            out[METRICS[name]] = cost["value"] / scale
            if cost["high"] > cost["low"]:
                out |= {f"{METRICS[name]}_{end}": cost[end] / scale for end in ("low", "high")}
    return {k: float(f"{v:.6g}") for k, v in out.items()}
