"""A folder that several machines mount (NFS and the like), where flock may mean nothing between them.

Locks are leases on files: `lease.00000001`, `lease.00000002`, ...; the highest is the lease's present value. Whoever swaps version N for
a new value writes it whole under another name and links that to N + 1: link(2) is atomic on every NFS and fails where N + 1 is there.
Lower ones are then removed. A swap that went by a stale view of the folder may link a number that was used and removed before; a higher
one is then there, since the highest is never removed, and is seen after linking (which makes the client look again): the swap is taken
back.

Machines see one another's files late, since clients keep what they saw for up to a minute; also that a file is not there. Touching a
folder makes a client ask the server again.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from .cache import cache_folder
from .errors import StoreError
from .lease import holder_name, lease_over, leased, parse
from .medium import FINAL, MARK, LocalDisk, Say, flock_holder, flocked, taken, turn, write_json

NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "pvfs2", "panfs", "wekafs"} | {
    f"fuse.{name}" for name in ("ceph", "glusterfs", "sshfs", "juicefs", "beegfs")
}
BUCKETS = {f"fuse.{name}" for name in ("s3fs", "gcsfuse", "mount-s3", "mountpoint-s3", "goofys", "rclone", "blobfuse", "blobfuse2")}


class SharedFolder(LocalDisk):
    """A folder that several machines mount at the same path."""

    shared = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        kind = file_system(root)
        self.leases = kind not in BUCKETS
        if not self.leases:
            self.notes = (
                f"single-driver mode: {root} is an object storage mounted as a folder ({kind}), which has no locks between machines: run "
                "one driver at a time, or give the bucket's own address, as in --store s3://bucket/prefix",
            )

    def prepare(self, folders: Iterable[Path]) -> None:
        """Make the folders, see that they can be written, and mark the store, so that all machines lock it in the same way."""
        super().prepare(folders)
        if not (self.root / MARK).exists():
            write_json(self.root / MARK, {"locks": "lease"})

    def put(self, temporary: Path, path: Path) -> None:
        """See LocalDisk."""
        if lease := lease_over(path):
            lease.check(surely=path.name == FINAL)
        os.replace(temporary, path)  # noqa: PTH105

    def append(self, path: Path, text: str) -> None:
        """See LocalDisk."""
        if lease := lease_over(path):
            lease.check()
        super().append(path, text)

    def current(self, path: Path) -> Path:
        """See LocalDisk."""
        _look_again(path.parent)
        return path

    def refresh(self, folders: Iterable[Path], *, only: Callable[[str], bool] | None = None) -> None:
        """See LocalDisk."""
        for folder in folders:
            _look_again(folder)

    @contextlib.contextmanager
    def lock(self, path: Path, what: str, say: Say | None) -> Iterator[None]:
        """See LocalDisk; a lease, where the folder can have one. A process that opened the store before it was shared has a flock."""
        if not self.leases:
            with flocked(path, what):
                yield
            return
        if holder := flock_holder(path):
            raise taken(what, holder)
        with leased(FolderRegister(lease_path(path)), path.parent, what, say):
            _look_again(path.parent)
            yield

    def holder(self, path: Path) -> str:
        """See LocalDisk. The lease's age is by the server's clock alone."""
        by_flock = flock_holder(path)
        if by_flock or not self.leases:
            return by_flock
        register = FolderRegister(lease_path(path))
        seen = register.read() if path.parent.is_dir() else None
        if seen is None:
            return ""
        now = path.parent.stat().st_mtime  # just touched by reading the register
        with contextlib.suppress(FileNotFoundError):
            return holder_name(parse(seen[1]), now - register.file(int(seen[0])).stat().st_mtime)
        return holder_name(parse(seen[1]), 0.0)  # it beat just now

    def bring(self, folder: Path) -> Path:
        """See LocalDisk: a copy on this machine's disk, if it has one with room for it."""
        wanted = _sizes(folder)
        copy = cache_folder() / "data" / folder.name
        if not wanted or is_shared(copy):
            return folder
        with turn(copy.parent / f".{folder.name}.lock"):
            if _same(folder, copy, wanted):
                return copy
            if shutil.disk_usage(copy.parent).free < 1.1 * sum(wanted.values()):
                return folder
            shutil.rmtree(copy, ignore_errors=True)
            work = copy.parent / f".bringing-{uuid.uuid4().hex}"
            try:
                shutil.copytree(folder, work)
                work.rename(copy)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        return copy


class FolderRegister:
    """A lease's value as numbered files beside `stem`."""

    def __init__(self, stem: Path) -> None:
        self.stem, self.place = stem, str(stem)

    def file(self, number: int) -> Path:
        """The file of version `number`."""
        return self.stem.with_name(f"{self.stem.name}.{number:08d}")

    def read(self) -> tuple[str, bytes] | None:
        """See lease.Register."""
        while numbers := self._numbers():
            with contextlib.suppress(FileNotFoundError):  # the next one is there by now
                return str(max(numbers)), self.file(max(numbers)).read_bytes()
        return None

    def swap(self, version: str | None, value: bytes) -> str | None:
        """See lease.Register."""
        number = int(version or 0) + 1
        handle, temporary = tempfile.mkstemp(dir=self.stem.parent, prefix=f".{self.stem.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(value)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(temporary, self.file(number))
            except FileExistsError:
                pass
            except OSError as error:
                raise StoreError(
                    f"{self.stem.parent} has no hard links ({error.strerror}), which locks between machines need: keep the store on "
                    "another file system, or in a bucket (--store s3://bucket/prefix)"
                ) from None
            if os.stat(temporary).st_nlink != 2:  # noqa: PTH116  (an answer that was lost and asked for again reads "exists")
                return None
        finally:
            Path(temporary).unlink()
        numbers = self._numbers()
        if max(numbers) > number:
            self.file(number).unlink(missing_ok=True)
            return None
        for lower in numbers - {number}:
            self.file(lower).unlink(missing_ok=True)
        return str(number)

    def _numbers(self) -> set[int]:
        _look_again(self.stem.parent)
        start = f"{self.stem.name}."
        return {int(n.removeprefix(start)) for n in os.listdir(self.stem.parent) if n.startswith(start)}  # noqa: PTH208


def is_shared(root: Path) -> bool:
    """Whether several machines may use the folder: its file system is one of those, or it was marked."""
    return (root / MARK).exists() or file_system(root) in NETWORK | BUCKETS


def file_system(path: Path) -> str:
    """The kind of file system that holds `path`, such as ext4 or nfs4; nothing where the system does not say."""
    mounts = Path("/proc/self/mountinfo")
    found = ("", "")
    for line in mounts.read_text().splitlines() if mounts.exists() else ():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\(\d{3})", lambda escaped: chr(int(escaped[1], 8)), before.split()[4])  # a space is \040 there
        if path.is_relative_to(point) and len(point) >= len(found[0]):
            found = (point, after.split()[0])
    return found[1]


def lease_path(lock: Path) -> Path:
    """Where the lease stands that takes the place of the lock file `lock`."""
    return lock.with_name(lock.name.replace("lock", "lease"))


def _look_again(folder: Path) -> None:
    with contextlib.suppress(OSError):
        os.utime(folder)


def _sizes(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in folder.iterdir()} if folder.is_dir() else {}


def _same(folder: Path, copy: Path, sizes: dict[str, int]) -> bool:
    """Whether the copy is whole and of this very folder: meta.json has the fingerprint of all else."""
    return _sizes(copy) == sizes and (copy / "meta.json").read_bytes() == (folder / "meta.json").read_bytes()
