"""Distillation: the losses of the paper's equations, both classifiers' gradients, teachers in the store, and what is refused."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vitnas.roadmap.model import Network, build
from vitnas.roadmap.weights import official_state
from vitnas.roadmap.zoo import variant
from vitnas.studies.data.feed import Feed
from vitnas.studies.data.prepare import prepare, split
from vitnas.studies.data.prepared import Prepared, open_prepared
from vitnas.studies.recipe import Recipe, with_teacher
from vitnas.studies.running.driver import Prospect, prospect
from vitnas.studies.store import Store, StoreError
from vitnas.studies.study import Study, StudyError
from vitnas.studies.training.distill import distillation_loss
from vitnas.studies.training.run_trial import How, run_trial
from vitnas.studies.training.teacher import candidate, keep_teacher, load_teacher, teacher_hash
from vitnas.studies.training.train import Training
from vitnas.studies.trial import Trial

from .command import vitnas_here
from .test_run_trial import make, outcome, store_at

SHARED = os.environ.get("VITNAS_SHARED")
needs_cifar = pytest.mark.skipif(SHARED is None, reason="set VITNAS_SHARED to the folder that holds data/cifar10")

HARD = Recipe(distill="hard", teacher="t")
SOFT = Recipe(distill="soft", distill_weight=0.1, distill_temperature=2.0, teacher="t")
STUDENT, TEACHER = torch.tensor([[1 / 2, 1 / 4, 1 / 4]]).log(), torch.tensor([[1 / 8, 1 / 2, 3 / 8]]).log()
LABEL = torch.tensor([0])
LN2, LN3 = math.log(2), math.log(3)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, prepared once."""
    return prepare("digits", input_size=32, cache=tmp_path_factory.mktemp("data")).folder


class TestLoss:
    def test_hard(self) -> None:
        """Equation 3: half the cross-entropy to the label (ln 2), half to the teacher's decision, class 1 (ln 4)."""
        assert distillation_loss(STUDENT, LABEL, TEACHER, HARD).item() == pytest.approx(0.5 * LN2 + 0.5 * 2 * LN2)
        assert distillation_loss(STUDENT, LABEL, TEACHER, HARD).item() == pytest.approx(1.0397208, abs=1e-6)

    def test_soft(self) -> None:
        """Equation 2 at temperature 2, where twice the logits have the same distributions: 0.9 CE + 0.1 * 4 * KL.

        CE is of (4, 1, 1)/6 to class 0: ln 1.5. KL = 1/8 ln(1/4) + 1/2 ln 2 + 3/8 ln(3/2), of the student from the teacher.
        """
        divergence = (-1 / 4 + 1 / 2 - 3 / 8) * LN2 + 3 / 8 * LN3
        loss = distillation_loss(2 * STUDENT, LABEL, 2 * TEACHER, SOFT).item()
        assert loss == pytest.approx(0.9 * (LN3 - LN2) + 0.1 * 4 * divergence)
        assert loss == pytest.approx(0.4950529, abs=1e-6)

    def test_it_is_a_mean_over_images_and_no_other(self) -> None:
        """A second image, of which the student thinks as the teacher does, and is right, halves the loss; more classes change nothing."""
        sure = torch.tensor([[60.0, 0.0, 0.0]])
        two = distillation_loss(torch.cat([2 * STUDENT, sure]), torch.tensor([0, 0]), torch.cat([2 * TEACHER, sure]), SOFT)
        assert two.item() == pytest.approx(0.4950529 / 2, abs=1e-6)
        never = torch.full((1, 5), -100.0)
        padded = distillation_loss(torch.cat([2 * STUDENT, never], 1), LABEL, torch.cat([2 * TEACHER, never], 1), SOFT)
        assert padded.item() == pytest.approx(0.4950529, abs=1e-6)

    def test_soft_labels(self) -> None:
        """Labels that were smoothed or mixed: half of class 0 (ln 2), half of class 1 (ln 4), beside the teacher's ln 4."""
        loss = distillation_loss(STUDENT, torch.tensor([[0.5, 0.5, 0.0]]), TEACHER, HARD)
        assert loss.item() == pytest.approx(0.5 * 1.5 * LN2 + 0.5 * 2 * LN2)

    def test_each_classifier_has_its_own_lesson(self) -> None:
        """Gradients by hand: half of (p - label) at the first classifier, half of (p - teacher's decision) at the second."""
        first, second = STUDENT.clone().requires_grad_(), STUDENT.clone().requires_grad_()
        distillation_loss((first, second), LABEL, TEACHER, HARD).backward()  # type: ignore[no-untyped-call]
        assert first.grad is not None and second.grad is not None
        assert torch.allclose(first.grad, torch.tensor([[-0.25, 0.125, 0.125]]))
        assert torch.allclose(second.grad, torch.tensor([[0.25, -0.375, 0.125]]))

    def test_one_classifier_has_both_lessons(self) -> None:
        """Their sum."""
        only = STUDENT.clone().requires_grad_()
        distillation_loss(only, LABEL, TEACHER, HARD).backward()  # type: ignore[no-untyped-call]
        assert only.grad is not None and torch.allclose(only.grad, torch.tensor([[0.0, -0.25, 0.25]]))

    def test_the_papers_weights(self) -> None:
        """A half for hard, a tenth at temperature 3 for soft distillation; and a recipe with one of the two fields is none."""
        assert with_teacher(Recipe(), "hard", "t").distill_weight == 0.5
        soft = with_teacher(Recipe(), "soft", "t")
        assert (soft.distill_weight, soft.distill_temperature) == (0.1, 3.0)
        with pytest.raises(ValueError, match="--distill-from"):
            Recipe(distill="soft")
        with pytest.raises(ValueError, match="--distill-from"):
            Recipe(teacher="t")


@pytest.mark.parametrize("name", ["deit-micro", "levit-micro", "repvit-micro"])
def test_the_heads_of_real_networks(name: str) -> None:
    """The labels never reach the distillation classifier, nor the teacher the other; both reach the body."""
    torch.manual_seed(0)
    network = build(variant(name).spec(input_size=32, classes=10)).train()
    images, labels, taught = torch.randn(8, 3, 32, 32), torch.arange(8), torch.randn(8, 10)

    def gradients(labels: Tensor, taught: Tensor) -> list[Tensor]:
        network.zero_grad()
        torch.manual_seed(1)
        distillation_loss(network(images), labels, taught, HARD).backward()  # type: ignore[no-untyped-call]
        names = "head.classifiers.0.linear.weight", "head.classifiers.1.linear.weight", next(iter(network.state_dict()))
        return [p.grad.clone() for p in map(network.get_parameter, names) if p.grad is not None]

    plain, other_labels, other_teacher = gradients(labels, taught), gradients(labels + 1, taught), gradients(labels, -taught)
    assert not torch.equal(plain[0], other_labels[0]) and torch.equal(plain[1], other_labels[1])
    assert torch.equal(plain[0], other_teacher[0]) and not torch.equal(plain[1], other_teacher[1])
    assert not torch.equal(plain[2], other_labels[2]) and not torch.equal(plain[2], other_teacher[2])


def drawn(name: str = "convnext-micro", *, classes: int = 10, size: int = 32) -> Network:
    """An untrained network of the zoo."""
    return build(variant(name).spec(input_size=size, classes=classes), seed=5)


def study_from(path: Path, name: str = "convnext-micro", **options: object) -> Study:
    return Study(kind="train", network="deit-micro", distill_from=name, teacher_weights=str(path), **options)  # type: ignore[arg-type]


def kept(store: Store, study: Study, data: Path) -> str:
    """The study's teacher, in the store."""
    return keep_teacher(store, candidate(store, study, 32), open_prepared(data))


def with_a_teacher(store: Store, data: Path, path: Path) -> str:
    """A store with an untrained network as a teacher."""
    save_file(drawn().state_dict(), path / "teacher.safetensors")
    return kept(store, study_from(path / "teacher.safetensors"), data)


class TestTeacher:
    def test_one_teacher_has_one_hash(self, tmp_path: Path, data: Path) -> None:
        """By official names or ours, from whatever kind of file; another weight is another teacher; it is copied once."""
        store, network, found = store_at(tmp_path), drawn(), variant("convnext-micro")
        ours = with_a_teacher(store, data, tmp_path)
        assert ours == teacher_hash(network)
        written = (store.teachers / f"{ours}.safetensors").stat().st_mtime_ns
        torch.save({"model": official_state(network, network.spec, found.dialects()[0])}, tmp_path / "official.pth")
        assert kept(store, study_from(tmp_path / "official.pth"), data) == ours
        assert (store.teachers / f"{ours}.safetensors").stat().st_mtime_ns == written
        with torch.no_grad():
            network.get_parameter("head.classifiers.0.linear.bias")[0] += 1e-3
        save_file(network.state_dict(), tmp_path / "other.safetensors")
        assert kept(store, study_from(tmp_path / "other.safetensors"), data) != ours

    def test_a_worker_gets_the_same_network(self, tmp_path: Path, data: Path) -> None:
        """From the store alone: same outputs, eval mode, no gradients."""
        store = store_at(tmp_path)
        loaded = load_teacher(store, with_a_teacher(store, data, tmp_path), torch.device("cpu"))
        x = torch.randn(2, 3, 32, 32)
        assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
        assert torch.equal(loaded(x), drawn().eval()(x))

    def test_missing_and_damaged_teachers(self, tmp_path: Path, data: Path) -> None:
        """One line each; running the study again mends a damaged one."""
        store = store_at(tmp_path)
        with pytest.raises(StoreError, match="no teacher 0123"):
            load_teacher(store, "0123", torch.device("cpu"))
        key = with_a_teacher(store, data, tmp_path)
        save_file({k: v + 1 for k, v in drawn().state_dict().items()}, store.teachers / f"{key}.safetensors")
        with pytest.raises(StoreError, match="holds other weights"):
            load_teacher(store, key, torch.device("cpu"))
        (store.teachers / f"{key}.safetensors").write_bytes(b"half a fi")
        with pytest.raises(StoreError, match="is damaged"):
            load_teacher(store, key, torch.device("cpu"))
        with_a_teacher(store, data, tmp_path)
        load_teacher(store, key, torch.device("cpu"))

    def test_what_does_not_fit(self, tmp_path: Path, data: Path) -> None:
        """Another number of classes, another network, another input size: each says so, in one line."""
        store = store_at(tmp_path)
        for file, network in (("classes", drawn(classes=7)), ("network", drawn("resnet-50-micro")), ("size", drawn("deit-micro", size=64))):
            save_file(network.state_dict(), tmp_path / f"{file}.safetensors")
        cases = {
            "convnext-micro tells 7 classes apart, digits has 10": study_from(tmp_path / "classes.safetensors"),
            "do not fit ConvNeXt micro.*give the weights of convnext-micro": study_from(tmp_path / "network.safetensors"),
            "position.*give the weights of deit-micro for 32 pixels": study_from(tmp_path / "size.safetensors", "deit-micro"),
        }
        for message, study in cases.items():
            with pytest.raises(StudyError, match=message) as error:
                kept(store, study, data)
            assert "\n" not in str(error.value)
        with pytest.raises(StudyError, match="vit-s-16 cannot teach at 40 pixels"):
            candidate(store, study_from(tmp_path / "classes.safetensors", "vit-s-16"), 40)

    def test_a_trial_that_cannot_teach(self, tmp_path: Path, data: Path) -> None:
        """One that has not finished, and one that diverged."""
        store = store_at(tmp_path)
        trial = make(data, "none", lr=1e6, optimizer="sgd", warmup=0.0)
        study = Study(kind="train", network="deit-micro", distill_from=f"trial:{trial.id}")
        store.add(trial)
        with pytest.raises(StudyError, match="has not finished"):
            candidate(store, study, 32)
        run_trial(store, trial, data, How())
        with pytest.raises(StudyError, match="diverged: take another teacher"):
            candidate(store, study, 32)

    def test_the_command_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """--plan says from whom every arm learns."""
        save_file(drawn().state_dict(), tmp_path / "teacher.safetensors")
        options = ["--distill-from", "convnext-micro", "--teacher-weights", "teacher.safetensors", "--data-fraction", "0.1", "--plan"]
        code, out, _ = vitnas_here("roadmap", "--steps", "width", *options, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0 and f"every arm learns from convnext-micro (weights {teacher_hash(drawn())}) too, by hard distillation" in out


def distilled(trial: Trial, teacher: str, how: str = "hard", network: str = "levit-micro") -> Trial:
    """The trial of another network that learns from a teacher."""
    recipe = with_teacher(trial.recipe, how, teacher)  # type: ignore[arg-type]
    return replace(trial, recipe=recipe, network=variant(network).spec(input_size=32, classes=10))


def test_the_teacher_is_part_of_the_identity(data: Path) -> None:
    """With and without, another teacher, another way: four trials."""
    plain = distilled(make(data), "a" * 16)
    others = [distilled(make(data), "b" * 16), distilled(make(data), "a" * 16, "soft")]
    none = replace(plain, recipe=replace(plain.recipe, distill="none", teacher=""))
    assert len({plain.id, none.id, *(t.id for t in others)}) == 4
    assert distilled(make(data), "a" * 16).id == plain.id


class Spy(nn.Module):
    """Keeps what it was shown."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.seen = network, list[bytes]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.numpy().tobytes())
        assert not torch.is_grad_enabled()
        out: Tensor = self.network(x)
        return out


def test_the_teacher_sees_what_the_student_sees(tmp_path: Path, data: Path) -> None:
    """The same augmented images; and it stays as it was, its BatchNorm statistics too."""
    store = store_at(tmp_path)
    path = tmp_path / "resnet.safetensors"
    save_file(drawn("resnet-50-micro").state_dict(), path)
    key = kept(store, study_from(path, "resnet-50-micro"), data)
    teacher = load_teacher(store, key, torch.device("cpu"))
    spy = Spy(teacher)
    prepared = open_prepared(data)
    feed = Feed(prepared, "train", split(prepared)[0][:128], torch.device("cpu"))
    run = Training(distilled(make(data), key), feed, mean=prepared.mean, std=prepared.std, micro_batch=None, teacher=spy)
    seen: list[bytes] = []
    run.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numpy().tobytes()))
    run.train_epoch()
    assert len(seen) == 2 and spy.seen == seen
    assert teacher_hash(teacher) == key


def test_killed_it_ends_as_if_it_had_not_been(tmp_path: Path, data: Path) -> None:
    """kill -9 while a student trains; the next run continues, and everything agrees to the bit."""
    calm, shaken = store_at(tmp_path / "calm"), store_at(tmp_path / "shaken")
    key = with_a_teacher(calm, data, tmp_path)
    shutil.copytree(calm.teachers, shaken.teachers)
    trial = distilled(make(data, epochs=4, drop_path=0.1), key, "soft")
    run_trial(calm, trial, data, How())
    folder = shaken.add(trial)
    code = (
        "import sys; from pathlib import Path; from vitnas.studies.store import Store; from vitnas.studies.training.run_trial import *\n"
        "s = Store(sys.argv[1]); run_trial(s, s.trial(sys.argv[2]), Path(sys.argv[3]), How())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(shaken.root), trial.id, str(data)])
    while not (folder / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = run_trial(shaken, trial, data, How())
    assert result.attempts == 2 and any(e.startswith("continued after epoch") for e in result.events)
    assert outcome(shaken, trial) == outcome(calm, trial)


def few_of_cifar(folder: Path) -> Path:
    """Parquet files with 500 and 100 images of CIFAR-10."""
    for part, count in (("train", 500), ("test", 100)):
        name = f"{part}-00000-of-00001.parquet"
        batches = pyarrow.parquet.ParquetFile(Path(str(SHARED)) / "data" / "cifar10" / name).iter_batches(count)
        pyarrow.parquet.write_table(pyarrow.Table.from_batches([next(batches)]), folder / name)
    return folder


@needs_cifar
def test_a_student_learns_from_a_trained_teacher(tmp_path: Path) -> None:
    """On CIFAR-10: a ConvNeXt is trained and then teaches; the student learns, from labels with one head and from it with the other."""
    cifar = tmp_path / "cifar10"
    cifar.mkdir()
    store = store_at(tmp_path / "store")
    common = {"kind": "train", "data": str(few_of_cifar(cifar)), "seeds": 1, "device": "cpu"}

    def run(study: Study) -> tuple[Prospect, Trial]:
        ready = prospect(store, study, say=lambda line: None)
        run_trial(store, ready.todo[0], ready.data, How(), splits=ready.splits)
        return ready, ready.todo[0]

    _, first = run(Study(**common, network="convnext-micro", epochs=4))  # type: ignore[arg-type]
    study = Study(**common, network="levit-micro", distill_from=f"trial:{first.id}", epochs=8)  # type: ignore[arg-type]
    ready, second = run(study)
    assert second.recipe.teacher and second.recipe.distill == "hard"
    curve = store.curve(second.id)
    assert curve[-1]["loss"] < 0.85 * curve[0]["loss"]
    agreement, chance = how_alike(store, ready, second)
    assert agreement[1] > agreement[0] and agreement[1] > chance + 0.1


def how_alike(store: Store, ready: Prospect, student: Trial) -> tuple[list[float], float]:
    """How often each of the student's heads decides on training images as its teacher does, and how often the commonest class would."""
    from safetensors.torch import load_file

    prepared: Prepared = open_prepared(ready.data)
    feed = Feed(prepared, "train", split(prepared)[0], torch.device("cpu"))
    teacher = load_teacher(store, student.recipe.teacher, torch.device("cpu"))
    network = Network(student.network)
    network.load_state_dict(load_file(store.trial_folder(student.id) / "weights.safetensors"))
    network.eval()
    network.head.train()  # both classifiers' outputs
    for module in network.head.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (prepared.mean, prepared.std))
    (images, _), *_ = feed.batches(np.arange(len(feed)), len(feed))
    with torch.no_grad():
        x = (images / 255 - mean) / std
        taught = teacher(x).argmax(1)
        heads = [(head.argmax(1) == taught).float().mean().item() for head in network(x)]
    return heads, taught.bincount().max().item() / len(taught)
