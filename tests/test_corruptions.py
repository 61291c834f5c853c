"""Corruptions: what each does to images, by other means; the scores beside a trial; the column in the report."""

from __future__ import annotations

import colorsys
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from scipy import ndimage
from sklearn.datasets import load_sample_image
from torch import Tensor

from vitnas.studies.data.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt, motion_blur
from vitnas.studies.data.prepare import prepare
from vitnas.studies.report.make import load_summary, make_report
from vitnas.studies.report.tables import corruptions_table, results_table
from vitnas.studies.robustness import VERSION, Robustness
from vitnas.studies.running.driver import Prospect, prospect
from vitnas.studies.running.executors import run_local
from vitnas.studies.running.live import View
from vitnas.studies.store import Store, write_json
from vitnas.studies.study import Study
from vitnas.studies.study_file import write_study
from vitnas.studies.tracking.runs import shown
from vitnas.studies.training import score_corrupted as scoring
from vitnas.studies.training.run_trial import How, run_trial

from .command import vitnas
from .synthetic import synthetic_study
from .test_run_trial import make, store_at

BY_NAME = {c.name: c for c in CORRUPTIONS}
names = pytest.mark.parametrize("name", BY_NAME)


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """64 pieces of a photograph, 32x32."""
    pixels = np.asarray(Image.fromarray(load_sample_image("flower.jpg")).resize((256, 256)))
    return torch.from_numpy(pixels.copy()).unfold(0, 32, 32).unfold(1, 32, 32).reshape(64, 3, 32, 32).contiguous()


def grey(level: int = 128, n: int = 8, size: int = 32) -> Tensor:
    return torch.full((n, 3, size, size), level, dtype=torch.uint8)


def done(images: Tensor, name: str, severity: int, key: int = 0) -> NDArray[np.float64]:
    """Corrupted images `(N, H, W, 3)`, 0 to 255."""
    return corrupt(images, BY_NAME[name], severity, key=key).permute(0, 2, 3, 1).numpy().astype(np.float64)


def pixels(images: Tensor) -> NDArray[np.uint8]:
    out: NDArray[np.uint8] = images.permute(0, 2, 3, 1).contiguous().numpy()
    return out


class TestEach:
    @names
    def test_it_depends_on_its_key_alone(self, photos: Tensor, name: str) -> None:
        """Twice is the same to the bit, whatever torch's and numpy's own generators did; those are left alone."""
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[union-attr, index, call-overload]
        first = corrupt(photos, BY_NAME[name], 3, key=7)
        assert torch.equal(before[0], torch.get_rng_state()) and before[1] == np.random.get_state()[1].tolist()  # type: ignore[union-attr, index, call-overload]
        torch.manual_seed(9)
        assert torch.equal(first, corrupt(photos, BY_NAME[name], 3, key=7))
        drawn = name.endswith("noise") or name in ("motion-blur", "fog")
        assert torch.equal(first, corrupt(photos, BY_NAME[name], 3, key=8)) != drawn

    @names
    def test_it_gets_worse(self, photos: Tensor, name: str) -> None:
        """Every severity is farther from the image than the one before; the image itself is left alone."""
        kept = photos.clone()
        away = [np.abs(done(photos, name, s) - pixels(photos)).mean() for s in SEVERITIES]
        assert away == sorted(away) and away[0] > 0.1 and len(set(away)) == 5
        assert torch.equal(photos, kept)

    @names
    def test_it_takes_any_size(self, name: str) -> None:
        """Above 64 pixels the severities are ImageNet-C's, which are the harsher ones; sizes need not be even."""
        image = torch.from_numpy(load_sample_image("flower.jpg").copy()).permute(2, 0, 1)[None, :, 150:383, 200:433].contiguous()
        assert corrupt(image, BY_NAME[name], 1, key=0).shape == image.shape
        large = np.abs(done(image, name, 5) - pixels(image)).mean()
        gentle = replace(BY_NAME[name], large=BY_NAME[name].small)
        assert large > (corrupt(image, gentle, 5, key=0).float() - image.float()).abs().mean()

    def test_they_are_the_papers(self) -> None:
        """Eleven of its fifteen, of all four kinds, five levels each."""
        assert len(CORRUPTIONS) == len(BY_NAME) == 11
        assert {c.kind for c in CORRUPTIONS} == {"noise", "blur", "weather", "digital"}
        assert all(len(c.small) == len(c.large) == 5 for c in CORRUPTIONS)


class TestByOtherMeans:
    def test_noise_has_its_spread(self) -> None:
        """On even grey: sd 0.1 of normal noise; variance x/50 of Poisson noise; 7 % of values hit, half of them white."""
        x = 128 / 255
        assert done(grey(), "gaussian-noise", 5).std() / 255 == pytest.approx(0.10, rel=0.02)
        assert done(grey(), "shot-noise", 5).std() / 255 == pytest.approx((x / 50) ** 0.5, rel=0.02)
        hit = done(grey(), "impulse-noise", 5)
        assert (hit != 128).mean() == pytest.approx(0.07, rel=0.1)
        assert (hit == 255).sum() / (hit != 128).sum() == pytest.approx(0.5, abs=0.05)

    def test_blurs_leave_an_even_image(self) -> None:
        """Their weights sum to one, at the edges too."""
        for name in ("defocus-blur", "motion-blur", "zoom-blur", "pixelate", "jpeg", "contrast"):
            assert np.abs(done(grey(), name, 5) - 128).max() <= 1, name

    def test_defocus_is_a_disk(self, photos: Tensor) -> None:
        """Radius 1.5 is nine pixels, its edge softened by 0.1: scipy's convolution with them."""
        disk = np.full((3, 3), 1 / 9)
        one = ndimage.convolve(pixels(photos[:1])[0].astype(float), disk[..., None], mode="mirror")
        assert np.abs(done(photos[:1], "defocus-blur", 5)[0] - one).max() <= 1

    def test_motion_goes_one_way(self) -> None:
        """A white dot is drawn out to one side, at 45 degrees at most and no two alike; straight, it falls off as half a normal."""
        dot = torch.zeros(40, 3, 32, 32)
        dot[:, :, 16, 16] = 1
        drawn = motion_blur(dot, (9, 2.5), np.random.Generator(np.random.PCG64(0)))[:, 0].numpy()
        for image in drawn:
            rows, columns = np.nonzero(image)
            assert image.sum() == pytest.approx(1, abs=1e-5) and image[16, 16] > 0.2
            assert (columns <= 16).all() and (np.abs(rows - 16) <= 16 - columns).all()
        assert len({image.tobytes() for image in drawn}) > 10

        class Straight:
            def uniform(self, low: float, high: float, n: int) -> NDArray[np.float64]:
                return np.zeros(n)

        line = motion_blur(dot[:1], (9, 2.5), Straight())[0, 0, 16].numpy()  # type: ignore[arg-type]
        assert line[16:5:-1] / line[16] == pytest.approx(np.exp(-(np.arange(11.0) ** 2) / (2 * 2.5**2)), abs=1e-5)

    def test_zoom_keeps_the_centre(self) -> None:
        """A dot in the middle stays the brightest; one near the corner is drawn outwards."""
        dots = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)
        dots[..., 16, 16] = dots[..., 4, 4] = 255
        out = done(dots, "zoom-blur", 5)[0, ..., 0]
        assert out[16, 16] == out.max() and out[2, 2] > 0 and not out[6:14, 6:14].any()

    def test_pixels_are_pillows(self, photos: Tensor) -> None:
        """Box averages down to 65 % and up again."""
        for severity, size in zip(SEVERITIES, (30, 28, 27, 24, 20), strict=True):
            small = [Image.fromarray(p).resize((size, size), Image.Resampling.BOX) for p in pixels(photos)]
            theirs = np.stack([np.asarray(p.resize((32, 32), Image.Resampling.BOX)) for p in small])
            assert np.abs(done(photos, "pixelate", severity) - theirs).max() <= 2

    def test_jpeg_is_near_pillows(self, photos: Tensor) -> None:
        """kornia's codec rounds smoothly: what it loses is most of what JPEG loses."""
        for severity, quality in zip(SEVERITIES, (80, 65, 58, 50, 40), strict=True):
            theirs = np.stack([jpeg(p, quality) for p in pixels(photos)]).astype(float)
            lost = np.abs(theirs - pixels(photos)).mean()
            assert np.abs(done(photos, "jpeg", severity) - theirs).mean() < 0.6 * lost
            assert np.abs(done(photos, "jpeg", severity) - pixels(photos)).mean() == pytest.approx(lost, rel=0.25)

    def test_brightness_is_of_hsv(self, photos: Tensor) -> None:
        """0.3 more value, by Python's own colour conversion."""
        for before, after in zip(
            pixels(photos)[0].reshape(-1, 3)[::50], done(photos, "brightness", 5)[0].reshape(-1, 3)[::50], strict=True
        ):
            h, s, v = colorsys.rgb_to_hsv(*(before / 255))
            assert after == pytest.approx(255 * np.array(colorsys.hsv_to_rgb(h, s, min(1, v + 0.3))), abs=1)

    def test_contrast_is_about_the_mean_of_each_channel(self, photos: Tensor) -> None:
        """15 % of the distance to it stay."""
        x = pixels(photos).astype(float)
        mean = x.mean((1, 2), keepdims=True)
        assert np.abs(done(photos, "contrast", 5) - (mean + 0.15 * (x - mean))).max() <= 1

    def test_fog_differs_from_image_to_image(self) -> None:
        """It brightens what is dark, evenly over the colours, and no two images alike; white stays white where fog is thickest."""
        black_and_white = grey(0)
        black_and_white[..., :16] = 255
        out = done(black_and_white, "fog", 5)
        dark, light = out[:, :, 16:], out[:, :, :16]
        assert dark.mean() > 20 and np.abs(out[..., 0] - out[..., 2]).max() == 0
        assert light.max() <= 255 and np.abs(dark[0] - dark[1]).mean() > 5


def jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


class TestTrial:
    @pytest.fixture(scope="class")
    def data(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return prepare("digits", input_size=32, cache=tmp_path_factory.mktemp("data")).folder

    def test_kept_weights_are_scored_once(self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is trained, the result stays, the scores are written and found; the look at the test split is counted once."""
        store, trial = store_at(tmp_path), make(data, epochs=1)
        result = run_trial(store, trial, data, How())
        written = (store.trial_folder(trial.id) / "result.json").stat().st_mtime_ns
        assert store.corruptions(trial.id) is None and store.test_scorings(trial.data.fingerprint) == 1
        wanted = ("validation", "test", "corruptions")
        monkeypatch.setattr(scoring, "CORRUPTIONS", CORRUPTIONS[:2])
        for _ in range(2):
            assert run_trial(store, trial, data, How(), splits=wanted) == result
        found = store.corruptions(trial.id)
        assert found is not None and set(found.top1) == {"gaussian-noise", "shot-noise"} and found.images == 359
        assert (store.trial_folder(trial.id) / "result.json").stat().st_mtime_ns == written
        assert store.test_scorings(trial.data.fingerprint) == 2 and len(store.curve(trial.id)) == 1
        counted = [json.loads(line)["split"] for line in (store.root / "ledger.jsonl").read_text().splitlines()]
        assert counted == ["test", "corruptions"]

    def test_no_corruption_is_the_test_score(self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is scored are the test images: with corruptions that do nothing, every score is the trial's own; inverted, less."""
        nothing = Corruption(name="nothing", kind="noise", apply=lambda x, level, rng: x, small=(0,) * 5, large=(0,) * 5)
        inverted = replace(nothing, name="inverted", apply=lambda x, level, rng: 1 - x)
        monkeypatch.setattr(scoring, "CORRUPTIONS", (nothing, inverted))
        store, trial = store_at(tmp_path), make(data, epochs=4)
        result = run_trial(store, trial, data, How(), splits=("test", "corruptions"))
        found = store.corruptions(trial.id)
        assert found is not None and found.top1["nothing"] == (result.scores["test"].top1,) * 5
        assert found.top1["inverted"][0] < result.scores["test"].top1 - 10

    def test_older_scores_and_lost_weights(self, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Scores of images that were made otherwise are made again; without weights there is one line."""
        monkeypatch.setattr(scoring, "CORRUPTIONS", CORRUPTIONS[2:3])
        store, trial = store_at(tmp_path), make(data, epochs=1)
        run_trial(store, trial, data, How(), splits=("test", "corruptions"))
        folder = store.trial_folder(trial.id)
        fresh = (folder / "corruptions.json").read_bytes()
        write_json(folder / "corruptions.json", json.loads(fresh) | {"version": VERSION - 1})
        assert store.lacks(trial.id, ("test", "corruptions"))
        run_trial(store, trial, data, How(), splits=("test", "corruptions"))
        assert (folder / "corruptions.json").read_bytes() == fresh
        (folder / "corruptions.json").unlink()
        (folder / "weights.safetensors").unlink()
        with pytest.raises(ValueError, match=r"has lost weights.safetensors: remove .*, and run the study again"):
            run_trial(store, trial, data, How(), splits=("test", "corruptions"))

    def test_a_diverged_trial_has_nothing_to_score(self, tmp_path: Path, data: Path) -> None:
        """It is done."""
        store, trial = store_at(tmp_path), make(data, "none", lr=1e6, optimizer="sgd", warmup=0.0)
        run_trial(store, trial, data, How(), splits=("test", "corruptions"))
        assert not store.lacks(trial.id, ("test", "corruptions")) and store.corruptions(trial.id) is None


class TestReport:
    @pytest.fixture
    def study(self, tmp_path: Path) -> tuple[Store, str]:
        """Two arms and two seeds, with scores that are easy to average; one trial of the second arm diverged."""
        store, plan = synthetic_study(tmp_path, steps="width", seeds=2, diverged=[("width", 1)])
        folder = store.studies / plan.study.folder_name
        write_json(folder / "plan.json", replace(plan, study=replace(plan.study, eval="corruptions")).to_dict())
        for arm, base in zip(plan.arms, (60.0, 80.0), strict=True):
            for seed, trial in zip(arm.seeds, arm.trials, strict=True):
                if (arm.name, seed) != ("width", 1):
                    fog = tuple(base + 2 * seed - 10 * s for s in range(5))
                    store.keep_corruptions(trial, Robustness(images=360, top1={"fog": fog, "jpeg": (base + 2 * seed,) * 5}))
        return store, plan.study.folder_name

    def test_means(self, study: tuple[Store, str]) -> None:
        """By hand: fog 40 and 42, jpeg 60 and 62; a diverged trial counts at chance."""
        first, second = load_summary(*study).rows
        assert first.corrupted is not None and second.corrupted is not None
        assert (first.corrupted.n, first.corrupted.mean) == (2, 51.0)
        assert first.corrupted.sd == pytest.approx(2**0.5) and first.corrupted.by_corruption == {"fog": 41.0, "jpeg": 61.0}
        assert first.corrupted.by_severity == (61.0, 56.0, 51.0, 46.0, 41.0)
        assert second.corrupted.mean == (70 + 10) / 2 and second.corrupted.by_corruption == {"fog": 35.0, "jpeg": 45.0}
        assert [r.corrupted for r in first.replicates] == [50.0, 52.0]

    def test_everywhere(self, study: tuple[Store, str]) -> None:
        """The column in the tables, the table by corruption, JSON, CSV, LaTeX and MLflow; and a sentence that says what it is."""
        store, name = study
        summary = make_report(store, name)
        table = results_table(summary)
        assert [line[table[0].index("corrupted")] for line in table[1:]] == ["51.00", "40.00"]
        assert [line[2:] for line in corruptions_table(summary)] == [
            ["corrupted", "fog", "jpeg"],
            ["51.00", "41.00", "61.00"],
            ["40.00", "35.00", "45.00"],
        ]
        text = (store.studies / name / "report.md").read_text()
        assert "## Top-1 (%) on corrupted images" in text and "corrupted: top-1 in % on the test images under 2 corruptions" in text
        rows = json.loads((store.studies / name / "report.json").read_text())["rows"]
        assert rows[0]["corrupted"]["by_corruption"] == {"fog": 41.0, "jpeg": 61.0}
        assert "corrupted_mean" in (store.studies / name / "report.csv").read_text().splitlines()[0]
        assert "& corrupted &" in (store.studies / name / "report.tex").read_text()
        arms = [run for run in shown(store, name).runs if run.kind == "arm"]
        assert [run.metrics["corrupted_top1"] for run in arms] == [51.0, 40.0]

    def test_what_is_not_scored_yet_is_said(self, study: tuple[Store, str]) -> None:
        """An arm without scores has an empty cell; without --eval there is no column at all."""
        store, name = study
        plan = load_summary(store, name)
        (store.trial_folder(plan.rows[1].replicates[0].trial) / "corruptions.json").unlink()
        summary = make_report(store, name)
        assert summary.rows[1].corrupted is None
        assert any(f.startswith("1 trained networks have not been scored on corrupted images yet") for f in summary.footers)
        data: dict[str, Any] = json.loads((store.studies / name / "plan.json").read_text())
        del data["study"]["eval"]
        write_json(store.studies / name / "plan.json", data)
        assert "corrupted" not in results_table(make_report(store, name))[0]
        assert "corrupted" not in (store.studies / name / "report.md").read_text()


def test_it_may_be_asked_for_later() -> None:
    """With or without, it is one study; so it is not told apart by its name."""
    assert Study(eval="corruptions").folder_name == Study().folder_name


def test_both_executors_score_the_kept_weights(tmp_path: Path) -> None:
    """A study run again with --eval trains nothing, on Ray as here; the scores are the same to the byte, and the report has them."""
    options = {"steps": "stage-ratio", "epochs": 2, "data_fraction": 0.15, "seeds": 1, "name": "robust", "device": "cpu"}
    study = Study(**options, set={"batch-size": 32})  # type: ignore[arg-type]
    here = Store(tmp_path / "here" / ".vitnas")
    assert len(run_here(here, study).todo) == 2
    there = tmp_path / "there"
    shutil.copytree(tmp_path / "here", there)
    results = {p: p.stat().st_mtime_ns for p in there.glob(".vitnas/trials/*/result.json")}
    ready = run_here(here, replace(study, eval="corruptions"))
    assert (len(ready.known), len(ready.todo), len(ready.unscored)) == (2, 0, 2)
    write_study(there / "study.yaml", replace(study, eval="corruptions"))
    done = vitnas("sweep", "study.yaml", cwd=there)
    assert "2 trials, 2 known, 0 to train, 2 to score further" in done.stdout, done.stdout
    assert "0 trials trained, 2 known before, 2 of them scored further" in done.stdout
    assert len(results) == 2 and {p: p.stat().st_mtime_ns for p in results} == results
    rows = json.loads((there / ".vitnas" / "studies" / "robust" / "report.json").read_text())["rows"]
    assert all(r["corrupted"]["n"] == 1 and len(r["corrupted"]["by_corruption"]) == len(CORRUPTIONS) for r in rows)
    scores = [[p.read_bytes() for p in sorted(root.glob("trials/*/corruptions.json"))] for root in (here.root, there / ".vitnas")]
    assert len(scores[0]) == 2 and scores[0] == scores[1]


def run_here(store: Store, study: Study) -> Prospect:
    """Run what is left of a study in this process, without a report."""
    ready = prospect(store, study, say=lambda line: None)
    with View(ready.plan, ready.known, Console(file=io.StringIO()), also=lambda trial: None) as view:
        run_local(store, [*ready.todo, *ready.unscored], ready.data, How(), splits=ready.splits, listener=view)
    assert not view.errors
    return ready
