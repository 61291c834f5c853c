"""Finding studies in a store, and where they stand."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .plan import Plan
from .robustness import CORRUPTIONS, Robustness
from .store import Store, StoreError, read_json
from .trial import TrialResult

SEARCH_LOG = "search.jsonl"  # in a search's folder: its log, which is there before anything is trained
SEARCH_RECORD = "search.json"  # there too: where the search stands
FEW = 8  # studies that are named where none is meant
ERRORS = "errors.json"  # in a study's folder: why trials failed when it was last run


class NoStudy(StoreError):
    """There is no study of that name."""


def find_study(store: Store, name: str = "") -> Path:
    """Folder of the study called `name` (or beginning with it); the latest where no name is given. StoreError names the nearest, and where
    it is a search that has trained nothing."""
    made = {f: path.stat().st_mtime for f in store.studies.iterdir() if (path := _sign(f)).exists()}
    if not made:
        raise NoStudy(f"no studies in {store.address}: run one first, such as `vitnas roadmap`")
    found = _named(store, [*made], name) if name else max(made, key=lambda f: made[f])
    if not (found / "plan.json").exists():
        raise StoreError(f"the search {found.name} has trained nothing yet: run its command again, which says why")
    return found


def _sign(folder: Path) -> Path:
    """The file by which a folder is that of a study; it need not exist."""
    plan = folder / "plan.json"
    return plan if plan.exists() else folder / SEARCH_LOG


def _named(store: Store, folders: Sequence[Path], name: str) -> Path:
    begins = [f for f in folders if f.name.startswith(name)]
    found = [f for f in folders if f.name == name] or [f for f in begins if not f.name.endswith("-tuning")] or begins
    if len(found) == 1:
        return found[0]
    names = sorted(f.name for f in found or folders)
    if found:
        raise StoreError(f"{name!r} is the beginning of several studies: {', '.join(names)}")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    others = f" and {len(names) - FEW} more" * (len(names) > FEW)
    raise NoStudy(f"no study {name!r} in {store.address}; there are {', '.join(near) if near else ', '.join(names[:FEW]) + others}")


def open_plan(store: Store, name: str) -> Plan:
    """The study's plan, as it was last run."""
    data = read_json(store.studies / name / "plan.json")
    try:
        return Plan.from_dict(data)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise StoreError(f"the study {name} has no readable plan: run its command again") from None


def known_plan(store: Store, name: str) -> Plan | None:
    """The study's plan as it was last run, or None where there is none that can be read."""
    if not (store.studies / name / "plan.json").exists():
        return None
    try:
        return open_plan(store, name)
    except StoreError:
        return None


def plans(store: Store) -> list[Plan]:
    """The plans of all studies that can be read."""
    folders = sorted(store.studies.iterdir()) if store.studies.is_dir() else []
    return [plan for f in folders if (plan := known_plan(store, f.name))]


def results(store: Store, plan: Plan) -> dict[str, TrialResult]:
    """What the store knows of the plan's trials, by their ids."""
    return store.results(t for arm in plan.arms for t in arm.trials)


def robustness(store: Store, plan: Plan) -> dict[str, Robustness]:
    """Scores on corrupted images so far, by trial; none where the study does not ask for them."""
    if plan.study.eval != CORRUPTIONS:
        return {}
    return {t: found for arm in plan.arms for t in arm.trials if (found := store.corruptions(t))}


def standing(store: Store, name: str) -> list[dict[str, Any]]:
    """One row a trial: arm, seed, state (done, diverged, running, partial, failed, waiting), epoch, top-1 (%), where it runs or ran, and
    why it failed."""
    rows, plan = [], open_plan(store, name)
    errors = read_json(store.studies / name / ERRORS) or {}
    known = results(store, plan)
    for arm in plan.arms:
        for seed, trial in zip(arm.seeds, arm.trials, strict=True):
            result, curve, holder = known.get(trial), store.curve(trial), store.holder(trial)
            if result:
                state = "done" if result.status == "complete" else "diverged"
                score = result.scores.get("test") or result.scores.get("validation")
                top1 = round(score.top1, 2) if score else ""
            else:
                state = "running" if holder else "failed" if trial in errors else "partial" if curve else "waiting"
                top1 = round(curve[-1]["top1"], 2) if curve and curve[-1]["top1"] is not None else ""
            where = holder or (result.execution.host if result else "")
            epoch = f"{curve[-1]['epoch'] if curve else 0}/{arm.epochs}"
            why = errors[trial] if state == "failed" else ""
            row = {"arm": arm.name, "seed": seed, "trial": trial, "state": state, "epoch": epoch, "top1": top1, "where": where}
            rows.append(row | {"why": why})
    return rows


def goes_on(store: Store, name: str) -> bool:
    """Whether the study is a search that has not come to its end: what it trains is known only when it is proposed."""
    folder = store.studies / name
    if not (folder / SEARCH_LOG).exists():
        return False
    return not (read_json(folder / SEARCH_RECORD) or {}).get("over", False)


def time_left(store: Store, name: str) -> tuple[float, int] | None:
    """Seconds until the study is trained, at the pace of the epochs so far and with as many trials at once as run now (one, where none
    does), and how many run; None where no epoch was trained yet."""
    plan = open_plan(store, name)
    known = results(store, plan)
    arms = {t: arm for arm in plan.arms for t in arm.trials}
    curves = {t: store.curve(t) for t in arms}
    work = sum(len(curve) * arms[t].macs for t, curve in curves.items())
    if not work:
        return None
    pace = sum(r["seconds"] for curve in curves.values() for r in curve) / work  # an epoch takes about as long as its multiply-adds say
    left = [(arms[t].epochs - len(curve)) * arms[t].macs * pace for t, curve in curves.items() if t not in known]
    running = sum(bool(store.holder(t)) for t in arms if t not in known)
    return max([sum(left) / max(1, running), *left]) if left else 0.0, running
