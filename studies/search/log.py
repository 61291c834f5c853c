"""The log of a search: one JSON record a line, only ever added to. With the store's results it is all that a search is rebuilt from.

    begin    what is searched, for what and within which limits: a later run must agree
    known    a training that the store had already and the searcher was told
    propose  a candidate, and who proposed it
    refuse   why a candidate was not trained: a limit, counted, predicted or measured
    measure  what was measured of a candidate
    train    a training that is to run: candidate, trial, seed, rung, purpose
    tell     what came of it
    stop     why the search for candidates ended
    choose   the finalists and the winner, by validation

`at` is the time (s) that the search had run by then, over all sessions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..store import append, write_atomic

NAME = "search.jsonl"
Record = dict[str, Any]


def read_log(folder: Path) -> list[Record]:
    """All records in `folder`, in order; a torn last line is left out."""
    path = folder / NAME
    out = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            out.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return out


class Log:
    """The log in `folder`, opened to be added to. `records` are those it had; what a torn last line held is dropped."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.records = read_log(folder)
        if self.path.exists():
            text = "".join(_line(r) for r in self.records)
            if text != self.path.read_text():
                write_atomic(self.path, lambda file: file.write(text.encode()))

    def clear(self) -> None:
        """Forget all records."""
        self.records.clear()
        write_atomic(self.path, lambda file: file.write(b""))

    def add(self, record: Record) -> None:
        """Append a record; it is on the disk when this returns."""
        self.records.append(record)
        append(self.path, _line(record))


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
