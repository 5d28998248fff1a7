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

  function anchor(x) {
    return x > 20 ? "end" : x < -20 ? "start" : "middle";
  }

  steppe.map = function (places) {
    const asText = JSON.stringify(places);
    if (asText === shown) return;
    shown = asText;
    const svg = document.getElementById("map");
    svg.replaceChildren();
    if (places.length === 0) return;
    const most_s = Math.max(...places.map((place) => place.rtt_s));
    for (const share of [0.25, 0.5, 1]) {
      add(svg, "circle", { class: "ring", cx: 0, cy: 0, r: radius(share * most_s, most_s) });
    }
    places.forEach((place, index) => {
      const angle = (2 * Math.PI * index) / places.length - Math.PI / 2;
      const far = radius(place.rtt_s, most_s);
      const [x, y] = [far * Math.cos(angle), far * Math.sin(angle)];
      add(svg, "line", { class: "way", x1: 0, y1: 0, x2: x, y2: y });
      add(svg, "circle", { class: "place", cx: x, cy: y, r: 4, "data-state": place.state });
      const way = { x, y: y - 7, "text-anchor": anchor(x) };
      add(svg, "text", way, place.site);
      add(svg, "text", { ...way, y: y + 11, class: "far" }, place.text);
    });
    add(svg, "circle", { class: "place", cx: 0, cy: 0, r: 5, "data-state": "good" });
    add(svg, "text", { x: 0, y: 14, "text-anchor": "middle" }, "here");
  };
})();
