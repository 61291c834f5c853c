"""Running the real command line: in a process of its own, or in this one."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from vitnas.cli import main

SMALL = ["--epochs", "2", "--data-fraction", "0.15", "--set", "batch-size=32"]


def vitnas(*arguments: str, cwd: Path, check: int | None = 0, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `vitnas ARGUMENTS` in `cwd`; its exit code must be `check` unless None."""
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


def start(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start `vitnas ARGUMENTS` in a process group of its own."""
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


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This environment without what would lead a test astray."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "VITNAS_", "RAY_"))}
    return env | {"COLUMNS": "160"} | (extra or {})
