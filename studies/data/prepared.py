"""The prepared form of a data set: a folder of arrays that training reads with numpy alone.

For the parts "train" (the whole official train part) and "test" it holds the labels `<part>_labels.npy` `(N,)` int64 and either

- arrays: `<part>_images.npy`, uint8 `(N, S, S, 3)`, read memory-mapped; or, where those would not fit in memory,
- encoded: the original JPEG or PNG bytes end to end in shards `<part>_00000.bin`, ..., and `<part>_offsets.npy` `(N, 3)`
  int64 (shard, first byte, bytes), decoded at use;

and `meta.json`, written last. Both forms give the same pixels for scoring: the central square at the input size.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from .decode import Pixels, decode_crop, decode_square

Form = Literal["arrays", "encoded"]
PartName = Literal["train", "test"]
Indices = NDArray[np.int64]

VERSION = 1  # of the preparation: raised by any change that alters pixels, labels or the carved test part
SHARD_BYTES = 64 * 2**20
META = "meta.json"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A prepared data set: `train` and `test` count images; `mean` and `std` are of the train part's channels in [0, 1].

    `mirror`: a horizontal flip keeps the label. `duplicates`: test images whose pixels are, exactly, those of a train image.
    `fingerprint` is of all pixels and labels.
    """

    folder: Path
    name: str
    source: str
    form: Form
    class_names: tuple[str, ...]
    input_size: int
    train: int
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

    def labels(self, part: PartName) -> Indices:
        """Labels `(N,)`."""
        labels: Indices = np.load(self.folder / f"{part}_labels.npy")
        return labels

    def arrays(self, part: PartName) -> tuple[Pixels, Indices]:
        """Memory-mapped images `(N, S, S, 3)` uint8 and labels `(N,)`; ValueError where the images are encoded."""
        if self.form != "arrays":
            raise ValueError(f"{self.name} is prepared as encoded images: read it in batches, or prepare it with a larger memory budget")
        images: Pixels = np.load(self.folder / f"{part}_images.npy", mmap_mode="r")
        return images, self.labels(part)


class EncodedImages:
    """Decodes the images of an encoded part by index: `(S, S, 3)` uint8."""

    def __init__(self, prepared: Prepared, part: PartName) -> None:
        self.size = prepared.input_size
        self.offsets = np.load(prepared.folder / f"{part}_offsets.npy", mmap_mode="r")
        count = int(self.offsets[-1, 0]) + 1
        self.shards = [np.memmap(_shard(prepared.folder, part, i), dtype=np.uint8, mode="r") for i in range(count)]

    def __getitem__(self, index: int) -> Pixels:
        """The view that scores are taken on."""
        return decode_square(self._encoded(index), self.size, where=f"image {index}")

    def crop(self, index: int, rng: np.random.Generator) -> Pixels:
        """A random resized crop, for training."""
        return decode_crop(self._encoded(index), self.size, rng)

    def _encoded(self, index: int) -> bytes:
        shard, start, length = self.offsets[index]
        return bytes(self.shards[shard][start : start + length])


def open_prepared(folder: Path) -> Prepared:
    """Open a prepared folder; ValueError where it is none, is incomplete, or is of another version."""
    try:
        meta = json.loads((folder / META).read_text())
        if meta.pop("version") != VERSION:
            raise ValueError("it was made by another version")
        for name, size in meta.pop("files").items():
            if (folder / name).stat().st_size != size:
                raise ValueError(f"{name} is damaged")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in meta.items()}
        return Prepared(folder=folder, **values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no usable prepared data in {folder} ({error}): prepare it again") from error


def find_prepared(folder: Path) -> Prepared | None:
    """The prepared folder if it is whole. Files changed after it was finished are held against the fingerprint."""
    try:
        found = open_prepared(folder)
    except ValueError:
        return None
    finished = (folder / META).stat().st_mtime_ns
    touched = any(path.stat().st_mtime_ns > finished for path in folder.iterdir())
    return None if touched and _fingerprint(folder) != found.fingerprint else found


def publish(work: Path, folder: Path, meta: Prepared) -> Prepared:
    """Complete the folder `work` with its fingerprint and `meta.json`, and move it to `folder` in one step.

    Where another process was faster, its folder, which holds the same, serves.
    """
    meta = replace(meta, fingerprint=_fingerprint(work))
    sizes = {path.name: path.stat().st_size for path in sorted(work.iterdir())}
    for name in sizes:
        _sync(work / name)
    fields = {k: v for k, v in asdict(meta).items() if k != "folder"}
    (work / META).write_text(json.dumps({"version": VERSION, **fields, "files": sizes}, indent=1))
    _sync(work / META)
    _sync(work)
    try:
        work.rename(folder)
    except OSError:  # there is one already
        found = find_prepared(folder)
        if found is not None:
            return found
        damaged = tempfile.mkdtemp(prefix=".damaged-", dir=folder.parent)
        folder.rename(damaged)
        work.rename(folder)
        shutil.rmtree(damaged)
    _sync(folder.parent)
    return replace(meta, folder=folder)


def _fingerprint(folder: Path) -> str:
    """sha256 over the contents of all arrays and shards, by name, and the preparation's version."""
    digest = hashlib.sha256(f"prepared {VERSION}".encode())
    for path in sorted(path for path in folder.iterdir() if path.name != META):
        data = np.load(path, mmap_mode="r") if path.suffix == ".npy" else np.memmap(path, dtype=np.uint8, mode="r")
        digest.update(f"{path.name} {data.dtype.str} {data.shape}".encode())
        digest.update(data.data)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class PartWriter(Protocol):
    """Takes the images of one part in order, then is closed."""

    def add(self, encoded: bytes, pixels: Pixels) -> None:
        """Write the next image."""

    def close(self) -> None:
        """Finish the part's files."""


def writer(form: Form, folder: Path, part: PartName, *, images: int, size: int) -> PartWriter:
    """The writer of a part of `images` images in a form."""
    return ArrayWriter(folder, part, images=images, size=size) if form == "arrays" else ShardWriter(folder, part)


class ArrayWriter:
    """Writes decoded images into one array."""

    def __init__(self, folder: Path, part: PartName, *, images: int, size: int) -> None:
        path = folder / f"{part}_images.npy"
        self.array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(images, size, size, 3))
        self.next = 0

    def add(self, encoded: bytes, pixels: Pixels) -> None:
        """Write the next image."""
        self.array[self.next] = pixels
        self.next += 1

    def close(self) -> None:
        """Finish the part's files."""
        self.array.flush()


class ShardWriter:
    """Writes encoded images end to end into shards."""

    def __init__(self, folder: Path, part: PartName) -> None:
        self.folder, self.part = folder, part
        self.offsets: list[tuple[int, int, int]] = []
        self.shard = 0
        self.file: BinaryIO = _shard(folder, part, 0).open("wb")

    def add(self, encoded: bytes, pixels: Pixels) -> None:
        """Write the next image."""
        if self.file.tell() and self.file.tell() + len(encoded) > SHARD_BYTES:
            self.file.close()
            self.shard += 1
            self.file = _shard(self.folder, self.part, self.shard).open("wb")
        self.offsets.append((self.shard, self.file.tell(), len(encoded)))
        self.file.write(encoded)

    def close(self) -> None:
        """Finish the part's files."""
        self.file.close()
        np.save(self.folder / f"{self.part}_offsets.npy", np.array(self.offsets, dtype=np.int64))


def _shard(folder: Path, part: PartName, shard: int) -> Path:
    return folder / f"{part}_{shard:05d}.bin"
