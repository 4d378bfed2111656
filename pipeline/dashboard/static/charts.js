// The plots of the overview, by uPlot from /api/history; drawn anew every ten seconds.
"use strict";

(() => {
  const section = document.getElementById("plots");
  if (!section) return;

  const PLOTS = {
    throughput: [["completed", "completed", "good"], ["failed", "failed", "bad"]],
    latency: [["latency_p50_seconds", "50 %", "one"], ["latency_p95_seconds", "95 %", "two"], ["latency_p99_seconds", "99 %", "three"]],
    age: [["oldest_pending_seconds", "oldest", "one"]],
  };
  const MINUTE = 60, REDRAW_MS = 10_000, HEIGHT = 150;
  const drawn = new Map();
  let hours = 1;

  const color = (name) => getComputedStyle(section).getPropertyValue("--plot-" + name).trim();
  const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 16);
  const short = (value) => (value >= 1000 ? value / 1000 + "k" : value);

  // A minute in which nothing ran is a gap, and no straight line.
  function withGaps(past) {
    const names = Object.keys(past), rows = {};
    for (const name of names) rows[name] = [];
    for (let i = 0; i < past.minute.length; i++) {
      const before = past.minute[i - 1];
      if (before !== undefined && past.minute[i] - before > MINUTE) {
        for (const name of names) rows[name].push(name === "minute" ? before + MINUTE : null);
      }
      for (const name of names) rows[name].push(past[name][i]);
    }
    return rows;
  }

  function options(element, lines) {
    const axis = { stroke: color("ink"), grid: { stroke: color("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    return {
      width: element.clientWidth,
      height: HEIGHT,
      legend: { live: false },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      cursor: { drag: { x: false, y: false } },
      scales: { x: { time: true, range: () => [Date.now() / 1000 - hours * 3600, Date.now() / 1000] }, y: { range: (u, low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [{ ...axis, size: 28, space: 70, values: (u, ticks) => ticks.map(clock) }, { ...axis, size: 44, values: (u, ticks) => ticks.map(short) }],
      series: [{}, ...lines.map(([, label, tone]) => ({ label, stroke: color(tone), width: 2, points: { show: hours === 1, size: 5 } }))],
    };
  }

  function draw(past) {
    for (const element of section.querySelectorAll(".plot")) {
      const lines = PLOTS[element.dataset.plot];
      const data = [past.minute, ...lines.map(([name]) => past[name])];
      drawn.get(element)?.destroy();
      drawn.set(element, new uPlot(options(element, lines), data, element));
      element.dataset.points = past.minute.length;
    }
  }

  async function refresh() {
    if (document.hidden) return;
    try {
      const answer = await fetch("/api/history?hours=" + hours, { credentials: "same-origin" });
      if (answer.ok) draw(withGaps(await answer.json()));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // no answer: the line on top says so
    }
  }

  section.querySelector(".switch").addEventListener("click", (event) => {
    if (!event.target.dataset.hours) return;
    hours = Number(event.target.dataset.hours);
    for (const button of section.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", String(button === event.target));
    }
    refresh();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  let pending;
  addEventListener("resize", () => { clearTimeout(pending); pending = setTimeout(refresh, 200); });
  document.addEventListener("visibilitychange", refresh);
  setInterval(refresh, REDRAW_MS);
  refresh();
})();
