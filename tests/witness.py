"""What must hold of a store at every moment, whatever was killed before: seen from its files alone, while others may be writing them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np
from safetensors import safe_open

from vitnas.studies.store import Store, read_json

KEPT = ("trial.json", "curve.jsonl", "events.json", "predictions.npz", "weights.safetensors", "result.json")
SPLITS = {"validation", "test"}  # that every trial is scored on, as studies have it by default
Prints = dict[str, tuple[int, int, int]]  # of a finished trial's files: which they are, when they were written, their size


def check_store(store: Store, finished: Mapping[str, Prints] = MappingProxyType({})) -> dict[str, Prints]:
    """See that nothing in the store is torn, lost, doubled or done again; gives the finished trials, for the next time.

    `finished` are those of the last time: no file of theirs may have been written since.
    """
    found: dict[str, Prints] = {}
    if not store.trials.is_dir():  # the driver was killed before it made anything
        return found
    for folder in sorted(store.trials.iterdir()):
        result, epochs = store.result(folder.name), curve(folder / "curve.jsonl")  # in this order: the others are the newer ones then
        events = read_json(folder / "events.json") or []
        if not (folder / "trial.json").exists():  # the driver was killed before it wrote down what the trial is
            assert not epochs and not events and result is None, folder.name
            continue
        trial = store.trial(folder.name)
        assert trial.id == folder.name

        # Attempts are numbered through, and before each it stands how the one before it ended.
        attempts = [int(e.split()[1]) for e in events if e.startswith("attempt ")]
        assert attempts == list(range(1, len(attempts) + 1)), events
        for before, event in pairwise(events):
            assert not event.startswith("attempt ") or before.startswith(("lost in attempt ", "left after epoch ")), events

        # No epoch is missing, and an attempt trains at most one again: the last of the attempt before, where that was not saved yet.
        assert all(later <= earlier + 1 for earlier, later in pairwise([0, *epochs])), epochs
        assert len(epochs) - len(set(epochs)) <= max(0, len(attempts) - 1), (epochs, events)

        # A result is the last word, and all that it speaks of is there.
        if result is not None:
            assert result.status == "complete" and result.epochs == trial.epochs and set(epochs) == set(range(1, trial.epochs + 1))
            assert result.attempts == len(attempts) and list(result.events) == events
            assert set(result.scores) == SPLITS
            with np.load(folder / "predictions.npz") as predictions:
                assert {name.rpartition("_")[0] for name in predictions} == SPLITS
            with safe_open(folder / "weights.safetensors", "np") as weights:
                assert weights.keys()
            assert not [*folder.glob(".checkpoint.pt.*"), *folder.glob(".weights.safetensors.*")]
            found[folder.name] = {name: _print(folder / name) for name in KEPT}

    # What was finished stays as it was.
    for name, prints in finished.items():
        assert found.get(name) == prints, f"the finished trial {name} was lost or written again"

    # A process runs one trial at a time, and what was scored on the test split is in the ledger.
    seen = {p.name: store.holder(p.name) for p in store.trials.iterdir() if p.name not in found}
    held = [holder for trial, holder in seen.items() if holder and store.result(trial) is None]  # it may have gone on to the next meanwhile
    assert len(held) == len(set(held)), held
    ledger = {p.stem.removesuffix("-test") for p in (store.root / "ledger").glob("*/*.json")}
    assert set(found) <= ledger <= {p.name for p in store.trials.iterdir()}, ledger
    return found


def curve(path: Path) -> list[int]:
    """The epochs of a curve as they stand there, but for a last line that is not whole: it is being written, or its writer was killed."""
    return [json.loads(line)["epoch"] for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def _print(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
