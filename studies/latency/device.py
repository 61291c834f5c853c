"""Where and how a network is timed: the conditions that are asked for, and the key of the device that a reading belongs to.

This file needs the standard library alone: it travels in bundles, and readings can be listed without torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

DEVICES = ("cpu", "cuda")
BACKENDS = ("eager", "compile", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
CACHES = ("warm", "cold")
EXTRAS = {"onnxruntime": ("latency", ("onnx", "onnxruntime")), "openvino": ("openvino", ("openvino", "onnx", "onnxruntime"))}
OFFERED = {  # the precisions that a backend computes in, by device
    ("eager", "cpu"): ("fp32", "bf16", "fp16"),
    ("compile", "cpu"): ("fp32", "bf16", "fp16"),
    ("eager", "cuda"): ("fp32", "bf16", "fp16"),
    ("compile", "cuda"): ("fp32", "bf16", "fp16"),
    ("onnxruntime", "cpu"): ("fp32", "int8"),
    ("onnxruntime", "cuda"): ("fp32", "fp16"),
    ("openvino", "cpu"): ("fp32", "bf16", "fp16", "int8"),
}


class LatencyError(ValueError):
    """Something cannot be measured as it was asked for; the message names the next move."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of a library means that memory ended; torch and the runtimes raise RuntimeErrors of their own for it."""
    if isinstance(error, OSError):  # its text has a path, which may be called anything
        return False
    told = str(error).lower()
    return isinstance(error, MemoryError) or any(words in told for words in ("out of memory", "not enough memory", "allocate"))


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How networks are to be run: what a reading's key says beside the machine itself.

    `batch` is in images, `input_size` in pixels (height and width alike), `threads` counts the processor's threads. `cache` is "warm"
    (passes follow each other) or "cold" (the processor's caches are filled with other data before every timed pass).
    LatencyError for a value that does not exist and for a combination that no backend offers.
    """

    device: str = "cpu"
    backend: str = "eager"
    precision: str = "fp32"
    threads: int = 1
    batch: int = 1
    input_size: int = 224
    cache: str = "warm"

    def __post_init__(self) -> None:
        for name, known in (("device", DEVICES), ("backend", BACKENDS), ("precision", PRECISIONS), ("cache", CACHES)):
            value = getattr(self, name)
            if value not in known:
                raise LatencyError(f"{name}: {value!r} is not one of {', '.join(known)}")
        for name, most in (("threads", 1024), ("batch", 65536), ("input_size", 4096)):
            if not 1 <= getattr(self, name) <= most:
                raise LatencyError(f"{name.replace('_', '-')}: must lie between 1 and {most}, not {getattr(self, name)}")
        offered = OFFERED.get((self.backend, self.device), ())
        if not offered:
            on = sorted({backend for backend, device in OFFERED if device == self.device})
            raise LatencyError(f"backend: {self.backend} does not run on {self.device}; there: {', '.join(on)}")
        if self.precision not in offered:
            able = [b for (b, device), precisions in OFFERED.items() if device == self.device and self.precision in precisions]
            move = f"--backend {' or '.join(able)}" if able else f"--precision {' or '.join(offered)}"
            raise LatencyError(f"precision: {self.backend} on {self.device} does not compute in {self.precision}: use {move}")


@dataclass(frozen=True, kw_only=True)
class DeviceKey:
    """What tells one reading of a network from another: machine, libraries and conditions. Nothing of the network is in it.

    `versions` are the libraries that decide how the network is computed; `accelerator` is empty on a processor.
    """

    processor: str
    accelerator: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    conditions: Conditions = field(default_factory=Conditions)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the key's canonical JSON."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The key in one line, for tables and figures."""
        c = self.conditions
        where = self.accelerator or self.processor
        how = f"{c.backend} {self.versions.get(LIBRARY[c.backend], '')}".strip()
        threads = f", {c.threads} thread{'s' * (c.threads > 1)}" if c.device == "cpu" else ""
        return f"{where}, {how}, {c.precision}, batch {c.batch}, {c.input_size} pixels{threads}{', cold cache' * (c.cache == 'cold')}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "processor": self.processor,
            "accelerator": self.accelerator,
            "versions": dict(self.versions),
            "conditions": asdict(self.conditions),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> DeviceKey:
        """The key written by `to_dict`."""
        known = {f.name for f in fields(Conditions)}
        conditions = Conditions(**{k: v for k, v in data["conditions"].items() if k in known})
        return cls(processor=data["processor"], accelerator=data["accelerator"], versions=dict(data["versions"]), conditions=conditions)


LIBRARY = {"eager": "torch", "compile": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}


BOARD = Path("/proc/device-tree/model")  # on ARM and RISC-V


def processor_model() -> str:
    """The processor's name with its number of cores, such as "Intel(R) Xeon(R) Processor x2"."""
    name = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        board = ""
        with contextlib.suppress(OSError):
            board = BOARD.read_text(errors="replace").strip("\0 \n")
        name = linux_processor(info.read_text(), board)
    elif platform.system() == "Darwin":
        asked = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        name = asked.stdout.strip()
    name = name or platform.processor() or platform.machine()
    return f"{name} x{os.cpu_count() or 1}"


def linux_processor(cpuinfo: str, board: str = "") -> str:
    """The processor's name by the text of /proc/cpuinfo (a block a core, and on ARM one more of the board) and the board's name.

    ARM's cores have numbers in the name's place, of the maker, the design and its revision; a processor may have several kinds of them.
    """
    blocks = [
        {key.strip(): value.strip() for key, value in (line.split(":", 1) for line in block.splitlines() if ":" in line)}
        for block in cpuinfo.split("\n\n")
    ]
    facts = {key: value for block in reversed(blocks) for key, value in block.items()}  # the first block that tells
    board = board or facts.get("Model") or facts.get("Hardware") or ""
    if "CPU implementer" in facts:
        kinds = Counter(
            f"{b['CPU implementer']} {b.get('CPU part', '?')} r{b.get('CPU variant', '?')}p{b.get('CPU revision', '?')}"
            for b in blocks
            if "CPU implementer" in b
        )
        return f"{board or 'ARM'} ({', '.join(f'{count} of {kind}' for kind, count in sorted(kinds.items()))})"
    name = facts.get("model name") or board
    if facts.get("cpu family"):  # virtual machines hide the name; the numbers still tell processors apart
        name += f" (family {facts['cpu family']}, model {facts.get('model', '?')}, stepping {facts.get('stepping', '?')})"
    return name


def visible_gpu() -> str:
    """The GPU that "cuda" means in this process, for NVML and `nvidia-smi --id`: an index or (the start of) a UUID; empty for none.

    The first of CUDA_VISIBLE_DEVICES counts. Measuring processes set CUDA_DEVICE_ORDER so that indices are the driver's.
    """
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()


def library_versions(conditions: Conditions) -> dict[str, str]:
    """The versions of the libraries that compute under these conditions; LatencyError where one is not installed.

    The ONNX backends run what torch exported, so its version belongs to their keys too; a bundle knows it from its job.
    """
    backend = conditions.backend
    names = ("torch",) if backend in ("eager", "compile") else (LIBRARY[backend],)
    out = {}
    for name in names:
        version = version_of(name)
        if version is None:
            extra = EXTRAS[backend][0] if backend in EXTRAS else ""
            raise LatencyError(
                f"backend: {backend} is not installed: pip install 'vitnas[{extra}]'" if extra else f"{name} is not installed"
            )
        out[name] = version
    return out


def check_installed(backend: str) -> None:
    """LatencyError where a backend's libraries are missing; the message names the extra that brings them."""
    extra, needed = EXTRAS.get(backend, ("", ()))
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise LatencyError(f"backend: {backend} needs {' and '.join(missing)}, not installed here: pip install 'vitnas[{extra}]'")


def version_of(name: str) -> str | None:
    for distribution in (name, f"{name}-gpu"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
