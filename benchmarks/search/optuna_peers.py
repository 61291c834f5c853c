"""Optuna's samplers by ask and tell: MO-TPE, NSGA-II and the GP."""

from __future__ import annotations

import warnings
from functools import partial

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from search.game import Game

POPULATION = 20  # of NSGA-II; Optuna's own 50 leaves four generations for 200 trainings


def sampler(name: str, seed: int, free: bool) -> optuna.samplers.BaseSampler:
    """As Optuna has them; TPE takes proposals that wait for an answer as bad ones where some are refused."""
    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=free)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
    return optuna.samplers.GPSampler(seed=seed, deterministic_objective=False)


def search(name: str, game: Game, seed: int) -> None:
    """Both values are objectives; refused proposals stay open until one is trained and are then told as failed. The GP is told what is
    known of a network that was trained before: it would propose the same ones until its patience ends."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler(name, seed, game.free))
    space = {
        f"c{j}": IntDistribution(0, n - 1) if ordered else CategoricalDistribution(tuple(range(n)))
        for j, (n, ordered) in enumerate(zip(game.table.levels, game.table.ordered, strict=True))
    }
    open_: list[optuna.Trial] = []
    while True:
        trial = _ask(study, space)
        row, _ = game.propose([trial.params[c] for c in space])
        if row < 0:
            open_.append(trial)
            if name == "gp" and (seen := game.trained(list(trial.params.values()))) is not None:
                study.tell(open_.pop(), game.values(seen))
            continue
        own = dict(zip(space, game.table.choices[row].tolist(), strict=True))
        if own != trial.params:  # another row was trained: it is recorded under its own choices
            open_.append(trial)
            study.enqueue_trial(own)
            trial = _ask(study, space)
        study.tell(trial, game.values(row))
        for refused in open_:
            study.tell(refused, state=TrialState.FAIL)
        open_ = []


def _ask(study: optuna.Study, space: dict[str, BaseDistribution]) -> optuna.Trial:
    trial = study.ask(fixed_distributions=space)
    _ = trial.relative_params  # NSGA-II gives an enqueued trial a generation only then
    return trial


tpe, nsga2, gp = (partial(search, name) for name in ("tpe", "nsga2", "gp"))
