"""A store on a full or read-only disk, on real file systems of that kind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from vitnas.studies.running.executors import run_here
from vitnas.studies.store import locked

from .command import SMALL, vitnas_here
from .synthetic import synthetic_study

TRAIN = ["train", "convnext-micro", *SMALL, "--store", "disk/store"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A small file system of its own at tmp_path/disk; calling it mounts it again with other options."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs", str(mount)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(mount)], check=True)

    yield remount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, disk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prepared data fit, the first checkpoint does not; with more room the same command finishes."""
    code, _, err = vitnas_here(*TRAIN, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    lines = [line for line in err.splitlines() if line.startswith("vitnas: ")]
    assert code == 1 and len(lines) == 1 and "is full: free some room, then run the same command again" in lines[0], err
    disk("size=100m")
    code, out, err = vitnas_here(*TRAIN, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and "1 trials trained" in out, err


def test_a_disk_that_fills_up_under_a_search_is_one_line(
    tmp_path: Path, disk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though the search's own files cannot be written then either: the disk is filled to the last byte before the first training."""
    disk("size=100m")

    def filled(*given: Any) -> None:
        with suppress(OSError), (tmp_path / "disk" / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        run_here(*given)

    monkeypatch.setattr("vitnas.studies.running.search.run_here", filled)
    search = ["search", "--executor", "local", "--store", "disk/store", "--objectives", "accuracy,macs", "--trials", "2", *SMALL]
    code, _, err = vitnas_here(*search, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    lines = [line for line in err.splitlines() if line.startswith("vitnas: ")]
    assert code == 1 and len(lines) == 1 and "is full: free some room, then run the same command again" in lines[0], err


def test_a_read_only_store_is_one_line(
    tmp_path: Path, disk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused before anything is read or trained. Where studies stand can be seen all the same."""
    store, plan = synthetic_study(tmp_path / "disk" / "store", steps="recipe", epochs=4)
    trial = plan.arms[0].trials[0]
    with locked(store.trial_folder(trial) / "lock", "trial"):  # whoever looks asks who holds it
        (store.trial_folder(trial) / "result.json").unlink()
    disk("ro")
    for command, said in ((["status"], "partial"), (["logs", trial], "epoch 4")):
        code, out, err = vitnas_here(*command, "--store", "disk/store", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0 and said in out, err
    for command in (["report", "--store", "disk/store"], TRAIN):
        code, _, err = vitnas_here(*command, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 1 and "cannot be written: make it writable, or give another folder with --store" in err
