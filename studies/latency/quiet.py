"""Is the host quiet? What other processes took from us between two looks, and which cores to use.

Every figure is read from the kernel where it offers it and left out elsewhere; what then remains are the reference networks.
This file needs the standard library alone: it travels in bundles.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .power import nvml_gpu

CPUS = Path("/sys/devices/system/cpu")
STEAL = 0.02  # of the time: taken by the hypervisor
WAITED = 0.02  # of the time: ready to run while another process had the core
SLOW_CLOCK = 0.95  # of the highest clock seen
SAME_KIND = 0.9  # of the fastest core's speed: turbo clocks differ by a few per cent, kinds of cores by more
LOCK = "vitnas-latency.lock"


class HostBusy(ValueError):
    """Another measuring holds the host, or a training runs beside; the message names the next move. `readings` are those that were asked
    for together with what is missing, and are recorded."""

    readings: Sequence[Any] = ()


@dataclass(frozen=True)
class Look:
    """Counters at one moment, in seconds since some start (`clock` in MHz, 0 where unknown)."""

    wall: float
    own: float
    busy: float
    steal: float
    waited: float
    clock: float
    counted: bool


def look(cores: Sequence[int], pinned: Sequence[int], *, gpu: bool = False) -> Look:
    """The counters of `cores` (all that we might use) and of this process on its `pinned` ones, now; with `gpu` the clock is the GPU's."""
    busy, steal, counted = _core_times(cores)
    return Look(time.perf_counter(), time.process_time(), busy, steal, _waited(), _gpu_clock() if gpu else _clock(pinned), counted)


def disturbance(before: Look, after: Look, *, foreign: float, best_clock: float) -> str:
    """What was wrong between two looks, in words; empty where nothing was.

    `foreign` is how much of a core other processes may use on average (without end: nothing counts as a disturbance); `best_clock` the
    highest clock seen so far (MHz).
    """
    wall = after.wall - before.wall
    if wall <= 0 or math.isinf(foreign):
        return ""
    if before.counted:
        others = (after.busy - before.busy) - (after.own - before.own)
        # The kernel counts in ticks of 10 ms: up to two of them may be of another window.
        if (others - 0.02) / wall > foreign:
            return f"other processes used {others / wall:.2f} cores"
        if (after.steal - before.steal - 0.01) / wall > STEAL:
            return f"the hypervisor took {(after.steal - before.steal) / wall:.0%} of a core"
    if (after.waited - before.waited) / wall > WAITED:
        return f"ready threads waited {(after.waited - before.waited) / wall:.0%} of the time for a core"
    if 0 < after.clock < SLOW_CLOCK * best_clock:
        return f"the clock fell to {after.clock:.0f} MHz from {best_clock:.0f}"
    return ""


def usable_cores() -> list[int]:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def calmest(cores: Sequence[int], count: int, *, seconds: float = 0.25) -> list[int]:
    """The `count` cores of `cores` that compute alike and undisturbed: of different physical cores as far as there are, then of the
    fastest kind, then those that were least busy in the next `seconds`, their hyperthreads included."""
    if count >= len(cores):
        return list(cores)
    siblings = {core: _siblings(core) for core in cores}
    speeds = _speeds(cores)
    top = max(speeds.values())
    slower = {core: 0.0 if speeds[core] >= SAME_KIND * top else top - speeds[core] for core in cores}
    before = {core: _core_times(sorted(siblings[core]))[0] for core in cores}
    time.sleep(seconds)
    load = {core: _core_times(sorted(siblings[core]))[0] - before[core] for core in cores}
    chosen: list[int] = []
    while len(chosen) < count:
        left = [core for core in cores if core not in chosen]
        # Ties go to the higher number: interrupts mostly go to core 0.
        chosen.append(min(left, key=lambda c: (len(siblings[c] & {*chosen}), slower[c], round(load[c], 2), -c)))
    return sorted(chosen)


def _siblings(core: int) -> set[int]:
    """The cores, as the system counts them, that are hyperthreads of one physical core with `core`, itself among them."""
    try:
        text = (CPUS / f"cpu{core}" / "topology" / "thread_siblings_list").read_text()
        ranges = [part.split("-") for part in text.strip().split(",")]
        return {core}.union(*(range(int(r[0]), int(r[-1]) + 1) for r in ranges))
    except (OSError, ValueError):
        return {core}


def _speeds(cores: Sequence[int]) -> dict[int, float]:
    """The cores' speeds in whatever unit the system tells them of all: capacities, else highest clocks; else all alike."""
    for file in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        with contextlib.suppress(OSError, ValueError):
            return {core: float((CPUS / f"cpu{core}" / file).read_text()) for core in cores}
    return dict.fromkeys(cores, 1.0)


def pin(cores: Sequence[int]) -> bool:
    """Keep this process, and the threads it starts from now on, on `cores`; whether the system allows that."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    try:
        os.sched_setaffinity(0, cores)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def alone(patience: float = 0.0) -> Iterator[None]:
    """Hold the host's measuring lock, one for all users and stores; HostBusy where another process keeps it for `patience` seconds."""
    path = Path(tempfile.gettempdir()) / LOCK
    give_up = time.monotonic() + patience
    try:
        handle = os.open(path, os.O_RDWR)  # without O_CREAT: in shared folders Linux refuses it on another user's file
    except FileNotFoundError:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        with contextlib.suppress(OSError):
            path.chmod(0o666)  # another user may measure next
    with os.fdopen(handle, "r+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise HostBusy(
                        f"{holder} is measuring on this host: wait until it has ended (readings are taken one at a time)"
                    ) from None
                time.sleep(0.2)
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        yield
        file.truncate(0)


def _core_times(cores: Sequence[int]) -> tuple[float, float, bool]:
    """Busy and stolen seconds of `cores` since the system started; whether the kernel tells."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0, 0.0, False
    tick = 1 / os.sysconf("SC_CLK_TCK")
    wanted = {f"cpu{core}" for core in cores}
    busy = steal = 0.0
    for line in lines:
        name, *counts = line.split()
        if name in wanted:
            user, nice, system, _, _, irq, softirq, stolen = map(int, counts[:8])
            busy += (user + nice + system + irq + softirq) * tick
            steal += stolen * tick
    return busy, steal, True


def _waited() -> float:
    """Seconds that threads of this process were ready to run and waited for a core, all threads together."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for task in Path("/proc/self/task").iterdir():
            total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9


def _clock(cores: Sequence[int]) -> float:
    """The slowest of the cores' present clocks in MHz, 0 where the system does not tell."""
    clocks = []
    for core in cores:
        try:
            clocks.append(int((CPUS / f"cpu{core}" / "cpufreq" / "scaling_cur_freq").read_text()) / 1000)
        except (OSError, ValueError):
            return 0.0
    return min(clocks, default=0.0)


def _gpu_clock() -> float:
    """The visible GPU's present clock in MHz through NVML, 0 where that is not installed or does not tell."""
    try:
        nvml, handle = nvml_gpu()
        return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    except Exception:  # an absent library, driver or counter, each with an error class of its own
        return 0.0
