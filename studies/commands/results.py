"""The commands that read what studies left behind: report, status, logs, verify, audit, sync, ui."""

from __future__ import annotations

import json
from inspect import signature
from typing import Annotated, Any

import typer

from .latency import measuring_at, measuring_options
from .options import DEFAULT_STORE, JsonOption, StoreOption, taking
from .output import console, print_lines, print_table, progress
from .stores import known_store, prepared_store


def report(
    study: Annotated[str, typer.Argument(help="A study's name, or the beginning of it; default: the latest.")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Make a study's tables and figures again, from the store alone. Example: vitnas report"""
    from rich.console import Console

    from ..library import SEARCH_RECORD, find_study
    from ..report.make import make_report, print_report
    from ..report.search_report import make_search_report, print_search_report
    from ..store import StoreError, store_trouble

    opened = known_store(store)
    folder = find_study(opened, study)
    out = Console(quiet=True) if as_json else console()
    try:
        if (folder / SEARCH_RECORD).exists():
            print_search_report(make_search_report(opened, folder.name), out)
        else:
            print_report(make_report(opened, folder.name), out)
    except OSError as error:
        raise StoreError(store_trouble(opened.root, error)) from None
    if as_json:
        typer.echo((folder / "report.json").read_text())
        return
    console().print(f"files in {opened.shown(folder)}", highlight=False)


def status(
    study: Annotated[str, typer.Argument(help="A study's name, or the beginning of it; default: the latest.")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Where a study stands. Example: vitnas status"""
    from ..library import find_study, goes_on, standing, time_left

    opened = known_store(store)
    name = find_study(opened, study).name
    rows = standing(opened, name)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    print_table(
        ["arm", "seed", "trial", "state", "epoch", "top-1", "where"],
        [[str(r[k]) for k in ("arm", "seed", "trial", "state", "epoch", "top1", "where")] for r in rows],
    )
    for row in rows:
        if row["why"]:
            typer.echo(f"trial {row['trial']} failed: {row['why']}")
    from ..running.live import duration

    left = time_left(opened, name)
    done = sum(r["state"] in ("done", "diverged") for r in rows)
    if goes_on(opened, name):
        running = sum(r["state"] == "running" for r in rows)
        ahead = " so far; " + (f"{running} in training" if running else "the search has not ended: its command goes on with it")
    elif done == len(rows):
        ahead = ""
    elif left is None:
        ahead = "; time left unknown yet"
    else:
        ahead = f"; about {duration(left[0])} left, {max(1, left[1])} at a time"
    typer.echo(f"{name}: {done} of {len(rows)} trials done{ahead}")


def logs(
    trial: Annotated[str, typer.Argument(help="A trial's id, or the beginning of it.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """What befell a trial: attempts, epochs, errors. Example: vitnas logs 3f2a"""
    from ..trial_log import find_trial, trial_log

    opened = known_store(store)
    for line in trial_log(opened, find_trial(opened, trial)):
        typer.echo(line)


@taking(measuring_options)
def verify(
    study: Annotated[str, typer.Argument(help="A study in the paper's order; default: the latest.")] = "",
    paper: Annotated[str, typer.Option("--paper", help="convnext or repvit; default: convnext.")] = "",
    claims: Annotated[
        bool, typer.Option("--claims", help="Instead, hold what papers claim about speed against latency measured here.")
    ] = False,
    **options: Any,
) -> None:
    """Hold a study's effects against the paper's own. Example: vitnas verify --paper convnext"""
    store, as_json = options.pop("store"), options.pop("as_json")
    if claims:
        if study or paper:
            raise ValueError("claims: are about published networks: leave the study and --paper out")
        from ..latency import claims as literature

        opened = prepared_store(store)
        with measuring_at(options.pop("on"), options.pop("address")) as measuring:
            held = literature.claims(opened, **options, **measuring, say=progress)
        print_lines(held.lines(), held.to_dict(), as_json=as_json)
        return
    given = [name for name, value in options.items() if value != signature(measuring_options).parameters[name].default]
    if given:
        raise ValueError(f"{given[0].replace('_', '-')}: says how --claims measures: add --claims, or leave it out")
    from ..report.verify import choose, verification_lines
    from ..report.verify import verify as hold_against

    opened, paper = known_store(store), paper or "convnext"
    found = hold_against(opened, choose(opened, paper, study), paper=paper)
    print_lines(verification_lines(found), found.to_dict(), as_json=as_json)


def audit(
    cheap: Annotated[str, typer.Argument(help="The study that is to stand for the other.")],
    full: Annotated[str, typer.Argument(help="The full run of the same track; it need not be finished.")],
    full_store: Annotated[str, typer.Option("--full-store", help="The store of the full run; default: the same.")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Say whether a cheap study has the signs of a full run. Example: vitnas audit quick thorough"""
    from ..library import find_study
    from ..report.audit import audit as hold_against
    from ..report.audit import audit_lines

    opened, other = known_store(store), known_store(full_store or store)
    found = hold_against(opened, find_study(opened, cheap).name, find_study(other, full).name, full_store=other)
    print_lines(audit_lines(found), found.to_dict(), as_json=as_json)


def sync(
    study: Annotated[str, typer.Argument(help="A study's name; default: the latest.")] = "", store: StoreOption = DEFAULT_STORE
) -> None:
    """Bring MLflow up to date with the store. Example: vitnas sync"""
    from ..library import find_study
    from ..tracking.sync import sync as bring_up_to_date

    opened = known_store(store)
    say = console()
    done = bring_up_to_date(opened, find_study(opened, study).name)
    say.print(
        f"{done.uri}: {done.created} runs made, {done.mended} mended, {done.unchanged} unchanged, {done.removed} removed", highlight=False
    )


def ui(
    study: Annotated[str, typer.Argument(help="A study's name; default: the latest.")] = "",
    port: Annotated[int | None, typer.Option("--port", help="Port on 127.0.0.1; default: a free one.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Start MLflow's UI on the store, opened on the comparison of the arms. Example: vitnas ui"""
    from ..library import find_study
    from ..tracking.ui import serve_ui

    opened = known_store(store)
    serve_ui(opened, find_study(opened, study).name, port=port, open_browser=browser)
