"""The report: a study's tables and figures, made again at any time from the store alone (no torch, no Ray, no MLflow)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..frozen import planned_line
from ..library import open_plan, results, robustness
from ..plan import Plan
from ..store import Store, write_atomic, write_json
from .appendix import appendix_dict, common_values, derived_table, facts, recipe_table
from .changes import read_correct, read_labels
from .derived import networks
from .effects_table import effect_notes, effects_csv, effects_tables
from .images import images_table
from .latencies import latencies
from .latex import latex
from .summary import Summary, summarise
from .tables import corruptions_table, headline, markdown, results_table, seeds_table, to_csv
from .terminal import print_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

HOW_IT_RAN = "## How it ran"
FEW = 4  # trials that are named one by one
CAPTIONS = {
    "roadmap": "Roadmap",
    "effects": "Effects",
    "interactions": "Interactions",
    "shapley": "Averaged over orders, against the paper's order",
    "images": "Classes won and lost",
    "curves": "Validation top-1 by epoch",
}


def load_summary(store: Store, name: str) -> Summary:
    """The summary of study `name` as the store has it now; StoreError where there is no such study."""
    return summary_of(store, open_plan(store, name))


def summary_of(store: Store, plan: Plan) -> Summary:
    """The summary of `plan`, with all that the store has of its trials."""
    known = results(store, plan)
    found = summarise(
        plan,
        known,
        scorings=store.test_scorings(plan.data["fingerprint"]),
        robustness=robustness(store, plan),
        correct=read_correct(store, plan, known),
        labels=read_labels(store, plan),
        networks=networks(store, plan),
        latency=latencies(store, plan),
    )
    planned = planned_line(store, plan.study.folder_name, plan)
    return replace(found, footers=(planned, *found.footers)) if planned else found


def make_report(store: Store, name: str) -> Summary:
    """Write all files of the report into the study's folder: report.md, .csv, .json and .tex, effects.csv, and the figures that the study
    has (see `CAPTIONS`) as .png, .svg and .pdf. StoreError where there is no such study."""
    from .canvas import remove, save

    summary = load_summary(store, name)
    folder = store.studies / name
    drawn = figures(summary, store)
    for figure in CAPTIONS:
        if figure in drawn:
            save(drawn[figure], folder / figure)
        else:
            remove(folder / figure)
    files = {"report.md": to_markdown(summary, list(drawn)), "report.csv": to_csv(summary), "report.tex": latex(summary)}
    if summary.effects:
        files["effects.csv"] = effects_csv(summary)
    for file, text in files.items():
        _write(folder / file, text)
    write_json(folder / "report.json", summary.to_dict() | {"appendix": appendix_dict(summary)})
    return summary


def figures(summary: Summary, store: Store) -> dict[str, Figure]:
    """The figures that the study has, by name."""
    from .curves import curves_figure
    from .effects_figure import effects_figure
    from .figures import has_roadmap, roadmap_figure
    from .images import images_figure
    from .interactions_figure import interactions_figure
    from .shapley_figure import shapley_figure

    curves = {trial.trial: store.curve(trial.trial) for row in summary.rows for trial in row.replicates}
    drawn = {
        "roadmap": roadmap_figure(summary) if has_roadmap(summary) else None,
        "effects": effects_figure(summary),
        "interactions": interactions_figure(summary),
        "shapley": shapley_figure(summary),
        "images": images_figure(summary),
        "curves": curves_figure(summary, curves),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _write(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode()))


def print_report(summary: Summary, console: Console) -> None:
    """Print the main tables to `console`."""
    print_table(summary, console)


def to_markdown(summary: Summary, drawn: list[str]) -> str:
    """The whole report in Markdown, with the figures `drawn`. What depends on time, host and attempts stands at its end, under
    `HOW_IT_RAN`."""
    study = "\n".join(f"    {k}: {v}" for k, v in summary.study.items())
    picture = {name: f"![{caption}]({name}.png)" for name, caption in CAPTIONS.items() if name in drawn}
    arms = markdown(results_table(summary))
    footers = "\n".join(f"- {f}" for f in summary.footers)
    first = "roadmap" if "roadmap" in drawn and not summary.ablation else "effects"
    parts = [f"# {headline(summary)}", *(f"**{a}**" for a in summary.alarms), picture.pop(first, "")]
    if summary.ablation:
        parts += [*effects_part(summary), picture.pop("roadmap", ""), "## Arms", arms, footers]
    else:
        rest = effects_part(summary)
        parts += [arms, footers, *(["## Effects", picture.pop("effects", ""), *rest] if rest else [])]
    curves = picture.pop("curves", "")
    parts += [
        *(["## Interactions", picture.pop("interactions")] if "interactions" in picture else []),
        *(["## Averaged over orders, against the paper's order", picture.pop("shapley")] if "shapley" in picture else []),
        *images_part(summary, picture.pop("images", "")),
        "## Curves",
        curves,
        "## Top-1 (%) by seed",
        markdown(seeds_table(summary)),
        *corrupted(summary),
        "## Recipe",
        "Every field of the first arm's training recipe; below, where the others differ."
        if summary.ablation
        else "Every field of the training recipe, at both ends of the study.",
        markdown(recipe_table(summary)),
        *appendix(summary),
        "## Study",
        study,
        HOW_IT_RAN,
        execution(summary),
    ]
    return "\n\n".join(p.rstrip("\n") for p in parts if p) + "\n"


def effects_part(summary: Summary) -> list[str]:
    """A table for each kind of effect, and what must be known of single effects."""
    out = []
    for heading, _, table in effects_tables(summary):
        out += [f"{heading}.", markdown(table)]
    notes = "\n".join(f"- {n}" for n in effect_notes(summary))
    return [*out, notes] if out else []


def images_part(summary: Summary, picture: str) -> list[str]:
    """The classes and images that steps won and lost; empty where no per-image results are at hand."""
    table = images_table(summary)
    if len(table) == 1:
        return []
    return [
        "## Images won and lost",
        picture,
        "The images whose share of right seeds changed most, by their index in the split (from 0) and their class; in brackets the change.",
        markdown(table),
    ]


def appendix(summary: Summary) -> list[str]:
    """What is needed to repeat the study beside the recipe. Versions and machines stand under `HOW_IT_RAN`."""
    table = derived_table(summary)
    common = ", ".join(f"{k} {v}" for k, v in common_values(summary).items())
    return [
        "## To repeat it",
        "\n".join(f"- {k}: {v}" for k, v in facts(summary).items()),
        "Versions of the libraries and the machines stand under *How it ran*.",
        *(["Derived values in which the arms differ:", markdown(table)] if len(table) > 1 else []),
        f"The same in all arms: {common}." if common else "",
    ]


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
    lines = [
        [
            "arm" if summary.ablation else "rung",
            "seed",
            "device",
            "threads",
            "micro-batch",
            "executor",
            "host",
            "seconds",
            "images/s",
            "attempts",
            "finished",
        ]
    ]
    events: dict[str, list[str]] = {}
    versions = set()
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
        for event in t["events"]:
            events.setdefault(event, []).append(f"{name}, seed {seed}")
    seconds = summary.execution["seconds"]
    text = f"{len(lines) - 1} trials, {seconds / 60:.1f} minutes of training and scoring in all. Versions: {'; '.join(sorted(versions))}."
    return text + "\n\n" + markdown(lines) + "".join(f"\n- {event}: {_who(trials)}" for event, trials in events.items()) + "\n"


def _who(trials: list[str]) -> str:
    """The trials that an event befell: by name where they are few."""
    return "; ".join(trials) if len(trials) <= FEW else f"{len(trials)} trials"
