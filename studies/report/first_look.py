"""The first look: which recipe a study had when its results were first held against the paper's values.

A recipe that is changed after such a look was chosen with the answer in sight. So the first verification writes down recipe, data and
code, and every later one says what has changed since.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ... import __version__
from ..plan import Plan
from ..store import Store, StoreError, read_json, write_json
from ..trial import SEMANTICS

RECORD = "verify.json"


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """When the paper's values were first looked at (UTC), with which version, what of this study has `changed` since then, and which
    `others` on the same data had been compared before with another recipe; both as sentences."""

    time: str
    version: str
    changed: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


def first_look(store: Store, plan: Plan) -> FirstLook:
    """The record of the study's first look, written now where there is none; StoreError where it is damaged."""
    path = store.studies / plan.study.folder_name / RECORD
    now = _record(plan)
    record = _sound(read_json(path))
    if record is None:
        if path.exists():
            raise StoreError(f"{path} is damaged, and it tells when the paper was first looked at: restore it, or move it away")
        record = now
        write_json(path, record)
    return FirstLook(
        time=record["time"],
        version=record["version"],
        changed=_differences(record, now),
        others=tuple(_others(store, plan, record)),
    )


def _sound(record: Any) -> dict[str, Any] | None:
    """The record, or None where it is not one."""
    wanted = {"time": str, "version": str, "semantics": int, "track": str, "scale": str, "data": dict, "recipe": str, "arms": dict}
    whole = isinstance(record, dict) and all(isinstance(record.get(k), kind) for k, kind in wanted.items())
    return record if whole and "fingerprint" in record["data"] else None


def _record(plan: Plan) -> dict[str, Any]:
    arms = {a.name: a.recipe.to_dict() | {"epochs": a.epochs} for a in plan.arms if a.same_as is None}
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "semantics": SEMANTICS,
        "track": plan.study.track,
        "scale": plan.study.scale,
        "data": dict(plan.data),
        "recipe": plan.study.recipe,
        "arms": arms,
    }


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the recipe, the data and the code is not as it was."""
    out = [f"{what} {value}" for what, value in _recipe_changes(then["arms"], now["arms"])]
    out += [f"data {k.replace('_', ' ')} {then['data'].get(k)} -> {v}" for k, v in now["data"].items() if then["data"].get(k) != v]
    if then["scale"] != now["scale"]:
        out.append(f"scale {then['scale']} -> {now['scale']}")
    if (then["version"], then["semantics"]) != (now["version"], now["semantics"]):
        out.append(f"code {then['version']} (semantics {then['semantics']}) -> {now['version']} (semantics {now['semantics']})")
    return tuple(out)


def _recipe_changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(field, "before -> after (number of arms)") over the arms that both have."""
    found = Counter(
        (field.replace("_", "-"), f"{recipe.get(field)} -> {now[name].get(field)}")
        for name, recipe in then.items()
        if name in now
        for field in sorted({*recipe, *now[name]})
        if recipe.get(field) != now[name].get(field)
    )
    return [(field, f"{value} ({count} arm{'' if count == 1 else 's'})") for (field, value), count in found.items()]


def _others(store: Store, plan: Plan, record: Mapping[str, Any]) -> list[str]:
    """Studies of the same track and data that were compared with the paper before this one, with another recipe."""
    out = []
    for path in sorted(store.studies.glob(f"*/{RECORD}")):
        other = _sound(read_json(path))
        if path.parent.name == plan.study.folder_name or other is None:
            continue
        alike = all(other[k] == record[k] for k in ("track", "scale")) and other["data"]["fingerprint"] == record["data"]["fingerprint"]
        changes = _recipe_changes(other["arms"], record["arms"])
        if alike and changes and other["time"] <= record["time"]:
            fields = ", ".join(dict.fromkeys(field for field, _ in changes))
            out.append(f"{path.parent.name} was compared with the paper on {other['time'][:10]}, with another recipe ({fields})")
    return out
