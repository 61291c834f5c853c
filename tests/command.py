"""Running the real command line: in a process of its own, or in this one."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vitnas.cli import main

TRAINING = ("roadmap", "ablate", "search", "train", "sweep")
SMALL = ["--epochs", "2", "--data-fraction", "0.15", "--set", "batch-size=32"]
PRIORITY = {"RAY_worker_niceness": "0"}  # with Ray's 15 trainings starve beside other tests


def vitnas(*arguments: str, cwd: Path, check: int | None = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `vitnas ARGUMENTS` in `cwd`; its exit code must be `check` unless None."""
    if check in (0, 3):
        _furnish_for(arguments, cwd, env)
    done = subprocess.run(
        [sys.executable, "-m", "vitnas.cli", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment(env),
        check=False,
        timeout=300,
    )
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def vitnas_here(*arguments: str, cwd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """The same command line in this process, for what ends before anything heavy starts: (exit code, stdout, stderr)."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["vitnas", *arguments])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main()
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def vitnas_local(*arguments: str, cwd: Path, check: int | None = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """As `vitnas`, in this process, which has torch and MLflow imported already: not for what runs on Ray."""
    if check in (0, 3):
        _furnish_for(arguments, cwd, env)
    given = environment(env)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        for variable in set(os.environ) - set(given):
            patch.delenv(variable)
        for variable, value in given.items():
            patch.setenv(variable, value)
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["vitnas", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
    code = int(end.value.code or 0)
    assert check in (None, code), f"exit {code}\n{out.getvalue()}\n{err.getvalue()}"
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def start(*arguments: str, cwd: Path, env: dict[str, str] | None = None, bare: bool = False) -> subprocess.Popen[str]:
    """Start `vitnas ARGUMENTS` in a process group of its own. With `bare` it makes all of its store itself."""
    if not bare:
        _furnish_for(arguments, cwd, env)
    return subprocess.Popen(
        [sys.executable, "-m", "vitnas.cli", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(env),
        start_new_session=True,
        preexec_fn=_heed_interrupts,
    )


def _heed_interrupts() -> None:
    """Where the tests run in the background of a shell, interrupts are ignored, and children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def furnish(store: Path) -> None:
    """Give a new store an empty MLflow database and the digits, which both take seconds to make."""
    if not (store / "mlflow.db").exists():
        shutil.copytree(_furniture().name, store, dirs_exist_ok=True)


def _furnish_for(arguments: tuple[str, ...], cwd: Path, env: dict[str, str] | None) -> None:
    """Furnish the store in which `vitnas ARGUMENTS` trains."""
    address = arguments[arguments.index("--store") + 1] if "--store" in arguments else ".vitnas"
    elsewhere = "://" in address or "MLFLOW_TRACKING_URI" in (env or {})
    if arguments[0] in TRAINING and "--plan" not in arguments and not elsewhere:
        furnish(cwd / address)


@cache
def _furniture() -> TemporaryDirectory[str]:
    """A store with nothing else, until the tests end."""
    from vitnas.studies.data.prepare import prepare
    from vitnas.studies.tracking.sync import _client

    folder = TemporaryDirectory(prefix="v-", dir="/tmp")
    _client(f"sqlite:///{folder.name}/mlflow.db", on_progress=lambda line: None)
    prepare("digits", input_size=32, cache=Path(folder.name) / "data")
    return folder


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This environment without what would lead a test astray."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "VITNAS_", "RAY_"))}
    return env | {"COLUMNS": "160"} | PRIORITY | (extra or {})
