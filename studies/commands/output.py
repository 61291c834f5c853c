"""What commands print: rich in a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """Where people read: rich in a terminal, plain lines elsewhere."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, soft_wrap=not sys.stdout.isatty())


def print_lines(lines: list[str], data: dict[str, Any], *, as_json: bool) -> None:
    """The lines, or as JSON the data behind them."""
    for line in [json.dumps(data, indent=1)] if as_json else lines:
        typer.echo(line)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Columns in plain text: the same in a terminal and in a pipe."""
    widths = [max(len(header[i]), *(len(r[i]) for r in rows)) if rows else len(header[i]) for i in range(len(header))]
    for row in [header, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def shown(value: float | None, form: str = ".2f") -> str:
    """A number as people read it, nothing for None."""
    return "" if value is None else format(value, form)


def progress(line: str) -> None:
    """A line of how it goes, apart from the results."""
    typer.echo(line, err=True)
