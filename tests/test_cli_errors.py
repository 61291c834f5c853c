"""Bad input gets one line that names the next move, exit code 1, and loses nothing."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .command import vitnas_here


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, (f"open({str(self.path)!r}, 'w')",))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line, run in a folder of its own."""
    return lambda *arguments: vitnas_here(*arguments, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)


def one_line(done: tuple[int, str, str], *words: str) -> None:
    """Exit code 1, and one line on stderr with the given words."""
    code, _, stderr = done
    lines = [line for line in stderr.splitlines() if line.startswith("vitnas: ")]
    assert code == 1 and len(lines) == 1 and "Traceback" not in stderr, stderr
    for word in words:
        assert word in lines[0], stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["roadmap", "--steps", "depthwize"], ["unknown step 'depthwize'", "did you mean depthwise"]),
        (["roadmap", "--steps", "inverted-bottleneck"], ["requires depthwise: add it"]),
        (["roadmap", "--data", "./nowhere"], ["nowhere"]),
        (["roadmap", "--set", "lr=-0.1"], ["lr must be above 0, not -0.1"]),
        (["roadmap", "--set", "lr=[1"], ["'[1' is not a value"]),
        (["roadmap", "--set", "lr=nan"], ["lr must be a finite number"]),
        (["roadmap", "--set", "betas=x"], ["betas must be 2 numbers, not 'x'"]),
        (["roadmap", "--set", "lr="], ["write field=value"]),
        (["roadmap", "--name", "../../x"], ["would be a path"]),
        (["roadmap", "--seeds", "1000000000"], ["seeds: must be 10000 or less"]),
        (["roadmap", "--input-size", "100000"], ["input-size: must be 4096 or less"]),
        (["roadmap", "--data", ""], ["data: name digits"]),
        (["roadmap", "--steps", "kernel-size="], ["lacks its value"]),
        (["roadmap", "--steps", "..width"], ["a range needs both ends"]),
        (["roadmap", "--epochs", "0"], ["epochs: must be 1 or more, not 0"]),
        (["roadmap", "--concurrency", "4000"], ["4000 CPUs are wanted", "use --concurrency"]),
        (["roadmap", "--device", "cuda"], ["no CUDA GPU is visible here: use --device cpu"]),
        (["roadmap", "--input-size", "16"], ["--input-size 32 or more"]),
        (["roadmap", "--track", "resnext"], ["unknown track", "convnext-t"]),
        (["train", "swin-q"], ["unknown network 'swin-q': did you mean swin-"]),
        (["models", "cost", "deit-s", "--input-size", "100"], ["100"]),
        (["models", "cost"], ["name one network, or a track"]),
        (["report"], ["no store", "--store"]),
        (["sweep", "nothing.yaml"], ["nothing.yaml cannot be read"]),
        (["roadmap", "--store", "/proc/nowhere"], ["/proc/nowhere", "--store"]),
        (["train", "deit-micro", "--distill-from", "swin-q", "--teacher-weights", "t.pth"], ["unknown network 'swin-q'"]),
        (["train", "deit-micro", "--distill-from", "swin-t"], ["weights of swin-t with --teacher-weights"]),
        (["train", "deit-micro", "--distill-from", "swin-t", "--teacher-weights", "t.pth"], ["no weights file at t.pth"]),
        (["train", "deit-micro", "--distill-from", "trial:last"], ["'last' is not a trial's id", "vitnas status --json"]),
        (["train", "deit-micro", "--distill-from", "trial:0123456789abcdef"], ["no trial 0123456789abcdef"]),
        (["train", "deit-micro", "--teacher-weights", "t.pth"], ["teacher-weights: name the teacher with --distill-from"]),
        (["roadmap", "--distill", "soft"], ["distill: name the teacher with --distill-from"]),
        (["roadmap", "--set", "distill=soft"], ["name a teacher with --distill-from"]),
        (["roadmap", "--distill", "loud"], ["distill: 'loud' is not one of soft, hard"]),
        (["roadmap", "--eval", "corruptions", "--score-on", "validation"], ["eval: corruptions are scored on the test split"]),
    ],
)
def test_one_line(run: Run, arguments: list[str], words: list[str]) -> None:
    """The message says what is wrong and what to do."""
    one_line(run(*arguments), *words)


def test_data_that_is_wrong_is_named(tmp_path: Path, run: Run) -> None:
    """An empty class and an unreadable image are refused by name."""
    for i in range(10):
        picture(tmp_path / "a" / "cats" / f"{i}.png")
        picture(tmp_path / "b" / "cats" / f"{i}.png")
        picture(tmp_path / "b" / "dogs" / f"{i}.png")
    (tmp_path / "a" / "dogs").mkdir()
    one_line(run("train", "convnext-micro", "--data", "a"), "dogs")
    (tmp_path / "b" / "dogs" / "3.png").write_bytes(b"not an image")
    one_line(run("train", "convnext-micro", "--data", "b"), "3.png")


def test_weights_that_would_run_code_are_refused(tmp_path: Path, run: Run) -> None:
    """A pickle with code in it is not loaded."""
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    one_line(run("models", "show", "convnext-t", "--weights", "bomb.pth"), "bomb.pth", "refused")
    assert not (tmp_path / "exploded").exists()


def test_usage_errors_exit_with_2(run: Run) -> None:
    """An unknown option or command is the shell's kind of error."""
    assert run("roadmap", "--stepz", "all")[0] == 2
    assert run("roadmaps")[0] == 2


def test_plan_trains_nothing(tmp_path: Path, run: Run) -> None:
    """--plan prints the arms and the time, and leaves no trial behind."""
    code, out, _ = run("roadmap", "--steps", "stage-ratio", "--plan")
    assert code == 0 and "6 trials, 0 known, 6 to train" in out
    assert not list((tmp_path / ".vitnas" / "trials").iterdir())


def test_the_version_is_told(run: Run) -> None:
    """As everywhere, and without a command."""
    import vitnas

    assert run("--version") == (0, f"vitnas {vitnas.__version__}\n", "")
