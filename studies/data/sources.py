"""Where images come from: the embedded digits, a folder by class, parquet files, or the Hugging Face hub.

`locate` finds and names a source with the standard library alone, so that a prepared cache is found without heavy imports;
`load` opens it. This is the only file that imports `datasets` and scikit-learn, both lazily.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

DIGITS = "digits"
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
TEST_PARTS = ("test", "val", "validation", "valid")  # in this order of preference
LABEL_COLUMNS = ("label", "labels", "fine_label")
ROWS = 1000  # rows read from a data set at a time

Encoded = tuple[bytes, str]  # an encoded image (PNG, JPEG, ...) and where it stands, for error messages


@dataclass(frozen=True, kw_only=True)
class Location:
    """A source that was found. `files` are the local files it consists of, in reading order, with their part and class."""

    kind: Literal["digits", "folder", "parquet", "hub"]
    name: str
    address: str  # absolute path(s), or the name on the hub
    files: tuple[tuple[str, str, Path], ...] = ()  # (part, class, path); the class is "" for parquet

    def stamp(self) -> list[tuple[str, int, int]]:
        """Path, bytes and modification time (ns) of every file: what tells whether a local source changed."""
        stats = [(path, path.stat()) for _, _, path in self.files]
        return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats]


@dataclass(frozen=True, kw_only=True)
class Part:
    """The images of one part in order: `labels` (N,) int64, and `read()` that yields the N encoded images."""

    labels: NDArray[np.int64]
    read: Callable[[], Iterator[Encoded]]


@dataclass(frozen=True, kw_only=True)
class Source:
    """An opened source. `test` is None where the source has no test part; `mirror`: a horizontal flip keeps the label."""

    class_names: tuple[str, ...]
    mirror: bool
    train: Part
    test: Part | None


def locate(source: str) -> Location:
    """Find `source`: "digits", a folder, parquet files (a folder, a file, or several with commas between), or a hub name."""
    if source == DIGITS:
        return Location(kind="digits", name=DIGITS, address=DIGITS)
    paths = [Path(p).expanduser().absolute() for p in source.split(",")]
    if all(p.suffix == ".parquet" for p in paths):
        return _locate_parquet(paths, paths)
    if len(paths) > 1:
        raise ValueError(f"not all of {source!r} are parquet files: give one folder, or .parquet files with commas between")
    root = paths[0]
    if root.is_dir():
        parquet = sorted(root.rglob("*.parquet"))
        return _locate_parquet([root], parquet) if parquet else _locate_folder(root)
    if root.exists():
        raise ValueError(f"{root} is a file, not a data set: give a folder of images by class, or .parquet files")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", source):
        raise ValueError(f"no folder {root}: check the path, or use --data {DIGITS}, which needs no files")
    return Location(kind="hub", name=source.rpartition("/")[2], address=source)


def _locate_parquet(roots: list[Path], files: list[Path]) -> Location:
    missing = [p for p in files if not p.is_file()]
    if missing:
        raise ValueError(f"no file {missing[0]}: check the path")
    address = ",".join(map(str, roots))
    parted = tuple((_part_of(p, within=roots[0] if roots[0].is_dir() else p.parent), "", p) for p in files)
    if all(part != "train" for part, _, _ in parted):
        raise ValueError(f"no train part in {address}: name its files train-*.parquet")
    return Location(kind="parquet", name=roots[0].stem if len(roots) == 1 else roots[0].parent.name, address=address, files=parted)


def _part_of(path: Path, *, within: Path) -> str:
    """The part that a parquet file belongs to, by the words of its name, else of its folders; "train" where none says so."""
    for name in reversed(path.relative_to(within).parts):
        for word in re.split(r"[^a-z]+", name.lower()):
            if word in ("train", *TEST_PARTS):
                return word
    return "train"


def _locate_folder(root: Path) -> Location:
    parts = {"train": root}
    if (root / "train").is_dir():
        parts = {"train": root / "train"}
        held_out = next((root / part for part in TEST_PARTS if (root / part).is_dir()), None)
        if held_out is not None:
            parts["test"] = held_out
    files = tuple((part, name, path) for part, folder in parts.items() for name, path in _images_by_class(folder))
    return Location(kind="folder", name=root.name, address=str(root), files=files)


def _images_by_class(folder: Path) -> list[tuple[str, Path]]:
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise ValueError(f"no class folders in {folder}: expected {folder}/<class>/*.png, one folder a class")
    found = [(c.name, sorted(p for p in c.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)) for c in classes]
    if not any(images for _, images in found):
        raise ValueError(f"no images below {folder}: expected {folder}/<class>/*.png (or {', '.join(IMAGE_SUFFIXES[1:4])} ...)")
    for name, images in found:
        if not images:
            raise ValueError(f"class {name!r} has no images in {folder}: add some, or remove its folder")
    return [(name, path) for name, images in found for path in images]


def load(location: Location) -> Source:
    """Open a located source; ValueError where its parts or classes do not fit together."""
    loaders = {"digits": _load_digits, "folder": _load_folder, "parquet": _load_parquet, "hub": _load_hub}
    source = loaders[location.kind](location)
    _check_classes(source)
    return source


def _check_classes(source: Source) -> None:
    names = source.class_names
    if len(names) < 2:
        raise ValueError(f"classification needs 2 classes or more, the data has {len(names)}: add images of another class")
    for part, labels in (("train", source.train.labels), ("test", source.test.labels if source.test else None)):
        if labels is None:
            continue
        outside = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if outside.size:
            row = int(outside[0])
            raise ValueError(f"row {row} of {part} has label {labels[row]}, which is none of the {len(names)} classes: correct or drop it")
        empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
        if empty.size:
            raise ValueError(f"class {names[empty[0]]!r} has no images in {part}: add some, or remove the class from both parts")


def _load_digits(location: Location) -> Source:
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()

    def read() -> Iterator[Encoded]:
        for i, image in enumerate(digits.images):
            file = io.BytesIO()
            Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(file, "PNG")
            yield file.getvalue(), f"digit {i}"

    names = tuple(str(name) for name in digits.target_names)
    return Source(class_names=names, mirror=False, train=Part(labels=digits.target.astype(np.int64), read=read), test=None)


def _load_folder(location: Location) -> Source:
    import datasets

    classes = {part: sorted({c for p, c, _ in location.files if p == part}) for part in ("train", "test")}
    if classes["test"] and classes["test"] != classes["train"]:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))[0]
        has, lacks = ("train", "test") if odd in classes["train"] else ("test", "train")
        raise ValueError(f"class {odd!r} is in {has} but not in {lacks}: give both parts the same class folders")
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.ClassLabel(names=classes["train"])})
    parts = {}
    for part in ("train", "test"):
        rows = [(str(path), name) for p, name, path in location.files if p == part]
        if rows:
            columns = {"image": [path for path, _ in rows], "label": [name for _, name in rows]}
            parts[part] = datasets.Dataset.from_dict(columns, features=features)
    return _from_datasets(parts, location)


def _load_parquet(location: Location) -> Source:
    import datasets
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import read_metadata

    files: dict[str, list[str]] = {}
    for part, _, path in location.files:
        try:
            read_metadata(path)
        except (ArrowInvalid, OSError) as error:
            raise ValueError(f"cannot read {path} ({str(error).splitlines()[0]}): fetch it again, or remove it") from error
        files.setdefault(part, []).append(str(path))
    # Streaming reads the files where they are; otherwise `datasets` would first write a second copy of them.
    return _from_datasets(datasets.load_dataset("parquet", data_files=files, streaming=True), location)


def _load_hub(location: Location) -> Source:
    import datasets

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else every retry is a line
    try:
        parts = datasets.load_dataset(location.address)
    except (OSError, ValueError) as error:  # unknown or private name, no network, several configurations
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"no folder {location.address!r} here and no such data set on Hugging Face ({reason}): check the name and the network, "
            f"or use --data {DIGITS}, which needs neither"
        ) from error
    return _from_datasets(parts, location)


def _from_datasets(parts: Any, location: Location) -> Source:
    """A Source of a dict of part name to `datasets` Dataset or IterableDataset."""
    if "train" not in parts:
        raise ValueError(f"no train part in {location.address} (there are {', '.join(parts)}): give a data set that has one")
    features = parts["train"].features
    image, label = _image_column(features, location), _label_column(features, location)
    held_out = {part: _labels(parts[part], label, part) for part in TEST_PARTS if part in parts}
    # Data sets with a hidden test part give all its labels as -1; then the validation part is the one to test on.
    test = next((part for part, labels in held_out.items() if (labels >= 0).any()), None)
    train_labels = _labels(parts["train"], label, "train")
    names = getattr(features[label], "names", None)
    if names is None:
        values = np.unique(train_labels)
        names = [str(v) for v in values]
        train_labels = np.searchsorted(values, train_labels)
        for part, labels in held_out.items():
            strange = np.setdiff1d(labels, values)
            if part == test and strange.size:
                raise ValueError(f"class {strange[0]} is in {part} but not in train: give both parts the same classes")
            held_out[part] = np.searchsorted(values, labels)
    return Source(
        class_names=tuple(names),
        mirror=True,
        train=Part(labels=train_labels, read=lambda: _read(parts["train"], image, "train")),
        test=None if test is None else Part(labels=held_out[test], read=lambda: _read(parts[test], image, test)),
    )


def _image_column(features: Any, location: Location) -> str:
    import datasets

    columns: list[str] = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if not columns:
        raise ValueError(f"no image column in {location.address} (columns: {', '.join(features)}): store it as the Image feature")
    return columns[0]


def _label_column(features: Any, location: Location) -> str:
    import datasets

    classes: list[str] = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    integers: list[str] = [n for n, f in features.items() if isinstance(f, datasets.Value) and re.fullmatch(r"u?int\d+", f.dtype)]
    for columns in (classes, integers):
        named = [name for name in LABEL_COLUMNS if name in columns]
        if named or len(columns) == 1:
            return (named or columns)[0]
    raise ValueError(
        f"no label column in {location.address} (columns: {', '.join(features)}): "
        "store the classes as ClassLabel or integers in a column named label"
    )


def _labels(part: Any, column: str, name: str) -> NDArray[np.int64]:
    batches = part.select_columns([column]).with_format("arrow").iter(batch_size=ROWS)
    labels = [label for batch in batches for label in batch[column].to_pylist()]
    if None in labels:
        raise ValueError(f"row {labels.index(None)} of {name} has no label: label it or drop it")
    return np.array(labels, dtype=np.int64)


def _read(part: Any, column: str, name: str) -> Iterator[Encoded]:
    import datasets

    encoded = part.select_columns([column]).cast_column(column, datasets.Image(decode=False)).with_format("arrow")
    row = 0
    for batch in encoded.iter(batch_size=ROWS):
        for image in batch[column].to_pylist():
            yield _content(image, f"row {row} of {name}")
            row += 1


def _content(image: dict[str, Any] | None, row: str) -> Encoded:
    if image is None:
        raise ValueError(f"{row} has no image: drop the row")
    if image["bytes"] is not None:
        return image["bytes"], row
    try:
        return Path(image["path"]).read_bytes(), image["path"]
    except OSError as error:
        raise ValueError(f"cannot read {image['path']} ({error.strerror}): restore the file, or remove it from the data") from error
