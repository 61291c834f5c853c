"""The trial store: the truth, as plain files. MLflow and Optuna are views that can be rebuilt from it.

    trials/<id>/  trial.json  curve.jsonl  checkpoint.pt  predictions.npz  result.json  corruptions.json
    studies/<name>/  study.yaml  plan.json  report files
    data/  prepared data        teachers/  networks that others learn from        trunks/  what trainings of other lengths share; a cache
    ledger.jsonl  every scoring of a test split; where machines share the store, a file each: ledger/<data>/<trial>-<split>.json

It lies in a folder of this machine, in one that several machines mount, or in a bucket, of which `root` is then this machine's working copy
(studies/storage). Files appear whole or not at all. A trial is run by whoever holds its lock; locks go with the process that holds them.
Two stores merge by copying one into the other without overwriting.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .robustness import CORRUPTIONS, Robustness
from .storage.bucket import SCHEME
from .storage.errors import Busy, LeaseLost, StorageTrouble, StoreError
from .storage.medium import LocalDisk, append, current, locked, read_json, register, remove, remove_torn, write_atomic, write_json
from .storage.object_storage import ObjectStorage
from .storage.shared_folder import SharedFolder, is_shared
from .trial import Trial, TrialResult

__all__ = [
    "Busy",
    "LeaseLost",
    "Store",
    "StoreError",
    "append",
    "current",
    "locked",
    "read_json",
    "remove",
    "remove_torn",
    "store_trouble",
    "write_atomic",
    "write_json",
]

LABELS = ("meta.json", "test_labels.npy")  # of prepared data: what reports want


class Store:
    """The store at `address`: a folder, made where missing, or s3://bucket/prefix. StoreError for an address of another kind.

    What other machines changed is seen after `prepare` or `refresh`, and in a folder whose lock is taken.
    """

    def __init__(self, address: Path | str) -> None:
        self.medium = _medium(str(address))
        register(self.medium)
        self.root, self.address = self.medium.root, self.medium.address

    def prepare(self) -> None:
        """Make the folders, see that they can be written, and what other machines did; StoreError where they cannot."""
        try:
            self.medium.prepare((self.trials, self.studies, self.data))
            self.refresh()
        except OSError as error:
            raise StoreError(store_trouble(self.root, error)) from None

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever runs a study should know of this storage."""
        return self.medium.notes

    def shown(self, path: Path) -> str:
        """`path` as other machines would find it."""
        return str(path) if self.address == str(self.root) else f"{self.address}/{path.relative_to(self.root).as_posix()}"

    def declare_shared(self) -> None:
        """Have all machines lock this folder by leases from now on, also the one whose disk it is."""
        if not self.medium.shared:
            self.medium = SharedFolder(self.root)
            register(self.medium)
            self.prepare()

    def refresh(self, trials: Collection[str] = ()) -> None:
        """See what other machines did: to `trials`, or to all studies and readings."""
        self.medium.refresh([self.trial_folder(t) for t in trials] if trials else [self.studies, self.root / "readings"])

    def refresh_labels(self) -> None:
        """Have the labels of prepared data at hand, also where nothing was trained."""
        self.medium.refresh([self.data], only=lambda name: name in LABELS)

    def share_data(self, prepared: Path) -> None:
        """Have other machines find prepared data."""
        self.medium.share(prepared)

    def recall_data(self, prepared: Path) -> None:
        """Have prepared data, which some machine shared, in their place here."""
        self.medium.recall(prepared)

    def local_data(self, prepared: Path) -> Path:
        """Prepared data, as another machine or this one named them, where this machine reads them fast; brought at most once."""
        return self.medium.bring(prepared)

    @property
    def trials(self) -> Path:
        """Folder of the trials."""
        return self.root / "trials"

    @property
    def studies(self) -> Path:
        """Folder of the studies."""
        return self.root / "studies"

    @property
    def data(self) -> Path:
        """Folder of prepared data."""
        return self.root / "data"

    @property
    def trunks(self) -> Path:
        """Folder of what trainings of different lengths share; a cache."""
        return self.root / "trunks"

    @property
    def teachers(self) -> Path:
        """Folder of the teachers that trials learn from."""
        return self.root / "teachers"

    def trial_folder(self, trial_id: str) -> Path:
        """Folder of one trial."""
        return self.trials / trial_id

    def result(self, trial_id: str) -> TrialResult | None:
        """The trial's result, or None while it has none."""
        data = read_json(self.trial_folder(trial_id) / "result.json")
        return TrialResult.from_dict(data) if isinstance(data, dict) else None

    def results(self, trials: Iterable[str]) -> dict[str, TrialResult]:
        """The results that there are, by trial, as they are now."""
        ids = sorted(set(trials))
        if ids:
            self.refresh(ids)
        return {t: found for t in ids if (found := self.result(t))}

    def holder(self, trial_id: str) -> str:
        """Who runs the trial, or nothing."""
        return self.medium.holder(self.trial_folder(trial_id) / "lock")

    def corruptions(self, trial_id: str) -> Robustness | None:
        """The trial's scores on corrupted test images, or None where it has none."""
        return Robustness.from_dict(read_json(self.trial_folder(trial_id) / "corruptions.json"))

    def keep_corruptions(self, trial_id: str, scores: Robustness) -> None:
        """Write down the trial's scores on corrupted test images."""
        write_json(self.trial_folder(trial_id) / "corruptions.json", scores.to_dict())

    def lacks(self, trial_id: str, wanted: Collection[str]) -> bool:
        """Whether the trial is yet to be trained, or to be scored on some of `wanted` (splits, and "corruptions")."""
        known = self.result(trial_id)
        if known is None or known.status == "diverged":
            return known is None
        has = {*known.scores, *([CORRUPTIONS] if CORRUPTIONS in wanted and self.corruptions(trial_id) else [])}
        return not set(wanted) <= has

    def add(self, trial: Trial) -> Path:
        """Write down what the trial is, once; gives its folder."""
        folder = self.trial_folder(trial.id)
        if read_json(folder / "trial.json") is None:
            write_json(folder / "trial.json", trial.to_dict())
        return folder

    def trial(self, trial_id: str) -> Trial:
        """The trial written by `add`; StoreError where there is none."""
        path = self.trial_folder(trial_id) / "trial.json"
        data = read_json(path if path.exists() else current(path))
        if data is None:
            raise StoreError(f"no trial {trial_id} in {self.address}: run its study again")
        return Trial.from_dict(data)

    def curve(self, trial_id: str) -> list[dict[str, Any]]:
        """One record an epoch, in order; a torn last line is left out."""
        path = self.trial_folder(trial_id) / "curve.jsonl"
        out: dict[int, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue
                out[record["epoch"]] = record
        return [out[k] for k in sorted(out)]

    def count_test_scoring(self, trial: Trial, split: str) -> None:
        """Enter one scoring of a test split in the ledger; `split` is "test", or "corruptions" for its images corrupted."""
        entry = {"data": trial.data.fingerprint, "split": split, "trial": trial.id}
        if self.medium.shared:
            write_json(self.root / "ledger" / trial.data.fingerprint / f"{trial.id}-{split}.json", entry)
        else:
            append(self.root / "ledger.jsonl", json.dumps(entry) + "\n")

    def test_scorings(self, data_fingerprint: str) -> int:
        """How often trained networks were scored on the test split of this data in this store: once each, and once more on its images
        corrupted."""
        names = self.medium.names(self.root / "ledger" / data_fingerprint)
        scorings: set[tuple[str, ...]] = {tuple(name.removesuffix(".json").split("-")) for name in names if name.endswith(".json")}
        path = current(self.root / "ledger.jsonl")
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["data"] == data_fingerprint:
                scorings.add((entry["trial"], entry["split"]))
        return len(scorings)


def _medium(address: str) -> LocalDisk:
    if address.startswith(SCHEME):
        return ObjectStorage(address)
    if "://" in address:
        raise StoreError(f"store: {address} is no address that is known: give a folder, or s3://bucket/prefix")
    root = Path(address).expanduser().resolve()
    return SharedFolder(root) if is_shared(root) else LocalDisk(root)


def store_trouble(root: Path, error: OSError) -> str:
    """One line for an error of the file system or the storage, with the next move."""
    if isinstance(error, StorageTrouble):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk that holds {root} is full: free some room, then run the same command again (nothing finished is lost)"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{root} cannot be written: make it writable, or give another folder with --store"
    return f"the store at {root} cannot be used ({error.strerror}): give another folder with --store"
