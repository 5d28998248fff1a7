// Figures and tables. What comes from outside becomes text, never markup.
"use strict";

(function () {
  const shown = new Map();

  function set(id, text) {
    const element = document.getElementById(id);
    if (element && element.textContent !== text) element.textContent = text;
    return element;
  }

  function cellOf(cell, isNumber) {
    const element = document.createElement("td");
    if (isNumber) element.className = "number";
    if (typeof cell === "string") {
      element.textContent = cell;
    } else {
      element.textContent = cell.text;
      element.dataset.state = cell.state;
    }
    return element;
  }

  steppe.figures = function (figures) {
    for (const element of document.querySelectorAll("[id^=figure-]")) {
      const key = element.id.slice("figure-".length);
      const figure = figures[key];
      element.closest(".figure").hidden = !figure; // a run without a battery has no such figure
      if (!figure) continue;
      set(element.id, figure.text);
      element.dataset.value = figure.value === null ? "" : String(figure.value);
      set("note-" + key, figure.note);
    }
  };

  steppe.table = function (key, rows) {
    const asText = JSON.stringify(rows);
    if (shown.get(key) === asText) return;
    shown.set(key, asText);
    const table = document.getElementById("table-" + key);
    const heads = [...table.querySelectorAll("thead th")];
    const made = rows.map((cells) => {
      const row = document.createElement("tr");
      row.append(...cells.map((cell, at) => cellOf(cell, heads[at].className === "number")));
      return row;
    });
    table.querySelector("tbody").replaceChildren(...made);
    table.hidden = rows.length === 0;
    const empty = document.getElementById("empty-" + key);
    empty.hidden = rows.length > 0;
    if (!empty.textContent) document.getElementById("section-" + key).hidden = rows.length === 0;
  };

  steppe.source = function (name) {
    for (const element of document.querySelectorAll("[data-source]")) {
      if (element.textContent !== name) element.textContent = name;
      element.hidden = !name;
    }
    for (const element of document.querySelectorAll("[data-source-text]")) {
      if (name && element.textContent !== name) element.textContent = name;
    }
  };

  steppe.state = function (cell) {
    set("state", cell.text).dataset.state = cell.state;
  };

  steppe.meter = function (power) {
    const meter = document.getElementById("draw-meter");
    const most = Math.max(power.budget_w || 0, power.draw_w || 0, 1);
    meter.max = most;
    meter.high = power.budget_w || most;
    meter.value = power.draw_w || 0;
  };
})();
