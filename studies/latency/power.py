"""Energy and memory of passes, where the system tells: RAPL and NVML count joules, the kernel the peak of resident memory.

This file needs the standard library alone (NVML through `pynvml` where that is installed): it travels in bundles.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

RAPL = Path("/sys/class/powercap")
ENERGY_SECONDS = 1.0  # counters move in steps of 1 ms (RAPL) to 100 ms (NVML)


def energy_counter(device: str) -> Callable[[], float] | None:
    """A counter of joules since some start: the first GPU's (NVML), or all processor packages' (RAPL); None where neither can be read."""
    return _nvml() if device == "cuda" else _rapl()


def _nvml() -> Callable[[], float] | None:
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # an absent library, driver or counter, each with an error class of its own
        return None
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3


def _rapl() -> Callable[[], float] | None:
    counters = [p / "energy_uj" for p in sorted(RAPL.glob("intel-rapl:?"))]
    try:
        for counter in counters:
            int(counter.read_text())
    except (OSError, ValueError):
        return None
    return (lambda: sum(int(counter.read_text()) for counter in counters) / 1e6) if counters else None


def joules_per_pass(burst: Callable[[int], list[float]], seconds_a_pass: float, counter: Callable[[], float]) -> float | None:
    """Joules a pass over about a second of passes, the device's idle power included; None where a counter began anew meanwhile."""
    passes = max(1, round(ENERGY_SECONDS / seconds_a_pass))
    burst(1)
    before = counter()
    burst(passes)
    spent = counter() - before
    return spent / passes if spent > 0 else None


class Peak:
    """The growth of resident memory since `peak_memory` began, in MB; None where the kernel does not tell."""

    megabytes: float | None = None


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
        peak.megabytes = round(max(0.0, after - before), 2)


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
