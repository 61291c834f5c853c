"""Data for studies: every source is decoded once into a prepared folder; splits, subsets and orders are keyed by seeds.

Validation is carved from the train part by a split seed alone, so that it is the same for every replicate; the test part is
left to final reports.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .decode import Pixels, decode_square
from .prepared import (
    VERSION,
    EncodedImages,
    Form,
    Indices,
    PartName,
    Prepared,
    find_prepared,
    open_prepared,
    publish,
    writer,
)
from .sources import Encoded, Location, Part, Source, load, locate

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Form", "Indices", "PartName", "Prepared", "batch_order", "batches", "open_prepared", "prepare", "split", "subset"]

TEST_FRACTION = 0.2  # carved from sources without a test part
CHUNK = 512  # images decoded at a time
THREADED_BYTES = 16 * 2**10  # smaller images decode faster than threads take turns
PROGRESS_S = 2.0  # seconds between lines of progress


def prepare(
    source: str,
    *,
    input_size: int,
    cache: Path,
    memory_budget: int | None = None,
    recall: Callable[[Path], None] = lambda folder: None,
    on_progress: Callable[[str], None] | None = None,
) -> Prepared:
    """Decode `source` into a folder below `cache`, or find the one that an earlier call made (also elsewhere, where `recall` brings it).

    `source` is "digits", a folder of images by class (`<class>/*`, or `train/<class>/*` and `test/<class>/*`), parquet files in the
    layout of Hugging Face, or a name on its hub. Without a test part, a fifth of every class is carved from train, always the
    same. Images whose arrays would exceed `memory_budget` bytes stay encoded; by default the form that is already there serves,
    else the budget is half of the memory available. A data set on the hub is fetched once; later changes there go unnoticed.
    ValueError, in one line, where the source cannot be used.
    """
    say = on_progress or (lambda line: None)
    location = locate(source)
    folders = _folders(cache, location, input_size)
    for form, folder in folders.items():
        recall(folder)
        found = find_prepared(folder)
        if found is not None and (memory_budget is None or form == _form(found.train + found.test, input_size, memory_budget)):
            return found
    say(f"reading {location.address}")
    opened = load(location)
    images = len(opened.train.labels) + (len(opened.test.labels) if opened.test else 0)
    form = _form(images, input_size, _available_memory() // 2 if memory_budget is None else memory_budget)
    cache.mkdir(parents=True, exist_ok=True)
    work = cache / f".preparing-{uuid.uuid4().hex}"
    work.mkdir()
    try:
        return publish(work, folders[form], _write(opened, location, work, form=form, input_size=input_size, say=say))
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
    meminfo = Path("/proc/meminfo")
    match = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text()) if meminfo.exists() else None
    return int(match[1]) * 1024 if match else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _write(source: Source, location: Location, folder: Path, *, form: Form, input_size: int, say: Callable[[str], None]) -> Prepared:
    """Write all images and labels into `folder`; returns what is known of them but the fingerprint."""
    if source.test is None:
        given = [(source.train, _stratified(source.train.labels, TEST_FRACTION, "test", names=source.class_names))]
    else:
        given = [(part, np.full(len(part.labels), part is source.test)) for part in (source.train, source.test)]
    labels: dict[PartName, Indices] = {
        "train": np.concatenate([part.labels[~in_test] for part, in_test in given]),
        "test": np.concatenate([part.labels[in_test] for part, in_test in given]),
    }
    writers = {name: writer(form, folder, name, images=len(of), size=input_size) for name, of in labels.items()}
    tally = _Tally()
    total, said = sum(map(len, labels.values())), time.monotonic()
    for part, in_test in given:
        for (encoded, pixels), test in zip(_decoded(part, input_size), in_test, strict=True):
            name: PartName = "test" if test else "train"
            writers[name].add(encoded, pixels)
            tally.add(name, pixels)
            if time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                say(f"decoding {location.name}: {tally.images:,} of {total:,} images")
    for name, of in labels.items():
        writers[name].close()
        np.save(folder / f"{name}_labels.npy", of)
    mean, std = tally.moments()
    return Prepared(
        folder=folder,
        name=location.name,
        source=location.address,
        form=form,
        class_names=source.class_names,
        input_size=input_size,
        train=len(labels["train"]),
        test=len(labels["test"]),
        mean=mean,
        std=std,
        mirror=source.mirror,
        duplicates=tally.duplicates(),
        fingerprint="",
    )


def _decoded(part: Part, size: int) -> Iterator[tuple[bytes, Pixels]]:
    """The part's images in order, encoded and as pixels `(S, S, 3)`."""

    def decode(row: Encoded) -> Pixels:
        return decode_square(row[0], size, where=row[1])

    rows = part.read()
    with ThreadPoolExecutor() as pool:
        while chunk := list(islice(rows, CHUNK)):
            large = max(len(encoded) for encoded, _ in chunk) > THREADED_BYTES
            for (encoded, _), pixels in zip(chunk, pool.map(decode, chunk) if large else map(decode, chunk), strict=True):
                yield encoded, pixels


class _Tally:
    """What is counted while images pass: levels of the train part's channels, and a hash of every image."""

    def __init__(self) -> None:
        self.histogram = np.zeros((3, 256), dtype=np.int64)
        self.hashes: dict[PartName, list[bytes]] = {"train": [], "test": []}

    @property
    def images(self) -> int:
        return sum(map(len, self.hashes.values()))

    def add(self, name: PartName, pixels: Pixels) -> None:
        self.hashes[name].append(hashlib.blake2b(pixels.data, digest_size=16).digest())
        if name == "train":
            self.histogram += np.stack([np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)])

    def duplicates(self) -> int:
        train = set(self.hashes["train"])
        return sum(h in train for h in self.hashes["test"])

    def moments(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Mean and sd of the channels in [0, 1]; one level for the sd of a channel that never varies, which is to be divided by."""
        levels = np.arange(256) / 255
        share = self.histogram / self.histogram.sum(1, keepdims=True)
        mean = share @ levels
        std = np.sqrt(np.maximum(share @ levels**2 - mean**2, 255.0**-2))
        return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))


def split(prepared: Prepared, split_seed: int = 0, fraction: float = 0.1) -> tuple[Indices, Indices]:
    """Sorted indices into the train part for (training, validation), stratified by class and keyed by `split_seed` alone.

    Validation has `fraction` of every class, at least one image; ValueError where that leaves none to train on.
    """
    validation = _stratified(prepared.labels("train"), fraction, "split", split_seed, names=prepared.class_names)
    return np.flatnonzero(~validation), np.flatnonzero(validation)


def subset(indices: Indices, labels: Indices, fraction: float, seed: int) -> Indices:
    """A `fraction` of every class among `indices`, in their order and at least one image; `labels` are theirs, one for each.

    Subsets of one seed are nested: that of 0.1 lies within that of 0.3.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"data-fraction must lie in (0, 1], not {fraction}")
    return indices[_fraction_of_classes(labels, fraction, "subset", seed)]


def _stratified(labels: Indices, fraction: float, *key: object, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """Mask `(N,)` of the images held out; ValueError where a class is too small to be split."""
    held_out = _fraction_of_classes(labels, fraction, *key)
    for label, name in enumerate(names):
        if held_out[labels == label].all():
            raise ValueError(f"class {name!r} has too few images to hold some out: add images, or remove the class")
    return held_out


def _fraction_of_classes(labels: Indices, fraction: float, *key: object) -> NDArray[np.bool_]:
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(fraction * len(members)))
        mask[members[_shuffled(len(members), *key, int(label))[:count]]] = True
    return mask


def batch_order(n: int, seed: int, epoch: int) -> Indices:
    """The order `(n,)` of an epoch's images, from a stream of its own."""
    return _shuffled(n, seed, "order", epoch)


def _shuffled(n: int, *key: object) -> Indices:
    """A permutation of 0..n-1 by key. It sorts raw random words, the one output numpy promises never to change."""
    return np.argsort(np.random.PCG64(_stream(*key)).random_raw(n), kind="stable")


def _stream(*key: object) -> int:
    from ...roadmap.model import stream  # imports torch, which finding prepared data should not

    return stream(*key)


def batches(
    prepared: Prepared, part: PartName, indices: Indices, batch_size: int, *, crop_seed: int | None = None, workers: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images `(B, 3, S, S)` uint8 and labels `(B,)` in the order of `indices`, from either form; the last batch may be smaller.

    Encoded images are decoded in `workers` processes (0: in this one). With `crop_seed` they come as random resized crops, keyed
    by it and the image, and are not to be cropped again; without, and from arrays, as the central square.
    """
    import torch

    chunks = [indices[i : i + batch_size] for i in range(0, len(indices), batch_size)]
    if prepared.form == "arrays":
        images, labels = prepared.arrays(part)
        for chunk in chunks:
            yield torch.from_numpy(images[chunk]).permute(0, 3, 1, 2), torch.from_numpy(labels[chunk])
    else:
        decode: Any = _Decode(prepared, part, crop_seed)  # torch asks for an indexable object, which its types call a Dataset
        for x, y in torch.utils.data.DataLoader(
            decode,
            batch_size=None,
            sampler=chunks,
            num_workers=workers,
            generator=torch.Generator(),  # else it draws from the global one
        ):
            yield x.permute(0, 3, 1, 2), y


class _Decode:
    """From the indices of a batch to its images `(B, S, S, 3)` and labels `(B,)`; travels to worker processes."""

    def __init__(self, prepared: Prepared, part: PartName, crop_seed: int | None) -> None:
        self.prepared, self.part, self.crop_seed = prepared, part, crop_seed
        self.opened: tuple[EncodedImages, Indices] | None = None

    def __getitem__(self, chunk: Indices) -> tuple[Pixels, Indices]:
        if self.opened is None:
            self.opened = EncodedImages(self.prepared, self.part), self.prepared.labels(self.part)
        images, labels = self.opened
        return np.stack([self._image(images, int(i)) for i in chunk]), labels[chunk]

    def _image(self, images: EncodedImages, index: int) -> Pixels:
        if self.crop_seed is None:
            return images[index]
        return images.crop(index, np.random.default_rng(_stream(self.crop_seed, "crop", index)))
