"""The host's gate: trainings and measurements on one machine keep out of each other's way, across processes, users and stores.

A training holds the gate together with other trainings, an epoch at a time. A measuring holds it alone: it waits until the trainings
have come to the end of their epochs, and they wait there until it has ended. Whoever waits to measure holds the turnstile, which every
training must pass before its next epoch, so that measurements get their turn however many trainings there are.

Both are lock files in the temporary folder (flock: they go with the process that holds them). This file needs the standard library alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

GATE, TURNSTILE = "vitnas-gate.lock", "vitnas-turnstile.lock"
PATIENCE = 600.0  # seconds that a measuring waits for trainings to reach the end of an epoch
REMIND = 600.0  # seconds until whoever waits is told so again
LOOK = 0.05  # seconds between two looks of a measuring that waits


class GateClosed(ValueError):
    """A measuring did not get the host to itself; the message names the next move."""


@contextlib.contextmanager
def training() -> Iterator[None]:
    """Hold the gate together with other trainings: around an epoch, or whatever else of a training takes time. Not while waiting."""
    with _file(TURNSTILE) as turnstile, _file(GATE) as gate:
        fcntl.flock(turnstile, fcntl.LOCK_EX)
        fcntl.flock(gate, fcntl.LOCK_SH)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(gate, fcntl.LOCK_UN)  # also for processes that were forked meanwhile


@contextlib.contextmanager
def measuring(patience: float = PATIENCE, *, say: Callable[[str], None] = lambda text: None) -> Iterator[None]:
    """Hold the gate alone; GateClosed where that takes more than `patience` seconds. `say` is told that it has to wait, every ten
    minutes again."""
    give_up = time.monotonic() + patience
    with _file(TURNSTILE) as turnstile, _file(GATE) as gate:
        tell = 0.0
        for file in (turnstile, gate):
            while not _now(file, fcntl.LOCK_EX):
                trainings = file is gate and _now(gate, fcntl.LOCK_SH)
                if trainings:
                    fcntl.flock(gate, fcntl.LOCK_UN)
                if time.monotonic() >= give_up:
                    raise GateClosed(_trouble(trainings, patience))
                if time.monotonic() >= tell:
                    say("waiting for the trainings on this host to end their epochs" if trainings else "waiting for another measuring")
                    tell = time.monotonic() + REMIND
                time.sleep(LOOK)
        fcntl.flock(turnstile, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(gate, fcntl.LOCK_UN)


def _trouble(trainings: bool, patience: float) -> str:
    if trainings:
        who = "a training on this host is in the middle of an epoch"
    else:
        who = "another process is measuring on this host"
    return f"{who} (waited {patience:.0f} s for its end): measure when it has ended, or on another machine"


def _now(file: IO[bytes], how: int) -> bool:
    """Take the lock if that is possible at once; whether it was."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _file(name: str) -> Iterator[IO[bytes]]:
    path = Path(tempfile.gettempdir()) / name
    try:
        handle = os.open(path, os.O_RDWR)  # without O_CREAT: in shared folders Linux refuses it on another user's file
    except FileNotFoundError:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.suppress(OSError):
            path.chmod(0o666)  # another user may train or measure next
    with os.fdopen(handle, "r+b") as file:
        yield file
