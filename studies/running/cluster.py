"""A Ray cluster that trials run on: what one takes of a node there, whether any node has it, and whether all nodes see the driver's store.

Nodes may join and leave while a study runs: nothing here is remembered of them but what the driver asked at its start. How a trial runs
there is no part of its identity, as everywhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ... import __version__
from ..latency.device import LatencyError
from ..store import Store, StoreError
from ..store_probe import answer_probe, check_answers, remove_probe, write_probe
from ..study import Study, StudyError
from .elsewhere import connected
from .execution import Machine

ANSWER = 120.0  # seconds for a node to start a process and answer
WAIT = 2.0  # seconds between two looks for nodes that are to come


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a trial takes: CPUs (default: its threads) and GPUs, also a part of one (default: one, where the cluster has GPUs and the study
    does not forbid it); and how often it is taken up again after its worker was lost. Several GPUs are trained on by a process each, on one
    node or on several, and all processes have as much. `wait` for nodes that are to come."""

    cpus: float | None = None
    gpus: float | None = None
    retries: int = 3
    wait: bool = False


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The connected cluster. `probe` is what late nodes find in the store."""

    demand: Demand
    probe: str = ""

    def machine(self, study: Study) -> Machine:
        """How the trials of `study` run here: `concurrency` on the nodes that there are now. StudyError where no node can take one."""
        threads = study.threads or 1
        nodes = alive()
        gpus = self._gpus(study, nodes)
        processes = study.processes or max(1, int(gpus))
        cpus = float(threads * processes) if self.demand.cpus is None else self.demand.cpus
        one = cpus / processes, gpus / processes
        while not (slots := sum(_slots(n, *one) for n in nodes) // processes):
            if not self.demand.wait:
                raise StudyError(_never(nodes, *one, processes))
            nodes = alive(after=WAIT)
        return Machine(
            device="cuda" if gpus else "cpu",
            precision="bfloat16" if gpus and _ask_one(*one) else "float32",
            threads=threads,
            concurrency=min(slots, study.concurrency or slots),
            cpus=int(sum(n["Resources"].get("CPU", 0) for n in nodes)),
            gpus=gpus,
            cpus_per_trial=cpus,
            most=study.concurrency,
            compile=study.compile,
            processes=processes,
        )

    def _gpus(self, study: Study, nodes: list[dict[str, Any]]) -> float:
        gpus = self.demand.gpus
        if gpus is None:
            there = any(n["Resources"].get("GPU") for n in nodes)
            return float(study.processes or 1) if study.device == "cuda" or (study.device == "auto" and there) else 0.0
        if gpus > 1 and gpus % 1:
            raise StudyError(f"gpus-per-trial: {gpus:g}: a trial trains on a part of one GPU, on one, or on several whole ones")
        if gpus and study.processes and gpus != study.processes and (gpus > 1 or study.processes > 1):
            raise StudyError(f"gpus-per-trial: {gpus:g}, but the study has {study.processes} processes, each with a GPU: leave one out")
        if gpus and study.device == "cpu":
            raise StudyError(f"gpus-per-trial: {gpus:g}, but the study's device is cpu: leave one of them out")
        if not gpus and study.device == "cuda":
            raise StudyError("gpus-per-trial: 0, but the study's device is cuda: leave one of them out")
        return gpus

    @contextlib.contextmanager
    def seeing(self, store: Store, machine: Machine) -> Iterator[Cluster]:
        """Within, every node that can take a trial is known to see `store`, and nodes that join later can find out; StoreError where one
        does not, StudyError where it has another version of vitnas."""
        one = machine.cpus_per_trial / machine.processes, machine.gpus / machine.processes
        _check_store(store, [n for n in alive() if _slots(n, *one)])
        token = write_probe(store)
        try:
            yield replace(self, probe=token)
        finally:
            remove_probe(store, token)


@contextlib.contextmanager
def on_cluster(address: str, demand: Demand) -> Iterator[Cluster]:
    """Within, this process is a driver of the cluster at `address`; StudyError where there is none, or this machine is no node of it."""
    if address.startswith("ray://"):
        raise StudyError(f"address: {address} is Ray Client's: run the driver on a node of the cluster, with --address auto")
    on_sigterm = signal.getsignal(signal.SIGTERM)
    with contextlib.ExitStack() as held:
        try:
            with _elsewhere():
                held.enter_context(connected(address))
        except LatencyError as error:
            raise StudyError(str(error)) from None
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler prints a trace
        os.environ["RAY_ADDRESS"] = address  # what is measured goes there too
        yield Cluster(demand=demand)


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """In an empty folder: Ray puts the driver's first on its workers' path."""
    empty = Path(tempfile.mkdtemp(prefix="vitnas-ray-"))
    try:
        with contextlib.chdir(empty):
            yield
    finally:
        shutil.rmtree(empty, ignore_errors=True)


def alive(*, after: float = 0.0) -> list[dict[str, Any]]:
    """The nodes of the connected cluster, as Ray describes them, `after` so many seconds."""
    import ray

    time.sleep(after)
    return [n for n in ray.nodes() if n["Alive"]]  # type: ignore[no-untyped-call]


def _slots(node: dict[str, Any], cpus: float, gpus: float) -> int:
    """How many processes that take so much fit on the node."""
    has = node["Resources"]
    return int(min(has.get(k, 0.0) / wanted + 1e-9 for k, wanted in (("CPU", cpus), ("GPU", gpus)) if wanted))


def _never(nodes: list[dict[str, Any]], cpus: float, gpus: float, processes: int) -> str:
    there = ", ".join(f"{n['Resources'].get('CPU', 0):g} CPUs and {n['Resources'].get('GPU', 0):g} GPUs" for n in nodes)
    takes = f"{cpus:g} CPUs and {gpus:g} GPUs of one node, and none has them"
    if processes > 1:
        takes = f"{processes} processes, each with {cpus:g} CPUs and {gpus:g} GPUs of one node, and there is no room for all"
    return (
        f"a trial takes {takes} (there are nodes with {there}): lower --cpus-per-trial or --gpus-per-trial, or, where nodes are to come, "
        "use --wait-for-nodes"
    )


def _ask_one(cpus: float, gpus: float) -> bool:
    """Whether a GPU of the cluster computes in bfloat16."""
    import ray
    from ray.exceptions import RayError

    try:
        return bool(ray.get(ray.remote(num_cpus=cpus, num_gpus=gpus)(_bfloat16).remote(), timeout=ANSWER))
    except RayError as error:
        raise StudyError(_failed("a node with GPUs", error)) from None


def _bfloat16() -> bool:
    import torch

    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def _check_store(store: Store, nodes: list[dict[str, Any]]) -> None:
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token, hosts = write_probe(store), set()
    task = ray.remote(num_cpus=0, max_retries=0)(_answer)
    asked = {
        n["NodeID"]: task.options(  # type: ignore[attr-defined]
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=n["NodeID"], soft=False)
        ).remote(store.address, token)
        for n in nodes
    }
    try:
        for node in nodes:
            where = f"the node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                told: dict[str, str] = ray.get(asked[node["NodeID"]], timeout=ANSWER)
            except RayError as error:
                if node["NodeID"] in {n["NodeID"] for n in alive()}:
                    raise StudyError(_failed(where, error)) from None
                continue  # it left; should it come back, its workers look for themselves
            if "error" in told:
                raise StoreError(told["error"])
            if told["version"] != __version__:
                raise StudyError(f"{where} has vitnas {told['version']}, this is {__version__}: install the same there")
            hosts.add(told["host"])
        check_answers(store, token, hosts)
    finally:
        remove_probe(store, token)


def _answer(address: str, token: str) -> dict[str, str]:
    """What runs on a node. Errors come back as words."""
    try:
        return {"host": answer_probe(address, token), "version": __version__}
    except (ValueError, OSError) as error:
        return {"error": str(error) if isinstance(error, ValueError) else f"{os.uname().nodename} cannot write to {address}: {error}"}


def _failed(where: str, error: Exception) -> str:
    why = str(error).strip().splitlines()
    return (
        f"{where} failed ({why[-1][:200] if why else type(error).__name__}): see that vitnas is installed there, then run the command again"
    )
