// The page of live tables: which metric, its rows as they come, a chart and a table of them.
// Text of events (groups, values, titles) is put in by textContent only: it was written by strangers.

import { Chart, MOST_LINES } from "/live/chart.js";
import { follow } from "/live/stream.js";

const LAST = 62; // windows that are kept: those of a snapshot, and those that still change
const MOST_ROWS = 40;
const FRESH_MS = 1500;
const by = (id) => document.getElementById(id);
const [metricBox, windowBox, measureBox, tokenBox] = ["metric", "window", "measure", "token"].map(by);
const chart = new Chart(by("chart"), by("legend"));
const FEWER = [15, 5, 1]; // windows to ask for when there is too much of all of them

let metrics = [];
let stop = () => {};
let about = null;
let rows = new Map();
let fresh = new Map();
let drawing = false;
let few = "";

const token = () => sessionStorage.getItem("token") ?? "";

function say(state, text) {
  by("state").dataset.state = state === "refused" ? "down" : state;
  by("state").textContent = text;
}

function options(box, names, chosen) {
  box.replaceChildren(...names.map(([value, text]) => {
    const option = document.createElement("option");
    option.value = value;
    option.textContent = text;
    return option;
  }));
  if (names.some(([value]) => value === chosen)) box.value = chosen;
}

async function load() {
  stop();
  let wait = 500;
  for (;;) {
    try {
      const answer = await fetch("/api/v1/analytics", {
        headers: token() ? { Authorization: `Bearer ${token()}` } : {}, cache: "no-store",
      });
      const said = await answer.json();
      if (answer.ok) { metrics = (said.data ?? []).filter((each) => each && typeof each.name === "string"); break; }
      if (answer.status === 401) {
        by("access").open = true;
        say("down", `${said.error?.message ?? "The token was refused."} Paste another one, or forget it.`);
        return;
      }
      say("down", `disconnected: ${said.error?.message ?? answer.status} Trying again.`);
    } catch {
      say("down", "disconnected: the server can't be reached. Trying again.");
    }
    await new Promise((go) => setTimeout(go, wait));
    wait = Math.min(wait * 2, 15000);
  }
  const asked = new URLSearchParams(location.hash.slice(1));
  options(metricBox, metrics.map((each) => [each.name, each.title ?? each.name]), asked.get("metric"));
  if (!metrics.length) {
    by("access").open = true;
    say("down", token() ? "There are no metrics that this token may see." : "There are no public metrics. For others, paste a token.");
    clear();
    return;
  }
  pick(asked.get("window"), asked.get("measure"));
}

function pick(window, measure) {
  const metric = metrics.find((each) => each.name === metricBox.value);
  if (!metric) return;
  options(windowBox, (metric.windows ?? []).map((each) => [each.name ?? each, each.name ?? each]), window ?? windowBox.value);
  options(measureBox, choices(metric.measures ?? []), measure ?? measureBox.value);
  watch();
}

/** What can be drawn: a measure, or a percentile of one. Which percentiles there are is seen in the rows. */
function choices(measures) {
  const found = [];
  for (const { name, kind } of measures) {
    if (kind === "top") continue;
    if (kind !== "percentiles") { found.push([name, name]); continue; }
    const example = [...rows.values()].find((row) => row[name] && typeof row[name] === "object");
    for (const key of Object.keys(example?.[name] ?? {})) found.push([`${name}.${key}`, `${name} ${key}`]);
  }
  return found.length ? found : [["count", "count"]];
}

function clear() {
  about = null;
  rows = new Map();
  fresh = new Map();
  draw();
}

function watch() {
  stop();
  clear();
  const metric = metricBox.value, window = windowBox.value;
  const path = `/api/v1/analytics/${encodeURIComponent(metric)}/live`;
  const fewer = [...FEWER];
  say("waiting", "connecting…");
  few = "";
  remember();
  stop = follow(`${path}?${new URLSearchParams({ window })}`, token(), {
    heard,
    told(state, text, status) {
      say(state, state === "refused" ? `not connected: ${text}` : text);
      if (status === 401 || status === 404) by("access").open = true;
    },
    refused(status) {
      if (status !== 422 || !fewer.length) return null;
      const last = fewer.shift();
      const since = new Date(Date.now() - last * seconds(window) * 1000).toISOString();
      few = "There are very many groups: only the newest windows are shown. ";
      return `${path}?${new URLSearchParams({ window, since })}`;
    },
  });
}

/** The step of a window by its name, seconds; about a month for a month. */
function seconds(window) {
  const named = { minute: 60, hour: 3600, day: 86400, month: 2678400 };
  const [, count, unit] = /([0-9]+)([smhdwy])$/.exec(window) ?? [];
  return named[window] ?? Number(count) * { s: 1, m: 60, h: 3600, d: 86400, w: 604800, y: 31536000 }[unit];
}

function remember() {
  const chosen = new URLSearchParams({ metric: metricBox.value, window: windowBox.value, measure: measureBox.value });
  history.replaceState(null, "", `#${chosen}`);
}

function heard(event, text) {
  if (event !== "snapshot" && event !== "rows") {
    try { return JSON.parse(text).message; } catch { return `the server ended it (${event}).`; }
  }
  const said = JSON.parse(text);
  if (event === "snapshot") {
    about = said;
    rows = new Map();
    fresh = new Map();
  }
  for (const row of said.rows) {
    const key = JSON.stringify([row.start, row.group]);
    rows.set(key, row);
    if (event === "rows") fresh.set(key, Date.now());
  }
  const oldest = Date.now() - LAST * seconds(about.window) * 1000;
  for (const [key, row] of rows) if (Date.parse(row.start) < oldest) rows.delete(key);
  if (event === "snapshot") options(measureBox, choices(about.measures), measureBox.value);
  say("live", "live");
  draw();
  return "";
}

function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    by("title").textContent = about?.title ?? "";
    drawChart();
    drawTable();
  });
}

const estimate = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

function text(value) {
  if (value === null || value === undefined) return "–";
  if (Array.isArray(value)) return value.map((each) => `${text(each.value)} (${each.count})`).join(", ");
  // Percentiles are within 1 %: more digits than these say nothing.
  if (typeof value === "object") return Object.entries(value).map(([name, each]) => `${name} ${typeof each === "number" ? estimate.format(each) : text(each)}`).join(", ");
  return typeof value === "number" ? value.toLocaleString("en", { maximumFractionDigits: 6 }) : String(value);
}

/** A value of a group, as it is: 2026 may be a year. */
function label(value) { return value === null || value === undefined ? "–" : String(value); }

function measured(row) {
  // A percentile may have a point of its own, as p99.9 has; a measure has none.
  const [, name, key] = /^([^.]*)\.?(.*)$/.exec(measureBox.value);
  const value = key ? row[name]?.[key] : row[name];
  return typeof value === "number" ? value : null;
}

function drawChart() {
  const groups = new Map();
  for (const row of rows.values()) {
    // What is shown alike, as 1 and "1" are, may be two groups.
    const key = JSON.stringify(row.group);
    const name = Object.values(row.group).map(label).join(" · ") || "all";
    const line = groups.get(key) ?? groups.set(key, { name, at: new Map(), total: 0 }).get(key);
    const value = measured(row);
    line.at.set(Date.parse(row.start) / 1000, value);
    line.total += Math.abs(value ?? 0);
  }
  const all = [...groups.values()].sort((one, other) => other.total - one.total);
  const shown = all.slice(0, MOST_LINES);
  const xs = times([...new Set([...rows.values()].map((row) => Date.parse(row.start) / 1000))].sort((a, b) => a - b));
  // A window without events counts nothing; of other measures there is then no value.
  const empty = measureBox.value === "count" ? 0 : null;
  chart.show(xs, shown.map((line) => ({ name: line.name, ys: xs.map((x) => line.at.get(x) ?? empty) })));
  const more = all.length > shown.length ? `${all.length} groups; the chart shows the ${shown.length} largest. ` : "";
  by("note").textContent = shown.length ? `${few}${more}The newest window is still filling.` : about ? "Nothing has happened in these windows yet." : "";
}

/** The windows from the first to the last row, also those of which there are no rows. */
function times(found) {
  if (found.length < 2 || about?.window === "month") return found;
  const step = seconds(about.window), all = [];
  for (let at = found[0]; at <= found.at(-1) && all.length < 1500; at += step) all.push(at);
  return all;
}

function drawTable() {
  const paths = about?.group_by ?? [], measures = about?.measures ?? [];
  const head = document.createElement("tr");
  for (const [name, number] of [["start", false], ...paths.map((path) => [path, false]), ...measures.map((each) => [each.name, numeric(each.kind)])]) {
    const cell = document.createElement("th");
    cell.textContent = name;
    cell.classList.toggle("number", number);
    head.append(cell);
  }
  by("head").replaceChildren(...(about ? [head] : []));
  const newest = [...rows].sort(([, one], [, other]) => (other.start < one.start ? -1 : other.start > one.start ? 1 : other.count - one.count));
  by("rows").replaceChildren(...newest.slice(0, MOST_ROWS).map(([key, row]) => {
    const line = document.createElement("tr");
    line.classList.toggle("fresh", Date.now() - (fresh.get(key) ?? 0) < FRESH_MS);
    line.append(
      cellOf(when(row.start), "start"),
      ...paths.map((path) => cellOf(label(row.group[path]))),
      ...measures.map((each) => cellOf(text(row[each.name]), numeric(each.kind) ? "number" : "wide")),
    );
    return line;
  }));
}

function numeric(kind) { return kind !== "top" && kind !== "percentiles"; }

function cellOf(content, name = "") {
  const cell = document.createElement("td");
  cell.textContent = content;
  if (name) cell.className = name;
  return cell;
}

const day = new Intl.DateTimeFormat("en", { year: "numeric", month: "short", day: "numeric" });
const minute = new Intl.DateTimeFormat("en", { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** When a window begins: in the time of whoever looks; days and months are those of UTC, as the table has them. */
function when(start) {
  if (seconds(about.window) < 86400) return minute.format(new Date(start));
  return day.format(new Date(`${start.slice(0, 10)}T12:00`));
}

metricBox.addEventListener("change", () => pick());
windowBox.addEventListener("change", watch);
measureBox.addEventListener("change", () => { remember(); draw(); });
by("picker").addEventListener("submit", (event) => {
  event.preventDefault();
  if (tokenBox.value.trim()) sessionStorage.setItem("token", tokenBox.value.trim());
  tokenBox.value = "";
  by("access").open = false;
  load();
});
by("forget").addEventListener("click", () => { sessionStorage.removeItem("token"); tokenBox.value = ""; load(); });
setInterval(() => { if (fresh.size) { for (const [key, at] of fresh) if (Date.now() - at > FRESH_MS) fresh.delete(key); draw(); } }, 1000);
load();
