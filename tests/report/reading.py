"""Reads the report's page in a browser, by functions of a tab."""

from __future__ import annotations

from typing import Any

from tests.report.browser import Tab

HEATMAP = "figure-heatmap-elyza"
CELLS = f"document.querySelectorAll('#{HEATMAP} .mark-rect.role-mark path')"
# Of every element: the contrast of its colour to the page's, as WCAG 2 defines both.
_CONTRASTS = """(selector) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((c) => c / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  return [...document.querySelectorAll(selector)].map((text) => {
    const ink = light(getComputedStyle(text).fill);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  });
}"""


def paper(tab: Tab) -> str:
    """The colour of the page."""
    return str(tab.run("() => getComputedStyle(document.body).backgroundColor"))


def widths(tab: Tab) -> tuple[int, int]:
    """How wide the page is, and how wide its window; it scrolls sideways where it is wider."""
    whole, window = tab.run(
        "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    return whole, window


def for_each(tab: Tab, selector: str, expression: str) -> list[Any]:
    """An expression of `e`, for each element of a selector."""
    found = tab.run(
        f"(all) => [...document.querySelectorAll(all)].map((e) => {expression})", selector
    )
    return list(found)


def contrasts(tab: Tab, selector: str) -> list[float]:
    """How much each text of an SVG stands out from the page."""
    return list(tab.run(_CONTRASTS, selector))


def figures(tab: Tab) -> list[str]:
    """The ids of all figures."""
    return for_each(tab, "main figure", "e.id")


def activate_figures(tab: Tab) -> None:
    """Scroll to every figure, and wait until it is interactive."""
    for name in figures(tab):
        tab.run("(id) => document.getElementById(id).scrollIntoView()", name)
        tab.when(f"#{name}", "root.classList.contains('ready')")


def table(name: str) -> str:
    """The selector of a table."""
    return f"table[data-name={name}]"


def tools(name: str) -> str:
    """The selector of a table's tool bar."""
    return f".tools:has(+ .wide {table(name)})"


def columns(tab: Tab, name: str) -> list[tuple[str, str]]:
    """The title of each column of a table, and its form."""
    return [
        tuple(cell)
        for cell in for_each(tab, f"{table(name)} th[scope=col]", "[e.textContent, e.className === 'n' ? 'number' : 'text']")
    ]


def rows(tab: Tab, name: str) -> list[list[str]]:
    """The cells of the rows of a table that are shown."""
    found = for_each(
        tab,
        f"{table(name)} tbody tr",
        "e.offsetHeight ? [...e.cells].map((cell) => cell.textContent) : null",
    )
    return [row for row in found if row]


def value_of(text: str) -> float:
    """The number that a cell shows."""
    return float(text.replace(",", "").rstrip(" %°"))


def heat(tab: Tab) -> list[tuple[int, str, str]]:
    """Layer, kind and colour of each cell of the heat map."""
    cell = "[cell.__data__.datum.layer, cell.__data__.datum.kind, cell.getAttribute('fill')]"
    return [tuple(found) for found in tab.run(f"() => [...{CELLS}].map((cell) => {cell})")]


def heat_rows(tab: Tab) -> list[dict[str, Any]]:
    """The data that the heat map was drawn from."""
    (values,) = for_each(tab, f"#{HEATMAP} .spec", "JSON.parse(e.textContent).data.values")
    return list(values)
