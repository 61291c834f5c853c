"""The store: atomic files, locks, the ledger, and what cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vitnas.roadmap.tracks import track
from vitnas.studies.recipe import Recipe
from vitnas.studies.store import Busy, Store, StoreError, locked, read_json, write_atomic, write_json
from vitnas.studies.trial import DataRef, Trial


def trial(seed: int = 0) -> Trial:
    spec = track("convnext-t").spec({}, scale="micro", classes=10)
    return Trial(network=spec, recipe=Recipe(), data=DataRef(name="digits", fingerprint="f", classes=10), epochs=1, seed=seed)


def test_identity_is_what_decides_the_result(tmp_path: Path) -> None:
    """Two spellings have one id; anything that changes the result changes it; a trial survives its file."""
    a = trial()
    assert a.id == trial().id != trial(1).id
    renamed = Trial(network=a.network, recipe=a.recipe, data=DataRef(name="other name", fingerprint="f", classes=10), epochs=1, seed=0)
    assert renamed.id == a.id
    longer = Trial(network=a.network, recipe=a.recipe, data=a.data, epochs=2, seed=0)
    other = Trial(network=a.network, recipe=Recipe(lr=0.2), data=a.data, epochs=1, seed=0)
    assert len({a.id, longer.id, other.id}) == 3
    store = Store(tmp_path)
    store.prepare()
    store.add(a)
    assert store.trial(a.id) == a and store.trial(a.id).id == a.id


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """A writer that fails half-way leaves the old file and no litter."""
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def fail(file: object) -> None:
        raise OSError("cut off")

    with pytest.raises(OSError, match="cut off"):
        write_atomic(path, fail)
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_lock_is_held_by_one_and_goes_with_its_process(tmp_path: Path) -> None:
    """A second holder is told who has it; after kill -9 it is free."""
    code = (
        "import sys, time; from pathlib import Path; from vitnas.studies.store import locked\n"
        "with locked(Path(sys.argv[1]), 'x'): print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"held\n"
    with pytest.raises(Busy, match=f"study s is being run by process {process.pid}"), locked(tmp_path / "lock", "study s"):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path / "lock", "study s"):
        pass


def test_the_ledger_counts_each_trial_once(tmp_path: Path) -> None:
    """Scoring the same weights again, after a kill, is no further look at the test split."""
    store = Store(tmp_path)
    store.prepare()
    for t in (trial(0), trial(1), trial(1)):
        store.count_test_scoring(t, "test")
    assert store.test_scorings("f") == 2
    assert store.test_scorings("other") == 0


def test_a_torn_curve_keeps_its_whole_lines(tmp_path: Path) -> None:
    """The last line of a killed writer may be torn; an epoch trained again counts once."""
    store = Store(tmp_path)
    store.prepare()
    folder = store.add(trial())
    (folder / "curve.jsonl").write_text('{"epoch": 1, "loss": 2}\n{"epoch": 2, "loss": 1}\n{"epoch": 2, "loss": 1.5}\n{"epo')
    assert [(r["epoch"], r["loss"]) for r in store.curve(trial().id)] == [(1, 2), (2, 1.5)]


def test_a_store_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    """A file where the folder should be: the message names the store and the next move."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="--store"):
        Store(tmp_path / "file" / "store").prepare()
