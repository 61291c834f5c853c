"""A summary's main table for LaTeX, with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from .summary import Summary
from .tables import LEFT, headline, percent, results_table, select_columns

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
}


def escape(text: str) -> str:
    """`text` for LaTeX; numbers with a sign are set in math mode."""
    out = "".join(SPECIAL.get(c, c) for c in text)
    return f"${out}$" if _is_number(text) else out


def _is_number(text: str) -> bool:
    body = text.strip("[]").replace(", ", "")
    return text[:1] in ("+", "-", "[") and bool(body) and all(c in "+-.0123456789" for c in body)


def latex(summary: Summary) -> str:
    """The main table as a float for LaTeX with booktabs."""
    lines = select_columns(results_table(summary), percent(summary))
    columns = "".join("l" if name in LEFT else "r" for name in lines[0])
    body = [latex_line(line) for line in lines]
    notes = " ".join(escape(f) for f in summary.footers)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape(headline(summary))}}}",
            rf"\label{{tab:{''.join(c if c.isalnum() else '-' for c in summary.name)}}}",
            rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
            r"\toprule",
            body[0],
            r"\midrule",
            *body[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            rf"\parbox{{\linewidth}}{{\scriptsize {notes}}}",
            r"\end{table}",
            "",
        ]
    )


def latex_line(cells: Sequence[str]) -> str:
    """One row of a tabular. A bracket at the start of a row would be read as an option of the row before, so rows start with braces."""
    return "{}" + " & ".join(escape(c) for c in cells) + r" \\"
