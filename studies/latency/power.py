"""Energy and memory of passes, where the system tells: RAPL and NVML count joules, the kernel the peak of resident memory.

This file needs the standard library alone (NVML through `pynvml` where that is installed): it travels in bundles.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .device import visible_gpu

RAPL = Path("/sys/class/powercap")
ENERGY_SECONDS = 1.0  # counters move in steps of 1 ms (RAPL) to 100 ms (NVML)
LEAST_MB = 0.01  # a network that found room in memory held already: about the kernel's page


def energy_counter(device: str) -> Callable[[], float] | None:
    """A counter of joules since some start: the visible GPU's (NVML), or all processor packages' (RAPL); None where neither can be read."""
    return _nvml() if device == "cuda" else _rapl()


def _nvml() -> Callable[[], float] | None:
    try:
        nvml, handle = nvml_gpu()
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # an absent library, driver or counter, each with an error class of its own
        return None
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3


def nvml_gpu() -> tuple[Any, Any]:
    """NVML, and its handle of the GPU that "cuda" means here (of the whole GPU where that is a slice of one); an error of any class where
    there is no NVML or no such GPU."""
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    wanted = visible_gpu()
    if wanted.startswith("MIG-"):
        return nvml, nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvml.nvmlDeviceGetHandleByUUID(wanted.encode()))
    if not wanted.startswith("GPU-"):
        return nvml, nvml.nvmlDeviceGetHandleByIndex(int(wanted))
    for index in range(nvml.nvmlDeviceGetCount()):
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = nvml.nvmlDeviceGetUUID(handle)
        if (uuid.decode() if isinstance(uuid, bytes) else uuid).startswith(wanted):
            return nvml, handle
    raise LookupError(wanted)


def _rapl() -> Callable[[], float] | None:
    counters = [p / "energy_uj" for p in sorted(RAPL.glob("intel-rapl:?"))]
    try:
        for counter in counters:
            int(counter.read_text())
    except (OSError, ValueError):
        return None
    return (lambda: sum(int(counter.read_text()) for counter in counters) / 1e6) if counters else None


def joules_per_pass(
    burst: Callable[[int], object],
    seconds_a_pass: float,
    counter: Callable[[], float],
    emptying: Callable[[int], object] | None = None,
) -> float | None:
    """Joules a pass over about a second of passes, the device's idle power included; None where a counter began anew meanwhile.

    Where `burst` empties the caches ahead of each pass, `emptying` does so as many times alone, and what that takes is subtracted.
    """
    burst(1)
    if emptying is not None:
        started = time.perf_counter()
        emptying(1)
        seconds_a_pass += time.perf_counter() - started
    passes = max(1, round(ENERGY_SECONDS / seconds_a_pass))
    before = counter()
    burst(passes)
    between = counter()
    spent = between - before
    if emptying is not None:
        emptying(passes)
        alone = counter() - between
        spent = spent - alone if alone >= 0 else 0.0
    return spent / passes if spent > 0 else None


class Peak:
    """By how much the peak of memory grew, in MB, never 0; None where the system does not tell."""

    megabytes: float | None = None

    def grew(self, megabytes: float) -> None:
        """Note a growth; hundredths of a MB are kept."""
        self.megabytes = max(LEAST_MB, round(megabytes, 2))


@contextlib.contextmanager
def peak_memory() -> Iterator[Peak]:
    """Within the block the peak of this process's resident memory is watched; afterwards `megabytes` says by how much it grew."""
    peak = Peak()
    before = None
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
        before = _status("VmRSS")
    yield peak
    after = _status("VmHWM") if before is not None else None
    if before is not None and after is not None:
        peak.grew(after - before)


def _status(name: str) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024 / 1e6
    return None


def settle(seconds: float, call: Callable[[], object]) -> None:
    """Call for some seconds, so that clocks and caches leave their idle state."""
    give_up = time.perf_counter() + seconds
    while time.perf_counter() < give_up:
        call()
