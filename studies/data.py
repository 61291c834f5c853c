"""Prepared data: every source is decoded once into a folder of arrays that training reads with numpy alone.

A prepared folder holds, for the parts "train" (the whole official train part) and "test", the labels `(N,)` int64 and either

- arrays: `<part>_images.npy`, uint8 `(N, S, S, 3)`, read memory-mapped; or, where those would not fit in memory,
- encoded: the original JPEG or PNG bytes end to end in shards `<part>_00000.bin`, ..., and `<part>_offsets.npy` `(N, 3)`
  int64 (shard, first byte, bytes), decoded by workers at use,

and `meta.json`, written last. Both forms give the same pixels for scoring: the central square at the input size.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from .decode import Pixels, decode_square
from .sources import Encoded, Location, Part, Source, load, locate

if TYPE_CHECKING:
    pass

Form = Literal["arrays", "encoded"]
PartName = Literal["train", "test"]
Indices = NDArray[np.int64]

VERSION = 1  # of the preparation: raised by any change that alters pixels, labels or the test part carved here
TEST_FRACTION = 0.2  # carved from sources without a test part
SHARD_BYTES = 64 * 2**20
CHUNK = 512  # images decoded at a time
THREADED_BYTES = 16 * 2**10  # below this size an image decodes faster than threads take turns
META = "meta.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared data set. `mean` and `std` are of the train part's channels in [0, 1]; `mirror`: a horizontal flip keeps the
    label; `duplicates`: test images whose pixels are, exactly, those of a train image; `fingerprint` is of pixels and labels."""

    folder: Path
    name: str
    source: str
    form: Form
    class_names: tuple[str, ...]
    input_size: int
    train: int  # images
    test: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    mirror: bool
    duplicates: int
    fingerprint: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def labels(self, part: PartName) -> NDArray[np.int64]:
        """Labels `(N,)`."""
        labels: NDArray[np.int64] = np.load(self.folder / f"{part}_labels.npy")
        return labels

    def arrays(self, part: PartName) -> tuple[Pixels, NDArray[np.int64]]:
        """Memory-mapped images `(N, S, S, 3)` uint8 and labels `(N,)`; ValueError where the form is "encoded"."""
        if self.form != "arrays":
            raise ValueError(
                f"{self.name} is prepared as encoded images: read it with batches(), or prepare it with a larger memory budget"
            )
        images: Pixels = np.load(self.folder / f"{part}_images.npy", mmap_mode="r")
        return images, self.labels(part)


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared folder; ValueError where it is none, is incomplete, or is of another version."""
    try:
        meta = json.loads((folder / META).read_text())
        if meta.pop("version") != VERSION:
            raise ValueError("made by another version")
        for name, size in meta.pop("files").items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} is damaged")
        return Prepared(folder=folder, **{k: tuple(v) if isinstance(v, list) else v for k, v in meta.items()})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no usable prepared data ({error}): prepare it again") from error


def prepare(
    source: str,
    *,
    input_size: int,
    cache: Path,
    memory_budget: int | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> Prepared:
    """Decode `source` into a folder below `cache`, or find the one that an earlier call made.

    `source` is "digits", a folder of images by class (`<class>/*` or `train/<class>/*` and `test/<class>/*`), parquet files in the
    layout of Hugging Face, or a name on its hub. Without a test part, a fifth of every class is carved from train, always the same.
    Images whose arrays would exceed `memory_budget` bytes are kept encoded; by default the form that is already there serves,
    else the budget is half of the memory available. Sources on the hub are downloaded once; later changes there go unnoticed.
    """
    say = on_progress or (lambda line: None)
    location = locate(source)
    folders = _folders(cache, location, input_size)
    for form, folder in folders.items():
        found = _find(folder)
        if found is not None and (memory_budget is None or form == _form(found.train + found.test, input_size, memory_budget)):
            return found
    say(f"reading {location.address}")
    opened = load(location)
    count = len(opened.train.labels) + (len(opened.test.labels) if opened.test else 0)
    form = _form(count, input_size, _available_memory() // 2 if memory_budget is None else memory_budget)
    cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".preparing-", dir=cache))
    try:
        write = _Writer(work, form=form, input_size=input_size, name=location.name, say=say)
        meta = write.parts(opened)
        meta = replace(meta, source=location.address)
        return _publish(work, folders[form], meta)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _folders(cache: Path, location: Location, input_size: int) -> dict[Form, Path]:
    identity = [VERSION, location.kind, location.address, location.stamp(), input_size]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', location.name)}-{input_size}-{key}"
    return {"arrays": cache / name, "encoded": cache / f"{name}-encoded"}


def _form(images: int, input_size: int, budget: int) -> Form:
    return "arrays" if images * input_size * input_size * 3 <= budget else "encoded"


def _available_memory() -> int:
    """Bytes of memory free for use; where the system does not say, half of what is built in."""
    try:
        match = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        match = None
    return int(match[1]) * 1024 if match else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _find(folder: Path) -> Prepared | None:
    """The prepared folder if it is whole. Files changed after it was finished are compared with its fingerprint."""
    try:
        found = open_prepared(folder)
    except ValueError:
        return None
    finished = (folder / META).stat().st_mtime_ns
    touched = any(path.stat().st_mtime_ns > finished for path in folder.iterdir())
    return None if touched and _fingerprint(folder) != found.fingerprint else found


def _fingerprint(folder: Path) -> str:
    """sha256 over the contents of all arrays and shards, by name, and the preparation's version."""
    digest = hashlib.sha256(f"prepared {VERSION}".encode())
    for path in sorted(p for p in folder.iterdir() if p.name != META):
        data = np.load(path, mmap_mode="r") if path.suffix == ".npy" else np.memmap(path, dtype=np.uint8, mode="r")
        digest.update(f"{path.name} {data.dtype.str} {data.shape}".encode())
        digest.update(np.ascontiguousarray(data).data)
    return digest.hexdigest()


def _publish(work: Path, folder: Path, meta: Prepared) -> Prepared:
    """Finish the folder and move it to its place; another process that was faster has written the same, and its folder serves."""
    meta = replace(meta, fingerprint=_fingerprint(work))
    fields = {k: v for k, v in asdict(meta).items() if k != "folder"}
    sizes = {path.name: path.stat().st_size for path in sorted(work.iterdir())}
    for path in work.iterdir():
        _sync(path)
    (work / META).write_text(json.dumps({"version": VERSION, **fields, "files": sizes}, indent=1))
    _sync(work / META)
    _sync(work)
    while True:
        try:
            work.rename(folder)
            _sync(folder.parent)
            return replace(meta, folder=folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        found = _find(folder)
        if found is not None:
            return found
        damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent))
        folder.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Writer:
    """Writes the parts of a source into a folder and gathers what `meta.json` tells of them."""

    def __init__(self, folder: Path, *, form: Form, input_size: int, name: str, say: Callable[[str], None]) -> None:
        self.folder, self.form, self.input_size, self.name, self.say = folder, form, input_size, name, say
        self.histogram = np.zeros((3, 256), dtype=np.int64)  # of the train part's pixels
        self.train_hashes: set[bytes] = set()
        self.test_hashes: list[bytes] = []
        self.done, self.total, self.said = 0, 0, time.monotonic()

    def parts(self, source: Source) -> Prepared:
        """Write all images and labels."""
        given = [(source.train, np.zeros(len(source.train.labels), dtype=bool))]
        if source.test is None:
            given = [(source.train, _stratified(source.train.labels, TEST_FRACTION, "test", names=source.class_names))]
        else:
            given.append((source.test, np.ones(len(source.test.labels), dtype=bool)))
        counts: dict[PartName, int] = {
            "train": sum(int((~test).sum()) for _, test in given),
            "test": sum(int(test.sum()) for _, test in given),
        }
        self.total = sum(counts.values())
        kind = _Arrays if self.form == "arrays" else _Shards
        out = {part: kind(self.folder, part, n, self.input_size) for part, n in counts.items()}
        for part, in_test in given:
            self._images(part, in_test, out)
        for name in out:
            out[name].close()
            labels = [part.labels[in_test == (name == "test")] for part, in_test in given]
            np.save(self.folder / f"{name}_labels.npy", np.concatenate(labels))
        levels = np.arange(256) / 255
        share = self.histogram / self.histogram.sum(1, keepdims=True)
        mean = share @ levels
        std = np.sqrt(share @ levels**2 - mean**2)
        return Prepared(
            folder=self.folder,
            name=self.name,
            source="",
            form=self.form,
            class_names=source.class_names,
            input_size=self.input_size,
            train=counts["train"],
            test=counts["test"],
            mean=_triple(mean),
            std=_triple(std),
            mirror=source.mirror,
            duplicates=sum(h in self.train_hashes for h in self.test_hashes),
            fingerprint="",
        )

    def _images(self, part: Part, in_test: NDArray[np.bool_], out: dict[PartName, _Arrays | _Shards]) -> None:
        rows = part.read()
        start = 0
        with ThreadPoolExecutor() as pool:
            while chunk := list(islice(rows, CHUNK)):
                large = max(len(encoded) for encoded, _ in chunk) > THREADED_BYTES
                for (encoded, _), pixels, test in zip(
                    chunk, (pool.map if large else map)(self._decode, chunk), in_test[start : start + len(chunk)], strict=True
                ):
                    out["test" if test else "train"].add(encoded, pixels)
                    self._count(pixels, test=bool(test))
                start += len(chunk)

    def _decode(self, row: Encoded) -> Pixels:
        return decode_square(row[0], self.input_size, where=row[1])

    def _count(self, pixels: Pixels, *, test: bool) -> None:
        digest = hashlib.blake2b(pixels.data, digest_size=16).digest()
        if test:
            self.test_hashes.append(digest)
        else:
            self.train_hashes.add(digest)
            self.histogram += np.stack([np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)])
        self.done += 1
        if time.monotonic() - self.said > 2:
            self.said = time.monotonic()
            self.say(f"decoding {self.name}: {self.done:,} of {self.total:,} images")


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


class _Arrays:
    """Writes decoded images into one array."""

    def __init__(self, folder: Path, part: PartName, images: int, size: int) -> None:
        path = folder / f"{part}_images.npy"
        self.array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(images, size, size, 3))
        self.next = 0

    def add(self, encoded: bytes, pixels: Pixels) -> None:
        self.array[self.next] = pixels
        self.next += 1

    def close(self) -> None:
        self.array.flush()


class _Shards:
    """Writes encoded images end to end into shards."""

    def __init__(self, folder: Path, part: PartName, images: int, size: int) -> None:
        self.folder, self.part = folder, part
        self.offsets: list[tuple[int, int, int]] = []
        self.shard = -1
        self.file: BinaryIO | None = None

    def add(self, encoded: bytes, pixels: Pixels) -> None:
        if self.file is None or self.file.tell() + len(encoded) > SHARD_BYTES:
            self._end_shard()
            self.shard += 1
            self.file = shard_path(self.folder, self.part, self.shard).open("wb")
        self.offsets.append((self.shard, self.file.tell(), len(encoded)))
        self.file.write(encoded)

    def close(self) -> None:
        self._end_shard()
        np.save(self.folder / f"{self.part}_offsets.npy", np.array(self.offsets, dtype=np.int64))

    def _end_shard(self) -> None:
        if self.file is not None:
            self.file.close()


def shard_path(folder: Path, part: PartName, shard: int) -> Path:
    """The file of an encoded shard."""
    return folder / f"{part}_{shard:05d}.bin"
