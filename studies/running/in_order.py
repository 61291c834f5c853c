"""Which trial a free worker takes next.

Tune's own scheduler gives it the very first of those that wait. Where a worker is just being started for that one, on a node that joined,
Tune ends the worker: where trials end more often than a worker takes to start, such a node would never have one.
"""

from __future__ import annotations

from typing import Any


def in_order() -> Any:
    """A scheduler for Tune: the first trial that waits and for which no worker is being started."""
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import FIFOScheduler

    class InOrder(FIFOScheduler):  # type: ignore[misc]
        def choose_trial_to_run(self, tune_controller: Any) -> Any:
            tune = tune_controller._tune_controller  # there is no public way

            def starts(trial: Trial) -> bool:
                worker = tune._trial_to_actor.get(trial)
                return worker is not None and bool(tune._actor_manager.is_actor_started(worker))

            return next((t for t in tune.get_trials() if t.status == Trial.PENDING and not starts(t)), None)

    scheduler: Any = InOrder  # whose parent has no types
    return scheduler()
