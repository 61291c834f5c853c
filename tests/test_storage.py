"""Stores that machines share: a bucket of a real S3 server, and a folder with leases. Each process with a cache of its own is a machine."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from vitnas.roadmap.spec import to_dict
from vitnas.roadmap.zoo import variant
from vitnas.studies import store_probe
from vitnas.studies.data.prepare import prepare
from vitnas.studies.designs.drafts import network_file
from vitnas.studies.storage import shared_folder
from vitnas.studies.storage.shared_folder import FolderRegister
from vitnas.studies.store import Busy, Store, StoreError, locked, write_json
from vitnas.studies.store_probe import answer_probe, check_answers, write_probe
from vitnas.studies.study import StudyError
from vitnas.studies.training.run_trial import How, run_trial
from vitnas.studies.trial import Trial

from .command import SMALL, environment, start, vitnas_here
from .s3_server import Server, serving

LEASE = {"VITNAS_LEASE_SECONDS": "4"}
WORKER = """
import sys
from vitnas.studies.store import Store, StoreError, locked, write_json
folder = Store(sys.argv[1]).trial_folder("t")
try:
    with locked(folder / "lock", "trial t"):
        print("held", flush=True)
        for line in sys.stdin:
            try:
                write_json(folder / line.split()[0], int(line.split()[1]))
                print("written", flush=True)
            except StoreError as error:
                print(type(error).__name__, error, flush=True)
except StoreError as error:
    print(type(error).__name__, error, flush=True)
"""
BEFORE = """
import sys
from vitnas.studies.store import Store, StoreError, locked
store = Store(sys.argv[1])
with locked(store.trial_folder("t") / "lock", "trial t"):
    print("held t", flush=True)
    for line in sys.stdin:
        try:
            with locked(store.trial_folder(line.strip()) / "lock", f"trial {line.strip()}"):
                print("held", flush=True)
        except StoreError as error:
            print(error, flush=True)
"""
BRING = """
import sys
from pathlib import Path
from vitnas.studies.store import Store
found = Store(sys.argv[1]).local_data(Path(sys.argv[2]))
print((found / "meta.json").stat().st_ino, found, flush=True)
"""
HOLDER = """
import sys
from vitnas.studies.store import Store
store = Store(sys.argv[1])
for line in sys.stdin:
    store.refresh(["t", "unknown"])
    print([store.holder("t"), store.holder("unknown")], flush=True)
"""
ANSWER = "import sys; from vitnas.studies.store_probe import answer_probe; print(answer_probe(*sys.argv[1:]), flush=True)"


class Process:
    """Python code in a process of its own that is told lines and answers with lines."""

    def __init__(self, code: str, *arguments: str, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(env)
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def asked(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.says()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that heeds conditions; processes with its environment share a machine's cache."""
    with serving(tmp_path_factory.mktemp("s3") / "cache") as found:
        yield found


@pytest.fixture(params=["bucket", "folder"])
def machine(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """The environment of a machine by its name. STORE in it is the address of one store, in a bucket or in a folder that is shared."""
    if request.param == "bucket":
        address = server.bucket(re.sub(r"[^a-z0-9]+", "-", tmp_path.name).strip("-"))
    else:
        address = str(tmp_path / "store")
        store = Store(address)
        store.prepare()
        store.declare_shared()
    return lambda name: server.env | LEASE | {"VITNAS_CACHE": str(tmp_path / name), "STORE": address}


def results(server: Server, bucket: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """(ETag, result) of every finished trial in the bucket."""
    etags = {key: found["ETag"] for key, found in server.objects(bucket).items() if key.endswith("/result.json")}
    return {key.split("/")[1]: (etag, json.loads(server.read(bucket, key))) for key, etag in etags.items()}


def test_a_sweep_in_a_bucket_is_killed_with_9_and_goes_on_elsewhere(server: Server, tmp_path: Path) -> None:
    """The driver dies within its second trial. Two machines that have nothing but the bucket go on at once, with studies of two names: the
    finished trial stays as it was; one of them continues the other trial from its last epoch, and it ends as if undisturbed. Each trial
    was scored on the test split once."""
    study = "kind: roadmap\nsteps: depthwise\nset: {batch-size: 32}\ndata-fraction: 0.15\nepochs: 8\nseeds: 1\nexecutor: local\n"
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"{study}name: {name}\n")
    store = ["--store", server.bucket("sweep")]
    driver = start("sweep", "one.yaml", *store, cwd=tmp_path, env=server.env)
    deadline = time.monotonic() + 120
    while not (results(server, "sweep") and any(key.endswith("checkpoint.pt") for key in server.objects("sweep"))):
        assert driver.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    driver.kill()
    driver.communicate()
    before = results(server, "sweep")
    assert len(before) == 1

    drivers = [
        start("sweep", f"{name}.yaml", *store, cwd=tmp_path, env=server.env | {"VITNAS_CACHE": str(tmp_path / name)})
        for name in ("one", "two")
    ]
    told = [driver.communicate(timeout=200)[0] for driver in drivers]
    ended = sorted(driver.returncode for driver in drivers)
    assert ended == [0, 0] or (ended == [0, 3] and "is being run by process" in "".join(told)), told  # it waits for a minute
    assert any("2 trials, 1 known, 1 to train" in output for output in told), told
    assert "single-driver" not in "".join(told) and "reading digits" not in "".join(told)  # the prepared images came from the bucket
    after = results(server, "sweep")
    assert len(after) == 2 and before.items() <= after.items()
    (late,) = after.keys() - before.keys()
    result = after[late][1]
    assert result["attempts"] == 2 and any("continued after epoch" in event for event in result["events"])
    curve = [json.loads(line)["epoch"] for line in server.read("sweep", f"trials/{late}/curve.jsonl").splitlines()]
    assert curve == list(range(1, 9))
    assert len([key for key in server.objects("sweep") if key.startswith("ledger/")]) == 2

    calm = Store(tmp_path / "calm")
    calm.prepare()
    trial = Trial.from_dict(json.loads(server.read("sweep", f"trials/{late}/trial.json")))
    data = prepare("digits", input_size=trial.recipe.input_size, cache=calm.data).folder
    undisturbed = run_trial(calm, trial, data, How(threads=result["execution"]["threads"])).to_dict()
    assert result["scores"] == undisturbed["scores"]


def test_of_many_that_want_a_lock_one_gets_it(machine: Callable[[str], dict[str, str]]) -> None:
    """Three machines at once: one holds it, the others are told who does, also those that only look; it goes with its process."""
    address = machine("any")["STORE"]
    with ExitStack() as running:
        workers = [running.enter_context(Process(WORKER, address, env=machine(f"machine {i}"))) for i in range(3)]
        said = {worker: worker.says() for worker in workers}
        (holder,) = (worker for worker, line in said.items() if line == "held")
        name = f"process {holder.process.pid} on {socket.gethostname()}"
        assert {line for worker, line in said.items() if worker is not holder} == {
            f"Busy trial t is being run by {name}: wait for it, or stop it"
        }
        onlooker = running.enter_context(Process(HOLDER, address, env=machine("onlooker")))
        assert onlooker.asked("who") == str([name, ""])
        assert holder.asked("result.json 7") == "written"
        holder.process.kill()
        holder.process.wait()
        assert onlooker.asked("who") == str(["", ""])


def test_a_holder_that_slept_is_taken_over_and_writes_nothing_more(machine: Callable[[str], dict[str, str]], tmp_path: Path) -> None:
    """Its lease runs out, another machine goes on and ends the trial; when it wakes up it is told so at every write."""
    address = machine("first")["STORE"]
    with Process(WORKER, address, env=machine("first")) as holder:
        assert holder.says() == "held"
        assert holder.asked("checkpoint.pt 1") == "written"
        holder.process.send_signal(signal.SIGSTOP)
        with Process(WORKER, address, env=machine("third")) as heir:
            assert heir.says() == "held"
            assert heir.asked("result.json 2") == "written"
            holder.process.send_signal(signal.SIGCONT)
            for name in ("checkpoint.pt", "result.json", "events.json"):
                refused = holder.asked(f"{name} 3")
                assert refused.startswith(f"LeaseLost trial t was taken over by process {heir.process.pid} on "), refused
            assert heir.asked("checkpoint.pt 4") == "written"
        with Process(WORKER, address, env=machine("fourth")) as fourth:  # after kill -9, on the same machine: at once
            assert fourth.says() == "held"
    assert {name: read(machine("reader"), f"trials/t/{name}") for name in ("checkpoint.pt", "result.json")} == {
        "checkpoint.pt": 4,
        "result.json": 2,
    }


def read(env: dict[str, str], name: str) -> Any:
    """What a machine of its own finds in the store."""
    code = "import sys; from vitnas.studies.store import *; print(current(Store(sys.argv[1]).root / sys.argv[2]).read_text())"
    with Process(code, env["STORE"], name, env=env) as reader:
        return json.loads(reader.says() or "null")


def test_numbered_files_let_in_one_at_a_time(tmp_path: Path) -> None:
    """Four threads that each take what is free and let it go again, and between the two count in a way that bears no company."""
    counted = [0]

    def count(worker: int) -> None:
        register, done = FolderRegister(tmp_path / "value"), 0
        while done < 10:
            seen = register.read()
            if seen is None or seen[1] == b"free":
                mine = register.swap(seen[0] if seen else None, str(worker).encode())
                if mine is not None:
                    before = counted[0]
                    time.sleep(0.001)
                    counted[0] = before + 1
                    register.swap(mine, b"free")
                    done += 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    assert counted == [40]
    assert len(list(tmp_path.iterdir())) == 1  # earlier versions are gone


def test_prepared_data_reach_a_machine_once(machine: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers of a machine that ask at once get one copy; what is in the store already is not made again elsewhere."""
    env = machine("driver")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    store = Store(env["STORE"])
    store.prepare()
    data = store.data / "digits-32-0"
    data.mkdir()
    (data / "train_images.npy").write_bytes(b"0" * 10**6)
    (data / "meta.json").write_text('{"fingerprint": "f"}')
    store.share_data(data)
    with ExitStack() as running:
        workers = [running.enter_context(Process(BRING, env["STORE"], str(data), env=machine("worker"))) for _ in range(2)]
        (copy,) = {worker.says() for worker in workers}
    place = Path(copy.partition(" ")[2])
    assert place != data and (place / "train_images.npy").read_bytes() == (data / "train_images.npy").read_bytes()
    with Process(BRING, env["STORE"], str(data), env=machine("worker")) as third:
        assert third.says() == copy


def test_a_storage_that_ignores_conditions_gets_single_driver_mode(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is found by a probe, the output says so, and the study is run all the same."""
    careless = server.careless
    for name, value in careless.env.items():
        monkeypatch.setenv(name, value)
    train = ["train", "convnext-micro", *SMALL, "--store", careless.bucket("careless")]
    code, out, err = vitnas_here(*train, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, err
    assert f"note: single-driver mode: the storage at {careless.endpoint} ignores conditional writes" in out
    assert len(results(careless, "careless")) == 1


def test_a_folder_on_a_network_file_system_is_shared_and_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known by its mount (here a real one, of a kind that is taken for a network's); the mark tells the server, whose own disk it is.
    A bucket that was mounted as a folder has no locks between machines."""
    mount = tmp_path / "a mount"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    try:
        assert not Store(mount).medium.shared and not Store(tmp_path).medium.shared
        with monkeypatch.context() as client:
            client.setattr(shared_folder, "NETWORK", {"tmpfs"})
            store = Store(mount / "store")
            store.prepare()
            with locked(store.trial_folder("t") / "lock", "trial t"):
                assert [p.name for p in store.trial_folder("t").iterdir()] == ["lease.00000001"]
            client.setattr(shared_folder, "BUCKETS", {"tmpfs"})
            assert "is an object storage mounted as a folder (tmpfs)" in Store(mount / "other").notes[0]
        assert Store(mount / "store").medium.shared and not Store(mount / "other").medium.shared
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def test_who_opened_the_store_before_it_was_shared_runs_nothing_beside_the_others(tmp_path: Path) -> None:
    """A process of this machine runs a trial when a driver of a cluster has the store shared: the trial is its own, until it ends, and it
    starts no other."""
    store, early = Store(tmp_path), {"VITNAS_CACHE": str(tmp_path / "cache")}
    store.prepare()
    with Process(BEFORE, str(tmp_path), env=early) as process:
        assert process.says() == "held t"
        store.declare_shared()
        assert store.holder("t") == f"process {process.process.pid} on {socket.gethostname()}"
        with (
            pytest.raises(Busy, match=f"trial t is being run by process {process.process.pid}"),
            locked(store.trials / "t" / "lock", "trial t"),
        ):
            pass
        assert (
            process.asked("other") == f"trial other: other machines share {tmp_path} since this command began: run the same command again"
        )
    with locked(store.trials / "t" / "lock", "trial t"):
        assert store.holder("t") == f"process {os.getpid()} on {socket.gethostname()}"


def test_workers_that_see_another_store_are_refused(
    machine: Callable[[str], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's probe is answered by whoever sees its store; one that does not is told, and one whose answer is missing is named."""
    env = machine("driver")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(store_probe, "PATIENCE", 1.0)
    store = Store(env["STORE"])
    store.prepare()
    token = write_probe(store)
    with Process(ANSWER, env["STORE"], token, env=machine("worker")) as worker:
        host = worker.says()
    assert host == socket.gethostname()
    with pytest.raises(StoreError, match=f"{host} does not see the driver's store at {tmp_path}/other: mount the same folder"):
        answer_probe(str(tmp_path / "other"), token)
    with pytest.raises(StoreError, match="what lost-host wrote to the store does not arrive"):
        check_answers(store, token, [host, "lost-host"])
    token = write_probe(store)
    check_answers(store, token, [answer_probe(env["STORE"], token)])


@pytest.mark.parametrize(
    ("address", "change", "message"),
    [
        ("s3://absent/store", {}, "there is no bucket absent at http://127.0.0.1"),
        ("s3://", {}, "s3:// names no bucket: write s3://bucket or s3://bucket/prefix"),
        ("gs://bucket/store", {}, "gs://bucket/store is no address that is known: give a folder, or s3://bucket/prefix"),
        ("s3://any", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials): see to AWS_PROFILE"),
        ("s3://any", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "does not answer"),
        ("s3://any", {"AWS_PROFILE": "nobody"}, "The config profile (nobody) could not be found"),
    ],
)  # fmt: skip
def test_a_storage_that_cannot_be_used_is_one_line(
    address: str,
    change: dict[str, str],
    message: str,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whether a study is to be run or looked at: what is wrong, and the next move."""
    for name, value in (server.env | {"HOME": str(tmp_path)} | change).items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("vitnas.studies.storage.bucket.FIRST", 0.1)
    for command in (["status"], ["train", "convnext-micro", *SMALL]):
        code, _, err = vitnas_here(*command, "--store", address, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 1 and message in err and err.startswith("vitnas: ") and len(err.splitlines()) == 1, err


def test_a_bucket_without_boto3_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The laptop's install has no boto3."""
    monkeypatch.setitem(sys.modules, "boto3", None)
    code, _, err = vitnas_here("status", "--store", "s3://any", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and err == "vitnas: a store at s3://any needs boto3: pip install 'vitnas[cluster]'\n"


def test_a_network_file_may_lie_in_a_bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a search with its store there left its winner: rebuild.txt names it so."""
    for key, value in server.env.items():
        monkeypatch.setenv(key, value)
    store = Store(server.bucket("networks"))
    store.prepare()
    spec = variant("convnext-micro").spec(input_size=32, classes=10)
    path = store.studies / "s" / "winner.json"
    path.parent.mkdir()
    write_json(path, to_dict(spec))
    assert network_file(store.shown(path)) == spec
    with pytest.raises(StudyError, match=r"there is no file s3://networks/store/studies/s/other\.json"):
        network_file(store.shown(path.with_name("other.json")))
