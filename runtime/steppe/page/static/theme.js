// The colours of the page: as the system has them, or as the reader chose.
"use strict";
var steppe = {};

(function () {
  const NAMES = ["automatic", "light", "dark"];
  const listeners = [];

  function stored() {
    try {
      const name = localStorage.getItem("steppe-theme");
      return NAMES.includes(name) ? name : "automatic";
    } catch {
      return "automatic"; // a browser that keeps nothing
    }
  }

  function apply(name) {
    if (name === "automatic") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", name);
    const button = document.getElementById("theme");
    if (button) button.textContent = "Colours: " + name;
    for (const listener of listeners) listener();
  }

  function next() {
    const name = NAMES[(NAMES.indexOf(stored()) + 1) % NAMES.length];
    try {
      localStorage.setItem("steppe-theme", name);
    } catch {
      // it holds for this view only
    }
    apply(name);
  }

  // A canvas takes no variables: an element has each colour as it is, `rgb(r, g, b)`.
  const sample = document.createElement("span");
  sample.hidden = true;
  document.body.append(sample);

  steppe.colour = function (name) {
    sample.style.color = `var(--${name})`;
    return getComputedStyle(sample).color;
  };
  steppe.onTheme = function (listener) {
    listeners.push(listener);
  };

  apply(stored());
  const button = document.getElementById("theme");
  if (button) button.addEventListener("click", next);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(stored()));
})();
