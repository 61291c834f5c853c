"""A search in Optuna's own terms, for those who use its tools: a study in a storage of theirs, and the importance of dimensions.

Both are views. A mirror can be written anew from the search's log at any time and nothing is ever read back from it.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ..addresses import public_uri
from .optuna_samplers import Entry, Point, Space, directions, distribution, internal

STATES = {"asked": TrialState.RUNNING, "told": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "failed": TrialState.FAIL}
KEY, CANDIDATE = "vitnas", "candidate"  # user attributes of the study and of its trials


class StorageError(ValueError):
    """A storage that cannot be used, or one whose study is of another search."""


class StorageDown(StorageError):
    """A storage that cannot be opened."""


def importance(space: Space, results: Mapping[Point, float], *, seed: int = 0) -> dict[str, float]:
    """The share of the results' variance that each dimension explains by itself (Optuna's fANOVA), the largest first; they add up to 1,
    or are all 0 where the results are alike. ValueError for fewer than two.

    Dimensions that do not apply to a point stand at their first or middle level, so a conditional one is judged over all points.
    """
    if len(results) < 2:
        raise ValueError(f"importance takes two results or more, not {len(results)}: wait for another training")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    distributions = _distributions(space)
    study.add_trials([create_trial(params=_params(space, p), distributions=distributions, values=[value]) for p, value in results.items()])
    found = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=seed), params=list(distributions)
    )
    return {name: float(share) for name, share in found.items()}


class Mirror:
    """A study called `name` in an Optuna storage, such as sqlite:///search.db. `objectives`: name, and whether more of it is better.

    StorageError where the storage cannot be opened, and where a study of that name has other objectives or another space.
    """

    def __init__(self, url: str, name: str, space: Space, objectives: Mapping[str, bool]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space, self._distributions = space, _distributions(space)
        self._study = _study(url, name, list(objectives), directions(objectives))
        digest = _digest(self._distributions)
        if self._study.user_attrs.setdefault(KEY, digest) != digest:
            raise StorageError(
                f"optuna-storage: study {name} in {public_uri(url)} is of another space: give the search another --name, or another storage"
            )
        self._study.set_user_attr(KEY, digest)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(list(objectives))
        self._trials: dict[str, FrozenTrial] = {t.user_attrs[CANDIDATE]: t for t in self._study.get_trials() if CANDIDATE in t.user_attrs}

    def write(self, log: Sequence[Entry]) -> None:
        """Bring the study to where the log of a search is; what it has already stays. Repeats are no trials."""
        last = {self._space.candidate(e.point).id: e for e in log if e.kind != "repeat"}
        for candidate, entry in last.items():
            self._write(candidate, entry)

    def _write(self, candidate: str, entry: Entry) -> None:
        state, kept = STATES[entry.kind], self._trials.get(candidate)
        values = list(entry.values) if entry.kind == "told" and entry.values else None
        if kept is not None and state.is_finished() and not kept.state.is_finished():
            self._trials[candidate] = self._study.tell(kept.number, values, state=state)
        elif kept is None or state not in (kept.state, TrialState.RUNNING):  # one that was stopped and went on is a second trial
            trial = create_trial(
                state=state,
                values=values,
                params=_params(self._space, entry.point, whole=False),
                distributions={n: self._distributions[n] for n, _ in entry.point},
                user_attrs={CANDIDATE: candidate},
            )
            self._study.add_trial(trial)
            self._trials[candidate] = self._study.get_trials(deepcopy=False)[-1]


def _study(url: str, name: str, objectives: list[str], wanted: list[Literal["minimize", "maximize"]]) -> optuna.Study:
    """The study of that name, made where there is none."""
    where = public_uri(url)
    try:
        study = optuna.create_study(storage=url, study_name=name, directions=wanted, load_if_exists=True)
        kept = [d.name.lower() for d in study.directions]
        names = study.metric_names or objectives
    except Exception as error:  # Optuna passes on whatever the storage's own library raises
        reason = public_uri(str(error).splitlines()[0]) if str(error) else type(error).__name__
        raise StorageDown(f"optuna-storage: {where} cannot be opened ({reason}): give a URL such as sqlite:///search.db") from None
    if (names, kept) != (objectives, wanted):
        has = ", ".join(f"{d} {n}" for n, d in zip(names, kept, strict=False))
        asks = ", ".join(f"{d} {n}" for n, d in zip(objectives, wanted, strict=True))
        raise StorageError(
            f"optuna-storage: study {name} in {where} has {has}, this search {asks}: give the search another --name, or another storage"
        )
    return study


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {d.name: distribution(d) for d in space.dimensions}


def _params(space: Space, point: Point, *, whole: bool = True) -> dict[str, Any]:
    levels = dict(point)
    return {d.name: internal(d, levels.get(d.name)) for d in space.dimensions if whole or d.name in levels}


def _digest(distributions: Mapping[str, BaseDistribution]) -> str:
    plain = {n: optuna.distributions.distribution_to_json(d) for n, d in distributions.items()}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
