"""Leases: locks for storages without locks of their own, between processes on any machines.

A lease stands on a *register*: a small value that can be read, and swapped for another only by whoever names the version that is there now.
The holder swaps in a fresh value ("a beat") several times in the time that the lease lasts. Whoever wants the lease takes it where the
holder released it, where the holder's process has ended on the same machine, or where the value has not changed for as long as the lease
lasts. The waiter measures that by its own clock from when it first saw the value, so clocks need not agree.

A holder that is too late (its machine slept, its network was cut) fails to swap, and knows. It asks before whatever it writes, and before
a result it beats once more, so that it writes nothing that another process is at work on.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .errors import Busy, LeaseLost
from .process import ended, name, since_boot, this_process

SECONDS = 45.0  # that a lease lasts without a beat
BEATS = 5  # in that time
TRIES = 5  # at a value that others change at the same time
RELEASE = 5.0  # seconds that letting go may take while the storage is out of reach


class Register(Protocol):
    """A value that is swapped by version. `place` tells it from all others."""

    place: str

    def read(self) -> tuple[str, bytes] | None:
        """(version, value), or None where there is none yet."""

    def swap(self, version: str | None, value: bytes) -> str | None:
        """Put `value` in the place of that version (None: of none); gives the new version, or None where another is there."""


@dataclass
class _Sight:
    """A lease as this process has seen it: its version, since when, and whether a beat was seen."""

    version: str
    since: float
    alive: bool


_SEEN: dict[str, _Sight] = {}
_HELD: dict[Path, Lease] = {}


def lease_over(path: Path) -> Lease | None:
    """The lease that this process holds on the folder of `path`."""
    return _HELD.get(path.parent)


@contextlib.contextmanager
def leased(register: Register, folder: Path, what: str, say: Callable[[str], None] | None) -> Iterator[None]:
    """Hold the lease on `folder`; Busy where another process holds it and is alive.

    Where that is not known yet, this waits for a sign of life, at most as long as the lease lasts; `say` is told so once.
    """
    lease = Lease(register, what)
    lease.take(say)
    _HELD[folder] = lease
    try:
        yield
    finally:
        del _HELD[folder]
        lease.release()


class Lease:
    """A lease on what `what` names. `take` it first; from then on a thread beats until `release`."""

    def __init__(self, register: Register, what: str) -> None:
        self.register, self.what = register, what
        self.seconds = float(os.environ.get("VITNAS_LEASE_SECONDS", SECONDS))
        self.token = uuid.uuid4().hex
        self._version = ""
        self._beat = 0
        self._confirmed = 0.0
        self._lost = ""
        self._turn = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self, say: Callable[[str], None] | None = None) -> None:
        """Become the holder, or raise Busy."""
        lost = 0
        while not self._version:
            now = since_boot()
            seen = self.register.read()
            holder = parse(seen[1]) if seen else {}
            if seen and not free(holder) and not self._expired(seen[0], holder, now):
                if _SEEN[self.register.place].alive:
                    raise self._busy(holder)
                if say:
                    say(f"{self.what} was being run by {_name(holder)}: waiting to see whether it still is")
                    say = None
                time.sleep(min(1.0, max(0.02, _seconds(holder) / 40)))
                continue
            version = self.register.swap(seen[0] if seen else None, self._value())
            if version is None and (mine := self._mine()):  # the answer to a swap of ours was lost
                version = mine
            if version is None:
                lost += 1
                if lost == TRIES:
                    raise self._busy(holder)
            else:
                self._version, self._confirmed = version, now
        _SEEN.pop(self.register.place, None)
        self._thread.start()

    def check(self, *, surely: bool = False) -> None:
        """LeaseLost where another process has it. `surely` asks the storage, and not only the last beat."""
        if self._lost:
            raise self._gone()
        if surely or since_boot() - self._confirmed > self.seconds / 2:
            self._renew()

    def release(self) -> None:
        """Let it go; others need not wait."""
        self._stop.set()
        self._thread.join(RELEASE)
        if not self._lost and not self._thread.is_alive():  # else it is left to run out
            with contextlib.suppress(OSError):
                self.register.swap(self._version, self._value(released=True))

    def _keep(self) -> None:
        while not self._stop.wait(self.seconds / BEATS):
            try:
                self._renew()
            except LeaseLost:
                return
            except OSError:  # out of reach: whoever writes will see whether the lease was kept
                continue

    def _renew(self) -> None:
        with self._turn:
            now = since_boot()
            self._beat += 1
            version = self.register.swap(self._version, self._value()) or self._mine()
            if version is None:
                seen = self.register.read()
                self._lost = _name(parse(seen[1])) if seen else "somebody who removed it"
                raise self._gone()
            self._version, self._confirmed = version, now

    def _mine(self) -> str | None:
        """The register's version where the value is ours."""
        seen = self.register.read()
        return seen[0] if seen and parse(seen[1]).get("token") == self.token else None

    def _value(self, *, released: bool = False) -> bytes:
        value = {"token": self.token, "holder": this_process(), "seconds": self.seconds, "beat": self._beat, "released": released}
        return json.dumps(value).encode()

    def _expired(self, version: str, holder: dict[str, Any], now: float) -> bool:
        sight = _SEEN.get(self.register.place)
        if sight is None or sight.version != version:
            beat = sight is not None and now - sight.since < _seconds(holder)
            _SEEN[self.register.place] = _Sight(version=version, since=now, alive=beat)
            return False
        if now - sight.since > _seconds(holder) / 2:
            sight.alive = False  # it was, but has missed beats
        return now - sight.since > _seconds(holder)

    def _busy(self, holder: dict[str, Any]) -> Busy:
        return Busy(f"{self.what} is being run by {_name(holder)}: wait for it, or stop it")

    def _gone(self) -> LeaseLost:
        return LeaseLost(
            f"{self.what} was taken over by {self._lost}, since this process showed no life for {self.seconds:g} s: wait for it"
        )


def parse(value: bytes) -> dict[str, Any]:
    """A lease's value; empty for anything else (half of one, from a storage that shows it)."""
    try:
        data = json.loads(value)
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def free(holder: dict[str, Any]) -> bool:
    """Whether the holder let go, or its process is known to have ended."""
    return bool(holder) and (holder["released"] or ended(holder["holder"]))


def holder_name(holder: dict[str, Any], age: float) -> str:
    """Who holds a lease that last changed `age` seconds ago; nothing where nobody does."""
    return "" if not holder or free(holder) or age > _seconds(holder) else _name(holder)


def _seconds(holder: dict[str, Any]) -> float:
    return float(holder.get("seconds", SECONDS))


def _name(holder: dict[str, Any]) -> str:
    return name(holder["holder"]) if holder else "another process"
