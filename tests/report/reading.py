"""Reads the report's page in a browser, by functions of a tab."""

from __future__ import annotations

from typing import Any

from tests.report.browser import Tab

HEATMAP = "figure-heatmap-elyza"
CELLS = f"document.querySelectorAll('#{HEATMAP} .mark-rect.role-mark path')"
# Of every text in view: the contrast of its colour to what is behind it, as WCAG 2 defines both.
_TEXT_CONTRASTS = """(root) => {
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const found = parts(getComputedStyle(e).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
    return parts(getComputedStyle(document.body).backgroundColor);
  };
  const found = [];
  const walker = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode, e = text.parentElement;
    if (!text.data.trim() || !e.checkVisibility() || e.closest("script, style, noscript")) continue;
    const style = getComputedStyle(e);
    const ink = light(parts(e.closest("svg") ? style.fill : style.color));
    const paper = light(behind(e));
    const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    found.push([Math.round(100 * ratio) / 100, text.data.trim()]);
  }
  return found;
}"""
# The texts that are cut: wider than their element, which does not scroll.
_CUT = """() => [...document.querySelectorAll(
  "h1, h2, h3, h4, p, li, th, td, dt, dd, summary, figcaption, .name, .axis, nav a, button"
)].filter((e) => e.checkVisibility() && e.clientWidth && e.scrollWidth > e.clientWidth + 1)
  .map((e) => [e.tagName, e.scrollWidth, e.clientWidth, e.textContent.slice(0, 60)])"""
# The texts of a part of the page that lie over one another.
_OVERLAPS = """(selector) => {
  const boxes = [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility())
    .map((e) => [e, e.getBoundingClientRect()]).filter(([, box]) => box.width && box.height);
  const found = [];
  for (const [place, [a, x]] of boxes.entries()) {
    for (const [b, y] of boxes.slice(place + 1)) {
      if (a.contains(b) || b.contains(a)) continue;
      const wide = Math.min(x.right, y.right) - Math.max(x.left, y.left);
      const high = Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top);
      if (wide > 1 && high > 2) found.push([a, b].map((e) => e.textContent.slice(0, 40)));
    }
  }
  return found;
}"""
FIRST_SCREEN = (
    "header h1, header p, header h2, .verdicts th, .verdicts td, .legend li, .plot .name, "
    ".plot text, .plot .axis, .cautions li, nav h2, nav a"
)
BLOCKS = "header, nav, main > section > *, figure > *, .tools > *"
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


def text_contrasts(tab: Tab, root: str) -> list[tuple[float, str]]:
    """(contrast, text) of every text that is shown below `root`."""
    return [(ratio, text) for ratio, text in tab.run(_TEXT_CONTRASTS, root)]


def cut_texts(tab: Tab) -> list[Any]:
    """The texts that do not fit their element."""
    return list(tab.run(_CUT.replace("() =>", "(_) =>"), ""))


def overlaps(tab: Tab, selector: str) -> list[Any]:
    """The elements of a selector, two by two, that lie over one another."""
    return list(tab.run(_OVERLAPS, selector))


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
        for cell in for_each(
            tab,
            f"{table(name)} th[scope=col]",
            "[e.textContent, e.className === 'n' ? 'number' : 'text']",
        )
    ]


def show_all_rows(tab: Tab) -> None:
    """Open every fold, and show every row of every table."""
    tab.run("() => document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    tab.run("() => document.querySelectorAll('.tools .all').forEach((e) => e.click())")


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
