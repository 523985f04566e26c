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
