"use strict";
// Makes tables sort, filter and copy, and figures live. Without it the page holds the same numbers.
const words = JSON.parse(document.getElementById("words").textContent);

function valueOf(text) {
  const plain = text.replace(/,/g, "");
  const found = parseFloat(plain);
  return Number.isNaN(found) ? null : found;
}

function compare(a, b, isNumber) {
  if (!isNumber) return a.localeCompare(b);
  const [x, y] = [valueOf(a), valueOf(b)];
  // What was not measured comes last, whichever way the column is sorted.
  if (x === null || y === null) return x === y ? 0 : x === null ? Infinity : -Infinity;
  return x - y;
}

function sortBy(table, index) {
  const head = table.tHead.rows[0].cells[index];
  const isNumber = head.classList.contains("number");
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const rows = [...table.tBodies[0].rows];
  const texts = new Map(rows.map((row) => [row, row.cells[index].textContent]));
  rows.sort((a, b) => {
    const order = compare(texts.get(a), texts.get(b), isNumber);
    return Number.isFinite(order) && down ? -order : order;
  });
  table.tBodies[0].append(...rows);
}

function copyOf(table) {
  const rows = [table.tHead.rows[0], ...table.tBodies[0].rows].filter((row) => !row.hidden);
  return rows.map((row) => [...row.cells].map((cell) => cell.textContent.replace(/[\t\n]/g, " ")).join("\t")).join("\n");
}

async function copy(table, button) {
  const text = copyOf(table);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // A page that was opened from a file may not write to the clipboard by itself.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = words.copied;
  setTimeout(() => { button.textContent = words.copy; }, 1500);
}

function toolsFor(table) {
  const tools = document.createElement("div");
  tools.className = "tools";
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = words.filter;
  filter.setAttribute("aria-label", words.filter);
  filter.addEventListener("input", () => {
    const wanted = filter.value.toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words.copy;
  button.addEventListener("click", () => copy(table, button));
  tools.append(filter, button);
  return tools;
}

function enhance(table) {
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...cell.childNodes);
    button.addEventListener("click", () => sortBy(table, index));
    cell.append(button);
  });
  table.closest(".scroll").before(toolsFor(table));
}

function showLayer(figure, spec, datum) {
  const detail = figure.querySelector(".detail");
  const cells = spec.data.values.filter((row) => row.of === datum.of && row.layer === datum.layer);
  const table = document.createElement("table");
  const lines = cells.map((row) => [row.kind, row.value === null ? "–" : row.value.toPrecision(4)]);
  const head = [words.kind, `${datum.of}, ${words.layer.replace("%", datum.layer)}`];
  for (const [place, line] of [head, ...lines].entries()) {
    const row = table.insertRow();
    for (const text of line) {
      const cell = document.createElement(place ? "td" : "th");
      cell.textContent = text;
      row.append(cell);
    }
  }
  detail.replaceChildren(table);
}

// The caption ends with what is shown.
function followChoice(view, caption) {
  let shown = view.signal("chosen");
  view.addSignalListener("chosen", (_, chosen) => {
    const text = caption.data;
    const place = text.lastIndexOf(shown);
    if (place >= 0) caption.data = text.slice(0, place) + chosen + text.slice(place + shown.length);
    shown = chosen;
  });
}

async function liven(figure) {
  const spec = JSON.parse(figure.querySelector(".spec").textContent);
  const place = figure.querySelector(".chart");
  const live = document.createElement("div");
  live.className = "live";
  const old = place.firstElementChild;
  place.append(live);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const options = { mode: "vega-lite", renderer: "svg", actions: false, tooltip: { theme: dark ? "dark" : "light" } };
  const { view } = await window.vegaEmbed(live, spec, options);
  old.remove();
  figure.classList.add("ready");
  const caption = figure.querySelector("figcaption");
  if (spec.params?.some((param) => param.name === "chosen")) followChoice(view, caption.firstChild);
  if (figure.id.startsWith("figure-heatmap")) {
    caption.append(` ${words.click}`);
    view.addEventListener("click", (event, item) => {
      if (item?.datum?.layer !== undefined) showLayer(figure, spec, item.datum);
    });
  }
}

document.querySelectorAll("table").forEach(enhance);
if (window.vegaEmbed) {
  // A figure is drawn when it comes near, so that a page of many opens at once.
  const watcher = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      liven(target);
    }
  }, { rootMargin: "600px" });
  document.querySelectorAll("figure").forEach((figure) => watcher.observe(figure));
}
