"""The launchers: scripts, manifests and the compose file hold to their schemas, every host shows a token, nothing is left open."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .test_docs import ROOT, check_command_line

LAUNCHERS = ROOT / "docs" / "launchers"
DRAIN = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
SBATCH, RAYJOB, COMPOSE = LAUNCHERS / "slurm.sbatch", LAUNCHERS / "rayjob.yaml", LAUNCHERS / "compose.yaml"


def accepts(*command: str | Path) -> None:
    """The command, which lies beside this Python or on the path, ends with 0."""
    beside = Path(sys.executable).with_name(str(command[0]))
    words = [str(beside) if beside.exists() else str(command[0]), *map(str, command[1:])]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def kinds() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(RAYJOB.read_text()))


def rayjob() -> dict[str, Any]:
    (job,) = (m for m in kinds() if m["kind"] == "RayJob")
    spec: dict[str, Any] = job["spec"]
    return spec


def pod_templates() -> list[dict[str, Any]]:
    """Those of the head and of each group of workers."""
    cluster = rayjob()["rayClusterSpec"]
    return [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def test_the_slurm_script_is_sound() -> None:
    """bash parses it and shellcheck has no remark."""
    accepts("bash", "-n", SBATCH)
    accepts("shellcheck", SBATCH)


def test_the_compose_file_keeps_to_its_schema() -> None:
    """That of the Compose specification, which check-jsonschema ships."""
    accepts("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


def test_the_manifests_keep_to_kubernetes_schemas(tmp_path: Path) -> None:
    """The core kinds as they are; of the RayJob, whose own schema Kubernetes does not have, every pod template as a pod."""
    core = [m for m in kinds() if m["apiVersion"] != "ray.io/v1"]
    assert {m["kind"] for m in core} == {"PersistentVolumeClaim", "NetworkPolicy"}
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", **t["metadata"]}, "spec": t["spec"]} for t in pod_templates()]
    assert len(pods) == 2
    manifest = tmp_path / "manifests.yaml"
    manifest.write_text(yaml.safe_dump_all([*core, *pods]))
    accepts("kubernetes-validate", "--strict", manifest)


def test_a_checker_finds_what_is_wrong(tmp_path: Path) -> None:
    """A manifest with a misspelt field does not pass."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(RAYJOB.read_text().partition("---")[0].replace("accessModes", "accesModes"))
    with pytest.raises(AssertionError, match="accesModes"):
        accepts("kubernetes-validate", "--strict", wrong)


def test_every_launcher_has_tokens_on() -> None:
    """Ray asks every host and client for the token, wherever it was started from, and the token's file is its owner's alone."""
    script = SBATCH.read_text()
    assert script.index("RAY_AUTH_MODE=token") < script.index("ray start")
    assert 'chmod 600 "$HOME/.ray/auth_token"' in script.splitlines()
    assert rayjob()["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for name in ("head", "worker"):
        environment = services()[name]["environment"]
        assert environment["RAY_AUTH_MODE"] == "token"
        assert environment["RAY_AUTH_TOKEN"].startswith("${RAY_AUTH_TOKEN:?")  # no default: without a token nothing starts
    page = (ROOT / "docs" / "cluster.md").read_text()
    starts = [line for line in page.splitlines() if re.match(r"(?:nohup )?ray start ", line)]
    assert len(starts) == 2 and "export RAY_AUTH_MODE=token" in page[: page.index("ray start --head")]
    assert "chmod 600" in page


def test_only_mlflow_is_published_and_to_loopback_alone() -> None:
    """Of the compose file's services; the database is in a network without a way out."""
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert published == {"mlflow": ["127.0.0.1:5000:5000"]}
    assert services()["postgres"]["networks"] == ["database"]
    assert yaml.safe_load(COMPOSE.read_text())["networks"]["database"] == {"internal": True}


def test_pods_and_services_have_no_more_rights_than_they_need() -> None:
    """They run as an ordinary user, gain no privileges and drop all capabilities."""
    for template in pod_templates():
        assert template["spec"]["securityContext"]["runAsNonRoot"] is True
        assert template["spec"]["automountServiceAccountToken"] is False
        for container in template["spec"]["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    for name in ("head", "worker", "mlflow"):
        assert services()[name]["cap_drop"] == ["ALL"] and services()[name]["security_opt"] == ["no-new-privileges:true"]


def test_the_compose_cluster_is_the_projects_own_image() -> None:
    """One Dockerfile, whose image has the extras that a cluster and an MLflow server on PostgreSQL need."""
    for name in ("head", "worker", "mlflow"):
        assert (COMPOSE.parent / services()[name]["build"]["context"]).resolve() == ROOT
        assert services()[name]["build"]["args"]["EXTRAS"] == "cluster,server"
    assert re.search(r"^ARG EXTRAS=cluster$", (ROOT / "Dockerfile").read_text(), re.M)


def command_lines() -> Iterator[tuple[str, str]]:
    """Every `vitnas` command line of the launchers, comments included, with the file's name; a shell's variable stands for a preset."""
    yield RAYJOB.name, rayjob()["entrypoint"]
    for file in (SBATCH, COMPOSE, RAYJOB):
        for line in file.read_text().splitlines():
            found = re.search(r"(?:^|exec head )(vitnas (?:sweep|plan|status|report|sync|ui) [^&]*)", line)
            if found:
                yield file.name, found[1].replace('"$study"', "digits").strip()


LINES = list(command_lines())


@pytest.mark.parametrize(("file", "line"), LINES, ids=[f"{file}: {line}" for file, line in LINES])
def test_command_lines_in_the_launchers_work(file: str, line: str) -> None:
    """The real command line parses them, and what they name exists."""
    assert shlex.split(line)[0] == "vitnas"
    check_command_line(line)


def test_every_launcher_runs_vitnas() -> None:
    """So that none of them is overlooked by the test before."""
    assert {file for file, _ in LINES} == {SBATCH.name, RAYJOB.name, COMPOSE.name}


def test_nodes_that_are_told_to_end_have_time_to_save() -> None:
    """A node is ended by SIGTERM, upon which Ray drains it; trials get two minutes, and whoever would kill the node waits for longer."""
    assert "STOPSIGNAL" not in (ROOT / "Dockerfile").read_text()  # so it is SIGTERM, also in Kubernetes
    for name in ("head", "worker"):
        service = services()[name]
        assert float(service["environment"][DRAIN]) == 120 and service["stop_grace_period"] == "150s" and "stop_signal" not in service
        assert "--block" in service["command"]
    for template in pod_templates():
        (container,) = template["spec"]["containers"]
        assert {"name": DRAIN, "value": "120"} in container["env"] and template["spec"]["terminationGracePeriodSeconds"] == 150
    script = SBATCH.read_text()
    assert script.count("ray start") == script.count("--block") == 2 and script.index(f"{DRAIN}=120") < script.index("ray start")
    assert script.index('kill -TERM "$node"') < script.index('kill -TERM "$driver"')  # the driver's end is the trials' too
    assert "B:USR1@300" in script  # the other nodes and then the first


def test_the_slurm_script_ends_in_time_and_queues_itself_again() -> None:
    """It is told before the time limit, may be queued again, and says so only where it was not finished."""
    script = SBATCH.read_text()
    assert {"#SBATCH --requeue", "#SBATCH --signal=B:USR1@300", "#SBATCH --open-mode=append"} <= set(script.splitlines())
    assert script.index('wait "$driver"') < script.index("scontrol requeue")
