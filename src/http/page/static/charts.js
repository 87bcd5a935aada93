// Line charts of the samples, as SVG.
import { element, number, svg } from "./dom.js";

const WIDTH = 360;
const HEIGHT = 150;
const LEFT = 40;
const RIGHT = 6;
const TOP = 8;
const BOTTOM = 20;
// What the horizontal axis may cover: the shortest one with all samples is used.
const MINUTES = [1, 2, 5, 10];

const stage = (name) => (sample, key) => sample.latency[name]?.[key] ?? null;
const PERCENTILES = [
  ["P50", "p50"],
  ["P95", "p95"],
  ["P99", "p99"],
];
const latency = (title, name) => ({
  title,
  unit: "ms",
  series: PERCENTILES.map(([label, key]) => [label, (sample) => stage(name)(sample, key)]),
});

// Each series has a name and its value in a sample; null leaves a gap.
const CHARTS = [
  { title: "Texts", unit: "per second", series: [["texts", (sample) => sample.texts_per_second]] },
  { title: "Requests", unit: "per second", series: [["requests", (sample) => sample.requests_per_second]] },
  latency("Latency, total", "total"),
  latency("Latency, tokenize", "tokenize"),
  latency("Latency, queue", "queue"),
  latency("Latency, infer", "infer"),
  { title: "Batch size, texts", unit: "mean", series: [["texts", (sample) => sample.batch_texts]] },
  { title: "Batch size, tokens", unit: "mean", series: [["tokens", (sample) => sample.batch_tokens]] },
  {
    title: "Cache hit rate",
    unit: "% of texts",
    max: 100,
    series: [["hits", (sample) => (sample.cache_hit_rate === null ? null : sample.cache_hit_rate * 100)]],
  },
  { title: "Queue depth", unit: "texts, maximum", series: [["texts", (sample) => sample.queue_texts]] },
  {
    title: "Sessions busy",
    unit: "mean",
    limit: (stats) => stats.now.sessions,
    series: [["busy", (sample) => sample.sessions_busy]],
  },
  {
    title: "Errors",
    unit: "per sample",
    series: [
      ["rejected", (sample) => sample.errors.rejected],
      ["overloaded", (sample) => sample.errors.overloaded],
      ["failed", (sample) => sample.errors.failed],
    ],
  },
];

// Draws all charts anew.
export function drawCharts(container, stats) {
  container.replaceChildren(...CHARTS.map((chart) => figure(chart, stats)));
}

function figure(chart, stats) {
  const { samples } = stats;
  const last = samples[samples.length - 1];
  const legend = chart.series.map(([name, value], index) =>
    element(
      "span",
      { class: `c${index}` },
      element("span", { class: "key" }),
      `${name} `,
      element("b", {}, last ? number(value(last)) : "–"),
    ),
  );
  return element(
    "figure",
    { class: "chart" },
    element("figcaption", {}, element("h3", {}, chart.title), element("span", { class: "unit" }, chart.unit)),
    plot(chart, stats),
    element("div", { class: "legend" }, ...legend),
  );
}

function plot(chart, stats) {
  const { samples } = stats;
  const now = stats.server.uptime_seconds;
  const values = samples.flatMap((sample) => chart.series.map(([, value]) => value(sample)));
  const top = scale(Math.max(chart.max || 0, chart.limit?.(stats) || 0, ...values.filter((value) => value !== null)));
  const age = samples.length > 0 ? now - samples[0].at : 0;
  const minutes = MINUTES.find((minutes) => minutes * 60 >= age) || MINUTES[MINUTES.length - 1];
  const x = (at) => LEFT + (WIDTH - LEFT - RIGHT) * Math.max(0, 1 - (now - at) / (minutes * 60));
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top);
  const out = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": description(chart, samples),
  });
  for (const part of [0, 0.5, 1]) {
    const at = y(top * part);
    out.append(
      svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: at, y2: at }),
      svg("text", { class: "tick end", x: LEFT - 5, y: at + 4 }, short(top * part)),
    );
  }
  for (const [anchor, ago] of [["", minutes], [" middle", minutes / 2], [" end", 0]]) {
    const label = ago === 0 ? "now" : ago < 1 ? `−${ago * 60} s` : `−${ago} min`;
    out.append(svg("text", { class: `tick${anchor}`, x: x(now - ago * 60), y: HEIGHT - 5 }, label));
  }
  chart.series.forEach(([, value], index) => {
    for (const run of runs(samples, value)) {
      const points = run.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
      out.append(
        run.length === 1
          ? svg("circle", { class: `c${index}`, cx: x(run[0][0]), cy: y(run[0][1]), r: 1.5 })
          : svg("polyline", { class: `line c${index}`, points: points.join(" ") }),
      );
    }
  });
  if (samples.length === 0) {
    out.append(svg("text", { class: "tick middle", x: (LEFT + WIDTH) / 2, y: HEIGHT / 2 - 10 }, "no samples yet"));
  }
  return out;
}

// The longest parts of a series without gaps.
function runs(samples, value) {
  const found = [];
  let run = [];
  for (const sample of samples) {
    const current = value(sample);
    if (current === null) {
      found.push(run);
      run = [];
    } else {
      run.push([sample.at, current]);
    }
  }
  found.push(run);
  return found.filter((run) => run.length > 0);
}

// The end of the axis: 1, 2 or 5 times a power of ten.
function scale(max) {
  if (max <= 0) {
    return 1;
  }
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 2, 5, 10].map((digit) => digit * power).find((end) => end >= max * 0.999);
}

function short(value) {
  return value >= 10_000 ? `${number(value / 1000)}k` : number(value);
}

function description(chart, samples) {
  const last = samples[samples.length - 1];
  const current = chart.series.map(([name, value]) => `${name} ${last ? number(value(last)) : "unknown"}`);
  return `${chart.title}, ${chart.unit}: ${current.join(", ")}`;
}
