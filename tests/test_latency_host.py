"""What is read of the host: processors' names, which GPU, which cores, the lock of several users, memory and energy."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest

from vitnas.studies.latency import power, quiet
from vitnas.studies.latency.device import linux_processor, processor_model, visible_gpu
from vitnas.studies.latency.power import LEAST_MB, joules_per_pass, peak_memory

X86 = """processor : 0
vendor_id : GenuineIntel
cpu family : 6
model : 143
model name : Intel(R) Xeon(R) Processor
stepping : 8

processor : 1
vendor_id : GenuineIntel
cpu family : 6
model : 143
model name : Intel(R) Xeon(R) Processor
stepping : 8
"""


def arm(*parts: str, tail: str = "") -> str:
    """/proc/cpuinfo of an ARM processor with cores of these designs."""
    cores = (
        f"processor\t: {i}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n"
        for i, part in enumerate(parts)
    )
    return "\n".join((*cores, tail))


def test_boards_of_four_arm_cores_have_names_of_their_own() -> None:
    """By the board's name from wherever it stands, and by the cores' numbers where it stands nowhere; x86 keeps its name."""
    a72 = ["0xd08"] * 4
    pi = "Hardware\t: BCM2835\nRevision\t: c03114\nSerial\t\t: 100000001\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n"
    assert linux_processor(arm(*a72, tail=pi)) == "Raspberry Pi 4 Model B Rev 1.4 (4 of 0x41 0xd08 r0x0p3)"
    assert linux_processor(arm(*a72), "Some Board") == "Some Board (4 of 0x41 0xd08 r0x0p3)"
    assert linux_processor(arm(*a72)) == "ARM (4 of 0x41 0xd08 r0x0p3)"
    assert linux_processor(arm("0xd05", "0xd05", "0xd0a", "0xd0a")) == "ARM (2 of 0x41 0xd05 r0x0p3, 2 of 0x41 0xd0a r0x0p3)"
    assert linux_processor(arm("0xd03", "0xd03", "0xd03", "0xd03")) != linux_processor(arm(*a72))
    assert linux_processor(X86) == "Intel(R) Xeon(R) Processor (family 6, model 143, stepping 8)"
    assert processor_model().endswith(f" x{os.cpu_count()}")


class Driver:
    """Three GPUs as NVML tells of them, the last one in slices."""

    uuids = (b"GPU-aa11", b"GPU-bb22", b"GPU-cc33")

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self.uuids)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return range(len(self.uuids))[index]

    def nvmlDeviceGetUUID(self, handle: int) -> bytes:
        return self.uuids[handle]

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:
        return {b"MIG-dd44": "a slice"}[uuid]

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> int:
        return {"a slice": 2}[handle]


@pytest.mark.parametrize(
    ("visible", "handle"), [(None, 0), ("2,0", 2), ("GPU-bb22", 1), ("GPU-c", 2), ("MIG-dd44", 2), (" 1 ", 1), ("", None), ("GPU-z", None)]
)
def test_clock_and_energy_are_of_the_visible_gpu(visible: str | None, handle: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By CUDA_VISIBLE_DEVICES, be it an index, a UUID or its start; none where none is visible."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert visible_gpu() == visible.split(",")[0].strip()
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    if handle is None:
        with pytest.raises((LookupError, ValueError)):
            power.nvml_gpu()
        assert power.energy_counter("cuda") is None and quiet.look([], [], gpu=True).clock == 0
    else:
        assert power.nvml_gpu()[1] == handle


def cores(root: Path, siblings: dict[int, str], **files: dict[int, int]) -> None:
    """What the system tells of cores."""
    for core, text in siblings.items():
        folder = root / f"cpu{core}"
        (folder / "topology").mkdir(parents=True)
        (folder / "cpufreq").mkdir()
        (folder / "topology" / "thread_siblings_list").write_text(f"{text}\n")
        for name, values in files.items():
            (folder / name.replace("__", "/")).write_text(f"{values[core]}\n")


FIRST = 5000  # cores that this machine does not have: idle


def test_threads_get_physical_cores_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hyperthreads share a core, and slow cores are of another kind: neither is taken while there are others."""
    monkeypatch.setattr(quiet, "CPUS", tmp_path)
    n = FIRST
    pairs = {n: f"{n}-{n + 1}", n + 1: f"{n}-{n + 1}", n + 2: f"{n + 2},{n + 3}", n + 3: f"{n + 2},{n + 3}"}
    alone = {n + 4: f"{n + 4}", n + 5: f"{n + 5}"}
    clocks = dict.fromkeys(pairs, 5_200_000) | dict.fromkeys(alone, 3_800_000) | {n: 5_400_000}
    cores(tmp_path, pairs | alone, cpufreq__cpuinfo_max_freq=clocks)
    everything = [*pairs, *alone]
    assert quiet.calmest(everything, 1, seconds=0) == [n + 3]
    assert quiet.calmest(everything, 2, seconds=0) == [n + 1, n + 3]
    assert quiet.calmest(everything, 4, seconds=0) == [n + 1, n + 3, n + 4, n + 5]
    assert quiet.calmest(everything, 5, seconds=0) == [n + 1, n + 2, n + 3, n + 4, n + 5]
    assert quiet.calmest(list(pairs), 4, seconds=0) == list(pairs)


def test_threads_get_cores_of_the_fastest_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Capacities tell on ARM; where nothing does, higher numbers are taken."""
    monkeypatch.setattr(quiet, "CPUS", tmp_path)
    n = FIRST
    cores(tmp_path, {n + i: f"{n + i}" for i in range(4)}, cpu_capacity={n: 1024, n + 1: 1000, n + 2: 400, n + 3: 400})
    assert quiet.calmest([n, n + 1, n + 2, n + 3], 1, seconds=0) == [n + 1]
    assert quiet.calmest([n, n + 1, n + 2, n + 3], 2, seconds=0) == [n, n + 1]
    monkeypatch.setattr(quiet, "CPUS", tmp_path / "none")
    assert quiet.calmest([n, n + 1, n + 2, n + 3], 2, seconds=0) == [n + 2, n + 3]


def test_the_lock_of_another_user_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux (fs.protected_regular) refuses O_CREAT on another user's file in a shared folder: it is not asked for where there is one."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with quiet.alone():
        pass
    assert (tmp_path / quiet.LOCK).stat().st_mode & 0o777 == 0o666
    own = os.open

    def protected(path: str | os.PathLike[str], flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT and Path(path).exists():
            raise PermissionError(13, "Permission denied", str(path))
        return own(path, flags, mode)

    monkeypatch.setattr(os, "open", protected)
    with quiet.alone():
        pass


def test_memory_that_did_not_grow_is_not_nothing() -> None:
    """Ratios of it are taken later."""
    with peak_memory() as peak:
        pass
    assert peak.megabytes is None or peak.megabytes >= LEAST_MB
    peak.grew(-3.0)
    assert peak.megabytes == LEAST_MB
    peak.grew(12.345)
    assert peak.megabytes == 12.35 or peak.megabytes == 12.34


def test_energy_of_cold_passes_leaves_the_emptying_out() -> None:
    """A pass takes 2 J and emptying the caches 3 J: cold passes, which emptying comes before, take 2 J; a counter that restarts, none."""
    spent = 0.0

    def take(joules: float) -> None:
        nonlocal spent
        spent += joules

    def counter() -> float:
        return spent

    assert joules_per_pass(lambda n: take(2 * n), 0.1, counter) == 2
    assert joules_per_pass(lambda n: take(5 * n), 0.1, counter, lambda n: take(3 * n)) == pytest.approx(2)
    assert joules_per_pass(lambda n: take(-1), 0.1, counter) is None
    assert joules_per_pass(lambda n: take(5 * n), 0.1, counter, lambda n: take(-100)) is None
