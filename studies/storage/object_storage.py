"""A store in a bucket: the bucket is the truth, and every machine works on a copy of what it needs.

A file is put into the bucket before it appears in the working copy, so the copy never holds what the bucket has not had. What others
changed is brought where it is wanted: a folder's files when its lock is taken, results when a study's standing is asked for, a single
file when it is named. For every file the copy notes the ETag that it was brought or put with.

Whoever holds a folder's lease puts its files only in the place of those that it knows; a result, only where there is none. So a process
that lost its lease in an unseen moment still overwrites nothing. Where the storage ignores such conditions there are no locks between
machines: single-driver mode.

What lies directly in the working copy's root, and MLflow's files, are this machine's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .bucket import Bucket, Condition, Unheard
from .cache import cache_folder
from .errors import LeaseLost
from .lease import Lease, holder_name, lease_over, leased, parse
from .medium import FINAL, HEAVY, LocalDisk, Say, flock_holder, flocked, turn, write_atomic
from .shared_folder import lease_path

NOTES = ".notes"
META = "meta.json"  # of prepared data, shared last: without it they are not whole
AT_ONCE = 16  # requests
FEW = 8  # folders that are listed one by one; more of them, with all beside them

_HEEDS: dict[Path, bool] = {}  # by working copy


class ObjectStorage(LocalDisk):
    """The store at `address`, s3://bucket/prefix. `root` is this machine's working copy."""

    shared = True

    def __init__(self, address: str) -> None:
        self.bucket = Bucket(address)
        key = hashlib.sha256(f"{self.bucket.endpoint} {self.bucket.address}".encode()).hexdigest()[:10]
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{self.bucket.name}-{self.bucket.prefix}").strip("-")
        super().__init__(cache_folder() / "stores" / f"{name}-{key}")
        self.address = self.bucket.address

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """See LocalDisk."""
        if self.heeds_conditions():
            return ()
        return (
            f"single-driver mode: the storage at {self.bucket.endpoint or self.address} ignores conditional writes, so there are no locks "
            "between machines: run one driver at a time on this store, and none while workers of an earlier one still run",
        )

    def heeds_conditions(self) -> bool:
        """Whether the storage refuses to overwrite what was changed meanwhile; tried on an object of its own, once a process."""
        if self.root not in _HEEDS:
            key = f"probes/{uuid.uuid4().hex}"
            etag, other = self.bucket.write(key, b"1"), '"0123456789abcdef0123456789abcdef"'
            _HEEDS[self.root] = self._refused(key, "") and self._refused(key, other) and not self._refused(key, etag)
            self.bucket.remove(key)
        return _HEEDS[self.root]

    def _refused(self, key: str, condition: str) -> bool:
        try:
            self.bucket.write(key, b"3", instead_of=condition)
        except Condition:
            return True
        except Unheard:
            pass
        return False

    def prepare(self, folders: Iterable[Path]) -> None:
        """See LocalDisk."""
        super().prepare(folders)
        self.heeds_conditions()

    def put(self, temporary: Path, path: Path) -> None:
        """See LocalDisk."""
        if self._own(path):
            super().put(temporary, path)
            return
        lease = lease_over(path)
        if lease is None:
            self._settle(path, temporary, self.bucket.write(self._key(path), temporary))
            return
        lease.check(surely=path.name == FINAL)
        try:
            etag = self.bucket.write(self._key(path), temporary, instead_of=self._etag(path))
        except Condition:
            etag = self._overwrite(path, temporary, lease)
        self._settle(path, temporary, etag)

    def _overwrite(self, path: Path, temporary: Path, lease: Lease) -> str:
        """The object is another than we know: one put by a holder before us in its last moment, or by us, and the answer was lost."""
        lease.check(surely=True)
        if path.name == FINAL:
            there = self.bucket.read(self._key(path))
            if there is not None and there[1] == temporary.read_bytes():
                return there[0]
            raise LeaseLost(f"{lease.what} was finished by another process meanwhile, whose result stays")
        return self.bucket.write(self._key(path), temporary)

    def append(self, path: Path, text: str) -> None:
        """See LocalDisk."""
        before = path.read_text() if path.exists() else ""
        write_atomic(path, lambda file: file.write((before + text).encode()))

    def remove(self, path: Path) -> None:
        """See LocalDisk."""
        if self._own(path):
            super().remove(path)
            return
        if lease := lease_over(path):
            lease.check()
        self.bucket.remove(self._key(path))
        self._settle(path, None, "")

    def current(self, path: Path) -> Path:
        """See LocalDisk."""
        before = self._etag(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            found = self.bucket.download(self._key(path), Path(name), unless=before)
            if found is None:
                if before:
                    self._settle(path, None, "", unless_not=before)
            else:
                os.chmod(name, 0o644)  # noqa: PTH101
                os.utime(name, (found[1], found[1]))
                self._settle(path, Path(name), found[0], unless_not=before)
        except Condition:
            pass
        finally:
            Path(name).unlink(missing_ok=True)
        return path

    def refresh(self, folders: Iterable[Path], *, only: Callable[[str], bool] | None = None) -> None:
        """See LocalDisk."""
        only = only or (lambda name: name not in HEAVY)
        wanted = set(folders)

        def asked(path: Path) -> bool:
            return only(path.name) and not path.name.endswith("lock") and not wanted.isdisjoint(path.parents)

        prefixes = [self._key(folder) + "/" for folder in wanted]
        if len(prefixes) > FEW:
            prefixes = [os.path.commonpath(prefixes) + "/"]
        there = {self.root / entry.key: entry.etag for prefix in prefixes for entry in self.bucket.entries(prefix)}
        changed = [path for path, etag in there.items() if asked(path) and self._etag(path) != etag]
        gone = [path for f in wanted for path in f.rglob("[!.]*") if asked(path) and path not in there and self._etag(path)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self.current, [*changed, *gone]))

    def names(self, folder: Path) -> list[str]:
        """See LocalDisk."""
        prefix = self._key(folder) + "/"
        return sorted({entry.key.removeprefix(prefix).partition("/")[0] for entry in self.bucket.entries(prefix)})

    @contextlib.contextmanager
    def lock(self, path: Path, what: str, say: Say | None) -> Iterator[None]:
        """See LocalDisk; a lease, where the storage heeds conditions."""
        if self._own(path):
            with flocked(path, what):
                yield
            return
        with contextlib.ExitStack() as held:
            if self.heeds_conditions():
                register = ObjectRegister(self.bucket, self._key(lease_path(path)))
                held.enter_context(leased(register, path.parent, what, say))
            else:
                held.enter_context(flocked(path, what))
            self.refresh([path.parent], only=lambda name: True)
            yield

    def holder(self, path: Path) -> str:
        """See LocalDisk. The lease was brought with its folder; its age is by the storage's clock alone."""
        lease = lease_path(path)
        if self._own(path) or not lease.exists():
            return flock_holder(path)
        return holder_name(parse(lease.read_bytes()), self.bucket.now() - lease.stat().st_mtime)

    def share(self, folder: Path) -> None:
        """See LocalDisk."""
        there = {self.root / e.key: e.size for e in self.bucket.entries(self._key(folder) + "/")}
        for path in sorted(folder.iterdir(), key=lambda path: _meta_last(path.name)):
            if there.get(path) != path.stat().st_size:
                self.bucket.write(self._key(path), path)

    def recall(self, folder: Path) -> None:
        """See LocalDisk."""
        self.bring(folder)

    def bring(self, folder: Path) -> Path:
        """See LocalDisk: from the bucket into the working copy."""
        here = self.root / folder.relative_to(folder.parent.parent)  # the folder was named on another machine
        with turn(here.parent / f".{here.name}.lock"):
            there = {Path(e.key).name: e.size for e in self.bucket.entries(self._key(here) + "/")}
            if META not in there or there == {p.name: p.stat().st_size for p in _files(here)}:
                return here
            work = here.parent / f".bringing-{uuid.uuid4().hex}"
            work.mkdir()
            try:
                for name in sorted(there, key=_meta_last):
                    self.bucket.fetch(self._key(here / name), work / name)
                shutil.rmtree(here, ignore_errors=True)
                work.rename(here)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return here

    def _own(self, path: Path) -> bool:
        """Whether the file is this machine's own."""
        return path.parent == self.root or path.relative_to(self.root).parts[0] in (NOTES, "mlartifacts")

    def _key(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def _etag(self, path: Path) -> str:
        """The ETag that the file here was put or brought with; nothing where it was not, or is not here."""
        try:
            etag, size, time = json.loads((self.root / NOTES / path.relative_to(self.root)).read_text())
            state = path.stat()
        except (OSError, ValueError):
            return ""
        return str(etag) if [size, time] == [state.st_size, state.st_mtime_ns] else ""

    def _settle(self, path: Path, temporary: Path | None, etag: str, *, unless_not: str | None = None) -> None:
        """Have `temporary` appear in the working copy, or the file go (None), and note it. With `unless_not`, only where the file is still
        the one with that ETag: another process of this machine may have been faster."""
        note = self.root / NOTES / path.relative_to(self.root)
        with turn(self.root / NOTES / ".turn"):
            if unless_not is not None and self._etag(path) != unless_not:
                return
            if temporary is None:
                path.unlink(missing_ok=True)
                note.unlink(missing_ok=True)
                return
            state = temporary.stat()
            os.replace(temporary, path)  # noqa: PTH105
            note.parent.mkdir(parents=True, exist_ok=True)
            note.write_text(json.dumps([etag, state.st_size, state.st_mtime_ns]))


class ObjectRegister:
    """A lease's value as an object."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket, self.key, self.place = bucket, key, f"{bucket.endpoint} {bucket.address}/{key}"

    def read(self) -> tuple[str, bytes] | None:
        """See lease.Register."""
        return self.bucket.read(self.key)

    def swap(self, version: str | None, value: bytes) -> str | None:
        """See lease.Register."""
        try:
            return self.bucket.write(self.key, value, instead_of=version or "")
        except Condition:
            return None


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _meta_last(name: str) -> tuple[bool, str]:
    return name == META, name
