// Charts over time, each with its values at the cursor and as a table.
"use strict";

(function () {
  const MOST_ROWS = 60;
  const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200];
  for (let days = 1; days <= 512; days *= 2) STEPS_S.push(days * 86400);
  const charts = [];

  function round(value) {
    if (value === null || value === undefined || !isFinite(value)) return "–";
    const size = Math.abs(value);
    const digits = size >= 1000 ? 0 : size >= 10 ? 1 : 3;
    return value.toLocaleString("en", { maximumFractionDigits: digits });
  }

  // The x of a record is the time since its begin, s; of a live run, the time of day.
  function clockText(x, isTime) {
    if (isTime) return new Date(x * 1000).toLocaleTimeString("en-GB");
    const whole = Math.round(x);
    const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
    return parts.map((part) => String(part).padStart(2, "0")).join(":");
  }

  // Labels of an axis, as short as they may be: `21:35` of whole minutes, `02:30` of less than an hour.
  function axisTexts(splits, isTime) {
    const texts = splits.map((x) => clockText(x, isTime));
    if (isTime) return splits.every((x) => x % 60 === 0) ? texts.map((text) => text.slice(0, 5)) : texts;
    return texts.every((text) => text.startsWith("00:")) ? texts.map((text) => text.slice(3)) : texts;
  }

  function withAlpha(colour, alpha) {
    const [r, g, b] = colour.match(/\d+/g);
    return `rgba(${r}, ${g}, ${b}, ${alpha})`;
  }

  function lineOf(series, spanGaps) {
    const found = {
      label: series.label,
      stroke: () => steppe.colour(series.colour),
      width: 1.6,
      points: { show: false },
      spanGaps,
    };
    if (series.is_dashed) found.dash = [6, 4];
    if (series.is_filled) found.fill = () => withAlpha(steppe.colour(series.colour), 0.16);
    return found;
  }

  function axis(extra) {
    return {
      stroke: () => steppe.colour("muted"),
      grid: { stroke: () => steppe.colour("edge"), width: 1 },
      ticks: { show: false },
      font: "12px system-ui, sans-serif",
      ...extra,
    };
  }

  // The highest value of the y axis: of all values, or of those that are no rare peaks.
  function topOf(plot, spec, high) {
    if (!spec.cuts_peaks) return high;
    const values = plot.data.slice(1).flat().filter((value) => value > 0).sort((a, b) => a - b);
    return Math.min(high, 5 * (values[Math.floor(values.length / 2)] || high));
  }

  function heightOf(box) {
    return parseInt(getComputedStyle(box).minHeight, 10); // a box that is not shown yet has it too
  }

  function optionsOf(spec, box, { isTime, sync, rests, spansGaps = false }) {
    return {
      width: box.clientWidth,
      height: heightOf(box),
      legend: { show: false },
      cursor: { ...(sync ? { sync: { key: sync } } : {}), drag: { x: true, y: false } },
      scales: { x: { time: isTime }, y: { range: (plot, low, high) => [Math.min(0, low), high > 0 ? topOf(plot, spec, high) * 1.06 : 1] } },
      axes: [
        axis({ values: (_, splits) => axisTexts(splits, isTime), space: 66, size: 30, incrs: STEPS_S }),
        axis({ values: (_, splits) => splits.map(round), size: 56 }),
      ],
      series: [{}, ...spec.series.map((series) => lineOf(series, spansGaps))],
      hooks: { setCursor: [(plot) => showAt(spec, plot, rests)] },
    };
  }

  // Without a cursor the legend has the value where the chart rests: its first or its last one.
  function showAt(spec, plot, rests) {
    const legend = document.getElementById("legend-" + spec.key);
    const last = plot.data[0].length - 1;
    const at = plot.cursor.idx ?? (rests === "first" ? Math.min(0, last) : last);
    spec.series.forEach((series, index) => {
      const values = plot.data[index + 1];
      let own = at;
      // of two runs, each has times of its own: the last value before the cursor
      while (plot.series[index + 1].spanGaps && own > 0 && (values[own] ?? null) === null) own--;
      const place = legend.querySelector(`[data-at="${series.column}"]`);
      place.textContent = at < 0 ? "" : round(values[own]);
    });
  }

  function fillNumbers(chart) {
    const body = document.querySelector(`#numbers-${chart.spec.key} tbody`);
    const times = chart.plot.data[0];
    const step = Math.max(1, Math.ceil(times.length / MOST_ROWS));
    const rows = [];
    for (let at = times.length - 1; at >= 0; at -= step) {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = clockText(times[at], chart.isTime);
      row.append(head);
      chart.spec.series.forEach((_, index) => {
        const cell = document.createElement("td");
        cell.className = "number";
        cell.textContent = round(chart.plot.data[index + 1][at]);
        row.append(cell);
      });
      rows.push(row);
    }
    body.replaceChildren(...rows);
  }

  function fit(chart) {
    const width = chart.box.clientWidth;
    if (width && width !== chart.plot.width) {
      chart.plot.setSize({ width, height: heightOf(chart.box) });
    }
  }

  // Draws a chart in a box; returns what sets its data: [x, one list a series].
  steppe.chart = function (box, options) {
    const spec = JSON.parse(box.dataset.chart);
    const empty = [[], ...spec.series.map(() => [])];
    const plot = new uPlot(optionsOf(spec, box, options), empty, box);
    const details = document.querySelector(`details[data-of="${spec.key}"]`);
    const chart = { spec, box, plot, isTime: options.isTime, details };
    details.addEventListener("toggle", () => details.open && fillNumbers(chart));
    new ResizeObserver(() => fit(chart)).observe(box);
    charts.push(chart);
    return {
      spec,
      set(data) {
        plot.setData(data);
        showAt(spec, plot, options.rests);
        if (details.open) fillNumbers(chart);
      },
    };
  };

  steppe.onTheme(() => {
    for (const chart of charts) chart.plot.redraw(false, true);
  });
})();
