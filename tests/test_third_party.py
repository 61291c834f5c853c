"""Packages that add layers, mixers and tracks: the example of docs/extending.md installed and run, rules and their refusals."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from vitnas.roadmap.installed import PackageError
from vitnas.roadmap.layers import Layer
from vitnas.roadmap.spec import installed_layers
from vitnas.roadmap.tracks import installed_tracks, track
from vitnas.studies.designs.planner import Unseen, plan_study
from vitnas.studies.recipe import preset
from vitnas.studies.store import Store
from vitnas.studies.study import Study
from vitnas.studies.trial import Trial

from .command import environment, vitnas, vitnas_local
from .test_store import trial

EXAMPLE = Path(__file__).parent.parent / "docs" / "example-package"
TRACK = ["--track", "acme.convnext-spin"]
STUDY = ["roadmap", *TRACK, "--steps", "spin", "--epochs", "1", "--seeds", "1", "--data-fraction", "0.15", "--set", "batch-size=32"]


def install(source: Path, target: Path) -> dict[str, str]:
    """Install a package into a folder of its own; gives the environment in which Python finds it."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {"PYTHONPATH": str(target)}


@pytest.fixture(scope="module")
def acme(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The example, installed from a copy, for its build leaves files beside it."""
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "package")
    return install(Path(source), tmp_path_factory.mktemp("installed"))


def test_its_steps_and_networks_are_listed(acme: dict[str, str], tmp_path: Path) -> None:
    """The track stands beside ours, with its own step, what it does, and the cost of every rung."""
    rows = json.loads(vitnas("steps", *TRACK, "--json", cwd=tmp_path, env=acme).stdout)
    assert rows[-1]["step"] == "spin" and rows[-1]["sets"] == "spin=none|plain|gated" and len(rows) > 13
    assert "+    spin: acme.spin" in vitnas("steps", "show", "spin", *TRACK, cwd=tmp_path, env=acme).stdout.replace("      ", "    ")
    costs = json.loads(vitnas("models", "cost", *TRACK, "--scale", "micro", "--json", cwd=tmp_path, env=acme).stdout)
    assert costs[-1]["name"] == "spin" and costs[-1]["params"] > costs[-2]["params"]
    unknown = vitnas("steps", "--track", "acme.other", cwd=tmp_path, env=acme, check=1).stderr
    assert "repvit-m0.9, acme.convnext-spin" in unknown and unknown.count("\n") == 1
    assert "not installed here" in vitnas_local("steps", *TRACK, cwd=tmp_path, check=1).stderr


def test_it_trains_on_ray_and_its_version_is_part_of_what_a_trial_is(acme: dict[str, str], tmp_path: Path) -> None:
    """Workers find the package; the trial that has its layer is another one under another version, and no other trial is."""
    done = vitnas(*STUDY, cwd=tmp_path, env=acme)
    assert "2 trials trained, 0 known before" in done.stdout, done.stdout
    trials = {p.parent.name: json.loads(p.read_text()) for p in (tmp_path / ".vitnas" / "trials").glob("*/trial.json")}
    assert sorted(str(t.get("packages")) for t in trials.values()) == ["None", "{'acme-spin': '1.0.0'}"]
    base = next(t for t in trials.values() if "packages" not in t)
    assert Trial.from_dict(base).id == base["id"] and base["fingerprint"] == trial().network.fingerprint

    newer = {"PYTHONPATH": str(shutil.copytree(acme["PYTHONPATH"], tmp_path / "newer"))}
    info = tmp_path / "newer" / "acme_spin-1.0.0.dist-info"
    (info / "METADATA").write_text((info / "METADATA").read_text().replace("Version: 1.0.0", "Version: 1.0.1"))
    info.rename(info.with_name("acme_spin-1.0.1.dist-info"))
    arms = json.loads(vitnas(*STUDY, "--plan", "--json", cwd=tmp_path, env=newer).stdout)["arms"]
    assert [(a["arm"], a["known"]) for a in arms] == [("ResNet-50", 1), ("spin", 0)]
    old = next(key for key, t in trials.items() if "packages" in t)
    said = "was planned with acme-spin 1.0.0, but {}: install acme-spin==1.0.0"
    with pytest.raises(PackageError, match=said.format("it is not installed here")):
        Store(tmp_path / ".vitnas").trial(old)
    code = f"from vitnas.studies.store import Store; Store('.vitnas').trial('{old}')"
    refused = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(newer), capture_output=True, text=True, check=False
    )
    assert said.format("1.0.1 is installed here") in refused.stderr


def test_its_mixer_works_on_every_track(acme: dict[str, str], tmp_path: Path) -> None:
    """`mixer=acme.spin` on our own tracks: a network that is written and read, trains in every parameter and fuses."""
    code = """
import torch, vitnas
from vitnas.roadmap.spec import from_dict, to_dict
assert vitnas.TRACKS[-1].name == "acme.convnext-spin"
for track, step, chosen in (
    ("convnext-t", "all,mixer=acme.spin", "mixer=acme.spin"),
    ("repvit-m0.9", "all,mixer@3=acme.spin", "mixer=conv/conv/acme.spin/conv"),
    ("acme.convnext-spin", "spin=gated", "spin=gated"),
):
    found = vitnas.track(track)
    rung = vitnas.select(found, step).cumulative()[-1]
    assert rung.name == chosen, rung.name
    network = {k: v for k, v in rung.choice.items() if found.step(k).owner == "network"}
    spec = found.spec(network, scale="micro", input_size=32, classes=10)
    assert "acme." in str(to_dict(spec)) and from_dict(to_dict(spec)) == spec
    built = vitnas.build(spec, layer_scale_init=0.1)
    built(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in built.parameters())
    vitnas.fuse(built)
    assert vitnas.features(spec, 32)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(acme), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


LAYER = """
from dataclasses import dataclass
from vitnas.roadmap.layers import Layer
@dataclass(frozen=True, kw_only=True)
class Plain(Layer):
    kind = {kind!r}
    module = "x:y"
class Other(Plain):
    kind = "acme.plain"
text = "no layer"
"""
TRACKS = """
from dataclasses import replace
from vitnas.roadmap.steps import Step
from vitnas.roadmap.tracks.convnext import CONVNEXT_T
plain = replace(CONVNEXT_T, name="spin")
clash = replace(CONVNEXT_T, name="convnext.t")
step = Step(name="s", title="s", field="missing", value="x", definition="")
loose = replace(CONVNEXT_T, name="acme.loose", steps=(step,))
fine = replace(CONVNEXT_T, name="acme.fine")
both = (fine, fine)
calm = Step(name="calm", title="calm", field="mixup", value=0.0, levels=(0.0, 0.5), owner="recipe", definition="")
recipe = replace(CONVNEXT_T, name="acme.calm", steps=(*CONVNEXT_T.steps, calm))
"""


Bring = Callable[..., None]


@pytest.fixture
def bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bring]:
    """A function that installs a package of one module with these attributes as entry points, without building it."""

    def install_module(code: str, *, blocks: tuple[str, ...] = (), tracks: tuple[str, ...] = ()) -> None:
        module = f"acme_{tmp_path.name}"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / "acme_things-2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-things\nVersion: 2.0\n")
        lines = [f"[vitnas.{group}]\n{at} = {module}:{at}\n" for group, names in (("blocks", blocks), ("tracks", tracks)) for at in names]
        (info / "entry_points.txt").write_text("".join(lines))
        monkeypatch.syspath_prepend(tmp_path)

    installed_layers.cache_clear()
    installed_tracks.cache_clear()
    yield install_module
    installed_layers.cache_clear()
    installed_tracks.cache_clear()


PREFIX = "its name must begin with the package's prefix"
BROKEN_LAYERS = [
    (LAYER.format(kind="plain"), ("Plain",), f"calls a layer 'plain': {PREFIX}"),
    (LAYER.format(kind="vitnas.conv"), ("Plain",), f"calls a layer 'vitnas.conv': {PREFIX}"),
    (LAYER.format(kind="acme.plain"), ("text",), "gives 'no layer' as a block, which is no kind of Layer"),
    (LAYER.format(kind="acme.plain"), ("Plain", "Other"), "brings a layer 'acme.plain' that is there already"),
    ("1 / 0", ("Plain",), r"cannot be loaded \(ZeroDivisionError: division by zero\): update or uninstall it"),
]
BROKEN_TRACKS = [
    ("plain", f"calls a track 'spin': {PREFIX}"),
    ("clash", "brings a track 'convnext.t' that is there already"),
    ("both", "brings a track 'acme.fine' that is there already"),
    ("loose", "has a step s on acme.loose that sets 'missing', no field of its Decisions"),
    ("step", "gives a Step as a track, not a vitnas.Track"),
]


@pytest.mark.parametrize(("code", "blocks", "why"), BROKEN_LAYERS)
def test_layers_that_break_a_rule_are_refused(bring: Bring, code: str, blocks: tuple[str, ...], why: str) -> None:
    """In one line that names the distribution; our own networks go on working."""
    bring(code, blocks=blocks)
    with pytest.raises(PackageError, match=f"^the package acme-things 2.0 {why}") as error:
        installed_layers()
    assert "\n" not in str(error.value)
    assert Trial.from_dict(trial().to_dict()) == trial()


@pytest.mark.parametrize(("name", "why"), BROKEN_TRACKS)
def test_tracks_that_break_a_rule_are_refused(bring: Bring, name: str, why: str) -> None:
    """In one line that names the distribution; our own tracks go on working."""
    bring(TRACKS, tracks=(name,))
    with pytest.raises(PackageError, match=f"^the package acme-things 2.0 {why}") as error:
        track("acme.fine")
    assert "\n" not in str(error.value)
    assert track("convnext-t").name == "convnext-t"


def test_recipe_steps_of_a_package(bring: Bring) -> None:
    """A step of its own on the recipe sets that field, and makes the package's version part of the trial."""
    bring(TRACKS, tracks=("recipe",))
    plan = plan_study(Study(track="acme.calm", steps="recipe,calm", seeds=1), Unseen(), precision="float32")
    assert [a.recipe.mixup for a in plan.arms] == [0.0, preset("short").modern.mixup, 0.0]
    assert [t.packages for t in plan.trials] == [(), (), (("acme-things", "2.0"),)]
    assert Trial.from_dict(plan.trials[2].to_dict()) == plan.trials[2]


def test_a_layer_that_no_package_brings_is_refused() -> None:
    """Workers could not find it."""

    @dataclass(frozen=True, kw_only=True)
    class Local(Layer):
        kind = "acme.local"

    here = trial()
    with pytest.raises(PackageError, match=r"Local \('acme.local'\) is not known here: name it in its package's entry points"):
        replace(here, network=replace(here.network, stem=(*here.network.stem, Local())))
