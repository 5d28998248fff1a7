// Sites on a map of distances: this one in the middle, each other one at its round trip.
"use strict";

(function () {
  const RADIUS = 84;
  const SVG = "http://www.w3.org/2000/svg";
  let shown = "";

  function add(parent, name, values, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(values)) element.setAttribute(key, String(value));
    if (text !== undefined) element.textContent = text;
    parent.append(element);
  }

  // Round trips differ by orders of magnitude: the root keeps near sites apart.
  function radius(rtt_s, most_s) {
    return most_s > 0 ? 20 + (RADIUS - 20) * Math.sqrt(rtt_s / most_s) : RADIUS;
  }

  // Names stand outside of a place that is near, and inside of one at the edge.
  function anchor(x) {
    if (Math.abs(x) <= 20) return "middle";
    return x > 0 === Math.abs(x) < 60 ? "start" : "end";
  }

  // A ring has its distance where it is farthest from the ways.
  function ring(svg, far_s, most_s, angle) {
    const r = radius(far_s, most_s);
    add(svg, "circle", { class: "ring", cx: 0, cy: 0, r });
    const at = { x: r * Math.cos(angle), y: r * Math.sin(angle) + 2, "text-anchor": "middle" };
    add(svg, "text", { ...at, class: "far" }, `${(1000 * far_s).toPrecision(2) * 1} ms`);
  }

  steppe.map = function (places, here) {
    const asText = JSON.stringify([places, here]);
    if (asText === shown) return;
    shown = asText;
    const svg = document.getElementById("map");
    svg.replaceChildren();
    if (places.length === 0) return;
    const most_s = Math.max(...places.map((place) => place.rtt_s));
    for (const share of [0.25, 1]) {
      ring(svg, share * most_s, most_s, Math.PI / places.length - Math.PI / 2);
    }
    places.forEach((place, index) => {
      const angle = (2 * Math.PI * index) / places.length - Math.PI / 2;
      const far = radius(place.rtt_s, most_s);
      const [x, y] = [far * Math.cos(angle), far * Math.sin(angle)];
      add(svg, "line", { class: "way", x1: 0, y1: 0, x2: x, y2: y });
      add(svg, "circle", { class: "place", cx: x, cy: y, r: 4, "data-state": place.state });
      const way = { x, y: y - 8, "text-anchor": anchor(x) };
      add(svg, "text", way, place.site);
      add(svg, "text", { ...way, y: y + 13, class: "far" }, place.text);
    });
    add(svg, "circle", { class: "place", cx: 0, cy: 0, r: 5, "data-state": "good" });
    add(svg, "text", { x: 0, y: 15, "text-anchor": "middle" }, here);
  };
})();
