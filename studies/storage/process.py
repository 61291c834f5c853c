"""Which process holds a lock, and whether it has certainly ended.

A process is known by its machine (host name and boot), its process namespace (containers of one machine number their processes apart), its
number, and when it started, since numbers come again.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """This process, as plain data."""
    return {"place": _place(), "process": os.getpid(), "started": _started(os.getpid())}


def name(process: dict[str, Any]) -> str:
    """`process 12 on host`."""
    return f"process {process['process']} on {process['place'][0]}"


def ended(process: dict[str, Any]) -> bool:
    """Whether the process ran here and runs no more. False for one elsewhere, of which nothing is known."""
    if process["place"] != _place():
        return False
    try:
        os.kill(process["process"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return bool(_started(process["process"]) != process["started"])


def since_boot() -> float:
    """Seconds of a clock that also runs while the machine sleeps, where there is one: a sleeping holder shows no life."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _place() -> list[str]:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    return [
        socket.gethostname(),
        boot.read_text().strip() if boot.exists() else "",
        str(namespace.stat().st_ino) if namespace.exists() else "",
    ]


def _started(pid: int) -> str:
    """When the process started (in the kernel's ticks since boot); nothing where it is not running or the system does not say."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]
