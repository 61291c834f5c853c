"""A summary's tables for LaTeX, with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from .appendix import derived_table
from .effects_table import effects_tables
from .summary import Summary
from .tables import LEFT, Table, headline, percent, results_table, select_columns

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}


def escape(text: str) -> str:
    """`text` for LaTeX; numbers with a sign are set in math mode."""
    out = "".join(SPECIAL.get(c, c) for c in text)
    return f"${out}$" if _is_number(text) else out


def _is_number(text: str) -> bool:
    body = text.strip("[]").replace(", ", "")
    return text[:1] in ("+", "-", "[") and bool(body) and all(c in "+-.0123456789" for c in body)


def latex(summary: Summary) -> str:
    """The tables of arms and of effects, and the appendix of derived values, as floats for LaTeX with booktabs."""
    name = "".join(c if c.isalnum() else "-" for c in summary.name)
    footers = " ".join(escape(f) for f in (*summary.alarms, *summary.footers))
    arms = select_columns(results_table(summary), percent(summary))
    parts = [r"% needs \usepackage{booktabs}", _float(arms, headline(summary), name, footers)]
    for heading, _, lines in effects_tables(summary):
        lines = select_columns(lines, "p", "logit", f"logit, simultaneous {percent(summary)}")
        slug = "".join(c if c.isalnum() else "-" for c in heading.partition(":")[0].lower())
        parts.append(_float(lines, f"{heading}. {headline(summary)}", f"{name}-{slug}", ""))
    lines = [list(column) for column in zip(*derived_table(summary), strict=True)]  # a line a value: there may be many
    if len(lines) > 1:
        lines[0][0] = "field"
        parts.append(_float(lines, f"Derived values in which the arms differ. {headline(summary)}", f"{name}-derived", ""))
    return "\n".join(parts) + "\n"


def _float(lines: Table, caption: str, name: str, notes: str) -> str:
    columns = "".join("l" if name in LEFT else "r" for name in lines[0])
    body = [latex_line(line) for line in lines]
    end = [r"\par\smallskip", rf"\parbox{{\linewidth}}{{\scriptsize {notes}}}"] if notes else []
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{tab:{name}}}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            *end,
            r"\end{table}",
        ]
    )


def latex_line(cells: Sequence[str]) -> str:
    """One row of a tabular. A bracket at the start of a row would be read as an option of the row before, so rows start with braces."""
    return "{}" + " & ".join(escape(c) for c in cells) + r" \\"
