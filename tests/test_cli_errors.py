"""Bad input gets one line that names the next move, exit code 1, and loses nothing."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .command import vitnas


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (eval, ("open('/tmp/vitnas-bomb', 'w')",))


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)


def one_line(done: object, *words: str) -> None:
    stderr = getattr(done, "stderr", "")
    assert stderr.startswith("vitnas: ") and stderr.count("\n") == 1, stderr
    for word in words:
        assert word in stderr, stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["roadmap", "--steps", "depthwize"], ["unknown step 'depthwize'", "did you mean depthwise"]),
        (["roadmap", "--steps", "inverted-bottleneck"], ["requires depthwise: add it"]),
        (["roadmap", "--data", "nowhere/at-all"], ["nowhere/at-all"]),
        (["roadmap", "--set", "lr=-0.1"], ["lr must be above 0, not -0.1"]),
        (["roadmap", "--epochs", "0"], ["epochs: must be 1 or more, not 0"]),
        (["roadmap", "--concurrency", "4000"], ["4000 trials of 1 threads want 4000 CPUs", "use --concurrency"]),
        (["roadmap", "--device", "cuda"], ["no CUDA GPU is visible here: use --device cpu"]),
        (["roadmap", "--input-size", "16"], ["--input-size 32 or more"]),
        (["roadmap", "--track", "resnext"], ["unknown track", "convnext-t"]),
        (["train", "swin-q"], ["unknown network 'swin-q': did you mean swin-"]),
        (["models", "cost", "deit-s", "--input-size", "100"], ["100"]),
        (["report"], ["no store", "--store"]),
        (["sweep", "nothing.yaml"], ["nothing.yaml cannot be read"]),
    ],
)
def test_one_line(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    """The message says what is wrong and what to do."""
    one_line(vitnas(*arguments, cwd=tmp_path, check=1), *words)


def test_data_that_is_wrong_is_named(tmp_path: Path) -> None:
    """An empty class and an unreadable image are refused by name."""
    for i in range(10):
        picture(tmp_path / "a" / "cats" / f"{i}.png")
        picture(tmp_path / "b" / "cats" / f"{i}.png")
        picture(tmp_path / "b" / "dogs" / f"{i}.png")
    (tmp_path / "a" / "dogs").mkdir()
    one_line(vitnas("train", "convnext-micro", "--data", "a", cwd=tmp_path, check=1), "dogs")
    (tmp_path / "b" / "dogs" / "3.png").write_bytes(b"not an image")
    one_line(vitnas("train", "convnext-micro", "--data", "b", cwd=tmp_path, check=1), "3.png")


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    """A pickle with code in it is not loaded; a file that does not fit says what is missing."""
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
    done = vitnas("models", "show", "convnext-t", "--weights", "bomb.pth", cwd=tmp_path, check=1)
    one_line(done, "bomb.pth", "refused")
    assert not Path("/tmp/vitnas-bomb").exists()


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    """An unknown option or command is the shell's kind of error."""
    assert "No such option" in vitnas("roadmap", "--stepz", "all", cwd=tmp_path, check=2).stderr
    assert "No such command" in vitnas("roadmaps", cwd=tmp_path, check=2).stderr


def test_plan_trains_nothing(tmp_path: Path) -> None:
    """--plan prints the arms and the time, and leaves no trial behind."""
    done = vitnas("roadmap", "--steps", "stage-ratio", "--plan", cwd=tmp_path)
    assert "6 trials, 0 known, 6 to train" in done.stdout
    assert not list((tmp_path / ".vitnas" / "trials").iterdir())
