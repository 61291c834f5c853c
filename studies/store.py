"""The trial store: the truth, as plain files. MLflow and Optuna are views that can be rebuilt from it.

    trials/<id>/  trial.json  curve.jsonl  checkpoint.pt  predictions.npz  result.json  corruptions.json  lock
    studies/<name>/  study.yaml  plan.json  report files
    data/  prepared data        teachers/  networks that others learn from        ledger.jsonl  every scoring of a test split
    trunks/  what trainings of different lengths share; a cache

Files appear whole or not at all (write, fsync, rename). A trial is run by whoever holds its lock; locks go with the
process that holds them. Two stores merge by copying one into the other without overwriting.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .robustness import CORRUPTIONS, Robustness
from .trial import Trial, TrialResult


class StoreError(ValueError):
    """The store cannot be used; the message names the next move."""


class Busy(StoreError):
    """Somebody else holds the lock."""


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that a reader sees the old one or the new one whole, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """The JSON value in `path`, or None where there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` (flock: it goes with the process); Busy tells who has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(f"{what} is being run by {file.read().strip() or 'another process'}: wait for it, or stop it") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


class Store:
    """The store in folder `root`, made where missing."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).expanduser().resolve()

    def prepare(self) -> None:
        """Make the folders and see that they can be written; StoreError where not."""
        try:
            for folder in (self.trials, self.studies, self.data):
                folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self.root / ".probe", lambda file: file.write(b"0" * 65536))
            (self.root / ".probe").unlink()
        except OSError as error:
            raise StoreError(store_trouble(self.root, error)) from None

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
        if not (folder / "trial.json").exists():
            write_json(folder / "trial.json", trial.to_dict())
        return folder

    def trial(self, trial_id: str) -> Trial:
        """The trial written by `add`; StoreError where there is none."""
        data = read_json(self.trial_folder(trial_id) / "trial.json")
        if data is None:
            raise StoreError(f"no trial {trial_id} in {self.root}: run its study again")
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
        line = json.dumps({"data": trial.data.fingerprint, "split": split, "trial": trial.id}) + "\n"
        with (self.root / "ledger.jsonl").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def test_scorings(self, data_fingerprint: str) -> int:
        """How often trained networks were scored on the test split of this data in this store: once each, and once more on its images
        corrupted."""
        path = self.root / "ledger.jsonl"
        if not path.exists():
            return 0
        scorings = set()
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["data"] == data_fingerprint:
                scorings.add((entry["trial"], entry["split"]))
        return len(scorings)


def store_trouble(root: Path, error: OSError) -> str:
    """One line for an error of the file system, with the next move."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk that holds {root} is full: free some room, then run the same command again (nothing finished is lost)"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{root} cannot be written: make it writable, or give another folder with --store"
    return f"the store at {root} cannot be used ({error.strerror}): give another folder with --store"
