// Metrics as curves, of a run or of several over each other: over steps or time, smoothed as asked, drawn anew while a
// run goes on. Zooming in asks the server for what a long history leaves out.
const COLOURS = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5"];
const WAIT_MS = 250;
const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "resetScale2d", "toImage"]] };

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// An exponential mean without the pull towards its beginning; a gap stays a gap.
function smoothed(values, weight) {
  let mean = 0;
  let known = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    known += 1;
    return mean / (1 - weight ** known);
  });
}

const over = document.querySelector("[data-over]");
const smooth = document.querySelector("[data-smooth]");
const log = document.querySelector("[data-log]");
const boxes = new Map(); // by name of the metric: its element, the curves that it shows

// A run that is compared keeps its colour in every plot, and is told by its number; alone, each metric has its own colour.
// Where a long history is drawn by its lowest and highest values, smoothing takes the means of its stretches instead.
function traces(curve, box) {
  const at = box.runs.indexOf(curve.run);
  const line = { color: colour(COLOURS[(at < 0 ? box.index : at) % COLOURS.length]), width: 2 };
  const weight = Number(smooth.value);
  const x = curve[curve.over];
  const mode = x.length < 60 ? "lines+markers" : "lines";
  const told = { hovertemplate: `%{y:.6g}<extra>${at < 0 ? "" : at + 1}</extra>` };
  const raw = { x, y: curve.values, mode, line, marker: { size: 4 }, connectgaps: false };
  if (!weight) return [{ ...raw, line: curve.is_thinned ? { ...line, width: 1.2 } : line, ...told }];
  const calm = curve.is_thinned ? { x: curve.means_at, y: smoothed(curve.means, weight) } : { x, y: smoothed(curve.values, weight) };
  return [{ ...raw, opacity: 0.3, hoverinfo: "skip" }, { ...raw, ...told, ...calm, mode: "lines" }];
}

function layout(isOverSteps) {
  const axis = { gridcolor: colour("--border"), zerolinecolor: colour("--border"), color: colour("--muted"), automargin: true };
  return {
    height: 220, margin: { l: 44, r: 8, t: 8, b: 36 }, showlegend: false,
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--text") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x",
    xaxis: { ...axis, title: { text: isOverSteps ? "step" : "seconds since it began" } }, yaxis: { ...axis, type: log.checked ? "log" : "linear" }, uirevision: `${isOverSteps}${log.checked}`,
  };
}

function draw(box, curves) {
  box.curves = curves;
  box.isOverSteps = curves.some((curve) => curve.over === "steps");
  window.Plotly.react(box.element, curves.flatMap((curve) => traces(curve, box)), layout(box.isOverSteps), CONFIG);
  if (!box.hears) {
    box.hears = true;
    let waiting = 0;
    box.element.on("plotly_relayout", (change) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => zoomed(box, change), WAIT_MS);
    });
  }
}

// What the server tells of curves; null when it does not answer, which the page's foot says.
async function asked(query) {
  const from = document.querySelector("[data-from]")?.dataset.from ?? `${location.pathname}?`;
  try {
    const answer = await fetch(`${from}as=json&${query}`, { headers: { Accept: "application/json" } });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function load(box, part = "") {
  const isOverSteps = part ? box.isOverSteps : over.value === "steps";
  const told = await asked(`part=curves&metric=${encodeURIComponent(box.name)}&over=${isOverSteps ? "step" : "time"}${part}`);
  if (told?.curves.length) draw(box, told.curves);
}

async function zoomed(box, change) {
  const [first, last] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
  if (first === undefined && !change["xaxis.autorange"]) return;
  box.isZoomed = first !== undefined;
  const [from, to] = box.isOverSteps ? [Math.floor(first), Math.ceil(last)] : [first, last];
  await load(box, box.isZoomed ? `&from=${from}&to=${to}` : "");
}

// Curves are asked for when they come near to what is seen, and again while the run goes on and they are there.
const watch = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const box = boxes.get(entry.target.dataset.metric);
      box.isSeen = entry.isIntersecting;
      if (box.isSeen && !box.curves) load(box);
    }
  },
  { rootMargin: "800px" },
);

async function refresh() {
  const find = new URLSearchParams(location.search).get("find") ?? "";
  const told = await asked(`part=names&find=${encodeURIComponent(find)}`);
  for (const name of told?.drawn ?? []) if (!boxes.has(name)) added(name, places[0]); // a metric may begin while one looks
  for (const box of boxes.values()) if (box.isSeen && box.curves && !box.isZoomed) load(box);
}

function again() {
  const weight = Number(smooth.value);
  document.querySelector("[data-smooth-said]").textContent = weight ? weight.toFixed(2) : "off";
  for (const box of boxes.values()) if (box.curves) draw(box, box.curves);
}

function otherAxis() {
  for (const box of boxes.values()) {
    box.isZoomed = false;
    box.curves = null;
    if (box.isSeen) load(box);
  }
}

function added(name, place) {
  const figure = place.appendChild(document.createElement("figure"));
  figure.className = "drawn";
  figure.dataset.metric = name;
  figure.appendChild(document.createElement("figcaption")).textContent = name;
  const runs = JSON.parse(place.dataset.runs ?? "[]"); // those that are compared, in order
  boxes.set(name, { name, element: figure.appendChild(document.createElement("div")), runs, index: boxes.size });
  watch.observe(figure);
}

const places = document.querySelectorAll("[data-curves]");
if (places.length) {
  for (const place of places) for (const name of JSON.parse(place.dataset.curves)) added(name, place);
  over.addEventListener("input", otherAxis);
  for (const control of [smooth, log]) control.addEventListener("input", again);
  document.addEventListener("everloop:refreshed", refresh);
  document.addEventListener("themechange", again);
}
