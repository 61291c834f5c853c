"""Imports point one way, heavy libraries have one home each, and listing commands stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = [p for folder in ("roadmap", "studies") for p in sorted((ROOT / folder).rglob("*.py"))] + [ROOT / "cli.py", ROOT / "__init__.py"]
HOMES = {
    "ray": {f"studies/running/{name}.py" for name in ("runner", "in_order", "cluster", "elsewhere", "search_ray", "together")},
    "mlflow": {"studies/tracking/sync.py"},
    "optuna": {"studies/search/optuna_samplers.py", "studies/search/optuna_view.py"},
    "boto3": {"studies/storage/bucket.py"},
    "botocore": {"studies/storage/bucket.py"},
}
NO_TORCH = ("layers", "spec", "numbers", "steps", "mixers", "mixing", "liveness", "listing", "features", "packages", "tracks", "zoo")
ABOVE = {  # for every folder of studies/, and the store, the folders that it may import from; all may use the files beside them
    "store.py": {"storage"},
    "storage": set(),
    "statistics": set(),
    "data": set(),
    "designs": {"statistics", "storage"},
    "latency": set(),
    "training": {"data"},
    "report": {"latency", "statistics"},
    "search": {"designs", "latency", "statistics"},
    "tracking": {"report", "statistics"},
    "commands": {"designs", "latency", "report", "running", "tracking"},
    "running": {"data", "designs", "latency", "report", "search", "statistics", "tracking", "training"},
}


def imports(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import in the file."""
    out = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            out += [(node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names]
    return out


def absolute(path: Path, level: int, module: str) -> str:
    """An import as a dotted path below the package: `roadmap.spec`, or the outside module."""
    if level == 0:
        return module
    parts = path.relative_to(ROOT).parts[:-1]
    return ".".join([*parts[: len(parts) - level + 1], module])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    """cli -> studies -> roadmap; what runs one trial knows nothing of what schedules; heavy libraries in one file each."""
    here = str(path.relative_to(ROOT))
    for level, module in imports(path):
        target = absolute(path, level, module)
        top = target.split(".")[0]
        assert not (here.startswith("roadmap/") and top in ("studies", "cli")), f"{here} imports {target}"
        assert not (here.startswith("studies/") and top == "cli" and level), f"{here} imports {target}"
        if level == 0 and top in HOMES:
            assert here in HOMES[top], f"{here} imports {top}"
        if here.startswith("studies/") and target.startswith("studies."):
            folder, other = path.relative_to(ROOT).parts[1], target.split(".")[1]
            if other in ABOVE and folder != other:
                assert other in ABOVE.get(folder, set()), f"{here} imports {target}"


def test_networks_as_data_need_no_torch() -> None:
    """All tracks and the whole zoo load without torch."""
    modules = ", ".join(f"vitnas.roadmap.{name}" for name in NO_TORCH)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "command", [["--help"], ["steps"], ["models", "list"], ["models", "show", "convnext-t"], ["steps", "show", "depthwise"]]
)
def test_listing_commands_import_nothing_heavy(command: list[str]) -> None:
    """They answer without torch, ray, mlflow or numpy."""
    code = (
        "import sys; sys.argv = ['vitnas', *sys.argv[1:]]\n"
        "from vitnas.cli import main\n"
        "try: main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert not {'torch', 'ray', 'mlflow', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
