// What an admin changes: the same calls as the API has, each after a confirmation.
"use strict";

(function () {
  const byId = (id) => document.getElementById(id);
  let sections = {};
  let hasBegun = false;
  let hasGrid = false;

  function confirmed(text) {
    const dialog = byId("confirm");
    byId("confirm-text").textContent = text;
    dialog.showModal();
    return new Promise((resolve) => {
      const end = (answer) => {
        dialog.onclose = null;
        dialog.close();
        resolve(answer);
      };
      byId("confirm-yes").onclick = () => end(true);
      byId("confirm-no").onclick = () => end(false);
      dialog.onclose = () => resolve(false); // the escape key
    });
  }

  function option(name) {
    const element = document.createElement("option");
    element.value = element.textContent = name;
    return element;
  }

  async function read() {
    const config = await steppe.json("GET", "/steppe/v1/config");
    sections = Object.fromEntries(
      Object.entries(config).filter(([name]) => name !== "object" && name !== "version")
    );
    byId("policy").value = sections.control.policy;
    showSection();
  }

  function showSection() {
    const values = sections[byId("section-name").value];
    byId("section-values").value = JSON.stringify(values, null, 2);
  }

  async function change(question, method, path, body) {
    if (!(await confirmed(question))) return;
    const answer = byId("admin-answer");
    answer.textContent = "changing";
    try {
      const found = await steppe.json(method, path, body);
      await read(); // the next question names what is in force
      answer.textContent = found.applied === false ? "taken, not in force yet" : "done";
    } catch (error) {
      answer.textContent = error.message;
    }
  }

  function onSubmit(id, handler) {
    byId(id).addEventListener("submit", (event) => {
      event.preventDefault();
      handler();
    });
  }

  // With a grid service the limit is its own, and is kept over a restart. Without one it is a
  // constant limit of the section power, in the place of the constant limits there.
  function setBudget() {
    const watts = Number(byId("budget-watts").value);
    const question = `Let the site draw at most ${watts} W from now on?`;
    if (hasGrid) change(question, "PUT", "/steppe/v1/budget", { limit_w: watts });
    else changeLimits(question, [{ kind: "constant", watts }]);
  }

  function liftBudget() {
    const question = "Lift the limit of the site?";
    if (hasGrid) change(question, "DELETE", "/steppe/v1/budget");
    else changeLimits(question, []);
  }

  function changeLimits(question, more) {
    const limits = sections.power.limits || [];
    const replaced = limits.filter((each) => each.kind === "constant").map((each) => `${each.watts} W`);
    const known = replaced.length ? ` This replaces the limit of ${replaced.join(", ")}.` : "";
    const others = limits.filter((each) => each.kind !== "constant");
    change(question + known, "PATCH", "/steppe/v1/config/power", { limits: [...others, ...more] });
  }

  function setPolicy() {
    const policy = byId("policy").value;
    const question = `Follow the policy ${policy} in place of ${sections.control.policy}?`;
    change(question, "PATCH", "/steppe/v1/config/control", { policy });
  }

  function setSection() {
    const name = byId("section-name").value;
    let values;
    try {
      values = JSON.parse(byId("section-values").value);
    } catch (error) {
      byId("admin-answer").textContent = "asked for JSON: " + error.message;
      return;
    }
    change(`Replace the section ${name} by these values?`, "PUT", "/steppe/v1/config/" + name, values);
  }

  steppe.admin = async function (access) {
    hasGrid = access.has_grid;
    byId("admin").hidden = !access.has_config;
    if (!access.has_config || hasBegun) return;
    hasBegun = true;
    byId("policy").replaceChildren(...access.policies.map(option));
    byId("section-name").replaceChildren(...access.sections.map(option));
    byId("section-name").addEventListener("change", showSection);
    onSubmit("budget-form", setBudget);
    onSubmit("policy-form", setPolicy);
    onSubmit("section-form", setSection);
    byId("budget-lift").addEventListener("click", liftBudget);
    await read();
  };
})();
