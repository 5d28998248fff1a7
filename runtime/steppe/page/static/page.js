// The live page: asks for a key if one is needed, then follows the stream.
"use strict";

(function () {
  const SAY_MS = 30000;
  const TENANTS_MS = 10000;
  const REFRESH_MS = 300000;
  const byId = (id) => document.getElementById(id);

  let charts = [];
  let forecast = null;
  let history = null;
  let seq = null;
  let saidAt = -SAY_MS;
  let isReading = false;
  let isFollowing = false;
  let closedAt = "";

  function chosenSpan() {
    return document.querySelector('input[name="span"]:checked').value;
  }

  function draw() {
    if (!history) return;
    const columns = history[chosenSpan()];
    for (const chart of charts) {
      chart.set([columns.at_s, ...chart.spec.series.map((series) => columns[series.column])]);
    }
  }

  async function readHistory() {
    if (isReading) return;
    isReading = true;
    try {
      history = await steppe.json("GET", "/steppe/v1/live/history");
      byId("span-name").textContent = history.span_text;
      draw();
    } catch {
      // the next event asks again
    } finally {
      isReading = false;
    }
  }

  function addPoints(rows, names) {
    for (const span of ["recent", "run"]) {
      for (const row of rows) {
        names.forEach((name, at) => history[span][name].push(row[at]));
      }
    }
    const oldest = history.recent.at_s.at(-1) - history.span_s;
    while (history.recent.at_s[0] < oldest) {
      for (const name of names) history.recent[name].shift();
    }
  }

  function show(view) {
    if (view.closed) {
      closedAt = new Date().toLocaleTimeString("en-GB");
      return;
    }
    closedAt = "";
    delete document.body.dataset.stale;
    byId("live").dataset.phase = view.t_s === null ? "starting" : "running";
    byId("boundary").textContent = view.boundary ? "Boundary: " + view.boundary : "";
    const isNext = seq !== null && view.seq === seq + 1;
    seq = view.seq;
    if (!history || !isNext) readHistory();
    else if (view.points.length) addPoints(view.points, view.columns);
    draw();
    steppe.state(view.state);
    steppe.source(view.source);
    steppe.figures(view.figures);
    steppe.meter(view.power);
    if (view.map.length) steppe.map(view.map, view.tables.sites[0][0]);
    forecast.set([view.forecast.in_s, view.forecast.budget_w]);
    for (const [key, rows] of Object.entries(view.tables)) steppe.table(key, rows);
    if (performance.now() - saidAt >= SAY_MS) {
      saidAt = performance.now();
      byId("said").textContent = view.summary;
    }
    document.body.dataset.seq = String(view.seq);
    document.body.dataset.tick = String(view.t_s);
  }

  // The last numbers stay, in another colour, until the gateway answers again.
  function lose() {
    seq = null;
    document.body.dataset.stale = "true";
    if (!closedAt) steppe.state({ text: "the gateway does not answer", state: "bad" });
    else steppe.state({ text: `the gateway closed at ${closedAt}; its last numbers stay`, state: "rest" });
  }

  async function readTenants() {
    try {
      const found = await steppe.json("GET", "/steppe/v1/live/tenants");
      steppe.table("tenants", found.rows);
    } catch {
      // they stay as they are until the gateway answers
    }
  }

  function openDoor(problem) {
    byId("door-problem").textContent = problem;
    byId("door").hidden = false;
    byId("enter-key").hidden = true;
    byId("key").focus();
  }

  async function enter() {
    const access = await steppe.json("GET", "/steppe/page/access");
    if (access.role === "none") {
      openDoor(steppe.hasKey() ? access.reason : "This gateway needs a key.");
      byId("live").hidden = true;
      return;
    }
    byId("door").hidden = true;
    byId("live").hidden = false;
    byId("forget-key").hidden = !steppe.hasKey();
    byId("enter-key").hidden = access.role === "admin";
    if (charts.length === 0) {
      charts = [...document.querySelectorAll(".charts [data-chart]")].map((box) =>
        steppe.chart(box, { isTime: true, sync: "live" })
      );
      forecast = steppe.chart(byId("chart-forecast"), { isTime: false, rests: "first" });
      setInterval(readTenants, TENANTS_MS);
      setInterval(readHistory, REFRESH_MS);
    }
    readTenants();
    if (access.role === "admin") steppe.admin(access);
    if (isFollowing) return;
    isFollowing = true;
    await steppe.follow(show, lose);
    isFollowing = false;
    steppe.forget();
    await enter();
  }

  function tryToEnter() {
    enter().catch(() => {
      lose();
      setTimeout(tryToEnter, 5000);
    });
  }

  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    steppe.keep(byId("key").value, byId("admin-key").value);
    byId("key-form").reset();
    tryToEnter();
  });
  byId("enter-key").addEventListener("click", () => openDoor(""));
  byId("forget-key").addEventListener("click", () => {
    steppe.forget();
    location.reload();
  });
  for (const input of document.querySelectorAll('input[name="span"]')) {
    input.addEventListener("change", draw);
  }
  tryToEnter();
})();
