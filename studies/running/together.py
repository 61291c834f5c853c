"""The processes of a trial that several train, on a Ray: tasks on the further bundles of the placement group that Tune made for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..training.group import Seat
from ..training.peer import take_part
from ..training.team import STOP, Job
from .execution import Machine

if TYPE_CHECKING:
    from ray import ObjectRef


def resources(machine: Machine) -> Any:
    """What Tune reserves for a trial: a bundle for each process, on one node where that has room."""
    from ray.tune import PlacementGroupFactory

    if machine.processes == 1:
        return {"cpu": machine.cpus_per_trial, "gpu": machine.gpus}
    one = {"CPU": machine.cpus_per_trial / machine.processes, "GPU": machine.gpus / machine.processes}
    return PlacementGroupFactory([{k: v for k, v in one.items() if v}] * machine.processes, strategy="PACK")


class RayPeers:
    """Tasks, each on a bundle of this trial's placement group. `heed` has a process, when it is told to end, end its epoch first. Ray ends
    them where this process ends."""

    def __init__(self, heed: Callable[[], Callable[[], bool]] | None) -> None:
        import ray

        self.host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self.heed = heed
        self.running: list[ObjectRef[Any]] = []

    def start(self, job: Job, seats: Sequence[Seat]) -> None:
        """See `training.team.Peers`."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group = ray.util.get_current_placement_group()
        assert group is not None, "Tune reserves one for several processes"
        for seat in seats:
            bundle = group.bundle_specs[seat.rank]
            task = ray.remote(num_cpus=bundle.get("CPU", 0), num_gpus=bundle.get("GPU", 0), max_retries=0)(_there)
            place = PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=seat.rank)
            self.running.append(task.options(scheduling_strategy=place).remote(asdict(job), asdict(seat), self.heed))

    def lost(self) -> str:
        """See `training.team.Peers`."""
        import ray
        from ray.exceptions import RayError

        ended, _ = ray.wait(self.running, num_returns=len(self.running), timeout=0) if self.running else ([], [])
        for task in ended:
            try:
                ray.get(task)
            except RayError as error:
                why = str(error).strip().splitlines()
                return why[-1].strip()[:200] if why else type(error).__name__
            return "it ended"
        return ""

    def stop(self) -> None:
        """See `training.team.Peers`."""
        import ray

        if self.running:
            _, left = ray.wait(self.running, num_returns=len(self.running), timeout=STOP)
            for task in left:
                ray.cancel(task, force=True)
        self.running.clear()


def _there(job: dict[str, Any], seat: dict[str, Any], heed: Callable[[], Callable[[], bool]] | None) -> None:
    """What runs on another bundle."""
    take_part(Job(**job), Seat(**seat), leaving=heed() if heed else lambda: False)
