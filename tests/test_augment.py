"""Tests of studies/data/augment.py and studies/data/randaugment.py: every technique against its reference distribution and values."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from scipy import stats
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional as F

from vitnas.roadmap.model import stream
from vitnas.studies.data import randaugment as ra
from vitnas.studies.data.augment import Augment, crop_matrices, cut_box, erase
from vitnas.studies.recipe import Recipe, preset

from .oracles import timm

PLAIN = Recipe(crop="none", flip=False)
SHORT = preset("short").modern
PAPER = preset("paper").modern
MEAN, STD = (0.49, 0.48, 0.45), (0.25, 0.24, 0.26)
FILL = torch.tensor(MEAN).view(3, 1, 1)


def photos(n: int, size: int = 32) -> Tensor:
    """`n` windows of a real photograph, uint8 `(n, 3, size, size)`."""
    pixels = torch.from_numpy(load_sample_image("china.jpg").copy()).permute(2, 0, 1)
    windows = [pixels[:, y : y + size, x : x + size] for y in range(100, 380 - size, 20) for x in range(0, 600 - size, 16)]
    return torch.stack(windows[:n])


def augment(recipe: Recipe, classes: int = 10) -> Augment:
    return Augment(recipe, mean=MEAN, std=STD, classes=classes)


def labels(n: int, classes: int = 10) -> Tensor:
    return torch.arange(n) % classes


def denormalise(x: Tensor) -> Tensor:
    return x * torch.tensor(STD).view(3, 1, 1) + FILL


class TestAll:
    @pytest.mark.parametrize("recipe", [SHORT, PAPER], ids=["short", "paper"])
    def test_one_seed_decides_all(self, recipe: Recipe) -> None:
        """Equal seeds give equal batches, to the bit, whatever the global generators hold; other seeds give others."""
        recipe = replace(recipe, mixup=0.8, cutmix=0.8)  # at small alphas most batches stay unmixed, whatever the seed
        x, y = photos(64), labels(64)
        torch.manual_seed(0)
        first = augment(recipe)(x, y, seed=5)
        torch.manual_seed(1)
        np.random.seed(1)
        again = augment(recipe)(x, y, seed=5)
        other = augment(recipe)(x, y, seed=6)
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])

    @pytest.mark.parametrize("recipe", [SHORT, PAPER], ids=["short", "paper"])
    def test_global_generators_stay(self, recipe: Recipe) -> None:
        """No global generator moves."""
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
        augment(recipe)(photos(16), labels(16), seed=0)
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index, union-attr]
        assert torch.equal(before[0], after[0]) and before[1:] == after[1:]

    def test_shapes_and_types(self) -> None:
        """Batches come as contiguous float32; targets are soft where images mix or labels are smoothed, else the labels."""
        x, y = photos(15).to(memory_format=torch.channels_last), labels(15)
        for recipe, soft in ((PAPER, True), (SHORT, True), (replace(PLAIN, label_smoothing=0.1), True), (preset("short").base, False)):
            out, target = augment(recipe)(x, y, seed=0)
            assert out.dtype == torch.float32 and out.shape == (15, 3, 32, 32) and out.is_contiguous()
            assert target.shape == ((15, 10) if soft else (15,))
            assert torch.allclose(target.sum(1), torch.ones(15)) if soft else target is y

    @pytest.mark.parametrize("recipe", [SHORT, PAPER], ids=["short", "paper"])
    def test_input_stays_and_may_be_float(self, recipe: Recipe) -> None:
        """The caller's images are left as they are, and may be bytes or floats."""
        x = photos(32)
        copy = x.clone()
        from_bytes = augment(recipe)(x, labels(32), seed=1)[0]
        floats = x.float() / 255
        from_floats = augment(recipe)(floats, labels(32), seed=1)[0]
        assert torch.equal(x, copy) and torch.equal(floats, copy.float() / 255)
        assert torch.allclose(from_bytes, from_floats, atol=1e-5)

    def test_normalise(self) -> None:
        """Normalising is (x / 255 - mean) / sd, and what a recipe without techniques does."""
        x = photos(8)
        expected = (x.double() / 255 - torch.tensor(MEAN).double().view(3, 1, 1)) / torch.tensor(STD).double().view(3, 1, 1)
        normal = augment(PLAIN).normalise(x)
        assert torch.allclose(normal.double(), expected, atol=1e-5)
        assert torch.equal(augment(PLAIN)(x, labels(8), seed=0)[0], normal)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @pytest.mark.parametrize("recipe", [SHORT, replace(PAPER, erasing=0.0)], ids=["short", "paper"])
    def test_devices_draw_alike(self, recipe: Recipe) -> None:
        """A CUDA device gives the batch that the CPU gives, but for rounding (and the noise in erased boxes)."""
        recipe = replace(recipe, erasing=0.0)
        x, y = photos(64), labels(64)
        here, there = augment(recipe)(x, y, seed=3), augment(recipe)(x.cuda(), y.cuda(), seed=3)
        # A value that falls on another side of a rounding threshold of equalize or posterize differs by a whole level.
        assert (here[0] - there[0].cpu()).abs().quantile(0.99) < 1e-4
        assert torch.allclose(here[1], there[1].cpu())


class TestStreams:
    """Switching a technique on or off leaves the draws of all others."""

    def test_mixup(self) -> None:
        """With mixup, a batch is the mixture of what it is without, by the share that its targets tell."""
        without = replace(SHORT, mixup=0.0, cutmix=0.0, label_smoothing=0.0)
        x, y = photos(32), torch.arange(32)
        alone, _ = augment(without, 32)(x, y, seed=7)
        mixed, target = augment(replace(without, mixup=0.8), 32)(x, y, seed=7)
        share = target[0, 0]
        assert torch.allclose(mixed, share * alone + (1 - share) * alone.flip(0), atol=1e-5)

    def test_erasing(self) -> None:
        """Images that are not erased are what they are without erasing."""
        without = replace(PAPER, mixup=0.0, cutmix=0.0, erasing=0.0)
        a = augment(without)(photos(64), labels(64), seed=7)[0]
        b = augment(replace(without, erasing=0.25))(photos(64), labels(64), seed=7)[0]
        same = (a == b).flatten(1).all(1)
        assert 36 <= same.sum() <= 60

    def test_randaugment(self) -> None:
        """Images that get no operation, about half, are what they are without RandAugment."""
        without = replace(SHORT, mixup=0.0, cutmix=0.0, erasing=0.0, randaugment=0.0)
        a = augment(without)(photos(64), labels(64), seed=7)[0]
        b = augment(replace(without, randaugment=9, randaugment_ops=1))(photos(64), labels(64), seed=7)[0]
        same = (a - b).flatten(1).abs().amax(1) < 1e-5
        assert 20 <= same.sum() <= 48

    def test_crop(self) -> None:
        """The same images are mirrored with and without a crop."""
        symmetric = torch.zeros(64, 3, 32, 32, dtype=torch.uint8)
        symmetric[..., :16] = 200  # bright to the left: shifts by up to 4 leave the halves recognisable
        a, b = (augment(replace(PLAIN, flip=True, crop=crop))(symmetric, labels(64), seed=7)[0] for crop in ("none", "pad"))
        mirrored = [x[..., 6:10].mean((1, 2, 3)) < x[..., 22:26].mean((1, 2, 3)) for x in (a, b)]
        assert torch.equal(mirrored[0], mirrored[1]) and 16 <= mirrored[0].sum() <= 48

    def test_batches_of_one_seed(self) -> None:
        """Mixup and cutmix draw the same shares alone and together, each batch taking one of them at even odds."""
        x, y = torch.zeros(2, 3, 8, 8), torch.arange(2)
        shares = {}
        for name, recipe in {
            "mixup": replace(PLAIN, mixup=0.8),
            "cutmix": replace(PLAIN, cutmix=1.0),
            "both": replace(PLAIN, mixup=0.8, cutmix=1.0),
        }.items():
            shares[name] = np.array([float(augment(recipe, 2)(x, y, seed=seed)[1][0, 0]) for seed in range(400)])
        took_mixup, took_cutmix = shares["both"] == shares["mixup"], shares["both"] == shares["cutmix"]
        assert (took_mixup | took_cutmix).all()
        assert stats.binomtest(int((took_cutmix & ~took_mixup).sum()), 400).pvalue > 0.01


class TestCrop:
    def test_pad(self) -> None:
        """A padded crop is a shift by up to an eighth, uniform in both directions, with zeros coming in."""
        n = 64
        x = photos(n) // 2 + 100  # no zeros of its own
        padded = F.pad(x, (4, 4, 4, 4))
        shifts: list[tuple[int, int]] = []
        for seed in range(20):
            out = denormalise(augment(replace(PLAIN, crop="pad"))(x, labels(n), seed=seed)[0]).mul(255).round()
            content = out[:, 0] > 0
            rows, columns = content.any(2), content.any(1)
            top = 4 - rows.int().argmax(1) + rows.flip(1).int().argmax(1)
            left = 4 - columns.int().argmax(1) + columns.flip(1).int().argmax(1)
            for i in range(n):
                assert torch.equal(out[i], padded[i, :, top[i] : top[i] + 32, left[i] : left[i] + 32].float())
            shifts += list(zip(top.tolist(), left.tolist(), strict=True))
        counts = np.zeros((9, 9))
        np.add.at(counts, tuple(np.array(shifts).T), 1)
        assert stats.chisquare(counts.ravel()).pvalue > 0.01

    def test_resized_boxes(self) -> None:
        """Resized crops have uniform areas and log-uniform ratios among the boxes that fit, and stand anywhere."""
        matrices = crop_matrices(np.random.default_rng(0), 4000, 224, 224)
        w, h = matrices[:, 0, 0], matrices[:, 1, 1]
        area, ratio = stats.uniform(0.08, 0.92).rvs(40_000, random_state=1), stats.loguniform(3 / 4, 4 / 3).rvs(40_000, random_state=2)
        fits = (area * ratio <= 1) & (area / ratio <= 1)
        assert stats.ks_2samp(w * h, area[fits]).pvalue > 0.01
        assert stats.ks_2samp(w / h, ratio[fits]).pvalue > 0.01
        slack = 1 - w > 0.1
        left = (matrices[:, 0, 2] + 1 - w) / 2
        assert stats.kstest(left[slack] / (1 - w[slack]), "uniform").pvalue > 0.01
        assert (np.abs(matrices[:, 0, 2]) + w <= 1 + 1e-9).all() and (np.abs(matrices[:, 1, 2]) + h <= 1 + 1e-9).all()

    def test_resized_pixels(self) -> None:
        """A resized crop is the box, enlarged bilinearly as Pillow does it."""
        x = photos(8)
        matrices = crop_matrices(np.random.default_rng(1), 8, 32, 32)
        out = ra.warp(x.float(), matrices, beyond="border")
        for i, m in enumerate(matrices):
            w, h = m[0, 0] * 32, m[1, 1] * 32
            left, top = (m[0, 2] + 1) * 16 - w / 2, (m[1, 2] + 1) * 16 - h / 2
            image = Image.fromarray(x[i].permute(1, 2, 0).numpy())
            expected = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h)))
            assert np.abs(out[i].permute(1, 2, 0).numpy() - expected).max() < 1.5

    def test_flip(self) -> None:
        """Half of the images are mirrored, the others stay."""
        x = photos(64)
        plain, recipe = augment(PLAIN).normalise(x), replace(PLAIN, flip=True)
        count = 0
        for seed in range(10):
            out = augment(recipe)(x, labels(64), seed=seed)[0]
            mirrored = (out == plain.flip(-1)).flatten(1).all(1)
            assert (mirrored | (out == plain).flatten(1).all(1)).all()
            count += int(mirrored.sum())
        assert stats.binomtest(count, 640).pvalue > 0.01


def pillow(name: str, image: Image.Image, argument: float) -> Image.Image:
    """The colour operation as Pillow defines it; `argument` in the units of randaugment's."""
    enhancers = {
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }
    functions: dict[str, Callable[[], Image.Image]] = {
        "auto-contrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "invert": lambda: ImageOps.invert(image),
        "posterize": lambda: image.point(lambda v: v & ~(2 ** (8 - int(argument)) - 1)),
        "solarize": lambda: ImageOps.solarize(image, round(argument * 255)),
        "solarize-add": lambda: image.point(lambda v: min(255, v + round(argument * 255)) if v < 128 else v),
    }
    return enhancers[name](image).enhance(argument) if name in enhancers else functions[name]()


class TestRandAugment:
    def test_draws(self) -> None:
        """Operations come at even odds, half of them applied, with magnitudes of the clipped normal distribution and even signs."""
        draws = ra.draw(np.random.default_rng(0), 20_000, operations=2, magnitude=9, noise=0.5)
        assert draws.operation.shape == (2, 20_000)
        assert stats.chisquare(np.bincount(draws.operation.ravel(), minlength=15)).pvalue > 0.01
        pairs = np.bincount(draws.operation[0] * 15 + draws.operation[1], minlength=225)
        assert stats.chisquare(pairs).pvalue > 0.01  # with replacement
        assert stats.binomtest(int(draws.applied.sum()), 40_000).pvalue > 0.01
        assert stats.binomtest(int((draws.sign > 0).sum()), 40_000).pvalue > 0.01
        magnitude = draws.magnitude.ravel()
        below = magnitude < 10
        assert stats.binomtest(int((~below).sum()), 40_000, float(stats.norm(9, 0.5).sf(10))).pvalue > 0.01
        assert stats.kstest(magnitude[below], stats.truncnorm(-18, 2, loc=9, scale=0.5).cdf).pvalue > 0.01
        assert abs(magnitude.mean() - 8.9958) < 0.01 and abs(magnitude.std() - 0.4892) < 0.01

    def test_low_magnitudes_are_clipped(self) -> None:
        """A magnitude never falls below 0."""
        magnitude = ra.draw(np.random.default_rng(0), 1000, operations=1, magnitude=0.5, noise=0.5).magnitude
        assert magnitude.min() == 0 and (magnitude > 0).mean() > 0.8

    @pytest.mark.parametrize(
        ("name", "magnitude", "expected"),
        [
            ("posterize", 9, 1),
            ("posterize", 3, 3),
            ("posterize", 10, 0),
            ("solarize", 9, (256 - 230) / 255),
            ("solarize-add", 9, 99 / 255),
            ("color", 9, 1.81),
            ("color", -9, 0.19),
            ("brightness", -10, 0.1),
            ("rotate", -9, -27),
            ("shear-x", 9, 0.27),
            ("translate-y", -9, -0.405),
        ],
    )
    def test_arguments(self, name: str, magnitude: float, expected: float) -> None:
        """Magnitudes become the arguments of the increasing series (a sign given with the magnitude)."""
        operation = next(o for o in ra.OPERATIONS if o.name == name)
        argument = operation.argument(np.array([abs(magnitude) / 10]), np.array([np.sign(magnitude)]))
        assert argument[0] == pytest.approx(expected)

    def test_arguments_are_timms(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At every magnitude and sign the operations and arguments are timm's."""
        timm()
        auto_augment = pytest.importorskip("timm.data.auto_augment")
        theirs = dict(zip([o.name for o in ra.OPERATIONS], TIMM_NAMES, strict=True))
        assert sorted(theirs.values()) == sorted(auto_augment._RAND_INCREASING_TRANSFORMS)
        unit = {"solarize": 255, "solarize-add": 255}
        for operation in ra.OPERATIONS:
            level = auto_augment.LEVEL_TO_ARG[theirs[operation.name]]
            for sign in (-1.0, 1.0):
                monkeypatch.setattr(auto_augment, "_randomly_negate", lambda v, sign=sign: v * sign)
                for magnitude in np.arange(0, 10.01, 0.25):
                    ours = operation.argument(np.array([magnitude / 10]), np.array([sign]))[0] * unit.get(operation.name, 1)
                    if level is not None:
                        assert ours == pytest.approx(level(magnitude, auto_augment._HPARAMS_DEFAULT)[0], abs=1e-9)

    @pytest.mark.parametrize("operation", ra.COLOUR, ids=lambda o: o.name)
    def test_colours_are_pillows(self, operation: ra.Operation) -> None:
        """Colour operations give Pillow's pixels, but for rounding."""
        x = photos(24)
        rng = np.random.default_rng(0)
        argument = operation.argument(rng.random(24), np.where(rng.random(24) < 0.5, -1.0, 1.0))
        out = ra.colour(operation.name, x / 255, torch.from_numpy(argument).float()) * 255
        for i in range(24):
            image = Image.fromarray(x[i].permute(1, 2, 0).numpy())
            expected = torch.from_numpy(np.asarray(pillow(operation.name, image, argument[i])).copy()).permute(2, 0, 1)
            assert (out[i] - expected).abs().max() < 2.01

    @pytest.mark.parametrize("operation", ra.GEOMETRIC, ids=lambda o: o.name)
    def test_geometry_is_pillows(self, operation: ra.Operation) -> None:
        """Geometric operations give Pillow's pixels, but for rounding and the line where image and fill meet."""
        x, n, size = photos(8, 48), 8, 48
        rng = np.random.default_rng(0)
        argument = operation.argument(rng.random(n), np.where(rng.random(n) < 0.5, -1.0, 1.0))
        kind = ra.GEOMETRIC.index(operation)
        out = ra.warp(x / 255 - FILL, ra.matrix(np.full(n, kind), argument, aspect=1.0), beyond="zeros").add(FILL) * 255
        fill = tuple(round(255 * m) for m in MEAN)
        for i, a in enumerate(argument):
            affine = {
                "shear-x": (1, a, 0, 0, 1, 0),
                "shear-y": (1, 0, 0, a, 1, 0),
                "translate-x": (1, 0, a * size, 0, 1, 0),
                "translate-y": (1, 0, 0, 0, 1, a * size),
            }
            image = Image.fromarray(x[i].permute(1, 2, 0).numpy())
            bilinear = Image.Resampling.BILINEAR
            if operation.name == "rotate":
                expected = image.rotate(-a, bilinear, fillcolor=fill)
            else:
                expected = image.transform(image.size, Image.Transform.AFFINE, affine[operation.name], bilinear, fillcolor=fill)
            difference = np.abs(out[i].permute(1, 2, 0).numpy() - np.asarray(expected)).max(2)
            assert (difference > 2).mean() < 0.05 and np.median(difference) < 1

    def test_images_follow_their_draws(self) -> None:
        """Every image gets its own operations with its own arguments, in order, as if it were alone; values stay in [0, 1]."""
        x = photos(64) / 255
        draws = ra.draw(np.random.default_rng(0), 64, operations=2, magnitude=6, noise=3)
        together = ra.randaugment(x.clone(), draws, fill=FILL)
        assert together.min() >= 0 and together.max() <= 1
        for i in range(64):
            fields = {name: getattr(draws, name)[:, i : i + 1] for name in ("operation", "applied", "magnitude", "sign")}
            alone = ra.randaugment(x[i : i + 1].clone(), ra.Draws(**fields), fill=FILL)
            assert torch.allclose(alone[0], together[i], atol=1e-5)
            assert torch.equal(alone[0], x[i]) or fields["applied"].any()

    def test_recipe_sets_it(self) -> None:
        """The recipe's magnitude, noise and number of operations are the ones drawn with."""
        x = photos(32)
        recipe = replace(PLAIN, randaugment=7, randaugment_ops=3, randaugment_noise=0.2)
        rng = np.random.Generator(np.random.PCG64(stream(9, "randaugment")))
        draws = ra.draw(rng, 32, operations=3, magnitude=7, noise=0.2)
        expected = augment(PLAIN).normalise(ra.randaugment(x / 255, draws, fill=FILL))
        assert torch.allclose(augment(recipe)(x, labels(32), seed=9)[0], expected, atol=1e-6)


TIMM_NAMES = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "Rotate",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)  # in the order of OPERATIONS


class TestErasing:
    def test_boxes(self) -> None:
        """The given rate of images loses one rectangle of 2 % to a third of their area, of log-uniform ratio, to normal noise."""
        size, n = 64, 2000
        x = torch.full((n, 3, size, size), 9.0)
        out = erase(x.clone(), 0.25, seed=0)
        hit = (out != 9).any(1)
        erased = hit.flatten(1).any(1)
        assert stats.binomtest(int(erased.sum()), n, 0.25).pvalue > 0.01
        hit = hit[erased]
        h, w = hit.any(2).sum(1).numpy(), hit.any(1).sum(1).numpy()
        assert (hit.flatten(1).sum(1).numpy() == h * w).all()
        area, ratio = (
            stats.uniform(0.02, 1 / 3 - 0.02).rvs(20_000, random_state=1),
            stats.loguniform(0.3, 1 / 0.3).rvs(20_000, random_state=2),
        )
        fits = (area * ratio < 1) & (area / ratio < 1)
        assert stats.ks_2samp(h * w / size**2, area[fits]).pvalue > 0.01
        assert stats.ks_2samp(h / w, ratio[fits]).pvalue > 0.01
        noise = out[erased][hit.unsqueeze(1).expand(-1, 3, -1, -1)]
        assert stats.kstest(noise[::50].numpy(), "norm").pvalue > 0.01
        top = hit.any(2).int().argmax(1).numpy()
        assert stats.kstest((top + np.random.default_rng(0).random(len(top))) / (size - h + 1), "uniform").pvalue > 0.01

    def test_it_acts_after_normalisation(self) -> None:
        """In an augmented batch the erased pixels are standard normal, beyond the range of pixels."""
        out = augment(replace(PLAIN, erasing=1.0))(torch.full((64, 3, 32, 32), 128, dtype=torch.uint8), labels(64), seed=0)[0]
        plain = augment(PLAIN).normalise(torch.full((1, 3, 32, 32), 128, dtype=torch.uint8))
        erased = out[out != plain.expand_as(out)]
        assert abs(float(erased.mean())) < 0.02 and abs(float(erased.std()) - 1) < 0.02


class TestMixing:
    @pytest.mark.parametrize("alpha", [0.1, 0.8])
    def test_mixup_shares(self, alpha: float) -> None:
        """Shares follow Beta(alpha, alpha); images and targets mix with the batch in reverse by the same share."""
        x, y = photos(4, 8), torch.arange(4)
        mixing, plain = augment(replace(PLAIN, mixup=alpha), 4), augment(PLAIN).normalise(x)
        shares = []
        for seed in range(1500):
            out, target = mixing(x, y, seed=seed)
            share = float(target[0, 0])
            shares.append(share)
            if seed < 20:
                assert torch.allclose(out, share * plain + (1 - share) * plain.flip(0), atol=1e-5)
                assert torch.allclose(target, share * torch.eye(4) + (1 - share) * torch.eye(4).flip(0), atol=1e-6)
        expected = stats.beta(alpha, alpha).rvs(20_000, random_state=0).astype(np.float32)  # targets round shares near 1 to 1
        assert stats.ks_2samp(shares, expected).pvalue > 0.01

    def test_cutmix_boxes(self) -> None:
        """Boxes of a beta-distributed area, centred anywhere, clipped at the edges: the shares that the paper's code draws."""
        size, n = 32, 4000
        rng = np.random.default_rng(0)
        boxes = np.array([cut_box(rng, float(rng.beta(1, 1)), size, size) for _ in range(n)])
        assert (boxes >= 0).all() and (boxes <= size).all() and (boxes[:, ::2] <= boxes[:, 1::2]).all()
        other = np.random.default_rng(1)
        side = (size * np.sqrt(other.random(n))).astype(int)
        centre = other.integers(size, size=(2, n))
        low, high = np.clip(centre - side // 2, 0, size), np.clip(centre - side // 2 + side, 0, size)
        expected = (high - low).prod(0)
        area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        assert stats.ks_2samp(area, expected).pvalue > 0.01
        assert abs(area.mean() / size**2 - expected.mean() / size**2) < 0.015

    def test_cutmix_pixels(self) -> None:
        """One box of every image is its partner's, and targets mix by the pixels that remain."""
        x = torch.arange(16, dtype=torch.uint8).view(16, 1, 1, 1).expand(16, 3, 32, 32) * 10
        y = torch.arange(16)
        for seed in range(30):
            out, target = augment(replace(PLAIN, cutmix=1.0), 16)(x, y, seed=seed)
            index = (denormalise(out) * 25.5).round()
            own = index == y.view(16, 1, 1, 1)
            assert (own | (index == y.flip(0).view(16, 1, 1, 1))).all()
            share = own.float().mean((1, 2, 3))
            assert torch.allclose(share, share[:1].expand(16))
            expected = share.view(16, 1) * torch.eye(16) + (1 - share.view(16, 1)) * torch.eye(16).flip(0)
            assert torch.allclose(target, expected, atol=1e-6)

    def test_label_smoothing(self) -> None:
        """Smoothing by 0.1 over 10 classes gives 0.91 to the class and 0.01 to every other; mixtures are of smoothed targets."""
        _, target = augment(replace(PLAIN, label_smoothing=0.1))(photos(4), labels(4), seed=0)
        assert torch.allclose(target, 0.01 + 0.9 * torch.eye(10)[:4])
        _, mixed = augment(replace(PLAIN, label_smoothing=0.1, mixup=1.0))(photos(4), labels(4), seed=0)
        _, hard = augment(replace(PLAIN, mixup=1.0))(photos(4), labels(4), seed=0)
        assert torch.allclose(mixed, 0.01 + 0.9 * hard)

    def test_targets_are_timms(self) -> None:
        """Mixed and smoothed targets are those of timm's mixup_target."""
        timm()
        mixup = pytest.importorskip("timm.data.mixup")
        y = torch.tensor([3, 1, 4, 1, 5])
        _, target = augment(replace(PLAIN, label_smoothing=0.1, mixup=0.8))(photos(5), y, seed=2)
        _, hard = augment(replace(PLAIN, mixup=0.8))(photos(5), torch.arange(5), seed=2)
        assert torch.allclose(target, mixup.mixup_target(y, 10, lam=float(hard[0, 0]), smoothing=0.1), atol=1e-6)
