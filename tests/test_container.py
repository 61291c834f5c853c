"""The image: built by buildah on a stand-in of its base, its default command run as the user it names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_wheel import LEFT_OUT, ROOT

BASE = "localhost/python:3.11-slim-bookworm"
IMAGE = "localhost/vitnas-test"
PYTHON = "python3.11,python3.11-venv,python3-pip,ca-certificates"  # python3 comes with pip
CERTIFICATES = Path("/etc/ssl/certs")
SMALL = ["--steps", "stage-ratio", "--epochs", "1", "--seeds", "1"]

pytestmark = pytest.mark.full


def lacking() -> str:
    """What this machine lacks to build an image, or nothing."""
    if os.geteuid() != 0:
        return "building an image here needs root"
    missing = [tool for tool in ("buildah", "debootstrap") if shutil.which(tool) is None]
    return f"building an image here needs Debian's {' and '.join(missing)}" if missing else ""


def run(*command: str | Path, check: bool = True) -> str:
    """Run a command and give its output."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0 or not check, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


class Buildah:
    """buildah with a store of its own, which is thrown away afterwards."""

    def __init__(self, folder: Path) -> None:
        self.command = ["buildah", "--storage-driver", "vfs", "--root", str(folder / "images"), "--runroot", str(folder / "run")]

    def __call__(self, *arguments: str | Path) -> str:
        return run(*self.command, *arguments).strip()

    def inside(self, container: str, *command: str) -> str:
        """Run a command in a container, as its user."""
        return self("run", "--isolation", "chroot", container, "--", *command)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    """buildah, with Debian and its Python in place of the official base image."""
    if reason := lacking():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("buildah")
    tool = Buildah(folder)
    run("debootstrap", "--variant=minbase", f"--include={PYTHON}", "bookworm", folder / "base")
    container = tool("from", "--pull=never", "scratch")
    tool("add", "--quiet", container, folder / "base", "/")
    tool("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(folder / "base")
    try:
        yield tool
    finally:
        tool("rm", "--all")
        tool("rmi", "--all", "--force")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def container(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A container of the image, built with torch from a folder of wheels."""
    context = tmp_path_factory.mktemp("context") / "vitnas"
    shutil.copytree(ROOT, context, ignore=LEFT_OUT)
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", context / "wheels", "torch>=2.6,<2.14")
    trust = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.is_dir() else []  # those that this machine trusts
    values = ["--build-arg", f"BASE={BASE}", "--build-arg", "WHEELS=wheels"]
    buildah("build", "--isolation", "chroot", "--pull=never", "--format", "docker", *trust, *values, "--tag", IMAGE, context)
    shutil.rmtree(context)
    return buildah("from", "--pull=never", IMAGE)


def test_default_command_runs_as_an_ordinary_user(buildah: Buildah, container: str) -> None:
    """The entry point with the default command, made small, trains with Ray and leaves its report in the volume, which is not root's."""
    config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    assert config["Entrypoint"] == ["vitnas"]
    assert config["Cmd"] == ["roadmap", "--steps", "all", "--store", "/data"]
    assert "/data" in config["Volumes"]
    small = [*config["Entrypoint"], *config["Cmd"][:1], *SMALL, *config["Cmd"][3:]]
    assert "2 trials trained" in buildah.inside(container, *small)
    files = buildah.inside(container, "find", "/data/studies", "-name", "report.md", "-o", "-name", "roadmap.png").splitlines()
    assert len(files) == 2
    owners = buildah.inside(container, "stat", "--format", "%u", "/data", *files).splitlines()
    assert set(owners) == {buildah.inside(container, "id", "-u")} and "0" not in owners
    assert "stage-ratio" in buildah.inside(container, "vitnas", "report")


def test_health_check_passes_and_finds_a_store_that_is_read_only(buildah: Buildah, container: str) -> None:
    """The image's own check, as its user."""
    config = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    kind, check = config["Healthcheck"]["Test"]
    assert kind == "CMD-SHELL"
    buildah.inside(container, "sh", "-c", check)
    buildah.inside(container, "sh", "-c", f"chmod a-w /data && ! ({check}); chmod u+w /data")


def test_image_serves_ray_workers_and_holds_no_build_tools(buildah: Buildah, container: str) -> None:
    """Ray's command is there; pip, its cache and headers are not; torch is the CPU build."""
    buildah.inside(container, "ray", "--version")
    buildah.inside(container, "python", "-c", "import aiohttp, boto3, grpc")  # vitnas[cluster]
    buildah.inside(container, "sh", "-c", "! test -e /opt/vitnas/bin/pip && ! test -e ~/.cache/pip && ! test -e /src && ! test -e /context")
    code = "import torch; assert torch.version.cuda is None, torch.__version__"
    buildah.inside(container, "python", "-c", code)
