"""Measuring on a node of a Ray cluster: one that has the device, or one that is kept quiet for it.

Whoever starts a node says with a custom resource what it is for (`ray start --resources '{"board": 1}'`); a measuring takes one unit of
it, so that one runs at a time. The resource `latency` marks the cluster's quiet slot, which studies use by themselves. Plain data go
there and readings come back; nothing stays on the node.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from ...roadmap.spec import to_dict
from ..gate import PATIENCE
from ..latency.device import Conditions, DeviceKey, LatencyError
from ..latency.measure import Subject, TooWide, device_key, measure, measure_here, reference_place
from ..latency.protocol import PROTOCOL, Disturbed, Effort
from ..latency.quiet import HostBusy
from ..latency.reading import Reading
from ..latency.readings import Need, history, known, known_throughput, last_baseline, record
from ..store import Store
from .runner import QUIET
from .token import keep_token_private

REACH = 10.0  # seconds for a cluster to answer
SLOT = "latency"  # the resource of a node that is kept quiet
ERRORS: Mapping[str, type[Disturbed | HostBusy]] = {"TooWide": TooWide, "Disturbed": Disturbed, "HostBusy": HostBusy}

Say = Callable[[str], None]
Skip = Callable[[Subject, LatencyError], None]


class NodeLost(LatencyError):
    """The node cannot be used, or failed at its work: it may be there again later."""


class Place(Protocol):
    """Somewhere to measure: `where` in words, `key` is that of its readings, `measure` as `latency.measure.measure` has it."""

    where: str

    def key(self, conditions: Conditions) -> DeviceKey: ...
    def measure(
        self,
        store: Store,
        subjects: Sequence[Subject],
        conditions: Conditions,
        effort: Effort | None = None,
        *,
        needs: Sequence[Need] = (),
        skip: Skip | None = None,
        patience: float = PATIENCE,
        say: Say = lambda text: None,
    ) -> list[Reading]: ...


class Here:
    """This machine."""

    where = "on this machine"

    def key(self, conditions: Conditions) -> DeviceKey:
        """The key of readings taken here."""
        return device_key(conditions)

    def measure(
        self,
        store: Store,
        subjects: Sequence[Subject],
        conditions: Conditions,
        effort: Effort | None = None,
        *,
        needs: Sequence[Need] = (),
        skip: Skip | None = None,
        patience: float = PATIENCE,
        say: Say = lambda text: None,
    ) -> list[Reading]:
        """See `latency.measure.measure`."""
        return measure(store, subjects, conditions, effort, needs=needs, skip=skip, patience=patience, say=say)


class Node:
    """A node of the connected cluster, by the custom resource that it has."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        self.where = f"on the node with {resource}"

    def key(self, conditions: Conditions, say: Say = lambda text: None) -> DeviceKey:
        """The key of readings taken there; LatencyError where the backend is not installed there, or another version of the protocol."""
        told = self._ask(conditions, "key", {"conditions": asdict(conditions)}, say)
        if told["protocol"] != PROTOCOL:
            raise LatencyError(
                f"the node with {self.resource} measures by protocol {told['protocol']}, this is protocol {PROTOCOL}: install the same "
                "vitnas there"
            )
        return DeviceKey.from_dict(told["key"])

    def measure(
        self,
        store: Store,
        subjects: Sequence[Subject],
        conditions: Conditions,
        effort: Effort | None = None,
        *,
        saturate: bool = False,
        again: bool = False,
        new_baseline: bool = False,
        needs: Sequence[Need] = (),
        skip: Skip | None = None,
        patience: float = PATIENCE,
        say: Say = lambda text: None,
    ) -> list[Reading]:
        """As `latency.measure.measure`: what the store knows of that device is taken from it, the rest is measured there and recorded
        here."""
        from ..latency.deploy import deployed_spec

        key = self.key(replace(conditions, batch=1) if saturate else conditions, say)  # a throughput is of whatever batch saturates
        places = [(deployed_spec(s.spec).fingerprint, _under(key, input_size=s.input_size)) for s in subjects]
        look_up, effort = known_throughput if saturate else known, effort or Effort()
        found: dict[tuple[str, str], Reading] = {}
        if not (again or new_baseline):
            since = last_baseline(store, key)
            readings = ((p, k.hash, look_up(store, p, k, widest=effort.widest, since=since, needs=needs)) for p, k in places)
            found = {(p, own): reading for p, own, reading in readings if reading is not None}
        todo: dict[tuple[str, str], Subject] = {}
        for subject, (fingerprint, own) in zip(subjects, places, strict=True):
            if (fingerprint, own.hash) not in found:
                todo.setdefault((fingerprint, own.hash), subject)
        if todo:
            say(f"measuring {len(todo)} network{'s' * (len(todo) != 1)} {self.where}")
            wanted = list(todo.values())
            reference, size = reference_place()
            job = {
                "subjects": [{"name": s.name, "spec": to_dict(s.spec, names=True), "input_size": s.input_size} for s in wanted],
                "conditions": asdict(conditions),
                "effort": asdict(effort),
                "saturate": saturate,
                "new_baseline": new_baseline,
                "keep_going": skip is not None,
                "patience": patience,
                "earlier": [r.to_dict() for r in history(store, reference, _under(key, input_size=size, batch=1))],
            }
            told = self._ask(conditions, "measure", job)
            for place, why in zip(todo, told["left_out"], strict=True):
                if why and skip is not None:
                    skip(todo[place], LatencyError(why))
            taken = [Reading.from_dict(data) for data in told["readings"]]
            if other := next((r.key for r in taken if _machine(r.key) != _machine(key)), None):
                raise LatencyError(
                    f"on: nodes with {self.resource} are different devices ({_machine(key)[0]}; {_machine(other)[0]}): give each its own "
                    "resource"
                )
            for reading in taken:
                record(store, reading)
                if reading.quantity == ("throughput" if saturate else "latency"):
                    found[reading.fingerprint, (_under(reading.key, batch=1) if saturate else reading.key).hash] = reading
        out = [replace(found[p, k.hash], name=s.name) for s, (p, k) in zip(subjects, places, strict=True) if (p, k.hash) in found]
        if todo and told["refused"]:
            why = f"{self.where}: {told['refused']}"
            if told["kind"] not in ERRORS:
                raise LatencyError(why)
            error = ERRORS[told["kind"]](why)
            error.readings = out
            raise error
        return out

    def _ask(self, conditions: Conditions, what: str, job: dict[str, Any], say: Say = lambda text: None) -> dict[str, Any]:
        import ray
        from ray.exceptions import RayError

        gpus = 1 if conditions.device == "cuda" else 0  # without it Ray hides the GPU
        task = ray.remote(num_cpus=0, num_gpus=gpus, resources={self.resource: 1}, max_retries=0)(_there)
        try:
            nodes = ray.nodes()  # type: ignore[no-untyped-call]
            if not any(_has(n, self.resource, 1) and _has(n, "GPU", gpus) for n in nodes):
                unit = f"a whole unit of it (`--resources '{{\"{self.resource}\": 1}}'`)"
                lacks = "a GPU (`--num-gpus 1`), or use --device cpu" if gpus else unit
                raise NodeLost(f"on: no node with {self.resource} can be used: start it with {lacks}")
            asked = task.remote(what, job)
            if what == "key" and not ray.wait([asked], timeout=REACH)[0]:
                say(f"waiting for the node with {self.resource}: it measures for somebody else")
            told: dict[str, Any] = ray.get(asked)
        except RayError as error:
            raise NodeLost(
                f"the node with {self.resource} failed ({str(error).strip().splitlines()[-1][:200]}): see that it runs and that vitnas is "
                "installed there, then run the command again"
            ) from None
        if "error" in told:
            raise ERRORS.get(told["kind"], LatencyError)(f"{self.where}: {told['error']}")
        return told


def _there(what: str, job: dict[str, Any]) -> dict[str, Any]:
    """What runs on the node. Errors come back as words: their classes may be of another version there."""
    try:
        if what == "key":
            return {"protocol": PROTOCOL, "key": device_key(Conditions(**job["conditions"])).to_dict()}
        return measure_here(**job)
    except ValueError as error:
        return {"error": str(error), "kind": type(error).__name__}


def _machine(key: DeviceKey) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    return key.processor, key.accelerator, tuple(sorted(key.versions.items()))


def _has(node: Mapping[str, Any], resource: str, amount: float) -> bool:
    return bool(node["Alive"]) and node["Resources"].get(resource, 0) >= amount


def _under(key: DeviceKey, **changes: int) -> DeviceKey:
    return replace(key, conditions=replace(key.conditions, **changes))  # type: ignore[arg-type]


@contextlib.contextmanager
def node(resource: str, address: str = "") -> Iterator[Node]:
    """The node with `resource` of the cluster at `address` (default: RAY_ADDRESS, else the one that runs on this machine).

    LatencyError where there is no such cluster, and where no node has the resource.
    """
    with connected(address):
        there = custom_resources()
        if resource not in there:
            raise LatencyError(
                f"on: no node of the cluster has the resource {resource!r}, there are: {', '.join(there) or 'none'}; start one with "
                f"`ray start --address ADDRESS --resources '{{\"{resource}\": 1}}'`"
            )
        yield Node(resource)


@contextlib.contextmanager
def quiet_place() -> Iterator[Place]:
    """Where studies measure: the quiet slot of the cluster that RAY_ADDRESS names, where it has one, else this machine."""
    with contextlib.ExitStack() as held:
        if os.environ.get("RAY_ADDRESS"):
            held.enter_context(connected(""))
            if SLOT in custom_resources():
                yield Node(SLOT)
                return
        yield Here()


def custom_resources() -> list[str]:
    """The custom resources that the nodes of the connected cluster have."""
    import ray

    own = ("CPU", "GPU", "memory", "object_store_memory")
    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return sorted(name for name in there if name not in own and ":" not in name)


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Within a Ray that is running already; a connection of this process's own is left as it is."""
    os.environ.update({k: v for k, v in QUIET.items() if k not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    keep_token_private()
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        yield
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "auto"
    if wanted == "local" or wanted.startswith(("http://", "https://")) or (wanted != "auto" and ":" not in wanted):
        raise LatencyError(f"address: {wanted!r} is no cluster's: write HOST:PORT, as `ray start` says it, or auto for this machine's")
    there = False
    try:
        there = _knock(wanted)
        ray.init(address=wanted, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, OSError, OverflowError, RayError) as error:
        why = str(error).strip().splitlines()[0].partition(". ")[0][:160]
        move = "start one with `ray start --head`, or name its address with --address"
        if there or "uthentication" in why:
            move = "see that RAY_AUTH_MODE and the token (~/.ray/auth_token) here are the cluster's, and that the port is Ray's"
        raise LatencyError(f"address: no Ray cluster answers at {wanted} ({why}): {move}") from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> bool:
    """Whether somebody listens at host:port; OSError where nobody does: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=REACH).close()
        return True
    return False
