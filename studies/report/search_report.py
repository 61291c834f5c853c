"""The report of a search: its front as a table, the finalists on the test split, the winner to take away. Made of search.json and the
store, without torch, Ray or MLflow."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..library import SEARCH_RECORD
from ..objectives import Objective, limits_in_words, objective
from ..store import Store, StoreError, current, read_json, write_atomic, write_json
from ..store import remove as remove_file
from .tables import markdown

if TYPE_CHECKING:
    from rich.console import Console

Record = Mapping[str, Any]
TAKEN = ("winner.json", "winner.safetensors", "rebuild.txt")
STOPS = {
    "trials": "as many networks as asked for were trained",
    "time": "its time was over",
    "gain": "the hypervolume did not grow enough any more",
    "space": "no network was left to train",
    "": "it goes on",
}


def make_search_report(store: Store, name: str) -> Record:
    """Write report.md, report.csv, report.json, the figure front.png (.svg, .pdf) and the winner's winner.json, .safetensors and
    rebuild.txt into the search's folder. StoreError where there is no such search."""
    from .canvas import remove, save
    from .search_figure import front_figure

    folder = store.studies / name
    record = read_json(folder / SEARCH_RECORD)
    if record is None:
        raise StoreError(f"the search {name} has no readable record: run its command again")
    used = record.get("fingerprints", [record["data"]["fingerprint"]])  # each input size has data of its own
    record = {**record, "scorings": sum(map(store.test_scorings, used))}
    figure = front_figure(record)
    if figure is None:
        remove(folder / "front")
    else:
        save(figure, folder / "front")
    rebuild = _take_away(store, name, record)
    record["rebuild"] = rebuild
    text = search_markdown(record, figure is not None)
    csv = "\n".join(",".join(f'"{c}"' if "," in c else c for c in row) for row in candidates_table(record)) + "\n"
    write_atomic(folder / "report.md", lambda file: file.write(text.encode()))
    write_atomic(folder / "report.csv", lambda file: file.write(csv.encode()))
    write_json(folder / "report.json", record)
    return record


def _take_away(store: Store, name: str, record: Record) -> str:
    """Put the winner's network and the weights of its first training that did not diverge into the search's folder; gives the command that
    makes it again. Without a winner it is empty, and what an earlier part of the search left there goes."""
    folder = store.studies / name
    wanted: list[str] = next((f["trials"] for f in record["final"] if f["winner"]), [])
    results = store.results(wanted)
    best = next((t for t in wanted if t in results and results[t].status == "complete"), None)
    if best is None:
        for left in TAKEN:
            remove_file(folder / left)
        return ""
    trial = store.trial(best)
    network = json.loads((store.trial_folder(best) / "trial.json").read_text())["network"]
    write_json(folder / "winner.json", network)
    weights = current(store.trial_folder(best) / "weights.safetensors")
    if weights.exists():
        data = weights.read_bytes()
        write_atomic(folder / "winner.safetensors", lambda file: file.write(data))
    else:
        remove_file(folder / "winner.safetensors")
    study = record["study"]
    words = ["vitnas", "train", store.shown(folder / "winner.json"), "--data", study.get("data", "digits")]
    words += ["--input-size", str(trial.recipe.input_size), "--epochs", str(trial.epochs), "--train-on", "all"]
    words += ["--seeds", str(study.get("seeds", 3))]
    for key in ("recipe", "data-fraction", "split-seed", "device", "threads"):
        words += [f"--{key}", str(study[key])] if key in study else []
    settings = {**study.get("set", {}), **_settings(record, trial.recipe.to_dict())}
    for key, value in settings.items():
        words += ["--set", f"{key.replace('_', '-')}={json.dumps(value) if not isinstance(value, str) else value}"]
    command = shlex.join([*words, "--store", store.address])
    write_atomic(folder / "rebuild.txt", lambda file: file.write(f"{command}\n".encode()))
    return command


def _settings(record: Record, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe fields in which the winner's training differs from the preset's."""
    from ..recipe import preset
    from ..study import override

    study = record["study"]
    usual = override(preset(study.get("recipe", "short")).modern, study.get("set", {})).to_dict()
    settled = ("input_size", "flip", "precision")  # the command's own business
    return {k: v for k, v in recipe.items() if v != usual.get(k) and k not in settled}


def costs_of(record: Record) -> list[Objective]:
    """The costs that the search minimises or limits."""
    names = [n for n in dict.fromkeys([*record["objectives"], *record["limits"]]) if n != "accuracy"]
    return [objective(n) for n in names]


def shown_cost(o: Objective, cost: Mapping[str, Any] | None) -> str:
    """A cost with its interval, where it has one."""
    if cost is None:
        return ""
    text = o.show(cost["value"])
    if cost["high"] > cost["low"]:
        text += f" [{o.show(cost['low'])}, {o.show(cost['high'])}]"
    return text + (" predicted" if cost["how"] == "predicted" else "")


def shown_top1(entry: Record) -> str:
    """An accuracy with its interval over seeds."""
    if entry["top1"] is None:
        return ""
    return f"{entry['top1']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"


def shown_seeds(entry: Record) -> str:
    """How many seeds an accuracy is the mean of, and how many diverged."""
    return f"{entry['n']} ({entry['diverged']} more diverged)" if entry.get("diverged") else str(entry["n"])


def front_table(record: Record) -> list[list[str]]:
    """The front by rising cost: validation top-1, costs, what the network is."""
    costs = costs_of(record)
    rows = [["network", "validation top-1 (%)", "seeds", *(o.axis for o in costs), "what it is"]]
    on_front = [c for c in record["candidates"] if c["front"]]
    for c in sorted(on_front, key=lambda c: _order(c, costs)):
        what = ", ".join(f"{k} {v}" for k, v in c["point"].items())
        rows.append([c["name"], shown_top1(c), shown_seeds(c), *(shown_cost(o, c["costs"].get(o.name)) for o in costs), what])
    return rows


def _order(entry: Record, costs: Sequence[Objective]) -> float:
    cost = entry["costs"].get(costs[0].name) if costs else None
    return float(cost["value"]) if cost else 0.0


def final_table(record: Record) -> list[list[str]]:
    """The finalists and the published network, trained alike, on the test split."""
    costs = costs_of(record)
    rows = [["network", "test top-1 (%)", "seeds", "validation top-1 (%)", *(o.axis for o in costs)]]
    for f in record["final"]:
        mark = " (winner)" if f["winner"] else " (published)" if f["published"] else ""
        chosen = f"{f['validation']:.2f}" if f["validation"] is not None else ""
        rows.append([f["name"] + mark, shown_top1(f), shown_seeds(f), chosen, *(shown_cost(o, f["costs"].get(o.name)) for o in costs)])
    return rows


def candidates_table(record: Record) -> list[list[str]]:
    """All candidates, for report.csv."""
    costs = costs_of(record)
    rows = [["network", "candidate", "proposed by", "refused", "epochs", "n", "validation top-1", "low", "high", "front"]]
    rows[0] += [f"{o.name} {part}".strip() for o in costs for part in ("", "low", "high", "known by")]
    for c in record["candidates"]:
        own = [c["name"], c["candidate"], c["by"], c["refused"], str(c["epochs"]), str(c["n"])]
        own += ["" if c[k] is None else f"{c[k]:.4f}" for k in ("top1", "low", "high")] + ["yes" if c["front"] else "no"]
        for o in costs:
            cost = c["costs"].get(o.name)
            own += [f"{cost[k]:.6g}" for k in ("value", "low", "high")] + [cost["how"]] if cost else ["", "", "", ""]
        rows.append(own)
    return rows


def headline(record: Record) -> str:
    """One line: what was found."""
    study = record["study"]
    what = f"{record['space']['title']} at scale {study.get('scale', 'micro')} on {record['data']['name']}"
    return f"Search of {what}: {_many(sum(c['front'] for c in record['candidates']), 'network')} on the front"


def _many(count: int, word: str) -> str:
    return f"{count:,} {word}{'s' * (count != 1)}"


def verdicts(record: Record) -> list[str]:
    """What came out, in words."""
    final, least = record["final"], record["min_accuracy"]
    out = []
    winner = next((f for f in final if f["winner"] and f["top1"] is not None), None)
    if winner:
        costs = ", ".join(f"{o.title} {shown_cost(o, winner['costs'].get(o.name))} {o.unit}" for o in costs_of(record))
        below = f", below the {least:g} % that it reached on validation" if least is not None and winner["top1"] < least else ""
        chosen = "chosen on validation" if least is None else f"the cheapest that reaches {least:g} % on validation"
        out.append(f"the winner, {chosen}, is {winner['name']}: {shown_top1(winner)} % on test{below}; {costs}".rstrip("; "))
    out += [_diverged(f) for f in final if f.get("diverged")]
    if least is not None and final and not any(f["winner"] for f in final):
        out.append(
            f"no network reached {least:g} % on validation: the most accurate one was trained to the end; go on with more "
            "--trials, or ask for less in a search of another --name"
        )
    other = next((f for f in final if f["published"] and f["top1"] is not None and not f.get("diverged")), None)
    if winner and winner["published"]:
        return [*out, f"it is the published {_published(winner)}"]
    who = f"the published {_published(other)}, trained alike" if other else ""
    if other and least is not None:
        out.append(_reaching(record, winner, other))
    elif winner and other:
        gap = winner["top1"] - other["top1"]
        if gap < 0:
            noise = ", which the noise of seeds alone could make" if other["low"] <= winner["high"] else ""
            out.append(f"{who} and under the same limits, beats the winner by {-gap:.2f} points{noise}: take it")
        elif winner["low"] <= other["high"]:
            out.append(f"{who}, is {gap:.2f} points behind, within the noise of seeds: it would do as well")
        else:
            out.append(f"{who} and under the same limits, is {gap:.2f} points behind")
    elif winner and not any(f["published"] for f in final) and (named := record["study"].get("published", "auto")) != "none":
        who = "no published network of this package keeps" if named == "auto" else f"the published {named} does not keep"
        out.append(f"{who} to the finalists' costs at this input size: none was trained alike")
    return out


def _published(entry: Record) -> str:
    return str(entry.get("variant") or entry["name"])


def _diverged(entry: Record) -> str:
    who = f"the published {_published(entry)}" if entry["published"] else entry["name"]
    of = _many(entry["n"] + entry["diverged"], "seed")
    return f"{who} diverged with {entry['diverged']} of {of}: its top-1 is that of the others alone"


def _reaching(record: Record, winner: Record | None, other: Record) -> str:
    """How the published network does where the cheapest network of a least accuracy is asked for."""
    who, least = f"the published {_published(other)}, trained alike,", record["min_accuracy"]
    if other["top1"] < least:
        return f"{who} does not reach {least:g} % on test ({other['top1']:.2f} %{', within the noise of seeds' * (other['high'] >= least)})"
    reaches = f"{who} reaches {least:g} % on test ({other['top1']:.2f} %)"
    if winner is None or winner["top1"] < least:
        return f"{reaches}, which {'no network of the search does' if winner is None else 'the winner does not'}: take it"
    o = costs_of(record)[0]
    its, own = other["costs"][o.name], winner["costs"][o.name]
    against = f"{o.title} {o.show(its['value'])} {o.unit} against {o.show(own['value'])}"
    if its["value"] >= own["value"]:
        return f"{reaches} and costs no less ({against})"
    noise = ", within their intervals" if its["high"] >= own["low"] else ""
    return f"{reaches} and is {'faster' if o.name.startswith('latency') else 'cheaper'} ({against}{noise}): take it"


def facts(record: Record) -> list[str]:
    """How the search went."""
    space = record["space"]
    pool = "all of its distinct networks" if space["whole"] else "distinct networks drawn from it"
    limits = limits_in_words(record["limits"], record["min_accuracy"])
    rungs = f"{'rungs' if len(record['rungs']) > 1 else 'trainings'} of {', '.join(map(str, record['rungs']))}"
    out = [
        f"space {space['name']}: {_many(space['points'], 'point')} in {_many(space['dimensions'], 'dimension')}; "
        f"the pool: {space['pool']:,}, {pool}",
        f"objectives {', '.join(record['objectives'])}" + (f"; {limits}" if limits else ""),
        f"sampler {record['study'].get('sampler', 'vitnas')}, scheduler {record['study'].get('scheduler', 'none')}, "
        f"{rungs} epoch{'s' * (record['rungs'] != [1])}",
        f"{_many(record['trained'], 'network')} trained here, {record['known']} known from the store, "
        f"{_many(record['epochs'], 'epoch')} of first trainings",
        f"ended because {STOPS[record['stopped']]}; hypervolume {record['hypervolume_now']:.4f} (share of the box from guessing to "
        "100 % and, in logarithms, from the least to the largest cost)",
        f"intervals of top-1: two standard errors of the noise of seeds, {record['noise']:.2f} points here, pooled over replicates",
        f"the test split was scored {_many(record['scorings'], 'time')} in this store",
    ]
    if record["device"]:
        p99 = ", none for p99 latency" if any(o.name == "latency-p99" for o in costs_of(record)) else ""
        out.append(f"latency measured on {record['device']}; intervals of 95 %{p99}")
    if record.get("failed"):
        out.append(f"{_many(record['failed'], 'training')} failed: `vitnas status` says why, and the same command tries them again")
    if diverged := [c for c in record["candidates"] if c.get("diverged")]:
        names = ", ".join(f"{c['name']} ({c['diverged']} of {_many(len(c['trials']), 'training')})" for c in diverged)
        out.append(f"diverged, and so neither on the front nor the winner while others did not: {names}")
    if record["refused"]:
        out.append("not trained: " + ", ".join(f"{n} for {q}" for q, n in record["refused"].items()))
    if record["study"].get("sampler", "vitnas") != "vitnas":
        out.append(f"{record['rejected']} proposals broke a limit; {record['random']} random networks took the place of proposals")
    return out


def search_markdown(record: Record, drawn: bool) -> str:
    """The whole report in Markdown."""
    parts = [f"# {headline(record)}", "\n".join(f"- {v}" for v in verdicts(record)), "![Front](front.png)" if drawn else ""]
    parts += ["## Front", markdown(front_table(record))]
    if record["final"]:
        parts += ["## Finalists, trained again on train and validation, scored once on test", markdown(final_table(record))]
    if record.get("rebuild"):
        parts += [
            "## The winner",
            "winner.json is the network, winner.safetensors its weights. To make it again:",
            f"    {record['rebuild']}",
        ]
    if record["importance"]:
        rows = [["dimension", "share of the variance of top-1"], *([k, f"{v:.3f}"] for k, v in record["importance"].items())]
        parts += ["## What mattered", "Shares that each dimension explains by itself (fANOVA over the trained networks).", markdown(rows)]
    parts += ["## How it went", "\n".join(f"- {f}" for f in facts(record))]
    study = "\n".join(f"    {k}: {v}" for k, v in record["study"].items())
    return "\n\n".join(p.rstrip("\n") for p in [*parts, "## Study", study] if p) + "\n"


def print_search_report(record: Record, console: Console) -> None:
    """Print the front, the finalists and the words to `console`."""
    from rich.table import Table

    tables = [("front", front_table(record)), ("finalists", final_table(record) if record["final"] else [])]
    console.print(headline(record), highlight=False, markup=False, style="bold")
    for title, rows in tables:
        if len(rows) < 2:
            continue
        table = Table(box=None, title=title, title_justify="left")
        for i, column in enumerate(rows[0]):
            table.add_column(column, overflow="fold", no_wrap=i == 0)
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    for line in [*verdicts(record), *facts(record)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if record.get("rebuild"):
        console.print(f"to make the winner again: {record['rebuild']}", highlight=False, markup=False, soft_wrap=True)
