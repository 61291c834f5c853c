"""The processes that train one trial together, with torch's DistributedDataParallel: gloo on CPUs, NCCL on GPUs, a GPU each.

Every process has an equal share of each batch, in the batch's order, and takes it in the chunks in which one process would take it. So what
they compute is, to rounding, what one process computes that takes the same chunks one after another: gradients are added up before each
step, and BatchNorm's running statistics are put together in the order of the chunks. Weights and optimizer are the same everywhere at
every step.

The first process leads: it alone holds the trial and writes. It tells the others what comes next on a board, a key-value store
that it keeps (torch's TCPStore) on its own address.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(minutes=30)  # until the slowest process comes to where the others wait
LOOK = 0.01  # seconds between two looks of a process that waits for the first one's word
EPOCH, VALIDATE, CONTINUE, END = "epoch", "validate", "continue", "end"  # the first one's words
TROUBLE, LEAVING = "trouble", "leaving"  # what others write on the board
QUIET = (  # of DDP's warnings: what is meant so, and 1x1 convolutions, whose strides can be told in two ways
    "`broadcast_buffers` is deprecated",
    "Grad strides do not match bucket view strides",
)
ADDRESS_OF = 0x8915  # SIOCGIFADDR


class PeerLost(Exception):
    """A process of the trial ended before the trial did: what was trained is saved up to the last epoch."""


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Where a process joins: which of `processes` it is, and the board's address."""

    rank: int
    processes: int
    host: str
    port: int


def open_board(host: str) -> tuple[TCPStore, int]:
    """A new board on the address `host` of this machine, and its port."""
    listening = socket.create_server((host, 0))
    port = listening.getsockname()[1]
    board = TCPStore(host, port, None, True, PATIENCE, wait_for_workers=False, master_listen_fd=listening.detach())
    return board, port


def find_board(seat: Seat) -> TCPStore:
    """The board of the process that leads."""
    return TCPStore(seat.host, seat.port, None, False, PATIENCE, wait_for_workers=False)


class Group:
    """This process among those of its trial. All of them must be made, and must sum, at the same time."""

    def __init__(self, seat: Seat, device: torch.device, board: TCPStore) -> None:
        self.rank, self.processes, self.board = seat.rank, seat.processes, board
        self.leads, self.words = seat.rank == 0, 0
        name = interface(seat.host, seat.port)
        for variable, value in (("GLOO_SOCKET_IFNAME", name), ("NCCL_SOCKET_IFNAME", f"={name}")):
            os.environ.setdefault(variable, value)
        for message in QUIET:
            warnings.filterwarnings("ignore", message=message)
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("group", board),
            rank=seat.rank,
            world_size=seat.processes,
            timeout=PATIENCE,
        )
        hosts = [board.get(host_key(rank)) for rank in range(seat.rank)]
        self.first_on_host = board.get(host_key(seat.rank)) not in hosts

    def wrap(self, network: nn.Module) -> DistributedDataParallel:
        """`network` with gradients that are means over the processes; it starts from the first one's weights.

        With `find_unused_parameters` DDP never rearranges its buckets, so that a training that was continued adds up in the same order
        as one that was not.
        """
        return DistributedDataParallel(
            _Wrapped(network), broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
        )

    def sum(self, values: Tensor) -> Tensor:
        """The sum over the processes, in place."""
        dist.all_reduce(values)
        return values

    def tell(self, word: str) -> None:
        """Tell the others what comes next; nothing where this process does not lead."""
        if self.leads:
            self.board.set(f"word/{self.words}", word)
            self.words += 1

    def told(self) -> str:
        """What the first process says next. torch's DistNetworkError where it is gone."""
        key = f"word/{self.words}"
        while not self.board.check([key]):  # in Python, so that it hears signals
            time.sleep(LOOK)
        self.words += 1
        return self.board.get(key).decode()

    def give(self, state: dict[str, Any], device: torch.device) -> None:
        """Give the others a state (tensors and plain values), which they `take`."""
        buffer = BytesIO()
        torch.save(state, buffer)
        self.tell(f"{CONTINUE} {buffer.getbuffer().nbytes}")
        dist.broadcast(torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8).to(device), 0)

    def take(self, size: int, device: torch.device) -> dict[str, Any]:
        """The state, of `size` bytes, that the first process gives."""
        received = torch.empty(size, dtype=torch.uint8, device=device)
        dist.broadcast(received, 0)
        state: dict[str, Any] = torch.load(BytesIO(received.cpu().numpy().tobytes()), map_location=device, weights_only=True)
        return state

    @property
    def leaving(self) -> bool:
        """Whether one of the others was told to end."""
        return bool(self.board.check([LEAVING]))

    def close(self, *, failed: bool) -> None:
        """Leave the group; where it has `failed`, without waiting for anyone."""
        if failed:
            with contextlib.suppress(RuntimeError, AttributeError):  # older torch cannot
                dist.group.WORLD.abort()  # type: ignore[union-attr]
        dist.destroy_process_group()


class _Wrapped(nn.Module):
    """`network`, and a parameter that is never used: where DDP is to look for such and finds none, it prints a warning past Python."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.unused = nn.Parameter(torch.zeros((), device=next(network.parameters()).device))

    def forward(self, x: Tensor) -> Any:
        return self.network(x)


class RunningStatistics:
    """BatchNorm's running statistics over the chunks of all processes, as if one had seen the chunks one after another.

    An update takes the statistics r to (1 - m) r + m s, with s of a chunk and the momentum m. Over all chunks that is a weighted sum, of
    which every process adds up its own part: later processes begin a step at 0, and what a process has at its end counts (1 - m) to the
    power of the updates that come after it.
    """

    def __init__(self, network: nn.Module, group: Group) -> None:
        self.group = group
        norms = [m for m in network.modules() if isinstance(m, _NormBase) and m.running_mean is not None]
        self.buffers = [cast(Tensor, b) for m in norms for b in (m.running_mean, m.running_var)]
        self.counts = [cast(Tensor, m.num_batches_tracked) for m in norms]
        self.momenta = [cast(float, m.momentum) for m in norms]
        self.updates: list[int] = []  # of each, by one process in a step; known after the first step

    @contextlib.contextmanager
    def over_a_step(self) -> Iterator[None]:
        """Within, the forward passes of one step."""
        if not self.buffers:
            yield
            return
        before = [] if self.updates else [int(c) for c in self.counts]
        if not self.group.leads:
            torch._foreach_zero_(self.buffers)
        yield
        self.updates = self.updates or [int(c) - b for c, b in zip(self.counts, before, strict=True)]
        later = self.group.processes - 1 - self.group.rank
        weights = [(1 - m) ** (n * later) for m, n in zip(self.momenta, self.updates, strict=True) for _ in ("mean", "variance")]
        torch._foreach_mul_(self.buffers, weights)
        flat = self.group.sum(torch.cat(self.buffers))
        torch._foreach_copy_(self.buffers, flat.split([len(b) for b in self.buffers]))  # type: ignore[no-untyped-call]
        for count, n in zip(self.counts, self.updates, strict=True):
            count.add_(n * (self.group.processes - 1))


def host_key(rank: int) -> str:
    """Where on the board a process writes its host's name when it comes."""
    return f"host/{rank}"


def interface(host: str, port: int) -> str:
    """The network interface by which this machine reaches `host` (its own address: by which others reach it)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((host, port))  # sends nothing
        own = asking.getsockname()[0]
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has no address
                found = fcntl.ioctl(asking.fileno(), ADDRESS_OF, struct.pack("256s", name.encode()[:15]))
                if socket.inet_ntoa(found[20:24]) == own:
                    return name
    raise ValueError(f"no network interface has the address {own}: set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME")
