"""Without a cluster nothing of a study can be reached from another machine: the process table says who listens where."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from vitnas.studies.running.token import GIVEN, make_token, token_file

from .command import SMALL, start

MARK = "STUDY_OF_THE_LOOPBACK_TEST"
PROTOCOLS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}  # the state of a socket that waits for others
Listener = tuple[str, str, str]  # program, protocol, and address:port as the kernel writes them


def loopback(address: str) -> bool:
    """Whether an address of /proc/net (hexadecimal, words in the host's order: little-endian) is 127.x.x.x or ::1."""
    mapped = "0000000000000000FFFF0000"
    if len(address) == 32 and not address.startswith(mapped):
        return address == "00000000000000000000000001000000"
    return address.removeprefix(mapped).endswith("7F")


def family(root: int, mark: str) -> list[int]:
    """`root`, whatever was started with `mark` in its environment, and their descendants; programs that rename themselves lose theirs."""
    parents: dict[int, int] = {}
    found = {root}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if mark.encode() in (folder / "environ").read_bytes():
                found.add(int(folder.name))
        except OSError:  # it has ended
            continue
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def target(link: Path) -> str:
    """Where a descriptor leads, "" where it was closed meanwhile."""
    try:
        return str(link.readlink())
    except OSError:
        return ""


def listeners(processes: list[int]) -> set[Listener]:
    """What the processes listen on now."""
    found: set[Listener] = set()
    for process in processes:
        folder = Path("/proc", str(process))
        try:
            sockets = {target(link) for link in (folder / "fd").iterdir()}
            program = (folder / "comm").read_text().strip()
            tables = {protocol: (folder / "net" / protocol).read_text().splitlines()[1:] for protocol in PROTOCOLS}
        except OSError:  # it has ended
            continue
        for protocol, rows in tables.items():
            for row in map(str.split, rows):
                if row[3] == PROTOCOLS[protocol] and f"socket:[{row[9]}]" in sockets:
                    found.add((program, protocol, row[1]))
    return found


def test_local_mode_listens_on_loopback_alone(tmp_path: Path) -> None:
    """A roadmap on Ray, looked at from its start to its end: Ray's servers and workers, Tune, MLflow and the driver itself. Ray's token,
    which this home has not had before, is never there for others to read."""
    home = tmp_path / "home"
    home.mkdir()
    arguments = ["roadmap", "--steps", "depthwise", *SMALL, "--seeds", "1", "--concurrency", "1"]
    run = start(*arguments, cwd=tmp_path, env={MARK: str(tmp_path), "HOME": str(home)})
    seen: set[Listener] = set()
    modes: set[str] = set()
    while run.poll() is None:
        modes |= {oct(path.stat().st_mode & 0o777) for path in home.glob(".ray/auth_token")}
        seen |= listeners(family(run.pid, f"{MARK}={tmp_path}"))
        time.sleep(0.5)
    output = run.stdout.read() if run.stdout else ""
    assert run.returncode == 0 and "2 trials trained" in output, output
    programs = {program for program, _, _ in seen}
    assert {"gcs_server", "raylet"} <= programs and any(program.startswith("ray::") for program in programs), programs
    assert not {found for found in seen if not loopback(found[2].partition(":")[0])}
    assert modes == {"0o600"} and oct((home / ".ray").stat().st_mode & 0o777) == "0o700"
    assert len((home / ".ray" / "auth_token").read_text()) == 64


def test_a_token_that_is_there_stays_and_becomes_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that Ray wrote for all to read; and none is made where the user gives one, or wants none."""
    for name in (*GIVEN, "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("RAY_AUTH_TOKEN", "secret"), ("RAY_AUTH_TOKEN_PATH", "/elsewhere"), ("RAY_AUTH_MODE", "disabled")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            make_token()
        assert not token_file().exists()
    make_token()
    made = token_file().read_text()
    token_file().chmod(0o644)
    make_token()
    assert token_file().read_text() == made and token_file().stat().st_mode & 0o777 == 0o600
    assert [p.name for p in token_file().parent.iterdir()] == ["auth_token"]


def test_listeners_are_found() -> None:
    """Sockets of this very process are among them, those of TCP and of UDP."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        own = {(protocol, address) for _, protocol, address in listeners([os.getpid()])}
        assert {("tcp", f"0100007F:{tcp.getsockname()[1]:04X}"), ("udp", f"0100007F:{udp.getsockname()[1]:04X}")} <= own


@pytest.mark.parametrize(
    ("address", "own"),
    [
        ("0100007F", True),
        ("3500007F", True),
        ("00000000", False),
        ("0200A8C0", False),
        ("00000000000000000000000001000000", True),
        ("0000000000000000FFFF00000100007F", True),
        ("00000000000000000000000000000000", False),
        ("0000000000000000FFFF000000000000", False),
        ("000080FE000000000000000001000000", False),
    ],
)
def test_addresses_are_told_apart(address: str, own: bool) -> None:
    """127.0.0.1, 127.0.0.53, all, 192.168.0.2, ::1, 127.0.0.1 and all as IPv6 has them, fe80::1."""
    assert loopback(address) == own
