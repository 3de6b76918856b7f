// The report's page: what its reader chooses is filled into plots that have placeholders, and filters rows.
const content = JSON.parse(document.getElementById("content").textContent);
const rowsOf = (table) => {
  const names = Object.keys(table);
  const count = names.length ? table[names[0]].length : 0;
  return Array.from({ length: count }, (_, i) => Object.fromEntries(names.map((name) => [name, table[name][i]])));
};
const rows = Object.fromEntries(Object.entries(content.rows).map(([name, table]) => [name, rowsOf(table)]));
const axes = Object.fromEntries(content.axes.map((axis) => [axis.field, axis]));
const most = content.most;

// ---- what is chosen, kept in the address so that a view can be passed on

const chosen = { ...content.chosen, ...Object.fromEntries(new URLSearchParams(location.hash.slice(1))) };
const kept = (cell) => content.axes.every(({ field }) => !chosen[field] || String(cell[field]) === chosen[field]);

function choose(name, value) {
  chosen[name] = value;
  history.replaceState(null, "", `#${new URLSearchParams(chosen)}`);
  show();
}

function control(label, name, options) {
  const select = document.createElement("select");
  select.name = name;
  for (const [value, text] of options) select.add(new Option(text, value));
  if (!options.some(([value]) => value === chosen[name])) chosen[name] = options[0][0];
  select.value = chosen[name];
  select.addEventListener("change", () => choose(name, select.value));
  const labelled = document.createElement("label");
  labelled.append(label, select);
  return labelled;
}

function controls() {
  const titles = content.axes.map(({ field, title }) => [field, title]);
  const optional = [["none", "–"], ...titles];
  const looks = [
    control("metric", "metric", content.metrics.map(({ name, title }) => [name, title])),
    control("along x", "x", titles.length ? titles : optional),
    control("colour", "colour", optional),
    control("dash and shape", "shape", optional),
    control("panels", "panels", optional),
    control("speed-up over", "over", content.overs.length ? content.overs : [["none", "–"]]),
    control("order by", "when", [["position", "position"], ["started", "start time"]]),
  ];
  document.querySelector("#looks").append(...looks);
  const filters = content.axes.map(({ field, title, values }) =>
    control(title, field, [["", "all"], ...values.map((value) => [String(value), String(value)])]));
  document.querySelector("#filters").append(...filters);
  if (!filters.length) document.querySelector("#filters").hidden = true;
}

// ---- rows as the chosen plots want them

const texts = content.axes.map(({ field, values, labels }) => [field, new Map(values.map((v, i) => [v, labels[i]]))]);
// What tells the line, band or panel of a row from others: its axes but for the fields that are left out.
const apart = (row, left) => texts.filter(([field]) => !left.includes(field))
  .map(([field, labels]) => labels.get(row[field])).filter((text) => (text ?? "–") !== "–").join(" · ");
const withCell = (row) => ({ ...row, ...rows.cells[row.cell] });

function measured(table) {
  return rows[table].map(withCell).filter((row) => kept(row) && (!row.metric || row.metric === chosen.metric));
}

function even(list, count) {
  if (list.length <= count) return list;
  return Array.from({ length: count }, (_, i) => list[Math.floor((i * list.length) / count)]);
}

// The rows that have one of the first so many values of a field.
function first(list, field, count) {
  const values = new Set([...new Set(list.map((row) => row[field]))].slice(0, count));
  return list.filter((row) => values.has(row[field]));
}

const axisOf = (name) => content.axes.find((axis) => axis.name === name)?.field ?? "none";
const ordered = (row) => ({ ...row, when: row[chosen.when] });
const enough = (list) => (list.length > 2 ? list : []); // for a trend to be one
const course = (of) => rows.curves.filter((row) => row.of === of).map(withCell).filter(kept);
const ratios = () =>
  rows.ratios.filter((row) => row.metric === chosen.metric && row.over === chosen.over && kept(row));

const found = {
  time: () => measured("summaries").filter((row) => row.mean),
  speedup: () => ratios().filter((row) => row.speedup),
  heatmap: (roles) => (roles.x === "none" ? [] : ratios()),
  split: () => measured("parts"),
  processes: () => measured("processes"),
  order: () => enough(measured("processes").map(ordered).filter((row) => row.when !== null && row.relative)),
};
const bounded = {
  processes: (list) => first(list, "cell", most.cells),
  order: (list) => even(list, most.points),
  heatmap: (list) => first(list, "apart", most.panels),
  split: (list) => first(list, "apart", most.panels),
};

// Which axis has which role in a plot of this kind.
function rolesOf(kind) {
  const over = axisOf(chosen.over), { along, over_time: overTime } = content.plots[kind];
  const x = kind === "heatmap" && chosen.x === over ? content.across[chosen.over] ?? "none" : chosen.x;
  // Where time runs along x, the axis that stands there elsewhere is told by dashes, unless something else is.
  const free = overTime && chosen.shape === "none" && ![chosen.colour, chosen.panels].includes(x);
  const shape = free ? x : chosen.shape;
  const roles = { ...chosen, x, over, shape, dash: shape };
  return { ...roles, left: along.map((role) => roles[role]) };
}

// The rows of a plot, each with what tells its line, band or panel from others.
function rowsFor(kind, roles) {
  const list = found[kind] ? found[kind](roles) : course(content.plots[kind].rows);
  return list.map((row) => ({ ...row, apart: apart(row, roles.left) }));
}

// ---- plots

const words = () => {
  const metric = content.metrics.find(({ name }) => name === chosen.metric);
  const base = rows.ratios.find((row) => row.over === chosen.over);
  return {
    "@metric": metric?.title ?? "",
    "@baseline": base?.baseline ?? "",
    "@when": chosen.when === "started" ? "start (min since the first)" : "place in the order of execution",
  };
};

function filled(node, roles, spoken) {
  if (Array.isArray(node)) return node.map((each) => filled(each, roles, spoken));
  if (node && typeof node === "object") {
    const role = typeof node.field === "string" && node.field.startsWith("@") ? node.field.slice(1) : null;
    const encodings = (axes[roles[role]] ?? content.nothing).encodings;
    if (role) return encodings[role === "x" && node.type === "ordinal" ? "steps" : role];
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, filled(value, roles, spoken)]));
  }
  return typeof node === "string" ? node.replace(/@(metric|baseline|when)/g, (word) => spoken[word]) : node;
}

// Widths of panels, or how many of them fit beside each other where steps decide the width.
function fitted(spec, kind, list, roles, width) {
  const count = (field) => new Set(list.map((row) => row[field])).size;
  const step = { heatmap: 46, split: 22 }[kind];
  if (step) {
    const panel = count(roles.x) * step + (kind === "heatmap" ? 150 : 30);
    return { ...spec, columns: Math.max(1, Math.floor((width - 60) / Math.max(panel, 190))) };
  }
  const panels = ["processes", "order"].includes(kind) ? 1 : count(roles.panels);
  const wanted = panels > 1 ? (width - 130) / 2 : width - (kind === "processes" ? 360 : 90);
  return { ...spec, spec: { ...spec.spec, width: Math.max(240, wanted) } };
}

const counted = (count) => count.toLocaleString("en");
const leftOut = (some, whole) =>
  some < whole ? `Shown are ${counted(some)} of ${counted(whole)} marks: filter to see the others.` : "";

async function draw(figure) {
  const kind = figure.dataset.kind;
  const roles = rolesOf(kind), all = rowsFor(kind, roles);
  const list = bounded[kind]?.(all) ?? all;
  const absent = content.absent[chosen.metric] && (kind === "processes" || kind === "order");
  figure.hidden = !list.length && !absent;
  figure.querySelector(".note").textContent = absent ? content.absent[chosen.metric] : leftOut(list.length, all.length);
  if (!list.length) return figure.querySelector(".plot").replaceChildren();
  const place = figure.querySelector(".plot");
  const filledSpec = filled(content.plots[kind].spec, roles, words());
  const spec = fitted(filledSpec, kind, list, roles, place.clientWidth);
  spec.data = { values: list };
  const values = { connected: axes[chosen.x]?.numeric ? 1 : 0, reach: reachOf(list) };
  for (const param of spec.params ?? []) if (param.name in values) param.value = values[param.name];
  const actions = { export: true, source: false, compiled: false, editor: false };
  const name = `${content.name}-${kind}`;
  await vegaEmbed(place, spec, { renderer: "svg", actions, config: content.theme, downloadFileName: name });
}

const reachOf = (list) => Math.max(0.14, ...list.map((row) => Math.abs(row.log_speedup ?? 0)));

// ---- tables

const COUNTS = new Set(["processes", "failed", "trials"]);
const metric = () => content.metrics.find(({ name }) => name === chosen.metric);

// The unit of its own of a value, where those of the metric lie too far apart for one.
function scaleOf(value, power) {
  const scales = power ? metric()?.scales ?? [] : [];
  const size = power === 2 ? Math.sqrt(Math.abs(value)) : Math.abs(value);
  const found = scales.find(({ least }) => size >= least) ?? scales.at(-1);
  return found ? { factor: found.factor ** power, sign: ` ${found.sign}${power === 2 ? "²" : ""}` } : { factor: 1, sign: "" };
}

function quantity(value, key, power) {
  if (!power || typeof value !== "number") return figureText(value, key);
  const { factor, sign } = scaleOf(value, power);
  return figureText(value / factor, key) + sign;
}

const figureText = (value, key) => {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number" || COUNTS.has(key) || key in axes) return String(value);
  const size = Math.abs(value);
  if (value && (size < 1e-4 || size >= 1e7)) return value.toExponential(3);
  return value.toFixed(Math.max(0, 3 - Math.floor(Math.log10(size || 1))));
};

// Numbers by size, texts as people sort versions, and what is not there last whichever way.
const compared = (one, other, way) => {
  const absent = ((one ?? null) === null) - ((other ?? null) === null);
  if (absent || (one ?? null) === null) return absent;
  if (typeof one === "number" && typeof other === "number") return way * (one - other);
  return way * String(one).localeCompare(String(other), "en", { numeric: true });
};

class Table {
  constructor(place) {
    this.place = place;
    this.name = place.dataset.table;
    this.order = null;
    this.limit = most.rows;
  }

  get columns() {
    const axisColumns = content.axes.map(({ field, title, numeric }) => ({ key: field, title, numeric }));
    const sign = ({ power, has_room: hasRoom }) =>
      (hasRoom && metric()?.sign ? ` (${metric().sign}${power === 2 ? "²" : ""})` : "");
    return content.columns[this.name].flatMap((column) =>
      column.key === "axes" ? axisColumns : [{ ...column, title: column.title + sign(column) }]);
  }

  rows() {
    if (this.name === "cells") return measured("summaries");
    if (this.name === "ratios") return ratios();
    return rows[this.name].filter((row) => row.cell === undefined || row.cell === null || kept(rows.cells[row.cell]));
  }

  show() {
    const columns = this.columns, found = this.rows();
    if (this.order) {
      const { key, way } = this.order;
      found.sort((a, b) => compared(a[key], b[key], way));
    }
    const table = document.createElement("table");
    table.append(this.head(columns), this.body(columns, found.slice(0, this.limit)));
    this.place.replaceChildren(table, ...this.more(found.length));
  }

  head(columns) {
    const head = document.createElement("thead"), line = head.insertRow();
    for (const { key, title, numeric } of columns) {
      const cell = document.createElement("th"), button = document.createElement("button");
      cell.scope = "col";
      cell.className = numeric ? "number" : "";
      if (this.order?.key === key) cell.setAttribute("aria-sort", this.order.way > 0 ? "ascending" : "descending");
      button.type = "button";
      button.textContent = title;
      button.addEventListener("click", () => {
        this.order = { key, way: this.order?.key === key ? -this.order.way : 1 };
        this.show();
      });
      cell.append(button);
      line.append(cell);
    }
    return head;
  }

  body(columns, found) {
    const body = document.createElement("tbody");
    for (const row of found) {
      const line = body.insertRow();
      for (const { key, numeric, power } of columns) {
        const cell = line.insertCell();
        cell.textContent = key === "interval" ? interval(row, power) : quantity(row[key], key, power);
        if (numeric) cell.className = "number";
        if (key === "verdict") cell.className = row[key];
        if (key === "basis") cell.className = "words";
      }
    }
    return body;
  }

  more(count) {
    if (count <= this.limit) return [];
    const button = document.createElement("button");
    button.type = "button";
    button.className = "more";
    button.textContent = `show all ${counted(count)} rows`;
    button.addEventListener("click", () => { this.limit = Infinity; this.show(); });
    return [button];
  }
}

function interval(row, power) {
  if ((row.low ?? null) === null) return "–";
  const { factor, sign } = scaleOf(row.mean, power);
  return `[${figureText(row.low / factor)}, ${figureText(row.high / factor)}]${sign}`;
}

// ---- showing it all

const all = [...document.querySelectorAll("[data-table]")].map((place) => new Table(place));
const figures = [...document.querySelectorAll("figure[data-kind]")];
let turn = 0;

function summarised() {
  const filters = content.axes.filter(({ field }) => chosen[field]).map(({ field, title }) => `${title} ${chosen[field]}`);
  const metric = content.metrics.find(({ name }) => name === chosen.metric);
  return `Shown: ${metric?.title ?? "nothing"}${filters.length ? `, only ${filters.join(", ")}` : ", all cells"}.`;
}

async function show() {
  const own = ++turn, main = document.querySelector("main");
  main.setAttribute("aria-busy", "true");
  for (const place of document.querySelectorAll(".chosen")) place.textContent = summarised();
  for (const table of all) table.show();
  for (const figure of figures) {
    await draw(figure);
    if (own !== turn) return;
    await new Promise((done) => setTimeout(done));
  }
  main.setAttribute("aria-busy", "false");
}

controls();
show();
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(show, 250); });
