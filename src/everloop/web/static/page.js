// What every page does: theme switch, copy buttons, keys, local times on hover, links of MLflow's clients.
import { startKeys } from "./keys.js";
import { followLinks } from "./links.js";
import { startLive } from "./live.js";

function isDark() {
  return (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

function nameSwitch(button) {
  button.textContent = isDark() ? "Light" : "Dark";
  button.setAttribute("aria-label", `Change to ${isDark() ? "light" : "dark"} colours`);
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (copy) {
    await navigator.clipboard.writeText(copy.dataset.copy);
    copy.textContent = "copied";
    setTimeout(() => (copy.textContent = "copy"), 1500);
  }
  const theme = event.target.closest("[data-theme-switch]");
  if (theme) {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    localStorage.setItem("everloop-theme", next);
    nameSwitch(theme);
    document.dispatchEvent(new CustomEvent("themechange"));
  }
});

document.addEventListener("pointerover", (event) => {
  const time = event.target.closest("time[datetime]");
  if (time && !time.dataset.local) {
    time.dataset.local = "yes";
    const at = new Date(time.getAttribute("datetime"));
    time.title = `${at.toISOString().slice(0, 19)}Z, here ${at.toLocaleString(undefined, { timeZoneName: "short" })}`;
  }
});

for (const button of document.querySelectorAll("[data-theme-switch]")) nameSwitch(button);
startKeys();
startLive();
followLinks();
addEventListener("hashchange", followLinks);
