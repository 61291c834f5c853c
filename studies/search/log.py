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

from ..library import SEARCH_LOG
from ..store import append, write_atomic

NAME = SEARCH_LOG
DAMAGED = "search.jsonl.damaged"
Record = dict[str, Any]


def read_log(folder: Path) -> list[Record]:
    """All records in `folder`, in order, up to the first line that is none: a torn last one, or damage."""
    path = folder / NAME
    out: list[Record] = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            break
        if not isinstance(record, dict) or "what" not in record:
            break
        out.append(record)
    return out


class Log:
    """The log in `folder`, opened to be added to. `records` are those it had; what a torn last line held is dropped. Where more than that
    cannot be read, `damage` says so, and the file as it was is kept beside it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.damage = folder / NAME, ""
        self.records = read_log(folder)
        if self.path.exists():
            whole = self.path.read_bytes()
            text = "".join(_line(r) for r in self.records).encode()
            if len(whole.splitlines()) > len(self.records) + 1:
                write_atomic(folder / DAMAGED, lambda file: file.write(whole))
                where = f"{NAME} cannot be read from line {len(self.records) + 1} on, and is kept as {DAMAGED}"
                self.damage = f"{where}: what was trained since is taken from the store"
            if text != whole:
                write_atomic(self.path, lambda file: file.write(text))

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
