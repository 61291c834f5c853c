"""Searches in a bucket, of which every machine has a copy of its own: what another one trained counts, and can be taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from .command import furnish, vitnas_local
from .s3_server import Server, serving
from .test_search import SEARCH

SMALL_SEARCH = [*SEARCH, "--trials", "2", "--published", "none"]
WINNER = ["studies/s/winner.json", "studies/s/winner.safetensors", "studies/s/rebuild.txt"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, with a search called s that one machine ran in its bucket `search`. All machines have one MLflow."""
    folder = tmp_path_factory.mktemp("s3")
    furnish(folder)
    with serving(folder / "cache") as found:
        found.env["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        found.bucket("search")
        machine(found, folder, "first", *SMALL_SEARCH)
        yield found


def machine(server: Server, folder: Path, name: str, *command: str) -> str:
    """Run a command on the store with the working copy of a machine; gives what it said."""
    env = server.env | {"VITNAS_CACHE": str(folder / name)}
    return vitnas_local(*command, "--store", "s3://search/store", cwd=folder, env=env).stdout


def report(server: Server) -> dict[str, object]:
    """The search's report as the bucket has it."""
    found: dict[str, object] = json.loads(server.read("search", "studies/s/report.json"))
    return found


def test_the_winner_is_taken_away_wherever_it_was_trained(server: Server, tmp_path: Path) -> None:
    """By `vitnas report` on a machine that has nothing of it."""
    before, weights = report(server), server.read("search", WINNER[1])
    for name in WINNER:
        server.client.delete_object(Bucket="search", Key=f"store/{name}")
    machine(server, tmp_path, "second", "report", "s")
    assert report(server) == before and before["rebuild"]
    assert server.read("search", WINNER[1]) == weights and all(name in server.objects("search") for name in WINNER)
    assert b"## The winner" in server.read("search", "studies/s/report.md")


def test_what_other_machines_trained_is_known(server: Server, tmp_path: Path) -> None:
    """A search that goes on elsewhere reports the epochs of all; a new one begins with every finished training of the bucket."""
    before = report(server)
    assert "0 trainings" in machine(server, tmp_path, "third", *SMALL_SEARCH)
    assert report(server)["epochs"] == before["epochs"] == 2
    out = machine(server, tmp_path, "fourth", *SMALL_SEARCH, "--name", "other", "--objectives", "accuracy,params", "--trials", "1")
    assert "2 trained before" in out
