"""Text and tables as LaTeX, in booktabs' style, and text as Markdown.

Model: `latex_document` is a whole document that compiles by itself (XeLaTeX or LuaLaTeX; pdfLaTeX
for English), with one longtable for each table that has a name, for a paper to take from.
Invariant: every character of a cell is shown as it is; a row of a table is a line of the file.

pandas 3.1.1 does not hold this. `Styler.to_latex(escape="latex")` leaves `--`, `<<` and straight
quotes to the fonts, which show other characters; a cell with an empty line ends the paragraph, and
a row that starts with `[` or `*` becomes an argument of the line before. `DataFrame.to_markdown`
needs tabulate, which escapes neither `|` nor `<`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from raylab.report.page.blocks import Column, Grid

if TYPE_CHECKING:
    from raylab.report.page.page import Page

_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "%": r"\%",
    "#": r"\#", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "–": r"\textendash{}", "°": r"\textdegree{}",
    "'": r"\textquotesingle{}", "`": r"\textasciigrave{}", '"': r"\textquotedbl{}", "\n": " ",
}  # fmt: skip
_MARKDOWN = re.compile(r"([\\`*_\[\]|~#])")
# Fonts join two of these into another character, such as -- into a dash.
_LIGATURES = "-,<>"
_HEAD = r"""% Compile with XeLaTeX or LuaLaTeX, or take one of the tables:
% it needs the packages booktabs and longtable.
\documentclass[9pt]{extarticle}
\usepackage{iftex}
\usepackage[a3paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs,longtable}
\ifPDFTeX
  \usepackage[utf8]{inputenc}
  \usepackage[T1]{fontenc}
  \usepackage{textcomp}
\else
  \usepackage{fontspec}
  \IfFontExistsTF{Noto Sans CJK JP}{\setmainfont{Noto Sans CJK JP}}{}
\fi
\setlength{\tabcolsep}{4pt}
\setlength{\LTleft}{0pt}
\begin{document}
"""


def latex_document(page: Page) -> str:
    """Every table of the page that has a name, as one document."""
    tables = "\n".join(latex_table(grid) for grid in page.grids if grid.rows)
    body = tables or f"{latex_text(page.translate('page-no_rows'))}\n"
    return f"{_HEAD}{body}\\end{{document}}\n"


def latex_table(grid: Grid) -> str:
    """One table, its title as the caption."""
    return latex_rows(grid.columns, grid.rows, grid.title, grid.name)


def latex_rows(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], title: str = "", name: str = ""
) -> str:
    """Rows of texts as a longtable: numbers to the right, texts to the left."""
    forms = "".join("r" if column.form == "number" else "l" for column in columns)
    head = [r"\toprule", _line([column.name for column in columns]), r"\midrule"]
    caption = rf"\caption{{{latex_text(title)}}}" if title else ""
    label = rf"\label{{tab:{name}}}" if name else ""
    lines = [
        rf"\begin{{longtable}}{{{forms}}}",
        *([rf"{caption}{label}\\"] if caption else []),
        *head,
        # A label that every page repeats would be defined several times.
        r"\endfirsthead",
        *head,
        r"\endhead",
        *map(_line, rows),
        r"\bottomrule",
        r"\end{longtable}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    line = " & ".join(map(latex_text, cells))
    # The line before would take a bracket or an asterisk for its own.
    guard = "{}" if line.startswith(("[", "*")) else ""
    return rf"{guard}{line} \\"


def latex_text(text: str) -> str:
    """Plain text as LaTeX that shows it."""
    return "".join(
        _LATEX.get(character, character)
        + (r"\/" if character == after and after in _LIGATURES else "")
        for character, after in itertools.pairwise(f"{text}\n")
    )


def markdown_text(text: str) -> str:
    """Plain text as one line of Markdown that shows it, markup and all."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", escaped).replace("\r", "").replace("\n", "<br>")
