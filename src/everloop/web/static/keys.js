// The keyboard: / searches, g and a letter goes, ? shows the list.
const PLACES = { l: "/", p: "/pipelines", x: "/experiments", c: "/calendar", s: "/searches", i: "/triggers", e: "/endpoints", m: "/models", t: "/trace", r: "/review", a: "/audit" };
const WITHIN_MS = 1500;

function isTyping(target) {
  return target.closest("input, textarea, select, [contenteditable]") !== null;
}

export function startKeys() {
  let goingUntil = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (isTyping(event.target)) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (performance.now() < goingUntil && PLACES[event.key]) {
      location.assign(PLACES[event.key]);
      return;
    }
    goingUntil = event.key === "g" ? performance.now() + WITHIN_MS : 0;
    if (event.key === "?") document.getElementById("keys").showModal();
    if (event.key === "/") {
      event.preventDefault();
      document.querySelector("[data-key='/']")?.focus();
    }
  });
  for (const button of document.querySelectorAll("[data-keys]")) {
    button.addEventListener("click", () => document.getElementById("keys").showModal());
  }
}
