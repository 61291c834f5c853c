"""The first process of a trial that several train: it has the others started, sees them end, and ends them.

Who starts them is not known here: `LocalPeers` starts processes of this machine, and a cluster has its own. A process that is lost ends the
attempt (PeerLost), and the trial goes on from its last epoch in the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO, Any, Protocol

import torch
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from .group import END, TROUBLE, Group, PeerLost, Seat, host_key, open_board
from .machine import out_of_memory

START = 300.0  # seconds for all processes to be there
SOON = 10.0  # seconds in which what became of a process shows
GRACE = 30.0  # seconds in which this process, where it waits for another, must have noticed that that is lost
LOOK = 0.5  # seconds between two looks at the others
STOP = 10.0  # seconds for the others to end


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a process needs to take part, as plain data: the store's address, the trial, the prepared data, how it runs."""

    store: str
    trial: str
    data: str
    how: dict[str, Any]


class Peers(Protocol):
    """Who starts the other processes of a trial. `host` is this machine's address, at which they find the first one."""

    host: str

    def start(self, job: Job, seats: Sequence[Seat]) -> None:
        """Start a process for each seat."""

    def lost(self) -> str:
        """What became of one that has ended; nothing while all run."""

    def stop(self) -> None:
        """End all; they were told, where they could still be."""


class Team:
    """All processes of the trial that `job` is about, of which this is the first."""

    def __init__(self, job: Job, peers: Peers) -> None:
        self.job, self.peers, self.processes = job, peers, job.how["processes"]
        self.device = torch.device(job.how["device"])
        self.board: TCPStore | None = None
        self.group: Group | None = None
        self.over, self.waits = threading.Event(), threading.Event()

    def assemble(self, micro_batch: int) -> Group:
        """All processes, new ones but for this, that take `micro_batch` images at a time. PeerLost where one does not come."""
        self.end(failed=True)
        board, port = open_board(self.peers.host)
        self.board = board
        seats = [Seat(rank=i, processes=self.processes, host=self.peers.host, port=port) for i in range(self.processes)]
        job = replace(self.job, how=self.job.how | {"micro_batch": micro_batch})
        board.set(host_key(0), socket.gethostname())
        self.peers.start(job, seats[1:])
        keys = [host_key(rank) for rank in range(1, self.processes)]
        deadline = time.monotonic() + START
        while not board.check(keys):
            if trouble := self._trouble(board):
                raise trouble
            if time.monotonic() > deadline:
                raise PeerLost(f"a process of trial {self.job.trial} did not come within {START:.0f} s")
            time.sleep(0.05)
        self.group = Group(seats[0], self.device, board)
        self.over = threading.Event()
        threading.Thread(target=self._watch, args=(self.over,), daemon=True).start()
        return self.group

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within, this process waits for the others again and again; what goes wrong because of one of them is raised as that."""
        self.waits.set()
        try:
            yield
        except RuntimeError as error:
            if self.board is None or out_of_memory(error):
                raise
            deadline = time.monotonic() + SOON
            while time.monotonic() < deadline:
                if trouble := self._trouble(self.board):
                    raise trouble from error
                time.sleep(0.1)
            raise
        finally:
            self.waits.clear()

    def _trouble(self, board: TCPStore) -> Exception | None:
        """What went wrong in another process."""
        lost = self.peers.lost()
        if not board.check([TROUBLE]):  # looked at last: who ends has written before
            return PeerLost(f"a process of trial {self.job.trial} was lost: {lost}") if lost else None
        kind, _, text = board.get(TROUBLE).decode().partition(" ")
        kinds: dict[str, type[Exception]] = {"memory": MemoryError, "user": ValueError, "lost": PeerLost}
        return kinds.get(kind, RuntimeError)(text)

    def _watch(self, over: threading.Event) -> None:
        """A process that waits on a GPU for one that is gone would wait for half an hour: end it, as if it had been lost itself."""
        since: float | None = None
        while not over.wait(LOOK):
            lost = self.peers.lost() if self.waits.is_set() else ""
            since = (since or time.monotonic()) if lost else None
            if since is not None and time.monotonic() > since + GRACE:
                print(f"a process of trial {self.job.trial} was lost ({lost}): run the same command again", file=sys.stderr, flush=True)
                os._exit(1)

    @property
    def leaving(self) -> bool:
        """Whether another process was told to end."""
        return self.group is not None and self.group.leaving

    def end(self, *, failed: bool = False) -> None:
        """End the other processes; where something has `failed`, also those that wait for this one."""
        group = self.group
        self.board = self.group = None
        self.over.set()
        if group:
            group.tell(END)
        if group and failed:
            group.close(failed=True)
        self.peers.stop()
        if group and not failed:
            group.close(failed=False)


class LocalPeers:
    """Processes of this machine, each with the next of the GPUs that this one sees. They end with this one."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.running: list[tuple[Seat, subprocess.Popen[bytes], IO[bytes]]] = []
        self.files = contextlib.ExitStack()

    def start(self, job: Job, seats: Sequence[Seat]) -> None:
        """See `Peers`."""
        for seat in seats:
            said = self.files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"{__package__}.peer"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=os.environ | _own_gpu(job, seat),
                start_new_session=True,
            )
            self.running.append((seat, process, said))
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it ended already
                process.stdin.write(json.dumps([asdict(job), asdict(seat)]).encode() + b"\n")
                process.stdin.flush()

    def lost(self) -> str:
        """See `Peers`."""
        for seat, process, said in self.running:
            if process.poll() is not None:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                why = f" ({lines[-1][:200]})" if lines else ""
                return f"process {seat.rank} of {seat.processes} ended with {process.returncode}{why}"
        return ""

    def stop(self) -> None:
        """See `Peers`."""
        deadline = time.monotonic() + STOP
        for _, process, _ in self.running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        self.running.clear()
        self.files.close()


def _own_gpu(job: Job, seat: Seat) -> dict[str, str]:
    if job.how["device"] != "cuda":
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return {"CUDA_VISIBLE_DEVICES": visible.split(",")[seat.rank]}
