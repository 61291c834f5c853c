"""Tests of studies/data/prepare.py and what it is made of: sources, decoding, the prepared form, splits and orders."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_digits, load_sample_image

from vitnas.studies.data import prepared as prepared_form
from vitnas.studies.data.decode import decode_crop, decode_square, random_crop
from vitnas.studies.data.prepare import Prepared, batch_order, batches, open_prepared, prepare, split, subset
from vitnas.studies.data.sources import locate

SHARED = os.environ.get("VITNAS_SHARED")
needs_cifar = pytest.mark.skipif(SHARED is None, reason="set VITNAS_SHARED to the folder that holds data/cifar10")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare("digits", input_size=32, cache=tmp_path_factory.mktemp("digits"))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def digit_png(index: int) -> bytes:
    return png((load_digits().images[index] * 15).astype(np.uint8))


def write_folder(root: Path, *, per_class: int = 6, classes: int = 3, first: int = 0) -> Path:
    """A folder of real digits by class."""
    data = load_digits()
    for label in range(classes):
        folder = root / f"digit-{label}"
        folder.mkdir(parents=True)
        for i in np.flatnonzero(data.target == label)[first : first + per_class]:
            Image.fromarray((data.images[i] * 15).astype(np.uint8)).save(folder / f"{i:04d}.png")
    return root


def remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg")).resize((width, height))


class TestDigits:
    def test_parts_are_stratified(self, digits: Prepared) -> None:
        """A fifth of every class is the test part."""
        train, test = np.bincount(digits.labels("train")), np.bincount(digits.labels("test"))
        assert digits.train + digits.test == 1797
        assert (train + test == np.bincount(load_digits().target)).all()
        assert (test == np.round((train + test) * 0.2)).all()

    def test_pixels_are_the_digits(self, digits: Prepared) -> None:
        """The two parts together hold every digit, gray in RGB and brought to the input size, with its label."""
        data = load_digits()
        expected = set()
        for image, label in zip(data.images, data.target, strict=True):
            small = Image.fromarray(np.round(image * 255 / 16).astype(np.uint8)).convert("RGB")
            expected.add((np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR)).tobytes(), int(label)))
        found = set()
        for part in ("train", "test"):
            images, labels = digits.arrays(part)
            assert images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3) and labels.dtype == np.int64
            found |= {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
        assert found == expected

    def test_meta(self, digits: Prepared) -> None:
        """Mean and sd are the train part's; mirrored digits are other digits; the fingerprint is a sha256."""
        images = digits.arrays("train")[0] / 255
        assert np.allclose(digits.mean, images.mean((0, 1, 2)), atol=1e-6)
        assert np.allclose(digits.std, images.std((0, 1, 2)), atol=1e-6)
        assert digits.class_names == tuple("0123456789") and digits.classes == 10
        assert not digits.mirror and digits.duplicates == 0 and len(digits.fingerprint) == 64

    def test_size_is_part_of_the_cache(self, digits: Prepared) -> None:
        """Another input size is another prepared folder with another fingerprint."""
        small = prepare("digits", input_size=8, cache=digits.folder.parent)
        assert small.folder != digits.folder and small.fingerprint != digits.fingerprint
        assert small.arrays("test")[0].shape == (digits.test, 8, 8, 3)


class TestCache:
    def test_found_again_without_heavy_imports(self, digits: Prepared) -> None:
        """Finding prepared data imports neither torch nor datasets nor scikit-learn."""
        code = (
            "import sys; from pathlib import Path; from vitnas.studies.data.prepare import prepare\n"
            "found = prepare('digits', input_size=32, cache=Path(sys.argv[1])); found.arrays('train')\n"
            "print(found.fingerprint, sorted({'torch', 'datasets', 'sklearn', 'PIL', 'pyarrow'} & set(sys.modules)))"
        )
        out = subprocess.run([sys.executable, "-c", code, digits.folder.parent], capture_output=True, text=True, check=True)
        assert out.stdout.split(maxsplit=1) == [digits.fingerprint, "[]\n"]

    def test_open_prepared(self, digits: Prepared) -> None:
        """A prepared folder opens to what was prepared."""
        assert open_prepared(digits.folder) == digits

    @pytest.mark.parametrize(
        "damage",
        [
            lambda folder: (folder / "meta.json").unlink(),
            lambda folder: (folder / "meta.json").write_text("{"),
            lambda folder: (folder / "test_labels.npy").unlink(),
            lambda folder: os.truncate(folder / "train_images.npy", 1000),
            lambda folder: _overwrite(folder / "train_images.npy", 5000, b"\x07"),
        ],
        ids=["no meta", "half meta", "no labels", "half images", "another byte"],
    )
    def test_damaged_caches_are_redone(self, digits: Prepared, tmp_path: Path, damage: Callable[[Path], object]) -> None:
        """A prepared folder that is half there or was altered is prepared again, to the same fingerprint."""
        folder = tmp_path / digits.folder.name
        shutil.copytree(digits.folder, folder)
        damage(folder)
        again = prepare("digits", input_size=32, cache=tmp_path)
        assert again.folder == folder and again.fingerprint == digits.fingerprint
        assert open_prepared(folder) == again
        assert [p.name for p in tmp_path.iterdir()] == [folder.name]

    def test_two_processes_at_once(self, digits: Prepared, tmp_path: Path) -> None:
        """Two processes that prepare the same data at once both get it, and leave one folder."""
        context = multiprocessing.get_context("fork")
        together, found = context.Barrier(2), context.SimpleQueue()
        both = [context.Process(target=_prepare_together, args=(tmp_path, together, found)) for _ in range(2)]
        for process in both:
            process.start()
        assert {found.get() for _ in both} == {digits.fingerprint}
        for process in both:
            process.join()
        assert [p.name for p in tmp_path.iterdir()] == [digits.folder.name]

    def test_a_changed_file_is_seen(self, tmp_path: Path) -> None:
        """A local source whose files changed is prepared anew."""
        root = write_folder(tmp_path / "data")
        before = prepare(str(root), input_size=8, cache=tmp_path / "cache")
        assert prepare(str(root), input_size=8, cache=tmp_path / "cache") == before
        first = next((root / "digit-0").iterdir())
        first.write_bytes(digit_png(100))
        after = prepare(str(root), input_size=8, cache=tmp_path / "cache")
        assert after.fingerprint != before.fingerprint

    def test_a_failure_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Where a source cannot be decoded, the cache stays empty."""
        root = write_folder(tmp_path / "data")
        next((root / "digit-1").iterdir()).write_bytes(b"no image")
        with pytest.raises(ValueError, match="cannot decode"):
            prepare(str(root), input_size=8, cache=tmp_path / "cache")
        assert list((tmp_path / "cache").iterdir()) == []


def _prepare_together(cache: Path, together: Barrier, found: SimpleQueue[str]) -> None:
    together.wait()
    found.put(prepare("digits", input_size=32, cache=cache).fingerprint)


def _overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


class TestFolder:
    def test_classes_without_parts(self, tmp_path: Path) -> None:
        """From `<class>/*` a fifth of every class becomes the test part, the same every time."""
        root = write_folder(tmp_path / "data", per_class=10)
        found = prepare(str(root), input_size=8, cache=tmp_path / "a")
        assert (found.train, found.test, found.name, found.mirror) == (24, 6, "data", True)
        assert found.class_names == ("digit-0", "digit-1", "digit-2")
        assert (np.bincount(found.labels("test")) == 2).all()
        assert prepare(str(root), input_size=8, cache=tmp_path / "b").fingerprint == found.fingerprint

    @pytest.mark.parametrize("held_out", ["test", "val"])
    def test_given_parts(self, tmp_path: Path, held_out: str) -> None:
        """`train/<class>/*` with `test/` or `val/` beside it keeps the parts; images equal in both are counted."""
        write_folder(tmp_path / "data/train", per_class=6)
        write_folder(tmp_path / f"data/{held_out}", per_class=4, first=4)
        found = prepare(str(tmp_path / "data"), input_size=8, cache=tmp_path / "cache")
        assert (found.train, found.test, found.duplicates) == (18, 12, 6)
        images, labels = found.arrays("test")
        files = sorted((tmp_path / "data" / held_out / "digit-1").iterdir())
        expected = [np.asarray(Image.open(file).convert("RGB")) for file in files]
        assert np.array_equal(images[labels == 1], expected)

    def test_other_shapes_and_modes(self, tmp_path: Path) -> None:
        """Images of any shape, mode and orientation become upright RGB squares: the centre, with the shorter side whole."""
        root = tmp_path / "data"
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
            photo(96, 60).save(root / name / "wide.png")
            photo(60, 90).convert("L").save(root / name / "tall.jpeg")
            photo(64, 64).convert("RGBA").save(root / name / "alpha.webp")
            photo(64, 64).convert("P").save(root / name / "palette.gif")
            photo(64, 64).convert("CMYK").save(root / name / "print.JPG")
        found = prepare(str(root), input_size=30, cache=tmp_path / "cache")
        assert found.train + found.test == 10
        wide = decode_square((root / "a/wide.png").read_bytes(), 30, where="")
        assert np.array_equal(wide, np.asarray(photo(96, 60).resize((48, 30), Image.Resampling.BILINEAR).crop((9, 0, 39, 30))))

    def test_orientation(self) -> None:
        """The orientation that a camera wrote into a file is applied, in squares and in crops."""
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned a quarter clockwise
        file = io.BytesIO()
        photo(600, 600).transpose(Image.Transpose.ROTATE_90).save(file, "JPEG", exif=exif, quality=95)
        upright = np.asarray(photo(600, 600).resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(decode_square(file.getvalue(), 32, where="") - upright).mean() < 3


class TestEncoded:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        root = tmp_path_factory.mktemp("photos")
        for label, name in enumerate(("left", "right")):
            (root / name).mkdir()
            for i in range(6):
                whole = photo(640, 427)
                whole.crop((label * 200 + i * 10, i * 5, label * 200 + 300 + i * 10, 300 + i * 5)).save(root / name / f"{i}.jpg")
        return root

    @pytest.fixture(scope="class")
    def both(self, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Prepared, Prepared]:
        cache = tmp_path_factory.mktemp("cache")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prepared_form, "SHARD_BYTES", 50_000)
            encoded = prepare(str(folder), input_size=48, cache=cache, memory_budget=0)
        return prepare(str(folder), input_size=48, cache=cache, memory_budget=2**30), encoded

    def test_form_follows_the_budget(self, both: tuple[Prepared, Prepared], folder: Path) -> None:
        """Images beyond the memory budget stay encoded; without a budget the form that is there serves."""
        arrays, encoded = both
        assert (arrays.form, encoded.form) == ("arrays", "encoded")
        assert len(list(encoded.folder.glob("train_*.bin"))) > 1
        assert arrays.fingerprint != encoded.fingerprint and arrays.mean == encoded.mean
        cache = arrays.folder.parent
        assert prepare(str(folder), input_size=48, cache=cache, memory_budget=0) == encoded
        assert prepare(str(folder), input_size=48, cache=cache) == arrays
        with pytest.raises(ValueError, match="larger memory budget"):
            encoded.arrays("train")

    def test_scoring_sees_the_same_pixels(self, both: tuple[Prepared, Prepared]) -> None:
        """Both forms give the same batches for scoring, in the order asked for."""
        order = np.array([7, 0, 3, 2, 9])
        for (x, y), (u, v) in zip(*(batches(p, "train", order, 2) for p in both), strict=True):
            assert torch.equal(x, u) and torch.equal(y, v) and x.dtype == torch.uint8 and x.shape[1:] == (3, 48, 48)

    def test_crops_are_keyed_by_seed_and_image(self, both: tuple[Prepared, Prepared]) -> None:
        """Random crops depend on the seed and the image alone: not on batch, worker, or global generators."""
        encoded = both[1]

        def crops(order: list[int], size: int, seed: int, workers: int = 0) -> dict[int, torch.Tensor]:
            out = torch.cat([x for x, _ in batches(encoded, "train", np.array(order), size, crop_seed=seed, workers=workers)])
            return dict(zip(order, out, strict=True))

        state = torch.get_rng_state()
        first, again, other = crops([0, 1, 2, 3], 2, 5), crops([3, 1, 2, 0], 4, 5, workers=2), crops([0, 1, 2, 3], 2, 6)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(first[i], again[i]) and not torch.equal(first[i], other[i]) for i in range(4))

    def test_large_jpegs_are_decoded_small(self) -> None:
        """A crop of a JPEG decoded at reduced resolution is the crop of the whole image, nearly."""
        file = io.BytesIO()
        photo(1280, 854).save(file, "JPEG", quality=95)
        left, top, width, height = random_crop(np.random.default_rng(0), 1280, 854)
        assert min(width, height) > 4 * 48
        crop = decode_crop(file.getvalue(), 48, np.random.default_rng(0)).astype(int)
        whole = photo(1280, 854).resize((48, 48), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
        assert np.abs(crop - np.asarray(whole)).mean() < 4

    def test_crops_are_inceptions(self) -> None:
        """Crops have uniform areas and log-uniform ratios among the boxes that fit, and stand anywhere."""
        width, height = 640, 480
        rng = np.random.default_rng(0)
        left, top, w, h = np.array([random_crop(rng, width, height) for _ in range(3000)]).T
        area, ratio = stats.uniform(0.08, 0.92).rvs(20_000, random_state=1), stats.loguniform(3 / 4, 4 / 3).rvs(20_000, random_state=2)
        side_w, side_h = width * height * area * ratio, width * height * area / ratio  # squared
        fits = (side_w <= width**2) & (side_h <= height**2)
        assert stats.ks_2samp(w * h, (area * width * height)[fits]).pvalue > 0.01
        assert stats.ks_2samp(w / h, ratio[fits]).pvalue > 0.01
        assert stats.kstest((left + rng.random(3000)) / (width - w + 1), "uniform").pvalue > 0.01
        assert stats.kstest((top + rng.random(3000)) / (height - h + 1), "uniform").pvalue > 0.01

    def test_no_crop_fits(self) -> None:
        """Where ten tries find no crop, the central one of the widest ratio allowed is taken."""
        assert random_crop(np.random.default_rng(0), 1000, 12) == (492, 0, 16, 12)


@needs_cifar
class TestParquet:
    @pytest.fixture(scope="class")
    def files(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The first rows of CIFAR-10 in the layout of Hugging Face."""
        import pyarrow.parquet as pq

        folder = tmp_path_factory.mktemp("parquet") / "cifar"
        folder.mkdir()
        for part, rows in (("train", 400), ("test", 150)):
            table = pq.read_table(f"{SHARED}/data/cifar10/{part}-00000-of-00001.parquet").slice(0, rows)
            pq.write_table(table.slice(0, rows // 2), folder / f"{part}-00000-of-00002.parquet")
            pq.write_table(table.slice(rows // 2), folder / f"{part}-00001-of-00002.parquet")
        return folder

    def test_folder_of_parquet(self, files: Path, tmp_path: Path) -> None:
        """Image and label columns are found, names and parts kept, rows in order."""
        import pyarrow.parquet as pq

        found = prepare(str(files), input_size=32, cache=tmp_path)
        assert (found.name, found.train, found.test, found.mirror) == ("cifar", 400, 150, True)
        assert found.class_names[:2] == ("airplane", "automobile")
        images, labels = found.arrays("train")
        rows = pq.read_table(sorted(files.glob("train*"))).to_pylist()
        assert labels.tolist() == [row["label"] for row in rows]
        for i in (0, 250, 399):
            assert np.array_equal(images[i], np.asarray(Image.open(io.BytesIO(rows[i]["img"]["bytes"]))))

    @pytest.mark.parametrize(
        ("name", "part"),
        [("data/train-00000-of-00001", "train"), ("train/b-test", "test"), ("validation/0", "validation"), ("all", "train")],
    )
    def test_parts_by_name(self, tmp_path: Path, name: str, part: str) -> None:
        """The part of a file is said by its name, else by its folder."""
        for file in ("train", name):
            path = (tmp_path / file).with_suffix(".parquet")
            path.parent.mkdir(exist_ok=True)
            path.touch()
        parts = {path.relative_to(tmp_path).as_posix(): found for found, _, path in locate(str(tmp_path)).files}
        assert parts[f"{name}.parquet"] == part

    def test_list_of_files(self, files: Path, tmp_path: Path) -> None:
        """Files may be listed; without a test file a fifth is carved from train."""
        listed = ",".join(str(p) for p in sorted(files.glob("train*")))
        found = prepare(listed, input_size=32, cache=tmp_path)
        assert found.train + found.test == 400 and 75 <= found.test <= 85

    def test_bad_row_is_named(self, files: Path, tmp_path: Path) -> None:
        """The row of an image that cannot be decoded is named."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pq.read_table(sorted(files.glob("train*"))[0])
        images = table["img"].to_pylist()
        images[17]["bytes"] = images[17]["bytes"][:100]
        broken = table.set_column(0, table.schema.field("img"), pa.array(images, type=table.schema.field("img").type))
        pq.write_table(broken, tmp_path / "train.parquet")
        with pytest.raises(ValueError, match=r"cannot decode row 17 of train .*: replace the image or remove it"):
            prepare(str(tmp_path / "train.parquet"), input_size=32, cache=tmp_path / "cache")

    @pytest.mark.full
    def test_all_of_cifar(self, tmp_path: Path) -> None:
        """The whole data set has its published counts and mean."""
        said: list[str] = []
        found = prepare(f"{SHARED}/data/cifar10", input_size=32, cache=tmp_path, on_progress=said.append)
        assert (found.train, found.test) == (50_000, 10_000)
        assert np.allclose(found.mean, (0.4914, 0.4822, 0.4465), atol=5e-4)
        assert any("of 60,000 images" in line for line in said)


class TestHub:
    """The hub itself is out of reach of tests; `datasets` gives the same objects for data at hand."""

    @staticmethod
    def rows(count: int, *, start: int = 0, hidden: bool = False) -> dict[str, list[object]]:
        data = load_digits()
        chosen = [int(i) for i in np.flatnonzero(data.target < 3)[start : start + count]]
        return {
            "picture": [{"bytes": digit_png(i), "path": None} for i in chosen],
            "label": [-1 if hidden else int(data.target[i]) for i in chosen],
        }

    @staticmethod
    def serve(monkeypatch: pytest.MonkeyPatch, parts: dict[str, dict[str, list[object]]], **label: object) -> None:
        import datasets

        features = datasets.Features({"picture": datasets.Image(), **{k: v for k, v in label.items() if v is not None}})
        built = {p: datasets.Dataset.from_dict({k: rows[k] for k in features}, features=features) for p, rows in parts.items()}
        monkeypatch.setattr(datasets, "load_dataset", lambda name: datasets.DatasetDict(built))

    def test_hidden_labels(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Where the test part's labels are withheld (-1), the validation part is the one to test on."""
        import datasets

        parts = {"train": self.rows(30), "validation": self.rows(12, start=30), "test": self.rows(9, hidden=True)}
        self.serve(monkeypatch, parts, label=datasets.ClassLabel(names=["zero", "one", "two"]))
        found = prepare("someone/digits", input_size=8, cache=tmp_path)
        assert (found.name, found.train, found.test, found.class_names) == ("digits", 30, 12, ("zero", "one", "two"))

    def test_integer_labels(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Integer labels without names become classes in their order."""
        import datasets

        rows = self.rows(30)
        rows["label"] = [10 * int(str(label)) for label in rows["label"]]
        self.serve(monkeypatch, {"train": rows}, label=datasets.Value("int32"))
        found = prepare("someone/digits", input_size=8, cache=tmp_path)
        assert found.class_names == ("0", "10", "20") and set(found.labels("train")) == {0, 1, 2}

    def test_no_label_column(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Data without classes are refused with the columns there are."""
        self.serve(monkeypatch, {"train": self.rows(9)})
        with pytest.raises(ValueError, match=r"no label column in someone/digits \(columns: picture\): store the classes"):
            prepare("someone/digits", input_size=8, cache=tmp_path)

    def test_no_train_part(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Data without a train part are refused with the parts there are."""
        import datasets

        self.serve(monkeypatch, {"dev": self.rows(9)}, label=datasets.ClassLabel(names=["zero", "one", "two"]))
        with pytest.raises(ValueError, match=r"no train part in someone/digits \(there are dev\)"):
            prepare("someone/digits", input_size=8, cache=tmp_path)

    def test_unknown_or_offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A name that the hub does not answer to is reported in one line that says what to do."""
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ValueError, match=r"no such data set on Hugging Face .*: check the name and the network") as error:
            prepare("no-such-user/no-such-set", input_size=8, cache=tmp_path)
        assert "\n" not in str(error.value)


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda root: remove(root), "no folder .*data: check the path"),
            (lambda root: remove(*root.iterdir()), "no class folders in .*data: expected"),
            (lambda root: remove(*root.rglob("*.png")), "no images below .*data: expected"),
            (lambda root: (root / "empty").mkdir(), "class 'empty' has no images in .*data: add some, or remove its folder"),
            (lambda root: remove(root / "digit-0", root / "digit-1"), "needs 2 classes or more, the data has 1"),
            (lambda root: remove(*sorted((root / "digit-1").iterdir())[1:]), "class 'digit-1' has too few images"),
            (lambda root: (root / "digit-0/x.png").write_bytes(digit_png(0)[:90]), r"cannot decode .*digit-0/x.png .*: replace"),
        ],
        ids=["missing", "no classes", "no images", "empty class", "one class", "one image", "unreadable"],
    )
    def test_folders(self, tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
        """What is wrong with a folder is said in one line that names it and the next move."""
        root = write_folder(tmp_path / "data")
        change(root)
        with pytest.raises(ValueError, match=message) as error:
            prepare(str(root), input_size=8, cache=tmp_path / "cache")
        assert "\n" not in str(error.value)

    def test_class_in_one_part_only(self, tmp_path: Path) -> None:
        """A class that one part lacks is named."""
        write_folder(tmp_path / "data/train", classes=3)
        write_folder(tmp_path / "data/test", classes=2)
        with pytest.raises(ValueError, match="class 'digit-2' is in train but not in test: give both parts the same class folders"):
            prepare(str(tmp_path / "data"), input_size=8, cache=tmp_path / "cache")

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("./nowhere", "no folder .*nowhere: check the path, or use --data digits"),
            ("nowhere.parquet", "no file .*nowhere.parquet: check the path"),
            ("a,b", "not all of 'a,b' are parquet files"),
            (__file__, "is a file, not a data set"),
        ],
    )
    def test_sources(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str) -> None:
        """A source that is not there is refused before anything is fetched."""
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=message):
            prepare(source, input_size=8, cache=tmp_path / "cache")

    def test_damaged_parquet(self, tmp_path: Path) -> None:
        """A file that only claims to be parquet is named."""
        (tmp_path / "train.parquet").write_bytes(b"PAR1, or so it says")
        with pytest.raises(ValueError, match=r"cannot read .*train.parquet .*: fetch it again"):
            prepare(str(tmp_path / "train.parquet"), input_size=8, cache=tmp_path / "cache")

    def test_not_prepared(self, tmp_path: Path) -> None:
        """Opening what is no prepared folder says so."""
        with pytest.raises(ValueError, match=r"no usable prepared data in .*: prepare it again"):
            open_prepared(tmp_path)

    def test_other_version(self, digits: Prepared, tmp_path: Path) -> None:
        """A folder prepared by another version is not used."""
        shutil.copytree(digits.folder, tmp_path / "old")
        meta = json.loads((tmp_path / "old/meta.json").read_text())
        (tmp_path / "old/meta.json").write_text(json.dumps({**meta, "version": 0}))
        with pytest.raises(ValueError, match="made by another version"):
            open_prepared(tmp_path / "old")


class TestSplits:
    def test_validation_is_a_stratified_tenth(self, digits: Prepared) -> None:
        """Training and validation part the train images, a tenth of every class held out."""
        train, validation = split(digits)
        assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(digits.train))
        assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
        labels = digits.labels("train")
        assert (np.bincount(labels[validation]) == np.round(np.bincount(labels) * 0.1)).all()

    def test_split_depends_on_its_seed_alone(self, digits: Prepared) -> None:
        """The split is the same whatever was drawn before, and another for another seed."""
        first = split(digits, 0)[1]
        np.random.seed(1)
        torch.manual_seed(1)
        assert np.array_equal(split(digits, 0)[1], first)
        assert not np.array_equal(split(digits, 1)[1], first)

    def test_every_class_is_validated(self, digits: Prepared) -> None:
        """However small the fraction, a class has one validation image."""
        labels = digits.labels("train")
        assert (np.bincount(labels[split(digits, 0, 0.0001)[1]], minlength=10) == 1).all()

    def test_subsets_are_nested(self, digits: Prepared) -> None:
        """Data fractions of one seed lie within one another, each stratified, in the order given."""
        train, _ = split(digits)
        labels = digits.labels("train")
        tenth, third, whole = (subset(train, labels[train], fraction, 0) for fraction in (0.1, 0.3, 1.0))
        assert set(tenth) < set(third) < set(whole) and np.array_equal(whole, train)
        assert (np.diff(tenth) > 0).all()
        assert (np.bincount(labels[third]) == np.round(np.bincount(labels[train]) * 0.3)).all()
        assert not np.array_equal(subset(train, labels[train], 0.1, 1), tenth)
        with pytest.raises(ValueError, match=r"data-fraction must lie in \(0, 1\], not 0"):
            subset(train, labels[train], 0, 0)

    def test_orders_are_permutations_of_their_own(self) -> None:
        """Every seed and epoch has its own order, independent of global generators."""
        orders = {(seed, epoch): batch_order(1000, seed, epoch) for seed in range(3) for epoch in range(3)}
        assert all(np.array_equal(np.sort(order), np.arange(1000)) for order in orders.values())
        assert len({order.tobytes() for order in orders.values()}) == 9
        np.random.seed(0)
        assert np.array_equal(batch_order(1000, 0, 0), orders[0, 0])

    def test_streams_never_change(self, digits: Prepared) -> None:
        """Orders and splits are part of what a trial is: these values hold for good."""
        assert batch_order(8, 0, 0).tolist() == [5, 1, 0, 3, 2, 4, 6, 7]
        assert split(digits)[1][:5].tolist() == [16, 28, 33, 41, 76]
