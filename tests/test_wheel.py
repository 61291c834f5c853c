"""The wheel: what is in it, and that it works in an empty environment, from a folder that holds modules named like ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vitnas.studies import presets

from .command import environment

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".vitnas", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist", "wheels")
TRAINING = ["roadmap", "--steps", "stage-ratio", "--epochs", "1", "--seeds", "1", "--data-fraction", "0.3"]

pytestmark = pytest.mark.full


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and give its output; it must succeed."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, capture_output=True, text=True, env=environment(), check=False, timeout=1500)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree in which caches and a store lie about."""
    tree = tmp_path_factory.mktemp("tree") / "vitnas"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    for stray in ("studies/__pycache__/stray.pyc", ".vitnas/ledger.jsonl", "studies/presets/notes.txt", "shared/data.parquet"):
        (tree / stray).parent.mkdir(parents=True, exist_ok=True)
        (tree / stray).write_text("stray")
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", out, tree, cwd=out)
    return next(out.glob("vitnas-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of an environment that holds the wheel and what it depends on, nothing else."""
    home = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", home, cwd=home)
    run(home / "bin" / "pip", "install", "--quiet", wheel, cwd=home)
    return home / "bin"


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder with the user's own modules, named like ours; none may be imported."""
    (tmp_path / "studies").mkdir()
    for name in ("cli.py", "roadmap.py", "studies/__init__.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong module was imported')\n")
    return tmp_path


def test_contents(wheel: Path) -> None:
    """All modules, presets, spaces and py.typed are in it; tests, docs, data and caches are not."""
    with zipfile.ZipFile(wheel) as file:
        names = {n for n in file.namelist() if ".dist-info/" not in n}
        assert any(n.endswith("licenses/LICENSE") for n in file.namelist())
    modules = [p for folder in ("roadmap", "studies") for p in (ROOT / folder).rglob("*.py")]
    wanted = {f"vitnas/{p.relative_to(ROOT)}" for p in [*modules, ROOT / "__init__.py", ROOT / "cli.py", ROOT / "py.typed"]}
    spaces = {f"vitnas/studies/search/spaces/{p.name}" for p in (ROOT / "studies" / "search" / "spaces").glob("*.yaml")}
    assert names == wanted | spaces | {f"vitnas/studies/presets/{name}.yaml" for name in presets.names()}


def test_works_in_an_empty_environment(installed: Path, trap: Path) -> None:
    """Help, listings, a preset's plan, a roadmap on Ray with MLflow, and its report again, from the folder of traps."""
    vitnas = installed / "vitnas"
    assert "roadmap" in run(vitnas, "--help", cwd=trap)
    assert "stage-ratio" in run(vitnas, "steps", cwd=trap)
    assert "42 trials" in run(vitnas, "plan", "digits", cwd=trap)
    out = run(vitnas, *TRAINING, cwd=trap)
    assert "2 trials trained" in out and "is up to date" in out, out
    assert "0 trials trained, 2 known before" in run(vitnas, *TRAINING, cwd=trap)
    report = json.loads(run(vitnas, "report", "--json", cwd=trap))
    assert [row["name"] for row in report["rows"]] == ["ResNet-50", "stage-ratio"]
    folder = next((trap / ".vitnas" / "studies").iterdir())
    assert {"roadmap.png", "roadmap.svg", "roadmap.pdf", "report.md", "study.yaml"} <= {p.name for p in folder.iterdir()}
