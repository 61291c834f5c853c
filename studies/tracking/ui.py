"""`vitnas ui`: MLflow's own server on the store, on loopback, opened on the comparison of a study's arms."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO
from urllib.error import URLError
from urllib.request import urlopen

from ..addresses import public_uri
from ..library import find_study
from ..store import Store
from .sync import sync, tracking_uri
from .view import view_link

HOST = "127.0.0.1"
PORTS = range(5000, 5020)  # tried in this order: at the same address the browser remembers what was closed and moved there
START = 90.0  # seconds that the server may take to answer; 4 to 12 are usual
STOP = 5.0  # seconds that it may take to end before it is killed
QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # helper processes for language models
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONWARNINGS": "ignore",
}


def serve_ui(
    store: Store, study_name: str | None = None, *, port: int | None = None, open_browser: bool = False, say: Callable[[str], None] = print
) -> None:
    """Bring MLflow up to date with the study (the latest, if not named), serve it, and say the link, until SIGINT, SIGTERM or SIGHUP.

    Where MLFLOW_TRACKING_URI names a server, that server's link is said instead and nothing is started. Raises ValueError where there is
    no such study, the port is taken, or the server does not start.
    """
    name = study_name or find_study(store).name
    uri = tracking_uri(store)
    if uri.startswith(("http://", "https://")):
        link = f"{public_uri(uri).rstrip('/')}/{view_link(sync(store, name).experiment)}"
        _show(link, f"{name}, on the server that MLFLOW_TRACKING_URI names", open_browser, say)
        return
    address = f"http://{HOST}:{_free_port() if port is None else _given_port(port)}"
    with _signals_interrupt(), suppress(KeyboardInterrupt):
        experiment = sync(store, name, uri=uri).experiment
        say(f"starting MLflow's server at {address}: this takes about 10 s")
        with _server(uri, address, store) as server:
            _show(f"{address}/{view_link(experiment)}", f"{name}; end it with Ctrl-C", open_browser, say)
            server.wait()
            raise ValueError(f"MLflow's server ended with exit code {server.returncode}: run `vitnas ui` again")
    say("the server is stopped")


def _show(link: str, what: str, open_browser: bool, say: Callable[[str], None]) -> None:
    say(f"{link}\n{what}")
    if open_browser:
        webbrowser.open(link)


@contextmanager
def _server(uri: str, address: str, store: Store) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server, ready to answer, in a process group of its own that is gone when the block is left."""
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", port, "--workers", "1"]
    env = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"} | QUIET | {"MLFLOW_BACKEND_STORE_URI": uri}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            command, env=env, cwd=store.root, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _await_answer(server, address, log)
            yield server
        finally:
            _stop_group(server)


def _await_answer(server: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(URLError, OSError), urlopen(f"{address}/health", timeout=2):
            return
        time.sleep(0.1)
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    reason = lines[-1].strip()[:300] if lines else f"no answer in {START:g} s"
    raise ValueError(f"MLflow's server did not start ({reason}): try another --port")


def _stop_group(server: subprocess.Popen[bytes]) -> None:
    """End the server and all that it started: politely, then for certain (its helpers outlive it otherwise)."""
    for number, wait in ((signal.SIGTERM, STOP), (signal.SIGKILL, STOP)):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(wait)


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP do what Ctrl-C does (in the main thread, the only one that gets signals)."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    for port in PORTS:
        if _is_free(port):
            return port
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def _given_port(port: int) -> int:
    if not _is_free(port):
        raise ValueError(f"port {port} on {HOST} is taken: give another --port, or none for a free one")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
