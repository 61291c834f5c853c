"""Trunks: what trainings of one network, seed, data and recipe share before their cooldowns (schedule "wsd"), kept as checkpoints.

    trunks/<key>/epoch-<k>.pt   the newest state, with the curve up to there        lock

They are a cache. A training gives the same weights and curve, to the bit, with or without it, since the key covers everything that decides
them but how long the training goes on: the trial without its epochs and cooldown, and how it runs (device, threads, micro-batch,
versions). Remove them whenever you like.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ...roadmap.spec import canonical_json
from ..store import Busy, Store, current, locked, remove, write_atomic
from ..trial import Trial

LOOK = 0.2  # seconds between two looks at a trunk that another process extends

State = dict[str, Any]


class Trunk:
    """The trunk of `trial` under `conditions` (how it runs, as plain data)."""

    def __init__(self, store: Store, trial: Trial, conditions: Mapping[str, Any]) -> None:
        shared = {k: v for k, v in trial.identity().items() if k != "epochs"}
        shared["recipe"] = {k: v for k, v in shared["recipe"].items() if k != "cooldown"}
        self.key = hashlib.sha256(canonical_json({"trial": shared, "conditions": dict(conditions)}).encode()).hexdigest()[:16]
        self.folder = store.trunks / self.key

    @contextmanager
    def turn(self, epochs: int, device: torch.device) -> Iterator[State | None]:
        """Whoever gets a turn holds the trunk's lock and may extend it; it is given the newest state of `epochs` or fewer, None where
        there is none. While another process extends the trunk this waits for its end, or for the state of `epochs` exactly."""
        while True:
            with ExitStack() as held:
                try:
                    held.enter_context(locked(self.folder / "lock", f"trunk {self.key}"))
                except Busy:
                    state = self._read(epochs, device)
                    if state is None:
                        time.sleep(LOOK)
                        continue
                else:
                    found = (self._read(k, device) for k in sorted(self._epochs(), reverse=True) if k <= epochs)
                    state = next((s for s in found if s is not None), None)
                yield state
                return

    def keep(self, state: State, epoch: int, *, instead_of: int) -> None:
        """Write the state after `epoch`; it takes the place of the one after `instead_of`."""
        buffer = BytesIO()
        torch.save(state | {"trunk": self.key}, buffer)
        write_atomic(self._path(epoch), lambda file: file.write(buffer.getbuffer()))
        remove(self._path(instead_of))

    def _path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.pt"

    def _epochs(self) -> list[int]:
        return [int(path.stem.removeprefix("epoch-")) for path in self.folder.glob("epoch-*.pt")]

    def _read(self, epoch: int, device: torch.device) -> State | None:
        """The state after `epoch`; None where there is none, or a damaged one."""
        try:
            state: State = torch.load(current(self._path(epoch)), map_location=device, weights_only=True)
        except Exception:  # torch has no error of its own for a damaged file
            return None
        return state if state.get("trunk") == self.key else None


def prune_trunks(store: Store) -> int:
    """Remove all trunks but those that are being extended; gives the bytes that this freed. Nothing is lost but time."""
    freed = 0
    for folder in [store.trunks / key for key in store.medium.names(store.trunks)]:
        try:
            with locked(folder / "lock", f"trunk {folder.name}"):
                for path in folder.iterdir():
                    freed += path.stat().st_size
                    remove(path)
                folder.rmdir()
        except Busy:
            continue
    return freed
