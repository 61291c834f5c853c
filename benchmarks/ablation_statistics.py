"""What the intervals and words of an ablation are worth: simulated studies with known truth, and resampled real trainings.

    python benchmarks/ablation_statistics.py [--repetitions 40000] [--section fixed] [--section until-decided] [--json]
        [--data benchmarks/data/digits_complete.csv.gz]

Targets: false positives of the whole family at or below 5.5 % (one-sided upper 95 % bound after Clopper and Pearson), also over all
looks of `--until-decided`; joint coverage of the simultaneous intervals 93 to 97 % where noise is equal and nothing diverges, at least
93 % elsewhere; power at two standard deviations at least 80 %. Rows marked *stress* go beyond what is promised. What is simulated is what
users get: studies are judged by `vitnas.studies.statistics.judgement.judge`, of which `analyse` is one repetition. Columns:

    false, upper   repetitions with any false *helps* or *hurts* (or false *equivalent*, until decided), and the bound
    joint, alone   coverage of all simultaneous intervals at once, and of each effect's own interval
    width          of the simultaneous intervals, against those of an analysis that trusts one pooled variance
    power          share of the true effects found, at the median number of seeds under *found* (*all*: what an arm got in the end)
    e_false, e_power   the same for e-values after every look, at most 5 % of them false

It takes some ten minutes on one core. Sections are functions; `SECTIONS` names them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ablation import adaptive, as_run, designs_cost, fixed, on_tables, until_decided

Section = Callable[..., dict[str, Any]]


def tables(repetitions: int, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Designs on real complete tables, with 1,000 repetitions at most."""
    return on_tables.section(min(repetitions, on_tables.REPETITIONS), say=say)


def cost(repetitions: int, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Trainings that each design needs for the same interval, over the real graph of requirements."""
    return designs_cost.section(say=say)


SECTIONS: dict[str, Section] = {
    "fixed": fixed.section,
    "until-decided": until_decided.section,
    "as-run": as_run.section,
    "tables": tables,
    "designs": cost,
    "adaptive": adaptive.section,
}


def main() -> None:
    """Run the sections that are asked for and print their tables, or everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=40_000)
    parser.add_argument("--section", action="append", choices=list(SECTIONS), help="may be given more than once; all, if not given")
    parser.add_argument("--data", type=Path, default=fixed.DATA)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sections = SECTIONS | {"fixed": partial(fixed.section, data=options.data)}
    say = (lambda line: None) if options.json else partial(print, flush=True)
    found: dict[str, Any] = {"repetitions": options.repetitions}
    for name in options.section or sections:
        found |= sections[name](options.repetitions, say=say)
        say("")
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
