"""Without a cluster nothing of a study can be reached from another machine: the process table says who listens where."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from vitnas.studies.running.token import GIVEN, make_token, token_file

from .conftest import Roadmap
from .listeners import listeners, loopback


def test_local_mode_listens_on_loopback_alone(on_ray: Roadmap) -> None:
    """A roadmap on Ray, looked at from its start to its end: Ray's servers and workers, Tune, MLflow and the driver itself."""
    programs = {program for program, _, _ in on_ray.listeners}
    assert {"gcs_server", "raylet"} <= programs and any(program.startswith("ray::") for program in programs), programs
    assert not {found for found in on_ray.listeners if not loopback(found[2].partition(":")[0])}


def test_the_token_is_never_there_for_others_to_read(on_ray: Roadmap) -> None:
    """A home that had none has one after a roadmap on Ray: its owner's alone, from the first moment."""
    token = on_ray.home / ".ray" / "auth_token"
    assert on_ray.token_modes == {"0o600"} and oct(token.parent.stat().st_mode & 0o777) == "0o700"
    assert len(token.read_text()) == 64


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
