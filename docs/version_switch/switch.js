// The list of versions in the sidebar, and a note on pages of a version that is not the newest release.
// versions.js, beside this file, says which versions there are and which pages each has.
(() => {
  "use strict";
  const { src, dataset } = document.currentScript;
  const versions = window.steppeVersions;
  const here = versions.find((version) => version.folder === dataset.folder);
  const newest = versions[0];

  // The same page in another version, or the first page of a version that has no such page.
  function link(version, text) {
    const found = version.pages.includes(dataset.page) ? dataset.page : "index.html";
    const anchor = document.createElement("a");
    anchor.href = new URL(`${version.folder}/${found}`, src).href;
    anchor.textContent = text;
    return anchor;
  }

  function name(version) {
    if (!version.released) return `${version.folder}, not released`;
    return version === newest ? `${version.folder}, newest` : version.folder;
  }

  function list() {
    const box = document.createElement("details");
    box.className = "version-switch";
    const summary = document.createElement("summary");
    summary.textContent = `Version: ${name(here)}`;
    const nav = document.createElement("nav");
    nav.setAttribute("aria-label", "Versions");
    const items = document.createElement("ul");
    for (const version of versions) {
      const item = document.createElement("li");
      const anchor = link(version, name(version));
      if (version === here) anchor.setAttribute("aria-current", "true");
      item.append(anchor);
      items.append(item);
    }
    nav.append(items);
    box.append(summary, nav);
    return box;
  }

  function note() {
    const box = document.createElement("p");
    box.className = "version-note";
    const text = here.released
      ? `This page is of version ${here.folder}. The newest release is `
      : "This page is of what is not released yet. The newest release is ";
    box.append(text, link(newest, newest.folder), ".");
    return box;
  }

  const brand = document.querySelector(".sidebar-brand");
  if (brand) brand.after(list());
  else document.body.prepend(list());
  const article = document.querySelector("article") || document.querySelector("[role=main]");
  if (article && here !== newest) article.prepend(note());
})();
