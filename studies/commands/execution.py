"""Running a study, or printing what it would run, as a command was told to."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from .output import console

if TYPE_CHECKING:
    from ..running.cluster import Cluster
    from ..store import Store
    from ..study import Study


def run_or_plan(
    study: Study, path: str, *, plan: bool, as_json: bool, workers: int | None = None, freeze: bool = False, cluster: Cluster | None = None
) -> None:
    """Run `study` on the store at `path`, or print what it would run; exit code 3 where trials failed."""
    from ..running.driver import prospect, run_study
    from ..store import Store

    store = Store(path)
    out = console()
    study = replace(study, confirmed=True) if plan and study.kind == "ablate" else _confirmed(study)
    if study.kind == "search":
        _run_search(store, study, plan=plan, as_json=as_json, freeze=freeze, cluster=cluster)
        return
    if plan:
        from ..running.outlook import freeze_plan, print_outlook

        ready = prospect(store, study, say=lambda line: None)
        if freeze:
            freeze_plan(ready, out if not as_json else None)
        print_outlook(ready, out, as_json=as_json, workers=workers)
        return
    if as_json:
        from rich.console import Console

        out = Console(stderr=True)
    outcome = run_study(store, study, out, cluster)
    if as_json:
        typer.echo((store.studies / study.folder_name / "report.json").read_text())
    if outcome.failed:
        raise typer.Exit(3)


def _run_search(store: Store, study: Study, *, plan: bool, as_json: bool, freeze: bool, cluster: Cluster | None) -> None:
    from rich.console import Console

    from ..running.search import prepare_search, run_search
    from ..running.search_outlook import print_search_outlook

    if freeze:
        raise ValueError("freeze: a search has no hypotheses to freeze: leave --freeze out")
    if plan:
        print_search_outlook(prepare_search(store, study, say=lambda line: None, plan=True), console(), as_json=as_json)
        return
    outcome = run_search(store, study, Console(stderr=True) if as_json else console(), cluster)
    if as_json:
        typer.echo((store.studies / study.folder_name / "report.json").read_text())
    if outcome.failed:
        raise typer.Exit(3)


def _confirmed(study: Study) -> Study:
    """The study, confirmed where it is large and the user at the terminal says so; the design refuses it otherwise."""
    if study.kind != "ablate" or study.design != "factorial" or study.confirmed:
        return study
    from ..designs.drafts import TooMany, draw, input_size

    try:
        draw(study, 10, input_size(study))
    except TooMany as error:
        if not sys.stdin.isatty():
            raise
        typer.confirm(f"{error}. Run it all the same?", abort=True)
        return replace(study, confirmed=True)
    return study


@contextmanager
def named_cluster(study: Study, options: dict[str, Any], *, plan: bool) -> Iterator[Cluster | None]:
    """The cluster that the options of a command name, if it takes them; None for this machine, also for a study that runs in the driver's
    process, and for a plan."""
    address, cpus, gpus = options.get("address", ""), options.get("cpus_per_trial"), options.get("gpus_per_trial")
    wait = options.get("wait_for_nodes", False)
    if not address and (cpus is not None or gpus is not None or wait):
        raise ValueError("cpus-per-trial, gpus-per-trial, wait-for-nodes: are for clusters: name one with --address")
    if not address or plan or study.executor == "local":
        yield None
        return
    from ..running.cluster import Demand, on_cluster

    with on_cluster(address, Demand(cpus=cpus, gpus=gpus, retries=options["max_retries"], wait=wait)) as cluster:
        yield cluster
