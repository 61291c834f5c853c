"""The log of a trial: what it is, what befell it, its curve, and what went wrong."""

from __future__ import annotations

from .library import plans
from .store import Store, StoreError, current, read_json
from .trial import ERRORS

SHORTEST = 4  # characters that a trial may be named by


def find_trial(store: Store, name: str) -> str:
    """The trial whose id begins with `name`; StoreError where there is none, or several."""
    ids = {t for plan in plans(store) for arm in plan.arms for t in arm.trials} | {p.name for p in store.trials.glob(f"{name}*")}
    found = sorted(t for t in ids if t.startswith(name)) if len(name) >= SHORTEST else []
    if len(found) != 1:
        what = f"{name!r} is the beginning of several trials: {', '.join(found[:5])}" if found else f"no trial {name!r} in {store.address}"
        raise StoreError(f"{what}; `vitnas status --json` and the report give their ids")
    return found[0]


def trial_log(store: Store, trial_id: str) -> list[str]:
    """Its lines, oldest first."""
    store.refresh([trial_id])
    trial, result, folder = store.trial(trial_id), store.result(trial_id), store.trial_folder(trial_id)
    name = trial.network.name or trial.network.fingerprint
    out = [f"trial {trial_id}: {name}, seed {trial.seed}, {trial.epochs} epochs of {trial.data.name}"]
    out += list(result.events if result else read_json(current(folder / "events.json")) or [])
    for record in store.curve(trial_id):
        loss = "no number" if record["loss"] is None else f"{record['loss']:.4f}"
        top1 = "" if record["top1"] is None else f", validation top-1 {record['top1']:.2f} %"
        out.append(f"epoch {record['epoch']}: loss {loss}{top1}, {record['seconds']:.1f} s")
    if result:
        scores = "".join(f", {name} top-1 {score.top1:.2f} %" for name, score in result.scores.items())
        out.append(f"{result.status} on {result.execution.host}, {result.finished}{scores}")
    elif holder := store.holder(trial_id):
        out.append(f"being run by {holder}")
    path = current(folder / ERRORS)
    return [*out, *(path.read_text().rstrip().splitlines() if path.exists() else [])]
