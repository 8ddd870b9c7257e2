"use strict";
// Makes tables sort, filter, copy and show all rows, answers searchable, and figures live.
// Without it the page holds the same sentences, and the first rows of every table.
const words = JSON.parse(document.getElementById("words").textContent);
const FEW_ROWS = 5; // that need no filter

function made(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// Tables.

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
  const isNumber = head.classList.contains("n");
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
    const area = made("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = words.copied;
  setTimeout(() => { button.textContent = words.copy; }, 1500);
}

function noteWidth(scroll) {
  const hidden = scroll.scrollWidth - scroll.clientWidth;
  scroll.parentElement.classList.toggle("overflows", hidden > 2);
  scroll.parentElement.classList.toggle("more", hidden - scroll.scrollLeft > 2);
}

function enhance(table) {
  const scroll = table.closest(".scroll");
  const rest = scroll.parentElement.nextElementSibling;
  const hidden = rest?.matches("template") ? rest.content.childElementCount : 0;
  const filter = made("input", { type: "search", placeholder: words.filter, ariaLabel: words.filter });
  const button = made("button", { type: "button", textContent: words.copy });
  const total = table.tBodies[0].rows.length + hidden;
  const all = made("button", {
    type: "button", className: "all", textContent: words.all_rows.replace("%", total),
  });
  const tools = made("div", { className: "tools" }, ...(total > FEW_ROWS ? [filter] : []), button);
  if (hidden) tools.append(all);
  // Whatever is asked of a table is asked of all its rows.
  const showAll = () => {
    if (!all.isConnected) return;
    table.tBodies[0].append(rest.content);
    all.remove();
    scroll.classList.toggle("tall", total > 24);
  };
  all.addEventListener("click", showAll);
  button.addEventListener("click", () => { showAll(); copy(table, button); });
  filter.addEventListener("input", () => {
    showAll();
    const wanted = filter.value.toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
  [...table.tHead.rows[0].cells].forEach((cell, index) => {
    const sort = made("button", { type: "button" }, ...cell.childNodes);
    sort.addEventListener("click", () => { showAll(); sortBy(table, index); });
    cell.append(sort);
  });
  scroll.parentElement.before(tools);
  scroll.addEventListener("scroll", () => noteWidth(scroll), { passive: true });
  new ResizeObserver(() => noteWidth(scroll)).observe(scroll);
}

// Answers.

function makeSearchable(answers) {
  const rest = answers.querySelector("template");
  const search = made("input", { type: "search", placeholder: words.search, ariaLabel: words.search });
  const tools = made("div", { className: "tools" }, search);
  const shown = answers.querySelectorAll("article").length;
  const all = made("button", { type: "button" });
  const showAll = () => {
    if (!all.isConnected) return;
    rest.replaceWith(rest.content);
    all.remove();
  };
  if (rest) {
    all.textContent = words.more_prompts.replace("%", shown + rest.content.querySelectorAll("article").length);
    all.addEventListener("click", showAll);
    tools.append(all);
  }
  search.addEventListener("input", () => {
    showAll();
    const wanted = search.value.toLowerCase();
    for (const article of answers.querySelectorAll("article")) {
      article.hidden = !article.textContent.toLowerCase().includes(wanted);
    }
  });
  answers.querySelector("h3").after(tools);
}

// The first screen: a verdict says its sentence; a click leads to it.

function tellVerdicts(table) {
  const said = table.parentElement.querySelector(".said");
  for (const link of table.querySelectorAll("td a")) {
    const place = document.getElementById(link.hash.slice(1));
    const text = place?.querySelector("span").textContent ?? "";
    const tell = () => { said.textContent = text; };
    link.title = text;
    link.addEventListener("focus", tell);
    link.addEventListener("pointerenter", tell);
    link.addEventListener("click", (event) => {
      // A tap says the sentence, the next one leads to it.
      if (event.pointerType === "touch" && link !== table.told) {
        event.preventDefault();
        tell();
      }
      table.told = link;
    });
  }
}

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const fold = target && target.closest("details");
  if (fold && !fold.open) {
    fold.open = true;
    target.scrollIntoView();
  }
}

function followSections(links) {
  const byPlace = new Map(links.map((link) => [link.hash.slice(1), link]));
  const watcher = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      byPlace.get(target.id)?.toggleAttribute("aria-current", isIntersecting);
    }
  }, { rootMargin: "-20% 0px -70%" });
  document.querySelectorAll("main > section").forEach((section) => watcher.observe(section));
}

// Figures.

function showLayer(figure, spec, datum) {
  const detail = figure.querySelector(".detail");
  const cells = spec.data.values.filter((row) => row.of === datum.of && row.layer === datum.layer);
  const table = document.createElement("table");
  const lines = cells.map((row) => [row.kind, row.value === null ? "–" : row.value.toPrecision(4)]);
  const head = [words.kind, `${datum.of}, ${words.layer.replace("%", datum.layer)}`];
  for (const [place, line] of [head, ...lines].entries()) {
    const row = table.insertRow();
    for (const text of line) row.append(made(place ? "td" : "th", { textContent: text }));
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
  const live = made("div", { className: "live" });
  place.append(live);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const options = {
    mode: "vega-lite", renderer: "svg", actions: false, bind: figure.querySelector(".choices"),
    tooltip: { theme: dark ? "dark" : "light" },
  };
  const { view } = await window.vegaEmbed(live, spec, options);
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

function drawFigures() {
  const figures = [...document.querySelectorAll("main figure")];
  // A figure is drawn when it comes near, so that a page of many opens at once.
  const watcher = new IntersectionObserver((seen) => {
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) draw(target);
    }
  }, { rootMargin: "600px" });
  const draw = (figure) => {
    watcher.unobserve(figure);
    figure.drawn ??= liven(figure);
    return figure.drawn;
  };
  figures.forEach((figure) => watcher.observe(figure));
  // A printer waits for nothing: whoever prints asks for all figures first.
  window.drawAll = () => Promise.all(figures.map(draw));
}

document.querySelectorAll("main table").forEach(enhance);
document.querySelectorAll(".answers").forEach(makeSearchable);
document.querySelectorAll(".verdicts").forEach(tellVerdicts);
followSections([...document.querySelectorAll("nav a")]);
openTarget();
window.addEventListener("hashchange", openTarget);
function showEverything() {
  document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  return window.drawAll?.();
}
window.addEventListener("beforeprint", showEverything);
// The script that draws stands behind this one.
window.addEventListener("DOMContentLoaded", () => {
  if (window.vegaEmbed) drawFigures();
  // A program that prints the page asks for everything at once.
  if (location.hash === "#print") showEverything();
});
