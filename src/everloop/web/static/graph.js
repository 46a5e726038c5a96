// The graph of a run: larger and smaller, dragged about, searched while typing, and a step shown without a new page.
const STEP = 1.25;
const graph = document.querySelector("[data-graph]");
const zoom = document.querySelector("[data-zoom]");
let scale = 1;

function svg() {
  return graph.querySelector("svg");
}

function show(next, around = { x: graph.clientWidth / 2, y: graph.clientHeight / 2 }) {
  const at = { x: (graph.scrollLeft + around.x) / scale, y: (graph.scrollTop + around.y) / scale };
  scale = Math.min(2.5, Math.max(0.08, next));
  graph.style.setProperty("--zoom", scale);
  graph.scrollTo(at.x * scale - around.x, at.y * scale - around.y);
}

function fitting() {
  const drawn = svg().viewBox.baseVal;
  return Math.min(1, (graph.clientWidth - 4) / drawn.width, Math.min(616, 0.7 * innerHeight - 4) / drawn.height);
}

zoom.hidden = false;
zoom.addEventListener("click", (event) => {
  const by = event.target.dataset.by;
  if (by) show({ in: scale * STEP, out: scale / STEP, fit: fitting(), one: 1 }[by]);
});
graph.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = graph.getBoundingClientRect();
    show(scale * (event.deltaY < 0 ? STEP : 1 / STEP), { x: event.clientX - box.x, y: event.clientY - box.y });
  },
  { passive: false },
);
graph.addEventListener("keydown", (event) => {
  if (event.key === "+" || event.key === "-") show(event.key === "+" ? scale * STEP : scale / STEP);
});

let drag = null;
graph.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "mouse" && event.button === 0) drag = { x: event.clientX + graph.scrollLeft, y: event.clientY + graph.scrollTop, far: false };
});
addEventListener("pointermove", (event) => {
  if (!drag) return;
  const to = { x: drag.x - event.clientX, y: drag.y - event.clientY };
  if (!drag.far && Math.hypot(to.x - graph.scrollLeft, to.y - graph.scrollTop) < 5) return;
  drag.far = true;
  graph.classList.add("dragged");
  graph.scrollTo(to.x, to.y);
});
addEventListener("pointerup", () => {
  const far = drag?.far;
  drag = null;
  graph.classList.remove("dragged");
  if (far) addEventListener("click", (event) => event.preventDefault(), { once: true, capture: true });
});
graph.addEventListener("dragstart", (event) => event.preventDefault());

// A link that only changes what is asked of this page: the parts that change are fetched, the place stays.
function goTo(address, replaced = false) {
  history[replaced ? "replaceState" : "pushState"](null, "", address);
  document.dispatchEvent(new Event("everloop:refresh"));
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='?']");
  if (!link || event.defaultPrevented || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  goTo(link.getAttribute("href"));
});
addEventListener("popstate", () => document.dispatchEvent(new Event("everloop:refresh")));

const form = document.querySelector("[data-find]");
let typed = 0;
function search() {
  const asked = new URLSearchParams(location.search);
  for (const name of ["find", "state"]) asked.set(name, form.elements[name].value);
  asked.delete("first");
  for (const [name, value] of [...asked]) if (!value) asked.delete(name);
  goTo(`?${asked}`, true);
}
form.addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(search, 200);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearTimeout(typed);
  search();
});

// After a search the first box that was found is brought into sight; after a choice the step's panel.
let sought = "";
let chosen = new URLSearchParams(location.search).get("step");
document.addEventListener("everloop:refreshed", () => {
  const asked = new URLSearchParams(location.search);
  const wanted = `${asked.get("find") ?? ""} ${asked.get("state") ?? ""}`.trim();
  if (wanted !== sought && wanted) {
    const box = graph.querySelector(".box:not(.dim):not(.input)");
    if (box) bring(box);
  }
  sought = wanted;
  if (asked.get("step") && asked.get("step") !== chosen) {
    document.querySelector("[data-step]")?.scrollIntoView({ block: "nearest" });
    if (document.activeElement === document.body) document.getElementById("step")?.focus({ preventScroll: true });
  }
  chosen = asked.get("step");
});

// What a step prints is followed at its end, unless somebody has gone back in it.
let isAtEnd = true;
document.addEventListener(
  "scroll",
  ({ target }) => {
    if (target.matches?.("[data-tail]")) isAtEnd = target.scrollTop + target.clientHeight > target.scrollHeight - 4;
  },
  true,
);
document.addEventListener("everloop:refreshed", () => {
  for (const one of document.querySelectorAll("[data-tail]")) if (isAtEnd) one.scrollTop = one.scrollHeight;
});

function bring(box) {
  const inner = box.getBoundingClientRect();
  const outer = graph.getBoundingClientRect();
  graph.scrollBy(inner.x - outer.x - (outer.width - inner.width) / 2, inner.y - outer.y - (outer.height - inner.height) / 2);
}

show(fitting() >= 0.6 ? fitting() : 0.75); // the whole of it where that can be read
const current = ["[aria-current]", ".box.failed", ".box.live", ".box"].map((one) => graph.querySelector(one)).find(Boolean);
if (current) bring(current);
