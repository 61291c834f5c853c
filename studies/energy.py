"""Energy: what the device itself has counted, through NVML on a GPU and RAPL on a processor. None where it does not tell."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

RAPL = Path("/sys/class/powercap")


class Meter:
    """Measures what runs inside its `with`. `joules` and `watts` are None where the device does not tell.

    On a GPU the counter of the whole board (NVML's total energy), on a processor that of all its packages (RAPL), so whatever else
    runs there counts too.
    """

    def __init__(self, device: str) -> None:
        self._read = _board if device == "cuda" else _packages
        self.joules: float | None = None
        self.seconds = 0.0

    def __enter__(self) -> Self:
        self._before, self._began = self._read(), time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        after, self.seconds = self._read(), time.perf_counter() - self._began
        if self._before is not None and after is not None and after >= self._before:  # the counter starts again at its end
            self.joules = after - self._before

    @property
    def watts(self) -> float | None:
        """Mean power."""
        return None if self.joules is None or self.seconds == 0 else self.joules / self.seconds


def _packages() -> float | None:
    try:
        counters = [int(p.read_text()) for p in sorted(RAPL.glob("*-rapl:[0-9]/energy_uj"))]
    except (OSError, ValueError):
        return None
    return sum(counters) / 1e6 if counters else None


def _board() -> float | None:
    try:
        import pynvml  # type: ignore[import-not-found,import-untyped]
        import torch

        pynvml.nvmlInit()
        handle: Any = pynvml.nvmlDeviceGetHandleByIndex(torch.cuda.current_device())
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except Exception:  # no library, no driver, or a board without a counter: it does not tell
        return None
