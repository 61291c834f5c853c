"""The documentation keeps up with the code: command lines parse, generated pages are current, the command line's surface is known."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from vitnas.cli import app
from vitnas.roadmap.cost import cost
from vitnas.roadmap.listing import step_diff
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.steps import select
from vitnas.roadmap.tracks import track
from vitnas.roadmap.weights import load_weights
from vitnas.roadmap.zoo import variant
from vitnas.studies import presets
from vitnas.studies.recipe import preset
from vitnas.studies.study import override

from .oracles import randomise, timm

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# Commands, arguments and options as users know them. A change here is a change for them: it belongs into CHANGELOG.md.
SURFACE = """
roadmap --steps --track --scale --placebo --no-placebo --margin --data --input-size --recipe --set --epochs --seeds --data-fraction
    --split-seed --score-on --eval --distill-from --teacher-weights --distill --name
    --executor --device --concurrency --threads --processes --micro-batch --compile --store --plan --json
    --latency --latency-scale --latency-size --latency-device --latency-backend --latency-threads --latency-batch --latency-precision
    --latency-seconds
ablate --steps --design --fix --factor --interactions --resolution --runs --orders --order --tune --track --scale
    --placebo --no-placebo --margin --until-decided --max-seeds --stopping --yes
    --data --input-size --recipe --set --epochs --seeds --data-fraction --split-seed
    --score-on --eval --distill-from --teacher-weights --distill --name
    --executor --device --concurrency --threads --processes --micro-batch --compile --store --plan --json
    --latency --latency-scale --latency-size --latency-device --latency-backend --latency-threads --latency-batch --latency-precision
    --latency-seconds
search --space --sampler --objectives --max-latency --max-params --max-macs --min-accuracy --trials --max-time --min-gain --scheduler
    --min-epochs --finalists --final-epochs --seeds --published --pool --optuna-storage --track --scale
    --data --recipe --set --epochs --data-fraction --split-seed --name
    --executor --device --concurrency --threads --processes --micro-batch --compile --store --plan --json
    --latency-device --latency-backend --latency-threads --latency-batch --latency-precision --latency-seconds
    --address --cpus-per-trial --gpus-per-trial --max-retries --wait-for-nodes
train NETWORK --train-on --seeds --executor --data --input-size --recipe --set --epochs --data-fraction --split-seed --score-on
    --eval --distill-from --teacher-weights --distill --name
    --device --concurrency --threads --processes --micro-batch --compile --store --plan --json
sweep FILE --data --store --plan --json --address --cpus-per-trial --gpus-per-trial --max-retries --wait-for-nodes
plan FILE --data --store --workers --freeze --json
report [STUDY] --store --json
status [STUDY] --store --json
logs TRIAL --store
verify [STUDY] --paper --claims --device --backend --batch --precision --threads --input-size --seconds --on --address --store --json
audit CHEAP FULL --full-store --store --json
sync [STUDY] --store
ui [STUDY] --port --browser --no-browser --store
steps --track --scale --input-size --json
steps show NAME --track --scale --input-size
models list --json
models show NAME --weights --scale --input-size --classes --json
models cost [NAME] --track --scale --input-size --classes --json
models latency [NAMES] --all --min-accuracy --figure --device --backend --batch --precision --threads --input-size --seconds
    --on --address --store --json
latency run NAMES --cache --throughput --again --new-baseline --device --backend --batch --precision --threads --input-size --seconds
    --on --address --store --json
latency bundle NAMES --out --batch --precision --input-size --cache --store
latency import FILE --store --json
"""


def command_line() -> Any:
    """The command line as click has it."""
    return typer.main.get_command(app)


def command_lines(page: Path) -> Iterator[str]:
    """The `vitnas` command lines in a page's sh blocks, those behind `docker` and `kubectl` included."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            ours = [
                i
                for i, word in enumerate(words)
                if word == "vitnas" and (i == 0 or words[0] in ("docker", "kubectl") or "=" in words[i - 1])
            ]
            if ours and words[:2] != ["docker", "build"]:
                yield shlex.join(words[ours[-1] :])


LINES = [(page, line) for page in PAGES for line in command_lines(page)]


def parse(command: Any, words: list[str], parent: Any = None) -> Any:
    """The context of the innermost command of `words`; its callback is not called."""
    context = command.make_context(command.name, list(words), parent=parent)
    rest = [*getattr(context, "_protected_args", []), *context.args]
    if getattr(command, "commands", None) and rest:
        _, child, rest = command.resolve_command(context, rest)
        return parse(child, rest, context)
    return context


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page.name}: {line}" for page, line in LINES])
def test_command_lines_in_the_documentation_work(page: Path, line: str) -> None:
    """The command line accepts them, and the steps, networks, recipes and presets that they name exist."""
    check_command_line(line)


def check_command_line(line: str) -> None:
    """What `line` says is accepted by the command line and exists; nothing of it is run."""
    words = [word for word in shlex.split(line)[1:] if word != "--help"]
    if not words:
        return
    context = parse(command_line(), words)
    values = context.params
    if context.command.name == "roadmap":
        select(track(values["track"]), values["steps"])
    if context.command.name == "train":
        variant(values["network"])
    if context.info_name == "show" and context.parent.info_name == "steps":
        list(step_diff(track(values["track"]), values["name"], scale=values["scale"], input_size=values["input_size"]))
    if context.command.name in ("sweep", "plan") and "." not in str(values["file"]):
        presets.find(str(values["file"]))
    if "recipe" in values:
        override(preset(values["recipe"]).modern, {k: float(v) for k, _, v in (s.partition("=") for s in values["set_"] or [])})


def test_readme_shows_every_command() -> None:
    """The table of commands is complete."""
    readme = (ROOT / "README.md").read_text()
    missing = [name for name in command_line().commands if f"`vitnas {name}" not in readme]
    assert not missing


@pytest.mark.parametrize(("path", "text"), runpy.run_path(str(ROOT / "docs" / "generate.py"))["pages"]().items())
def test_generated_pages_are_current(path: Path, text: str) -> None:
    """`make docs` would change nothing."""
    assert path.read_text() == text, f"{path.name} is out of date: run `make docs`"


def test_surface_of_the_command_line() -> None:
    """Commands, arguments and options are those written down here."""

    def surface(name: str, command: Any) -> Iterator[str]:
        if command.callback is not None and name:
            arguments = [p for p in command.params if p.param_type_name == "argument"]
            shown = [p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments]
            options = [o for p in command.params if p.param_type_name == "option" for o in (*p.opts, *p.secondary_opts) if o != "--help"]
            yield " ".join([name, *shown, *options])
        for child in getattr(command, "commands", {}).values():
            yield from surface(f"{name} {child.name}".strip(), child)

    assert list(surface("", command_line())) == re.sub(r"\n {4}", " ", SURFACE).strip().splitlines()


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link names a file that exists."""
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if not re.match(r"[a-z]+:", target) and not (page.parent / target).exists()
    ]
    assert not broken


def test_the_worked_example_of_a_new_system_is_right() -> None:
    """ConvMixer as CONTRIBUTING.md writes it is timm's to the unit, and computes its outputs from its weights."""
    reference = randomise(timm().create_model("convmixer_768_32"))
    block = re.search(r"<!-- run by tests/test_docs.py -->\n```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    assert block
    example: dict[str, Any] = {}
    exec(block[1], example)
    big, micro = example["VARIANTS"]
    spec = big.spec()
    counted = cost(spec, 224)
    assert (counted.params, counted.macs) == (21_110_248, 20_676_851_712)
    network = Network(spec).eval()
    load_weights(network, spec, reference.state_dict(), big.dialects())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(x), reference(x), atol=1e-4)
    assert build(micro.spec())(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
