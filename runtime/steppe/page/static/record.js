// The page of a recorded run, or of two: its data lie beside it in data.js.
"use strict";

(function () {
  // Two runs have different times: the chart gets the times of both.
  function joined(series) {
    const tables = steppe.runs.map((run, index) => {
      const own = series.filter((each) => each.column.startsWith(index + ":"));
      return [run.columns.t_s, ...own.map((each) => run.columns[each.column.slice(2)])];
    });
    return uPlot.join(tables);
  }

  function single(series) {
    const columns = steppe.runs[0].columns;
    return [columns.t_s, ...series.map((each) => columns[each.column])];
  }

  const isPair = steppe.runs.length > 1;
  for (const element of document.querySelectorAll(".chart [data-source]")) {
    element.textContent = document.querySelector(".top [data-source]").textContent;
    element.hidden = false;
  }
  for (const box of document.querySelectorAll(".charts [data-chart]")) {
    const chart = steppe.chart(box, { isTime: false, sync: "record", spansGaps: isPair });
    chart.set(isPair ? joined(chart.spec.series) : single(chart.spec.series));
  }
})();
