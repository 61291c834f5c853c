"""Readings: conditions and keys, measuring briefly for real, the store, the host's lock, which networks, fronts and notes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import to_dict
from vitnas.roadmap.zoo import variant
from vitnas.studies.latency import commands
from vitnas.studies.latency import measure as measuring
from vitnas.studies.latency.commands import notes_on
from vitnas.studies.latency.deploy import deployed_spec
from vitnas.studies.latency.device import EXTRAS, Conditions, DeviceKey, LatencyError, check_installed, library_versions
from vitnas.studies.latency.front import Entry, check_figure, draw, fastest, front
from vitnas.studies.latency.measure import Subject, device_key, measure
from vitnas.studies.latency.protocol import Disturbed
from vitnas.studies.latency.quiet import HostBusy, alone
from vitnas.studies.latency.reading import Reading
from vitnas.studies.latency.readings import earlier_sessions, every, known, known_throughput, record
from vitnas.studies.latency.subjects import published, subjects_of
from vitnas.studies.store import Store

from .command import vitnas_here
from .latency_samples import BRIEF, a_reading, small, subject

# --- conditions and keys ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"device": "tpu"}, "device: 'tpu' is not one of cpu, cuda"),
        ({"backend": "tensorrt"}, "backend: 'tensorrt' is not one of eager, compile, onnxruntime, openvino"),
        ({"backend": "openvino", "device": "cuda"}, "does not run on cuda; there: compile, eager, onnxruntime"),
        ({"precision": "int8"}, "use --backend onnxruntime or openvino"),
        ({"precision": "bf16", "backend": "onnxruntime"}, "use --backend eager or compile or openvino"),
        ({"threads": 0}, "threads: must lie between 1"),
        ({"batch": 0}, "batch: must lie between 1"),
        ({"cache": "hot"}, "cache: 'hot' is not one of warm, cold"),
    ],
)
def test_conditions_that_cannot_be_met(wrong: dict[str, object], message: str) -> None:
    """Each is refused with what there is instead."""
    with pytest.raises(LatencyError, match=message):
        Conditions(**wrong)  # type: ignore[arg-type]


def test_a_missing_backend_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install stands in the message."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LatencyError, match=r"pip install 'vitnas\[openvino\]'"):
        check_installed("openvino")
    with pytest.raises(LatencyError, match=r"pip install 'vitnas\[latency\]'"):
        check_installed("onnxruntime")
    check_installed("eager")


def test_extras_bring_what_backends_need() -> None:
    """Whoever installs the extra that a message names can use the backend."""
    offered = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, needed in EXTRAS.values():
        assert set(needed) <= {re.split(r"[<>=\[]", requirement)[0] for requirement in offered[extra]}


def test_keys_differ_where_anything_that_decides_the_time_does() -> None:
    """Machine, libraries and every condition enter the hash; a round trip keeps it."""
    key = device_key(Conditions())
    others = [
        replace(key, processor="another"),
        replace(key, accelerator="a GPU"),
        replace(key, versions={"torch": "0"}),
        *(
            replace(key, conditions=replace(key.conditions, **change))  # type: ignore[arg-type]
            for change in (
                {"threads": 2},
                {"precision": "bf16"},
                {"backend": "compile"},
                {"batch": 2},
                {"input_size": 32},
                {"cache": "cold"},
            )
        ),
    ]
    assert len({key.hash, *(k.hash for k in others)}) == len(others) + 1
    assert DeviceKey.from_dict(json.loads(json.dumps(key.to_dict()))) == key
    assert DeviceKey.from_dict(key.to_dict()).hash == key.hash
    assert library_versions(Conditions())["torch"] == torch.__version__


def test_readings_need_no_torch(tmp_path: Path) -> None:
    """Keys are made and readings listed without torch."""
    record(Store(tmp_path), a_reading())
    code = (
        "import sys; from vitnas.studies.latency.measure import device_key, Conditions; from vitnas.studies.latency.readings import every\n"
        "from vitnas.studies.latency import commands; from vitnas.studies.store import Store\n"
        "device_key(Conditions()); assert len(every(Store(sys.argv[1]))) == 1; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- measuring and the store -----------------------------------------------------------------------------------------


def test_one_network_has_one_reading_whoever_asks(store: Store) -> None:
    """Equal networks under two names are measured once; a second call measures nothing; another condition is another reading."""
    subjects = [subject("convnext-micro"), subject("convnext-micro", called="again"), subject("resnet-50-micro")]
    first = measure(store, subjects, Conditions(), BRIEF)
    assert [r.name for r in first] == ["convnext-micro", "again", "resnet-50-micro"]
    assert first[0].latency == first[1].latency
    assert all(0 < r.latency.low <= r.latency.typical <= r.latency.high for r in first)
    assert first[0].fingerprint == deployed_spec(subjects[0].spec).fingerprint
    files = sorted(store.root.glob("readings/*/*/*.json"))
    assert len(files) == 5  # two networks and three references
    said: list[str] = []
    assert [r.latency for r in measure(store, subjects, Conditions(), BRIEF, say=said.append)] == [r.latency for r in first]
    assert not said and sorted(store.root.glob("readings/*/*/*.json")) == files
    assert known(store, first[0].fingerprint, replace(first[0].key, conditions=Conditions(threads=2, input_size=32))) is None


def test_networks_that_cannot_be_measured_are_refused_or_skipped(store: Store) -> None:
    """One that does not fit its input raises; with `skip` it is handed over and the others are measured."""
    bad = Subject(name="bad", spec=variant("swin-t").spec(), input_size=100)
    with pytest.raises(LatencyError, match="does not fit 100 pixels"):
        measure(store, [bad, subject("convnext-micro")], Conditions(), BRIEF)
    skipped: list[tuple[str, str]] = []
    found = measure(
        store, [bad, subject("convnext-micro")], Conditions(), BRIEF, skip=lambda s, error: skipped.append((s.name, str(error)))
    )
    assert [r.name for r in found] == ["convnext-micro"]
    assert skipped[0][0] == "bad"


def test_more_threads_than_cores_are_refused(store: Store) -> None:
    """Threads that cannot have a core each would time the scheduler."""
    with pytest.raises(LatencyError, match="threads: 1000 are asked for"):
        measure(store, [subject("convnext-micro")], Conditions(threads=1000), BRIEF)


def test_measuring_is_refused_beside_measuring(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second process that holds the host's lock is named."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # the locks of a host of our own
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); f.write('process 7'); f.flush()\n"
        "print(1, flush=True); time.sleep(60)"
    )
    path = Path(tempfile.gettempdir()) / "vitnas-latency.lock"
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            with pytest.raises(HostBusy, match="process 7 is measuring on this host"):
                measure(store, [subject("convnext-micro")], Conditions(), BRIEF, patience=0)
        finally:
            holder.kill()
    with alone():
        pass


def test_readings_are_only_ever_added(store: Store) -> None:
    """The last to arrive counts, whatever its device's clock said; earlier ones stay, a throughput is found whatever its batch, and damaged
    files are passed over."""
    old, new = a_reading(), a_reading(taken="1970-01-01T00:00:07+00:00", reference_ms=6.0)
    for reading in (old, new, old):
        path = record(store, reading)
    assert len(list(path.parent.glob("*.json"))) == 2
    (path.parent / "broken.json").write_text("{")
    (path.parent / "odd.json").write_text('{"protocol": 1}')
    assert known(store, old.fingerprint, old.key) == new
    assert every(store) == [new] and earlier_sessions(store, old.fingerprint, old.key) == [5.0, 6.0]
    wide = a_reading(quantity="throughput", key=replace(old.key, conditions=replace(old.key.conditions, batch=64)))
    record(store, wide)
    assert known_throughput(store, old.fingerprint, old.key) == wide
    assert wide.images_per_second == pytest.approx(32000)


def test_earlier_sessions_count_from_the_last_baseline(store: Store) -> None:
    """Later sessions are compared with those since then, in their order."""
    times = [(5.0, False), (4.0, False), (9.0, True), (9.5, False), (9.2, False)]
    for day, (ms, baseline) in enumerate(times, start=1):
        record(store, a_reading(reference_ms=ms, baseline=baseline, taken=f"2025-05-0{day}T00:00:00+00:00"))
    assert earlier_sessions(store, "f" * 16, a_reading().key) == [9.0, 9.5, 9.2]
    assert earlier_sessions(store, "e" * 16, a_reading().key) == []


def test_what_is_too_wide_or_of_another_speed_is_not_known(store: Store) -> None:
    """A search's wide readings are passed over by those who want narrow ones, and what came before a new baseline by all."""
    key = a_reading().key
    narrow = a_reading(latency=replace(a_reading().latency, low=1.99, high=2.01))
    record(store, narrow)
    record(store, a_reading(reference_ms=6.0))
    wide = known(store, narrow.fingerprint, key, widest=0.1)
    assert wide is not None and wide.reference_ms == 6.0
    assert known(store, narrow.fingerprint, key, widest=0.03) == narrow
    assert known(store, narrow.fingerprint, key, needs=["joules"]) is None
    saturated = a_reading(quantity="throughput", key=replace(key, conditions=replace(key.conditions, batch=64)))
    record(store, saturated)
    assert known_throughput(store, narrow.fingerprint, key) == saturated
    assert known_throughput(store, narrow.fingerprint, key, widest=0.03) is None
    reference = replace(key, conditions=replace(key.conditions, input_size=96))
    record(store, a_reading(fingerprint="e" * 16, name="*mobilenetv2*", key=reference, baseline=True))
    assert known(store, narrow.fingerprint, key) is None and known_throughput(store, narrow.fingerprint, key) is None
    elsewhere = replace(narrow, key=replace(key, processor="another"))
    record(store, elsewhere)
    assert known(store, narrow.fingerprint, elsewhere.key) == elsewhere
    record(store, replace(narrow, reference_ms=7.0))
    assert known(store, narrow.fingerprint, key) == replace(narrow, reference_ms=7.0)


def test_a_new_baseline_measures_what_is_known(store: Store) -> None:
    """Its readings, the first network's too, are of the new baseline; older ones of other networks are measured again when asked for."""
    subjects = [subject("convnext-micro"), subject("resnet-50-micro")]
    measure(store, subjects, Conditions(), BRIEF)
    (anew,) = measure(store, subjects[:1], Conditions(), BRIEF, new_baseline=True)
    assert anew.baseline
    said: list[str] = []
    first, second = measure(store, subjects, Conditions(), BRIEF, say=said.append)
    assert first == anew and not second.baseline and [s for s in said if s.startswith("deploying")] == ["deploying resnet-50-micro"]


def test_a_group_that_recorded_nothing_leaves_the_baseline_to_the_next(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first session has only a network that cannot be deployed."""
    monkeypatch.setattr(measuring, "GROUP", 1)
    bad = Subject(name="bad", spec=variant("swin-t").spec(), input_size=100)
    (reading,) = measure(store, [bad, subject("convnext-micro")], Conditions(), BRIEF, new_baseline=True, skip=lambda s, error: None)
    assert reading.baseline


def test_readings_before_an_error_come_back_from_another_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second session's network cannot be deployed: the first one's readings are there, with what went wrong."""
    monkeypatch.setattr(measuring, "GROUP", 1)
    asked = [{"name": "small", "spec": to_dict(small(), names=True), "input_size": 32}]
    asked += [{"name": "big", "spec": to_dict(variant("swin-t").spec(), names=True), "input_size": 100}]
    told = measuring.measure_here(asked, asdict(Conditions()), asdict(BRIEF))
    assert "does not fit 100 pixels" in told["refused"] and told["kind"] == "LatencyError"
    names = [r["name"] for r in told["readings"]]
    assert names[-1] == "small" and all(n.startswith("*") for n in names[:-1])


def test_a_disturbed_session_leaves_the_others(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions after it are held and recorded, the error has their readings and what to do next; two in a row end it. The one session of a
    few networks is told by the error alone."""
    monkeypatch.setattr(measuring, "GROUP", 1)
    real, loud = measuring._group, {"a"}

    def group(store: Store, places: dict[tuple[str, str], Subject], *rest: object) -> object:
        if next(iter(places.values())).name in loud:
            raise Disturbed("not recorded: other processes used 1.0 of a core")
        return real(store, places, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(measuring, "_group", group)
    subjects = [Subject(name=n, spec=small(width), input_size=32) for n, width in (("a", 8), ("b", 12), ("c", 16), ("d", 20))]
    said: list[str] = []
    with pytest.raises(Disturbed, match="3 of 4 networks have readings: the same command goes on") as told:
        measure(store, subjects, Conditions(), BRIEF, say=said.append)
    assert [line for line in said if "no reading" in line] == ["1 network has no reading: not recorded: other processes used 1.0 of a core"]
    assert [r.name for r in told.value.readings] == ["b", "c", "d"]
    loud |= {"b", "c", "d"}
    with pytest.raises(Disturbed, match=r"not recorded: other processes used 1\.0 of a core$") as told:
        measure(store, subjects[:3], Conditions(), BRIEF, again=True)
    assert not told.value.readings
    with pytest.raises(Disturbed, match="not recorded"):
        measure(store, subjects[:1], Conditions(), BRIEF, again=True, say=said.append)
    assert sum("no reading" in line for line in said) == 1


def test_networks_that_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the largest layer's images before anything is computed, and by what torch says where that was too little."""
    from vitnas.studies.latency import deploy

    monkeypatch.setattr(deploy, "free_memory", lambda: 1e9)
    spec = variant("resnet-50").spec()
    deploy.check_memory(spec, 224)
    with pytest.raises(LatencyError, match=r"ResNet-50 does not fit in the memory at 4096 pixels: 8 images take .*: use a smaller"):
        deploy.deployed(spec, 4096)
    for error, message in (
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "small-8 does not fit in the memory at 32"),
        (MemoryError(), "use a smaller --input-size"),
        (ValueError("no such layer"), r"small-8 cannot be brought into its deployment form at 32 pixels \(no such layer\)"),
    ):

        def fails(*args: object, error: Exception = error, **options: object) -> None:
            raise error

        monkeypatch.setattr(deploy, "build", fails)
        with pytest.raises(LatencyError, match=message):
            deploy.deployed(small(), 32)


@pytest.mark.parametrize(("name", "size"), [("deit-ti", 240), ("levit-128", 208)])
def test_networks_for_one_map_size_are_deployed(name: str, size: int) -> None:
    """At sizes that are no multiple of 32, where they fit no other."""
    from vitnas.studies.latency.deploy import deployed

    deployed(variant(name).spec(input_size=size), size)


def test_the_gpu_that_cuda_takes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA_VISIBLE_DEVICES names it by index or UUID; none that is there is refused."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho '0, GPU-aa11, A100, 550.1'\necho '1, GPU-bb22, T4, 550.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert measuring._gpu() == ("A100", "550.1")
    for visible, name in (("1", "T4"), ("1,0", "T4"), ("GPU-aa", "A100"), ("GPU-bb22", "T4"), ("MIG-cc33", "A100")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert measuring._gpu()[0] == name
    for visible in ("", "-1", "2", "GPU-dd"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        with pytest.raises(LatencyError, match=r"no CUDA GPU is visible here .*: use --device cpu"):
            measuring._gpu()


def test_saturating_batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubling stops where images a second stop growing; the batch before counts."""
    rates = {1: 100.0, 2: 190.0, 4: 350.0, 8: 360.0, 16: 355.0}
    asked = []

    def session(entries: object, conditions: Conditions, *rest: object, **more: object) -> object:
        asked.append(conditions.batch)
        latency = replace(a_reading().latency, typical=conditions.batch / rates[conditions.batch] * 1e3)
        return type("S", (), {"latencies": {"net": latency}})

    monkeypatch.setattr(measuring, "run_session", session)
    monkeypatch.setattr("vitnas.studies.latency.deploy.write_candidate", lambda *a, **k: {"name": "net"})
    net = Subject(name="net", spec=small(), input_size=32)
    assert measuring.saturating_batch(store.root, [], net, Conditions(), BRIEF, lambda job: {}, lambda text: None) == 4
    assert asked == [1, 2, 4, 8, 16]


def test_sessions_hold_what_fits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen small networks at a time, fewer where weights fill a fourth of the memory, one at least."""
    specs = [small(8 + i) for i in range(20)]
    assert measuring.together(specs) == measuring.GROUP
    count = sum(p.numel() for p in Network(specs[0]).parameters())
    monkeypatch.setattr("vitnas.studies.latency.deploy.free_memory", lambda: 4 * 4 * count * 3.5)
    assert measuring.together([specs[0]] * 20) == 3
    monkeypatch.setattr("vitnas.studies.latency.deploy.free_memory", lambda: 0)
    assert measuring.together(specs) == 1


# --- which networks --------------------------------------------------------------------------------------------------


def test_names_files_and_sizes(store: Store, tmp_path: Path) -> None:
    """A published name comes at its own size, a file's network under its name, each once; a name that is nothing says what it could be."""
    file = tmp_path / "net.json"
    file.write_text(json.dumps(to_dict(small(), names=True) | {"name": "small"}))
    found = subjects_of(store, ["convnext-micro", str(file), "ConvNeXt_micro"])
    assert [(s.name, s.input_size) for s in found] == [("convnext-micro", 32), ("small", 224)]
    assert [s.input_size for s in subjects_of(store, ["convnext-micro"], input_size=64)] == [64]
    for wrong in ("convnext-q", str(tmp_path / "none.json")):
        with pytest.raises(LatencyError, match=r"unknown network|no file"):
            subjects_of(store, [wrong])
    for text in ("{}", json.dumps(to_dict(small()) | {"head": []})):
        file.write_text(text)
        with pytest.raises(LatencyError, match="holds no network"):
            subjects_of(store, [str(file)])
    for study in ("night-1", "night-2"):
        (store.studies / study).mkdir(parents=True)
        (store.studies / study / "plan.json").write_text("{}")
    with pytest.raises(LatencyError, match="beginning of several studies: night-1, night-2"):
        subjects_of(store, ["night"])


def test_published_networks_leave_small_variants_out() -> None:
    """Every full network with a paper's accuracy is there."""
    found = {s.name: top1 for s, top1 in published()}
    assert found["convnext-t"] == 82.1 and "convnext-micro" not in found
    assert {s.input_size for s, _ in published(input_size=224)} == {224}


# --- fronts and notes ------------------------------------------------------------------------------------------------


def entry(name: str, top1: float | None, ms: float) -> Entry:
    """A network with its accuracy and latency."""
    return Entry(name=name, top1=top1, milliseconds=ms, low=ms * 0.99, high=ms * 1.01)


def test_the_front_and_the_fastest(tmp_path: Path) -> None:
    """Networks that another beats in both are not on it; one without accuracy is not either; the figure is drawn."""
    marked = front([entry("a", 70, 1), entry("b", 80, 2), entry("c", 79, 3), entry("d", 85, 9), entry("e", None, 0.5), entry("f", 80, 2)])
    assert [e.name for e in marked if e.front] == ["a", "b", "d", "f"]
    best = fastest(marked, 79)
    assert best is not None and best.name == "b"
    assert fastest(marked, 90) is None
    check_figure(tmp_path / "front.png")
    draw(marked, tmp_path / "front.png", label="a device", min_accuracy=79)
    (tmp_path / "folder.svg").mkdir()
    for wrong, why in (("front.gif", "must end in"), ("none/front.png", "there is no folder"), ("folder.svg", "cannot be written")):
        with pytest.raises(LatencyError, match=why):
            check_figure(tmp_path / wrong)
    assert (tmp_path / "front.png").read_bytes()[:4] == b"\x89PNG"


def test_readings_of_different_devices_are_not_mixed_silently() -> None:
    """A note says so, and which intervals are wide."""
    one = a_reading()
    one = replace(one, latency=replace(one.latency, low=1.99, high=2.01))
    assert notes_on([one, one]) == []
    wide = replace(one.latency, low=one.latency.typical * 0.98, high=one.latency.typical * 1.02)
    other = a_reading(key=replace(one.key, processor="another"), latency=wide)
    assert any("do not compare" in n for n in notes_on([one, other]))
    assert any(
        "1 of 2 intervals are wider than ±1% (up to ±2.0%)" in n and "latency run net --again --seconds" in n
        for n in notes_on([one, other])
    )


def test_models_by_latency(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Published accuracies meet latencies: the front, the fastest above an accuracy, and what was left out are told."""
    times = {"convnext-t": 30.0, "swin-t": 40.0, "resnet-50": 20.0}

    def measured(store: Store, subjects: list[Subject], *rest: object, skip: object = None, **more: object) -> list[Reading]:
        out = []
        for s in subjects:
            if s.name in times:
                key = replace(a_reading().key, conditions=Conditions(input_size=s.input_size))
                latency, fingerprint = replace(a_reading().latency, typical=times[s.name]), deployed_spec(s.spec).fingerprint
                out.append(a_reading(name=s.name, fingerprint=fingerprint, key=key, latency=latency))
            elif callable(skip):
                skip(s, LatencyError(f"{s.name} cannot be exported to ONNX"))
        return out

    monkeypatch.setattr(commands, "measure", measured)
    found = commands.models_latency(store, ["convnext-t", "swin-t", "resnet-50", "van-b0"], min_accuracy=80)
    assert {e.name for e in found.entries if e.front} == {"convnext-t", "resnet-50"}
    assert any("fastest at 80 % or more is convnext-t: 82.1 %, 30.00 ms" in n for n in found.notes)
    assert any("van-b0 cannot be exported" in n for n in found.notes)
    assert found.rows[0][:4] == ["convnext-t", "82.1 %", "front", "30.000 ms"] and found.rows[1][2] == ""
    assert len(found.rows[0]) == len(found.header)
    assert [r["name"] for r in json.loads(json.dumps(found.to_dict()))["readings"]] == ["convnext-t", "swin-t", "resnet-50"]
    for wrong in ({"names": ["convnext-t"], "everything": True}, {}):
        with pytest.raises(LatencyError, match="--all"):
            commands.models_latency(store, **wrong)  # type: ignore[arg-type]
    file = tmp_path / "net.json"
    file.write_text(json.dumps(to_dict(small(), names=True) | {"name": "convnext-t"}))
    own, swin = commands.models_latency(store, [str(file), "swin-t"]).entries
    assert own.top1 is None and swin.top1 == 81.3  # a file's network is not the published one of its name
    resized = commands.models_latency(store, ["resnet-50", "convnext-t"], input_size=192, min_accuracy=80)
    assert all(e.top1 is None for e in resized.entries) and any("not of 192 pixels" in n for n in resized.notes)
    assert any("none of these networks has a known accuracy" in n for n in resized.notes)
    assert any(n.startswith("left out: swin-t:") for n in commands.models_latency(store, everything=True, input_size=200).notes)
    draw(resized.entries, tmp_path / "none.png", label=resized.label)


def test_one_network_that_stays_too_wide_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Table and figure have the others; the error comes after them, with its exit code. Alone where there is no other."""

    def measured(store: Store, subjects: list[Subject], *rest: object, **more: object) -> list[Reading]:
        others = [
            a_reading(
                name=s.name,
                fingerprint=deployed_spec(s.spec).fingerprint,
                key=replace(a_reading().key, conditions=Conditions(input_size=s.input_size)),
            )
            for s in subjects[1:]
        ]
        raise measuring.TooWide(f"not recorded: {subjects[0].name} (±4.0%)", others)

    monkeypatch.setattr(commands, "measure", measured)
    arguments = ("models", "latency", "swin-t", "resnet-50", "--figure", "front.svg")
    code, out, err = vitnas_here(*arguments, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "not recorded: swin-t (±4.0%)" in err
    assert "resnet-50" in out and "on the front: resnet-50" in out and "resnet-50" in (tmp_path / "front.svg").read_text()
    code, out, err = vitnas_here("latency", "run", "swin-t", "resnet-50", "--json", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and json.loads(out)["notes"][-1] == "not recorded: swin-t (±4.0%)" and "swin-t" in err
    code, out, err = vitnas_here("latency", "run", "swin-t", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and not out and "swin-t" in err
