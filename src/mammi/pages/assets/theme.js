"use strict";
// In the head, before anything is drawn, so that no page flashes in the wrong theme.
(() => {
  let wanted = null;
  try {
    wanted = localStorage.getItem("mammi-theme");
  } catch {
    // A page opened from disk may have no storage: the system's theme stays.
  }
  if (wanted === "light" || wanted === "dark") document.documentElement.dataset.theme = wanted;
})();
