"""The machine under a training: its name, the versions of what computes, and when its memory has run out."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import torch

from ... import __version__


def device_name(device: torch.device) -> str:
    """The processor's or accelerator's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """What the result may depend on besides the trial."""
    return {"vitnas": __version__, "torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()}


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's memory does not suffice."""
    words = (
        "can't allocate memory",
        "not enough memory",
        "could not create a primitive",
        "could not create a memory",
    )  # the last: oneDNN's
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(w in str(error) for w in words)
