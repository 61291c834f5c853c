"""From a candidate to its trials: the recipe of its techniques, a rung's epochs and schedule, the split that it trains on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from ...roadmap.steps import Track
from ..designs.planner import Prepared
from ..recipe import Recipe, preset, with_techniques
from ..store import Store
from ..study import Study, override
from ..trial import REPORT_SEEDS, DataRef, Trial, TrialResult
from .halving import Halving, rungs
from .space import Candidate
from .state import Run

ETA = 3.0
COOLDOWN = 0.25  # of a rung's epochs
SHORTEST = 9  # the first rung has an epoch of so many of the last's, unless --min-epochs says otherwise
WANTED = ("trial.json", "result.json")  # of a training that is known
LEAST = 2  # epochs of the first rung, unless --min-epochs says otherwise: one epoch is all cooldown


def epochs_of(study: Study) -> int:
    """Epochs of a whole training."""
    return study.epochs or preset(study.recipe).epochs


def rule_of(study: Study) -> Halving:
    """Who is trained on, and how long: every candidate to the end, or by rungs."""
    most = epochs_of(study)
    if study.scheduler == "none":
        return Halving(rungs=(most,))
    least = study.min_epochs or min(most, max(LEAST, most // SHORTEST))
    if least > most:
        raise ValueError(f"min-epochs: {least} is more than the {most} of a whole training: lower --min-epochs, or raise --epochs")
    steps = rungs(least, most, ETA)
    if len(steps) < 2:
        raise ValueError(
            f"scheduler: {study.scheduler} has nowhere to stop between {least} and {most} epochs: raise --epochs to {round(ETA * least)}, "
            "lower --min-epochs, or leave --scheduler out"
        )
    return Halving(rungs=steps, eta=ETA, k=0.0 if study.scheduler == "asha" else 1.0)


def horizon(epochs: Sequence[int]) -> int:
    """The epochs, of rungs of so many, of which warm-up and EMA are fractions: those of the second rung, so that the first has a stretch
    at the constant rate, from which its cooldown branches off."""
    return epochs[min(1, len(epochs) - 1)]


def annealed(recipe: Recipe, epochs: Sequence[int]) -> Recipe:
    """`recipe` for rungs of so many `epochs`: each cools down by itself."""
    return replace(recipe, schedule="wsd", cooldown=COOLDOWN, horizon=horizon(epochs))


class Trainings:
    """Makes the trials of a search and adds them to the store; `prepared` gives the data at an input size."""

    def __init__(
        self,
        store: Store,
        study: Study,
        track: Track,
        candidates: Mapping[str, Candidate],
        prepared: Callable[[int], Prepared],
        *,
        precision: str,
    ) -> None:
        self.store, self.study, self.track, self.candidates = store, study, track, candidates
        self._prepared, self._precision = prepared, precision
        self._rule = rule_of(study)
        self._made: dict[tuple[str, int, int, bool], str] = {}
        self._added: dict[str, Trial] = {}
        self._spent: dict[str, int] = {}

    def __call__(self, candidate: str, *, seed: int, rung: int, final: bool) -> str:
        """The id of the trial, which is in the store then."""
        key = (candidate, seed, rung, final)
        if key not in self._made:
            trial = self.trial(candidate, seed=seed, rung=rung, final=final)
            self.store.add(trial)
            self._made[key] = trial.id
        return self._made[key]

    def trial(self, candidate: str, *, seed: int, rung: int, final: bool) -> Trial:
        """A training of the candidate up to a rung; a `final` one from scratch, by the whole schedule, on train and validation."""
        found = self.candidates[candidate]
        prepared = self._prepared(found.input_size)
        epochs = (self.study.final_epochs or epochs_of(self.study)) if final else self._rule.rungs[rung]
        return Trial(
            network=found.spec,
            recipe=self.recipe(found, final=final),
            data=DataRef(
                name=prepared.name,
                fingerprint=prepared.fingerprint,
                classes=prepared.classes,
                split_seed=self.study.split_seed,
                fraction=self.study.data_fraction,
                train_on="all" if final else "train",
            ),
            epochs=epochs,
            seed=REPORT_SEEDS + seed,
        )

    def wants(self, final: Run) -> bool:
        """Whether a final training is one that this study makes."""
        return self.trial(final.candidate, seed=final.seed, rung=final.rung, final=True).id == final.trial

    def added(self, trial_id: str) -> Trial:
        """A trial that the store has; read once, for it never changes."""
        if trial_id not in self._added:
            self._added[trial_id] = self.store.trial(trial_id)
        return self._added[trial_id]

    def spent(self, trials: Collection[str]) -> int:
        """The epochs that finished trainings took, whichever machine they ran on; 0 of those whose results were lost. Read once."""
        new = [t for t in trials if t not in self._spent]
        known = {t: self.store.result(t) for t in new}
        brought: Mapping[str, TrialResult] = self.store.results(t for t in new if known[t] is None)
        for t in new:
            result = known[t] or brought.get(t)
            self._spent[t] = result.epochs_trained if result else 0
        return sum(self._spent[t] for t in trials)

    def recipe(self, candidate: Candidate, *, final: bool) -> Recipe:
        """What the candidate is trained by: as studies have it, but with a cooldown of its own at each rung where trainings end early."""
        chosen, study = preset(self.study.recipe), self.study
        recipe = with_techniques(chosen.base, chosen.modern, candidate.techniques)
        recipe = replace(recipe, input_size=candidate.input_size, flip=recipe.flip and self._prepared(candidate.input_size).mirror)
        recipe = override(recipe, study.set)
        if recipe.precision == "auto":
            recipe = override(recipe, {"precision": self._precision})
        if study.scheduler == "none" or final:
            return recipe
        return annealed(recipe, self._rule.rungs)

    def known(self) -> list[tuple[str, int, int, str]]:
        """Finished trainings that the store has of the candidates, as this search would make them: candidate, rung, seed, trial. What
        cannot be read here, such as a trial of a package that is not installed, is passed over: whose study it is says so."""
        by_network: dict[tuple[str, int], list[str]] = {}
        for name, c in self.candidates.items():
            by_network.setdefault((c.spec.fingerprint, c.input_size), []).append(name)
        out = []
        self.store.medium.refresh([self.store.trials], only=lambda name: name in WANTED)
        for folder in sorted(self.store.trials.iterdir()):
            try:
                result = self.store.result(folder.name)
                if result is None or result.status != "complete" or "validation" not in result.scores:
                    continue
                trial = self.store.trial(folder.name)
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
            for name in by_network.get((trial.network.fingerprint, trial.recipe.input_size), ()):
                for rung, epochs in enumerate(self._rule.rungs):
                    if epochs == trial.epochs and self.trial(name, seed=trial.seed, rung=rung, final=False).id == trial.id:
                        out.append((name, rung, trial.seed, trial.id))
        return out
