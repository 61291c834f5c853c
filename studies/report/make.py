"""The report: a study's tables and figures, made again at any time from the store alone (no torch, no Ray, no MLflow)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..library import open_plan, robustness
from ..store import Store, write_atomic, write_json
from .latex import latex
from .summary import Summary, summarise
from .tables import corruptions_table, headline, markdown, print_table, recipe_table, results_table, seeds_table, to_csv

if TYPE_CHECKING:
    from rich.console import Console

HOW_IT_RAN = "## How it ran"


def load_summary(store: Store, name: str) -> Summary:
    """The summary of study `name` as the store has it now; StoreError where there is no such study."""
    plan = open_plan(store, name)
    trials = {t for arm in plan.arms for t in arm.trials}
    results = {t: r for t in sorted(trials) if (r := store.result(t))}
    return summarise(plan, results, scorings=store.test_scorings(plan.data["fingerprint"]), robustness=robustness(store, plan))


def make_report(store: Store, name: str) -> Summary:
    """Write all files of the report into the study's folder: report.md, .csv, .json and .tex, and the figures roadmap and curves as
    .png, .svg and .pdf. StoreError where there is no such study."""
    from .curves import curves_figure
    from .figures import roadmap_figure, save

    summary = load_summary(store, name)
    folder = store.studies / name
    curves = {trial.trial: store.curve(trial.trial) for row in summary.rows for trial in row.replicates}
    save(roadmap_figure(summary), folder / "roadmap")
    save(curves_figure(summary, curves), folder / "curves")
    for file, text in (("report.md", to_markdown(summary)), ("report.csv", to_csv(summary)), ("report.tex", latex(summary))):
        _write(folder / file, text)
    write_json(folder / "report.json", summary.to_dict())
    return summary


def _write(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode()))


def print_report(summary: Summary, console: Console) -> None:
    """Print the main table to `console`."""
    print_table(summary, console)


def to_markdown(summary: Summary) -> str:
    """The whole report in Markdown. What depends on time, host and attempts stands at its end, under `HOW_IT_RAN`."""
    study = "\n".join(f"    {k}: {v}" for k, v in summary.study.items())
    parts = [
        f"# {headline(summary)}",
        "![Roadmap](roadmap.png)",
        markdown(results_table(summary)),
        "\n".join(f"- {f}" for f in summary.footers),
        "## Curves",
        "![Validation top-1 by epoch](curves.png)",
        "## Top-1 (%) by seed",
        markdown(seeds_table(summary)),
        *corrupted(summary),
        "## Recipe",
        "Every field of the training recipe, at both ends of the study.",
        markdown(recipe_table(summary)),
        "## Study",
        study,
        HOW_IT_RAN,
        execution(summary),
    ]
    return "\n\n".join(p.rstrip("\n") for p in parts) + "\n"


def corrupted(summary: Summary) -> list[str]:
    """The part on corrupted images; empty where none were scored."""
    lines = corruptions_table(summary)
    if len(lines) == 1:
        return []
    return [
        "## Top-1 (%) on corrupted images",
        "Means over five severities and the seeds; `as they are`: top-1 without corruption.",
        markdown(lines),
    ]


def execution(summary: Summary) -> str:
    """A table of where and how long every trial ran, and the events that befell it."""
    arms = {r.trial: (row.name, r.seed) for row in reversed(summary.rows) for r in row.replicates}
    lines = [["rung", "seed", "device", "threads", "micro-batch", "executor", "host", "seconds", "images/s", "attempts", "finished"]]
    events, versions = [], set()
    for t in summary.execution["trials"]:
        name, seed = arms[t["id"]]
        e = t["execution"]
        versions.add(", ".join(f"{k} {v}" for k, v in e["versions"].items()))
        lines.append(
            [
                name,
                str(seed),
                *(str(e[k]) for k in ("device", "threads", "micro_batch", "executor", "host")),
                f"{t['seconds']:.1f}",
                f"{t['images_per_second']:.0f}",
                str(t["attempts"]),
                t["finished"],
            ]
        )
        events += [f"- {name}, seed {seed}: {event}" for event in t["events"]]
    seconds = summary.execution["seconds"]
    text = f"{len(lines) - 1} trials, {seconds / 60:.1f} minutes of training and scoring in all. Versions: {'; '.join(sorted(versions))}."
    return text + "\n\n" + markdown(lines) + ("\n" + "\n".join(events) + "\n" if events else "")
