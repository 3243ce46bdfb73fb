// The chart: one line for each group, made again when the colours of the page change. uPlot draws on a canvas, and is
// given no text of events but by `textContent` (our own legend; its own is off).

const COLOURS = {
  light: ["#1f77b4", "#d1571b", "#2b8a3e", "#a61e8c", "#7a5c00", "#0b7285", "#c92a2a", "#5f3dc4"],
  dark: ["#6cb4ee", "#ff9f68", "#69db7c", "#f783d6", "#ffd43b", "#66d9e8", "#ff8787", "#b197fc"],
};
export const MOST_LINES = COLOURS.light.length;
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Chart {
  #place; #legend; #plot = null; #made = ""; #last = null;

  constructor(place, legend) {
    this.#place = place;
    this.#legend = legend;
    dark.addEventListener("change", () => this.#again());
    new ResizeObserver(() => this.#plot?.setSize(this.#size())).observe(place);
  }

  /** `xs`: seconds; `lines`: [{name, ys}], null in `ys` where there is nothing. */
  show(xs, lines) {
    this.#last = [xs, lines];
    const made = JSON.stringify([dark.matches, lines.map((line) => line.name)]);
    const data = [xs, ...lines.map((line) => line.ys)];
    if (made === this.#made) { this.#plot.setData(data); return; }
    this.#made = made;
    this.#plot?.destroy();
    const style = getComputedStyle(document.documentElement);
    const colours = COLOURS[dark.matches ? "dark" : "light"];
    const axis = { stroke: style.getPropertyValue("--soft").trim(), grid: { stroke: style.getPropertyValue("--line").trim(), width: 1 }, ticks: { show: false } };
    this.#plot = new uPlot({
      ...this.#size(),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) > 0 ? high * 1.08 : 1] } },
      axes: [{ ...axis, size: 34, space: 64, values: (_, ticks, __, ___, step) => ticks.map((tick) => clock(tick, step)) }, { ...axis, size: 56, values: (_, ticks) => ticks.map(short) }],
      series: [{}, ...lines.map((_, at) => ({
        stroke: colours[at], width: 2, spanGaps: false, points: { show: xs.length < 3, fill: colours[at] },
      }))],
    }, data, this.#place);
    this.#legend.replaceChildren(...lines.map((line, at) => {
      const item = document.createElement("li"), mark = document.createElement("i");
      mark.style.backgroundColor = colours[at];
      item.append(mark, document.createTextNode(line.name));
      return item;
    }));
  }

  #again() { if (this.#last) this.show(...this.#last); }

  #size() { return { width: Math.max(this.#place.clientWidth, 200), height: 260 }; }
}

const day = new Intl.DateTimeFormat("en", { month: "short", day: "numeric" });
const time = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** A tick of time: the hour, or the day where a new one begins. */
function clock(second, step) {
  const moment = new Date(second * 1000);
  const midnight = moment.getHours() === 0 && moment.getMinutes() === 0;
  return step >= 86400 || midnight ? day.format(moment) : time.format(moment);
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

function short(number) { return number === null ? "" : compact.format(number); }
