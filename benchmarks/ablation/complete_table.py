"""The complete table: every legal subset of seven steps of convnext-t, trained for real at micro scale on the digits, five seeds each.

    vitnas ablate --design factorial --fix recipe --seeds 5 --no-placebo --yes --name complete \\
        --steps patchify-stem,depthwise,width,inverted-bottleneck,move-up-depthwise,fewer-activations,layer-norm
    python benchmarks/ablation/complete_table.py .vitnas complete

writes benchmarks/data/digits_complete.csv.gz: one line a trial with `arm` (the steps that are on, joined by +), `seed`, top-1 (%) on the
test split and, after every epoch, on the validation split (`v1` and so on).
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitnas.studies.library import open_plan
from vitnas.studies.store import Store, write_atomic

DATA = Path(__file__).parent.parent / "data" / "digits_complete.csv.gz"
STEPS = ("patchify-stem", "depthwise", "width", "inverted-bottleneck", "move-up-depthwise", "fewer-activations", "layer-norm")


@dataclass(frozen=True)
class CompleteTable:
    """`test` (arms, seeds) and `validation` (arms, seeds, epochs), top-1 in %; `arms` are the sets of steps that are on."""

    arms: tuple[frozenset[str], ...]
    test: NDArray[np.float64]
    validation: NDArray[np.float64]

    def of(self, choice: frozenset[str]) -> NDArray[np.float64]:
        """Test top-1 (%) of one arm, a value a seed."""
        return np.asarray(self.test[self.arms.index(choice)])


def read(path: Path = DATA) -> CompleteTable:
    """The table in `path`."""
    with gzip.open(path, "rt") as file:
        rows = list(csv.DictReader(file))
    names = list(dict.fromkeys(r["arm"] for r in rows))
    seeds = sorted({int(r["seed"]) for r in rows})
    epochs = [k for k in rows[0] if k.startswith("v") and k[1:].isdigit()]
    test = np.full((len(names), len(seeds)), np.nan)
    validation = np.full((len(names), len(seeds), len(epochs)), np.nan)
    for row in rows:
        at = names.index(row["arm"]), seeds.index(int(row["seed"]))
        test[at] = float(row["test"])
        validation[at] = [float(row[k]) for k in epochs]
    arms = tuple(frozenset() if n == "base" else frozenset(n.split("+")) for n in names)
    return CompleteTable(arms, test, validation)


def write(store: Store, study: str, path: Path = DATA) -> int:
    """Write the table of a finished study; gives the number of trials."""
    plan = open_plan(store, study)
    lines = []
    for arm in plan.arms:
        for seed, trial in zip(arm.seeds, arm.trials, strict=True):
            result = store.result(trial)
            if result is None or arm.same_as is not None:
                raise SystemExit(f"{study} is not complete: {arm.name}, seed {seed}")
            curve = {f"v{r['epoch']}": f"{r['top1']:.3f}" for r in store.curve(trial)}
            lines.append({"arm": arm.name, "seed": seed, "test": f"{result.scores['test'].top1:.3f}"} | curve)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    packed = gzip.compress(text.getvalue().encode(), mtime=0)
    write_atomic(path, lambda file: file.write(packed))
    return len(lines)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    print(write(Store(sys.argv[1]), sys.argv[2]), "trials in", DATA)
