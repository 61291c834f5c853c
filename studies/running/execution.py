"""How trials run on this machine: device, precision, threads, how many at once. None of it is part of a trial's identity, but
precision, which is resolved here once, before identities are computed."""

from __future__ import annotations

import importlib.util
import os
import shutil
from dataclasses import dataclass

from ..study import Study, StudyError


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What the driver found and chose: `concurrency` trials at once, each with `cpus_per_trial` CPUs and `gpus` GPUs (also a part of one),
    in `processes` with `threads` threads each. `most` trials may run at once, on nodes that join later too; None means any number."""

    device: str
    precision: str
    threads: int
    concurrency: int
    cpus: int
    gpus: float = 0.0
    cpus_per_trial: float = 1.0
    most: int | None = None
    compile: bool = False
    processes: int = 1
    notes: tuple[str, ...] = ()


def usable_cpus() -> int:
    """CPU cores this process may use (affinity and container limits respected)."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = open("/sys/fs/cgroup/cpu.max").read().split()  # noqa: PTH123, SIM115
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def compiler(device: str) -> bool:
    """Whether torch.compile has what it needs: a C++ compiler on a CPU, Triton and a C compiler on a GPU."""
    if device == "cuda":
        return importlib.util.find_spec("triton") is not None and shutil.which(os.environ.get("CC", "cc")) is not None
    return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None


def resolve(study: Study, trials: int) -> Machine:
    """Fit `study` to this machine; StudyError where it asks for more than there is.

    On a CPU, single-threaded trials side by side beat one that uses all cores (small networks lose most of a second
    core to synchronisation), so threads default to 1 and concurrency to the number of cores.
    """
    cpus, processes = usable_cpus(), study.processes or 1
    each = (study.threads or 1) * processes
    wanted = each * (study.concurrency or 1)
    if wanted > cpus:
        most = f"--concurrency {max(1, cpus // each)}" if each <= cpus else f"--threads {cpus // processes}"
        most = most if processes <= cpus else f"--processes {cpus}"
        several = "concurrency x threads" + (" x processes" if processes > 1 else "")
        raise StudyError(f"concurrency: {wanted} CPUs are wanted ({several}), this machine has {cpus}: use {most}")
    import torch

    cuda = torch.cuda.is_available()
    if study.device == "cuda" and not cuda:
        raise StudyError("device: no CUDA GPU is visible here: use --device cpu")
    device = "cuda" if cuda and study.device != "cpu" else "cpu"
    threads, there = study.threads or 1, torch.cuda.device_count()
    if device == "cuda" and processes > 1 and (gpus := processes * (study.concurrency or 1)) > there:
        raise StudyError(f"processes: each takes a GPU, {gpus} in all, this machine has {there}: use fewer, or --device cpu")
    at_once = cpus // each if device == "cpu" else min(cpus, 4) if processes == 1 else there // processes
    concurrency = study.concurrency or max(1, min(trials, at_once))
    bf16 = device == "cuda" and torch.cuda.is_bf16_supported()
    return Machine(
        device=device,
        precision="bfloat16" if bf16 else "float32",
        threads=threads,
        concurrency=concurrency,
        cpus=cpus,
        cpus_per_trial=each,
        most=concurrency,
        gpus=0.0 if device == "cpu" else float(processes) if processes > 1 else 1 / concurrency,
        processes=processes,
        compile=study.compile and compiler(device),
        notes=("torch.compile finds no compiler here: running eagerly",) if study.compile and not compiler(device) else (),
    )
