// SPDX-License-Identifier: Apache-2.0
// The dashboard's charts: data from the server every ten seconds, colours from the stylesheet.
"use strict";

const SECONDS = 10;
const language = document.documentElement.lang;

const figures = (digits) => new Intl.NumberFormat(language, { maximumFractionDigits: digits });
const FORMATS = {
  rate: (value) => `${figures(value < 10 ? 1 : 0).format(value)}/s`,
  bytes: (value) => {
    const units = ["B", "kB", "MB", "GB", "TB"];
    let unit = 0;
    while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
    return `${figures(value < 10 ? 1 : 0).format(value)} ${units[unit]}/s`;
  },
  percent: (value) => `${figures(1).format(value * 100)} %`,
};

// A colour as it is now: the stylesheet's variables are different in the dark.
function colour(name) {
  const probe = document.createElement("span");
  probe.hidden = true;
  probe.className = name;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

class Chart {
  constructor(place) {
    this.place = place;
    this.format = FORMATS[place.dataset.unit];
    this.plot = null;
    this.data = null;
    new ResizeObserver(() => this.fit()).observe(place);
  }

  options() {
    const line = colour("chart-line"), ink = colour("chart-ink"), grid = colour("chart-grid");
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 } };
    const values = (plot, splits) => splits.map((value) => this.format(value));
    const shown = (plot, value) => (value === null ? "–" : this.format(value));
    const share = this.place.dataset.unit === "percent";
    const time = new Intl.DateTimeFormat(language, { timeZone: "UTC", dateStyle: "short", timeStyle: "medium" });
    return {
      width: this.place.clientWidth,
      height: 170,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      cursor: { y: false },
      scales: { y: { range: share ? [0, 1] : (plot, low, high) => [0, Math.max(high || 0, 1) * 1.08] } },
      axes: [
        { ...axis, space: 70, values: "{HH}:{mm}" },
        { ...axis, size: 72, values },
      ],
      series: [
        { label: this.place.dataset.time, value: (plot, at) => (at ? `${time.format(at * 1000)} UTC` : "–") },
        {
          label: this.place.dataset.labels, stroke: line, width: 1.5, value: shown,
          fill: colour("chart-fill"), points: { show: false }, spanGaps: false,
        },
      ],
    };
  }

  show(data) {
    this.data = data;
    const series = data[this.place.dataset.series];
    const none = series.every((value) => value === null);
    if (none) {
      this.plot?.destroy();
      this.plot = null;
      const text = document.createElement("p");
      text.className = "nothing";
      text.textContent = document.getElementById("chart-none").textContent;
      this.place.replaceChildren(text);
      return;
    }
    if (this.plot) {
      this.plot.setData([data.time, series]);
    } else {
      this.place.replaceChildren();
      this.plot = new uPlot(this.options(), [data.time, series], this.place);
    }
  }

  fit() {
    if (this.plot && this.place.clientWidth) this.plot.setSize({ width: this.place.clientWidth, height: 170 });
  }

  again() {
    this.plot?.destroy();
    this.plot = null;
    if (this.data) this.show(this.data);
  }
}

const charts = [...document.querySelectorAll(".chart")].map((place) => new Chart(place));

async function refresh() {
  if (!charts.length || document.hidden) return;
  try {
    const answer = await fetch(charts[0].place.dataset.source, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const data = await answer.json();
    for (const chart of charts) chart.show(data);
    document.documentElement.dataset.charts = "shown";
  } catch {
    // The server is away; the charts stay as they are until it is back.
  }
}

refresh();
setInterval(refresh, SECONDS * 1000);
document.addEventListener("visibilitychange", refresh);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.again()));
for (const select of document.querySelectorAll("#range-form select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
