"""Frozen plans: what a study set out to show, written down by hash before it runs, and how far what was run departs from it.

A study whose hypotheses, margin, seeds and analysis were chosen before the data can be believed without looking over its shoulder.
The hash can be published beforehand; the report prints *as planned* with it, or the deviations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..roadmap.spec import canonical_json
from .plan import Plan
from .store import Store, read_json, write_json
from .study import EXECUTION, GROWS, StudyError
from .trial import SEMANTICS

FILE = "frozen.json"
ANALYSIS = "linear mixed model, seed as block, variances moderated over arms; simultaneous intervals by the maximum modulus"
ANALYSIS_VERSION = 1
SHOWN = 12  # digits of the hash in a sentence


class FrozenError(StudyError):
    """A frozen plan that cannot be kept; the message names the file and the next move."""


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A plan as it was frozen. `hash` is the SHA-256 of the canonical JSON of `content`; `time` (UTC), and how many of its `trials` were
    `known` then, stand beside it."""

    hash: str
    content: Mapping[str, Any]
    time: str
    known: int
    trials: int


def freeze(store: Store, plan: Plan, margin: float) -> Frozen:
    """Write `plan` down in the study's folder as frozen.json, and give what stands there.

    Freezing the same plan again changes nothing. FrozenError where another plan is frozen there: that is never overwritten.
    """
    name = plan.study.folder_name
    content = _content(plan, margin)
    digest = _hash(content)
    earlier = frozen(store, name)
    if earlier is not None:
        if earlier.hash != digest:
            path = store.studies / name / FILE
            raise FrozenError(f"{path} holds another plan ({earlier.hash[:SHOWN]}): run that one, or give this one a --name of its own")
        return earlier
    ids = {t for arm in plan.arms for t in arm.trials}
    record = Frozen(
        hash=digest,
        content=content,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        known=sum(store.result(t) is not None for t in ids),
        trials=len(ids),
    )
    write_json(store.studies / name / FILE, vars(record))
    return record


def frozen(store: Store, name: str) -> Frozen | None:
    """The frozen plan of study `name`, or None; FrozenError where it was edited or is damaged."""
    path = store.studies / name / FILE
    if not path.exists():
        return None
    return _read(path)


def deviations(record: Frozen, plan: Plan) -> tuple[str, ...]:
    """In what `plan` departs from the frozen one, each as a few words; empty where it is as planned.

    Seeds added by --until-decided, up to the frozen --max-seeds, are as planned; so are arms at their best settings under --tune.
    """
    then, now = record.content, _content(plan, plan.study.margin)
    return (
        *_arms(then, now),
        *_seeds(then, now),
        *_values(then, now),
        *_hypotheses(then["hypotheses"], now["hypotheses"], tuned="tune" in then["study"]),
    )


def planned_line(store: Store, name: str, plan: Plan) -> str:
    """The sentence for a report: as planned, or how not; empty where nothing was frozen."""
    try:
        record = frozen(store, name)
    except FrozenError as error:
        return f"Not known to be as planned: {error}."
    if record is None:
        return ""
    when = f"frozen as {record.hash[:SHOWN]} on {record.time[:10]}, "
    when += (
        f"when {record.known} of {record.trials} trials had run already" if record.known else f"before any of {record.trials} trials ran"
    )
    found = deviations(record, plan)
    return f"Not as planned ({when}): {'; '.join(found)}." if found else f"As planned ({when})."


def _content(plan: Plan, margin: float) -> dict[str, Any]:
    """What is frozen, as JSON has it."""
    study = plan.study.to_dict()
    data = {k: v for k, v in plan.data.items() if k != "duplicates"}
    content = {
        "study": {k: v for k, v in study.items() if k not in (*EXECUTION, *GROWS, "name")},
        "design": plan.study.design if plan.study.kind == "ablate" else plan.study.kind,
        "hypotheses": [
            {"name": e.name, "estimand": e.estimand, "order": e.order, "context": e.context, "direction": "none"} for e in plan.effects
        ],
        "margin": margin,
        "stops": {"until-decided": plan.study.until_decided, "max-seeds": plan.study.max_seeds if plan.study.until_decided else None},
        "analysis": {"name": ANALYSIS, "version": ANALYSIS_VERSION},
        "semantics": SEMANTICS,
        "data": data,
        "arms": {
            a.name: {
                "network": a.fingerprint,
                "recipe": _hash(a.recipe.to_dict())[:16],
                "epochs": a.epochs,
                "fraction": a.fraction,
                "seeds": len(a.seeds),
                "tuned": bool(a.setting),
            }
            for a in plan.arms
        },
    }
    plain: dict[str, Any] = json.loads(canonical_json(content))
    return plain


def _hash(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _read(path: Path) -> Frozen:
    data = read_json(path)
    try:
        record = Frozen(**data)
        intact = record.hash == _hash(record.content)
    except (TypeError, ValueError):
        intact = False
    if not intact:
        raise FrozenError(f"{path} was edited or is damaged, its hash does not fit: restore it, or move it away and freeze again")
    return record


def _arms(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    old, new = then["arms"], now["arms"]
    tuned = {name for name, arm in new.items() if arm["tuned"]} if "tune" in then["study"] else set()
    out = [*_listed("dropped", "arm", old.keys() - new.keys(), old), *_listed("added", "arm", new.keys() - old.keys() - tuned, new)]
    common = [name for name in old if name in new]
    for key, what in (
        ("network", "another network"),
        ("recipe", "another recipe"),
        ("epochs", "other epochs"),
        ("fraction", "another data fraction"),
    ):
        out += _listed(f"{what} in", "arm", {name for name in common if old[name][key] != new[name][key]}, old)
    return out


def _seeds(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    stop = then["stops"]["max-seeds"] or 0
    by_change: dict[tuple[int, int], int] = {}
    common = [name for name in then["arms"] if name in now["arms"]]
    for name in common:
        old, new = then["arms"][name]["seeds"], now["arms"][name]["seeds"]
        if not old <= new <= max(old, stop):
            by_change[old, new] = by_change.get((old, new), 0) + 1
    out = []
    for (old, new), count in by_change.items():
        where = "" if count == len(common) else f" in {count} of {len(common)} arms"
        out.append(
            f"{abs(new - old)} seed{'' if abs(new - old) == 1 else 's'} {'added' if new > old else 'dropped'} ({new}, planned {old}){where}"
        )
    return out


def _values(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has one value for the whole study: margin, stopping, analysis, data, and the study's own options."""
    out = []
    if then["margin"] != now["margin"]:
        out.append(f"margin {now['margin']:g}, planned {then['margin']:g}")
    if then["stops"] != now["stops"]:
        out.append(f"{_stopping(now['stops'])}, planned {_stopping(then['stops'])}")
    if then["analysis"] != now["analysis"]:
        out.append(f"analysis of version {now['analysis']['version']}, planned {then['analysis']['version']}")
    if then["semantics"] != now["semantics"]:
        out.append(f"training of semantics {now['semantics']}, planned {then['semantics']}")
    out += _changed(then["data"], now["data"], "data ")
    return out + _changed(then["study"], now["study"], "")


def _stopping(stops: Mapping[str, Any]) -> str:
    return f"until decided, to {stops['max-seeds']} seeds at most" if stops["until-decided"] else "a fixed number of seeds"


def _changed(then: Mapping[str, Any], now: Mapping[str, Any], what: str) -> list[str]:
    keys = [*then, *(k for k in now if k not in then)]
    return [
        f"{what}{k.replace('_', '-')} {now.get(k, 'at its default')}, planned {then.get(k, 'at its default')}"
        for k in keys
        if then.get(k) != now.get(k)
    ]


def _hypotheses(then: list[dict[str, Any]], now: list[dict[str, Any]], *, tuned: bool) -> list[str]:
    def named(rows: list[dict[str, Any]]) -> dict[str, None]:
        return {f"{r['name']} {r['estimand']}" + (f" ({r['context']})" if r["context"] else ""): None for r in rows}

    old, new = named(then), named(now)
    out = _listed("dropped", "hypothesis", old.keys() - new.keys(), old)
    return out if tuned else out + _listed("added", "hypothesis", new.keys() - old.keys(), new)


def _listed(what: str, one: str, names: Iterable[str], order: Collection[str]) -> list[str]:
    """`dropped arms a, b`, in the given order; nothing where there are none."""
    wanted = set(names)
    found = [name for name in order if name in wanted]
    many = {"arm": "arms", "hypothesis": "hypotheses"}[one]
    if len(found) > 1 and len(found) == len(order):
        return [f"{what} all {len(found)} {many}"]
    return [f"{what} {one if len(found) == 1 else many} {', '.join(found)}"] if found else []
