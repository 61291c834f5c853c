"""Writes docs/commands.md and docs/steps.md from the code: `make docs`. A test checks that they are current."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from vitnas.cli import app
from vitnas.roadmap.steps import Step, Track
from vitnas.roadmap.tracks import OURS

HERE = Path(__file__).parent
COMMANDS = """# Commands

<!-- Made by docs/generate.py: change the code and run `make docs`. -->

What `vitnas COMMAND --help` says, on one page. Exit codes: 0 done, 1 an error of the user's in one line that names the next move,
2 wrong usage, 3 some trials failed, 130 interrupted. Without a terminal, or with NO_COLOR, output is plain lines.
"""
STEPS = """# Steps

<!-- Made by docs/generate.py: change the code and run `make docs`. -->

Every step owns one field of its track's decisions, so steps commute and any legal subset of them is a network. A step in **bold**
is one of `--steps all`; the others are run when named, by `field=value` where they have several values. In *values*, the base's
comes first and the step's own is in bold. `vitnas steps show NAME` prints what a step changes in the network's table.

Another token mixer replaces the spatial convolution. Steps that only shape that convolution (*spatial*) have nothing to act on
where every stage has another mixer: they are refused when named and passed over under `all`, unless another step requires them.
"""


def commands() -> str:
    """Every command with its arguments, options, defaults and help: what `--help` says."""
    return "\n".join([COMMANDS, *command_lines("vitnas", typer.main.get_command(app))])


def command_lines(name: str, command: Any) -> Iterator[str]:
    """One section a command, those below it after it."""
    children = getattr(command, "commands", {})
    if command.callback is not None:
        yield from section(name, command)
    for child in children.values():
        yield from command_lines(f"{name} {child.name}", child)


def section(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = [name, *(metavar(a) for a in arguments), *(["[OPTIONS]"] if options else [])]
    words, _, example = str(command.help).partition(" Example: ")
    yield from (f"## {name}", "", words, "", "```", " ".join(usage), "```", "")
    if example:
        yield from ("```sh", example, "```", "")
    if not command.params:
        return
    yield from ("| argument or option | default | |", "| --- | --- | --- |")
    for a in arguments:
        yield f"| `{metavar(a)}` | | {cell(a.help)} |"
    for o in options:
        environment = f" Also from the environment: `{o.envvar}`." if o.envvar else ""
        yield f"| `{'` / `'.join([*o.opts, *o.secondary_opts])}` | {default(o)} | {cell(o.help)}{environment} |"
    yield ""


def metavar(argument: Any) -> str:
    name = argument.name.upper()
    return name if argument.required else f"[{name}]"


def default(option: Any) -> str:
    if option.is_flag:
        return option.secondary_opts[0] if option.secondary_opts and not option.default else ""
    return "" if option.default in (None, "", ()) or option.default.__class__.__name__ == "Sentinel" else f"`{option.default}`"


def cell(text: str | None) -> str:
    return (text or "").replace("|", r"\|")


def steps() -> str:
    """A table for each track: what each step sets, the values it may take, what it requires, and its definition."""
    lines = [STEPS]
    for track in OURS:
        lines += [
            f"## {track.name}: {track.title}",
            "",
            f"The paper: {track.paper_source}.",
            "",
            "| scale | default input | |",
            "| --- | --- | --- |",
            *(f"| {s.name} | {s.input_size} | {s.description} |" for s in track.scales),
            "",
            "| step | field | values | requires | definition |",
            "| --- | --- | --- | --- | --- |",
            *(row(step, track) for step in track.steps),
            "",
        ]
    return "\n".join(lines)


def row(step: Step, track: Track) -> str:
    name = f"**{step.name}**" if step.adopted else step.name
    field = step.field.replace("_", "-") if step.owner == "network" else "of the recipe"
    levels = step.levels or (("off", step.value) if step.owner == "recipe" else (step.value,))
    values = ", ".join(f"**{shown(v)}**" if v == step.value and step.adopted else shown(v) for v in levels)
    per_stage = " (one, or one for each stage: `a/b/c/d`, `@3=`)" if isinstance(step.value, tuple) else ""
    spatial = " (*spatial*)" if step.spatial else ""
    return f"| {name} | {field} | {values}{per_stage} | {', '.join(step.requires)} | {cell(step.definition)}{spatial} |"


def shown(value: object) -> str:
    return str(value[0]) if isinstance(value, tuple) else str(value)


def pages() -> dict[Path, str]:
    """The generated pages by path."""
    return {HERE / "commands.md": commands(), HERE / "steps.md": steps()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
