"""Where a store's files lie, and what that asks for: a disk of this machine, a folder that machines share, or an object storage.

All else of the project works on paths below the store's root. What differs between storages is behind the functions here: how a file
appears, how it is seen that somebody else changed it, how it goes, and how a folder is locked. On a disk of this machine they do what
the file system does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from .errors import Busy, StoreError

MARK = "shared.json"  # in a store that machines share, also as seen by the one whose disk it is
FINAL = "result.json"  # what makes a trial finished: written last, and never by a process that lost its lock
HEAVY = frozenset({"checkpoint.pt", "weights.safetensors"})  # brought for whoever holds the folder's lock, not for a look around
Say = Callable[[str], None]


class LocalDisk:
    """A folder on a disk of this machine. The other media have the same methods."""

    notes: tuple[str, ...] = ()  # for whoever runs a study
    shared = False  # whether other machines may use it too

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def prepare(self, folders: Iterable[Path]) -> None:
        """Make the folders and see that they can be written; OSError where not."""
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        probe = self.root / ".probe"
        write_atomic(probe, lambda file: file.write(b"0" * 65536))
        probe.unlink()

    def put(self, temporary: Path, path: Path) -> None:
        """Have the finished file `temporary` appear as `path`. LeaseLost where its folder's lock was taken over."""
        os.replace(temporary, path)  # noqa: PTH105

    def append(self, path: Path, text: str) -> None:
        """Add to a text file, which on media that machines share only the holder of its folder's lock may; it is on the disk when this
        returns."""
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())

    def remove(self, path: Path) -> None:
        """Remove a file, if there is one."""
        path.unlink(missing_ok=True)

    def current(self, path: Path) -> Path:
        """The file as it is now, also where another machine has just written it; gives `path`, which need not exist."""
        return path

    def refresh(self, folders: Iterable[Path], *, only: Callable[[str], bool] | None = None) -> None:
        """See what other machines changed below `folders`: files whose name satisfies `only`; by default all but the heavy ones."""

    def names(self, folder: Path) -> list[str]:
        """Names of the files in `folder`, as they are now."""
        return sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []

    @contextlib.contextmanager
    def lock(self, path: Path, what: str, say: Say | None) -> Iterator[None]:
        """Hold the lock `path` on its folder; Busy tells who has it. StoreError where machines have come to share the store since this
        process opened it: whoever else locks it by leases looks at flocks too, but only at those that were there first."""
        with flocked(path, what):
            if (self.root / MARK).exists():
                raise StoreError(f"{what}: other machines share {self.root} since this command began: run the same command again")
            yield

    def holder(self, path: Path) -> str:
        """Who holds the lock `path`, or nothing."""
        return flock_holder(path)

    def share(self, folder: Path) -> None:
        """Have other machines find `folder`, which this one made."""

    def recall(self, folder: Path) -> None:
        """Have `folder`, which some machine shared, in its place here."""

    def bring(self, folder: Path) -> Path:
        """A folder that does not change, where this machine reads it fast; brought at most once."""
        return folder


_MEDIA: dict[Path, LocalDisk] = {}


def register(medium: LocalDisk) -> None:
    """From now on `medium` serves all paths below its root."""
    _MEDIA[medium.root] = medium


def medium_of(path: Path) -> LocalDisk:
    """What serves `path`; the local disk for paths of no store."""
    return next((_MEDIA[parent] for parent in path.parents if parent in _MEDIA), _DISK)


_DISK = LocalDisk(Path("/"))


def write_atomic(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that a reader sees the old one or the new one whole, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101
        medium_of(path).put(Path(temporary), path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, atomically."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> Any:
    """The JSON value in `path`, or None where there is no such file or it is damaged."""
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def append(path: Path, text: str) -> None:
    """Add to a text file, which in a store that machines share only the holder of its folder's lock may; it is on the disk when this
    returns."""
    medium_of(path).append(path, text)


def remove(path: Path) -> None:
    """Remove a file, if there is one."""
    medium_of(path).remove(path)


def remove_torn(folder: Path) -> None:
    """Remove what killed processes left of heavy files in `folder`, whose lock this process holds."""
    for name in HEAVY:
        for path in folder.glob(f".{name}.*"):
            path.unlink(missing_ok=True)


def current(path: Path) -> Path:
    """The file as it is now, also where another machine has just written it; gives `path`, which need not exist."""
    return medium_of(path).current(path)


@contextlib.contextmanager
def locked(path: Path, what: str, *, say: Say | None = None) -> Iterator[None]:
    """Hold the lock `path` on its folder, whose files are then as the last holder left them; Busy tells who has it.

    Between machines it may take a while to see whether a holder is still alive: `say` is told so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with medium_of(path).lock(path, what, say):
        yield


@contextlib.contextmanager
def flocked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` (flock: it goes with the process)."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise taken(what, file.read().strip()) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def taken(what: str, holder: str) -> Busy:
    """The error for what `holder` runs."""
    return Busy(f"{what} is being run by {holder or 'another process'}: wait for it, or stop it")


def flock_holder(path: Path) -> str:
    """Who holds the lock file, or nothing."""
    if not path.exists():
        return ""
    with path.open() as file:  # which a store that cannot be written allows
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return file.read().strip() or "another process"
    return ""


@contextlib.contextmanager
def turn(path: Path) -> Iterator[None]:
    """Wait for the lock file `path` of this machine, and hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
