"use strict";
// Names come from reports and networks: everything is set as text, never as markup.
(() => {
  const box = document.getElementById("theme");
  box.value = document.documentElement.dataset.theme || "system";
  box.closest("label").hidden = false;
  box.addEventListener("change", () => {
    if (box.value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = box.value;
    try {
      localStorage.setItem("mammi-theme", box.value);
    } catch {
      // No storage: the choice holds for this page.
    }
  });
})();

// A table on disk is sorted, searched and paged here; a served one by the server.
(() => {
  const form = document.getElementById("filter");
  const table = document.getElementById("units");
  if (!form || !table || form.hasAttribute("action")) return;
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const perPage = 200;
  const found = document.getElementById("found");
  const turn = document.createElement("nav");
  turn.className = "pager";
  turn.setAttribute("aria-label", "Rows of this table");
  const [back, where, next] = ["button", "span", "button"].map((tag) => document.createElement(tag));
  back.textContent = "Previous rows";
  next.textContent = "Next rows";
  turn.append(back, where, next);
  table.parentElement.after(turn);
  let page = 0;

  // Rows without a number come last, whichever way they are sorted.
  const value = (row, key) => (row.dataset[key] === "" ? -Infinity : Number(row.dataset[key]));
  const orders = {
    unit: (a, b) => a.dataset.unit - b.dataset.unit,
    name: (a, b) => !a.dataset.name - !b.dataset.name || a.dataset.name.localeCompare(b.dataset.name, "en"),
    effect: (a, b) => value(b, "effect") - value(a, "effect") || 0,
    score: (a, b) => value(b, "score") - value(a, "score") || 0,
    examples: (a, b) => value(b, "examples") - value(a, "examples"),
  };

  const draw = () => {
    const wanted = form.elements.query.value.toLowerCase().split(/\s+/).filter(Boolean);
    const only = form.elements.only.value;
    const shown = rows
      .filter((row) => only === "all" || Boolean(row.dataset.name) === (only === "named"))
      .filter((row) => wanted.every((word) => row.dataset.words.includes(word)))
      .sort(orders[form.elements.sort.value]);
    const pages = Math.max(1, Math.ceil(shown.length / perPage));
    page = Math.min(Math.max(page, 0), pages - 1);
    body.replaceChildren(...shown.slice(page * perPage, (page + 1) * perPage));
    found.textContent = `${shown.length.toLocaleString("en")} unit${shown.length === 1 ? "" : "s"}`;
    where.textContent = `${page + 1} of ${pages}`;
    turn.hidden = pages === 1;
    back.disabled = page === 0;
    next.disabled = page === pages - 1;
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => {
    page = 0;
    draw();
  });
  for (const [button, step] of [[back, -1], [next, 1]]) {
    button.type = "button";
    button.addEventListener("click", () => {
      page += step;
      draw();
      table.scrollIntoView();
    });
  }
  form.hidden = false;
  draw();
})();
