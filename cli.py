"""The command line: its commands in order, from `studies/commands/`. One error family becomes one line and exit code 1.

Exit codes: 0 done, 1 a user's error, 2 usage, 3 some trials failed, 130 interrupted. Everything heavy is imported by the command that
needs it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from . import __version__
from .studies.commands.latency import latency_app, models_latency
from .studies.commands.networks import models_app, steps_app
from .studies.commands.results import audit, logs, report, status, sync, ui, verify
from .studies.commands.study_files import plan_command, sweep
from .studies.commands.training import ablate, roadmap, search, train

INTERRUPTED = 130

app = typer.Typer(
    name="vitnas",
    help="Which modernizations of vision networks pay on your data, at your scale, on your hardware.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"vitnas {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and leave.")] = False,
) -> None:
    """Options of vitnas itself."""


COMMANDS: dict[str, Callable[..., None]] = {
    "roadmap": roadmap,
    "ablate": ablate,
    "search": search,
    "train": train,
    "sweep": sweep,
    "plan": plan_command,
    "report": report,
    "status": status,
    "logs": logs,
    "verify": verify,
    "audit": audit,
    "sync": sync,
    "ui": ui,
}
for name, command in COMMANDS.items():
    app.command(name)(command)
models_app.command("latency")(models_latency)
app.add_typer(steps_app, name="steps")
app.add_typer(models_app, name="models")
app.add_typer(latency_app, name="latency")


def _stop(number: int, frame: object) -> None:
    """SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: errors a user can mend become one line."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if hasattr(error, "show"):  # click's own usage errors
            error.show()
            raise SystemExit(getattr(error, "exit_code", 2)) from None
        if isinstance(error, ValueError | OSError) and not os.environ.get("VITNAS_TRACEBACK"):
            typer.echo(f"vitnas: {error}", err=True)
            raise SystemExit(1) from None
        raise
    if code == INTERRUPTED:
        typer.echo("interrupted: run the same command again to continue", err=True)
    raise SystemExit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
