"""The search behind the recipe preset `short`: the same effort at both ends of the track, chosen on validation.

    python benchmarks/recipe_search.py [--store .vitnas-recipes] [--epochs 16] [--processes 2]

Eight settings for each end (ResNet-50 with the base recipe, ConvNeXt-T with the modern one), at scale micro on the digits, each
with one training on each of three validation splits and replicate indices from the tuning range. The test split is never scored.
Chosen is the setting with the best mean validation top-1; ties go to the lower loss. Trials are kept in the store: run again to
continue or to print the table. The outcome is in docs/recipes.md.
"""

from __future__ import annotations

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from vitnas.studies.data.prepare import prepare
from vitnas.studies.designs.planner import plan_study
from vitnas.studies.store import Store
from vitnas.studies.study import Study, override
from vitnas.studies.training.run_trial import How, run_trial
from vitnas.studies.trial import TUNING_SEEDS, Trial

LIGHT = {"randaugment": 1, "mixup": 0.05, "cutmix": 0.05, "erasing": 0.05}
MEDIUM = {"randaugment": 3, "mixup": 0.1, "cutmix": 0.1, "erasing": 0.1}
BASE = [{"lr": lr, "weight_decay": wd} for lr, wd in itertools.product((0.05, 0.1, 0.2, 0.4), (5e-4, 5e-3))]
MODERN = [
    {"lr": lr, "init": init, **strength}
    for lr, init, strength in itertools.product((1e-2, 2e-2), ("trunc-normal", "kaiming"), (LIGHT, MEDIUM))
]


def train(store: Path, trial: Trial, data: Path) -> tuple[float, float]:
    """Validation top-1 (%) and loss (nats) of one trial."""
    result = run_trial(Store(store), trial, data, How(), splits=("validation",))
    score = result.scores.get("validation")
    return (score.top1, score.loss) if score else (10.0, 9.9)


def main() -> None:
    """Run what the store does not know and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path(".vitnas-recipes"))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    store = Store(options.store)
    store.prepare()
    prepared = prepare("digits", input_size=32, cache=store.data)
    plan = plan_study(Study(epochs=options.epochs, seeds=1), prepared, precision="float32")
    ends = (("ResNet-50, base recipe", plan.trials[0], BASE), ("ConvNeXt-T, modern recipe", plan.trials[-1], MODERN))
    with ProcessPoolExecutor(options.processes) as pool:
        for title, trial, settings in ends:
            trials = [
                replace(
                    trial, recipe=override(trial.recipe, setting), data=replace(trial.data, split_seed=split), seed=TUNING_SEEDS + split
                )
                for setting in settings
                for split in range(3)
            ]
            scores = list(pool.map(train, [store.root] * len(trials), trials, [prepared.folder] * len(trials)))
            rows = []
            for i, setting in enumerate(settings):
                own = scores[3 * i : 3 * i + 3]
                rows.append((sum(s[0] for s in own) / 3, sum(s[1] for s in own) / 3, setting, [round(s[0], 1) for s in own]))
            print(f"\n{title}, {options.epochs} epochs: validation top-1 over three splits (mean loss)")
            for top1, loss, setting, own in sorted(rows, key=lambda r: (-r[0], r[1])):
                print(f"{top1:6.2f}  ({loss:.3f})  {own}  {setting}", flush=True)


if __name__ == "__main__":
    main()
