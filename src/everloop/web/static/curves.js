// Metrics as curves, of a run or of several over each other: over steps or time, smoothed as asked, drawn anew while a
// run goes on. Zooming in asks the server for the steps that a long history leaves out.
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
function traces(curve, box) {
  const at = box.runs.indexOf(curve.run);
  const line = { color: colour(COLOURS[(at < 0 ? box.index : at) % COLOURS.length]), width: 2 };
  const weight = Number(smooth.value);
  const x = curve[over.value];
  const mode = x.length < 60 ? "lines+markers" : "lines";
  const told = { hovertemplate: `%{y:.6g}<extra>${at < 0 ? "" : at + 1}</extra>` };
  const raw = { x, y: curve.values, mode, line, marker: { size: 4 }, connectgaps: false };
  if (!weight) return [{ ...raw, ...told }];
  return [{ ...raw, opacity: 0.3, hoverinfo: "skip" }, { ...raw, ...told, y: smoothed(curve.values, weight), mode: "lines" }];
}

function layout() {
  const axis = { gridcolor: colour("--border"), zerolinecolor: colour("--border"), color: colour("--muted"), automargin: true };
  return {
    height: 220, margin: { l: 44, r: 8, t: 8, b: 36 }, showlegend: false,
    font: { family: "system-ui, sans-serif", size: 12, color: colour("--text") }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x",
    xaxis: { ...axis, title: { text: over.value === "steps" ? "step" : "seconds since it began" } }, yaxis: { ...axis, type: log.checked ? "log" : "linear" }, uirevision: `${over.value}${log.checked}`,
  };
}

function draw(box, curves) {
  box.curves = curves;
  if (!box.element.clientWidth) return; // in what is not open yet: a plot takes the width that it finds
  window.Plotly.react(box.element, curves.flatMap((curve) => traces(curve, box)), layout(), CONFIG);
  if (!box.hears) {
    box.hears = true;
    let waiting = 0;
    box.element.on("plotly_relayout", (change) => {
      clearTimeout(waiting);
      waiting = setTimeout(() => zoomed(box, change), WAIT_MS);
    });
  }
}

// What the server tells of the metrics that are asked for, by name.
async function asked(query) {
  const from = document.querySelector("[data-from]")?.dataset.from ?? `${location.pathname}?`;
  const answer = await fetch(`${from}as=json&${query}`, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  const told = await answer.json();
  return Map.groupBy([...told.curves, ...(told.system ?? [])], (curve) => curve.name);
}

async function zoomed(box, change) {
  const [first, last] = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
  if (over.value !== "steps") return;
  if (first === undefined && !change["xaxis.autorange"]) return;
  box.isZoomed = first !== undefined;
  const steps = box.isZoomed ? `&from=${Math.floor(first)}&to=${Math.ceil(last)}` : "";
  const found = await asked(`metric=${encodeURIComponent(box.name)}${steps}`);
  if (found.has(box.name)) draw(box, found.get(box.name));
}

async function refresh() {
  const find = new URLSearchParams(location.search).get("find") ?? "";
  for (const [name, curves] of await asked(`find=${encodeURIComponent(find)}`)) {
    const box = boxes.get(name) ?? added(name, places[0]); // a metric may begin while one looks
    if (!box.isZoomed) draw(box, curves);
  }
}

function again() {
  const weight = Number(smooth.value);
  document.querySelector("[data-smooth-said]").textContent = weight ? weight.toFixed(2) : "off";
  for (const box of boxes.values()) if (box.curves) draw(box, box.curves);
}

function added(name, place) {
  const figure = place.appendChild(document.createElement("figure"));
  figure.className = "drawn";
  figure.appendChild(document.createElement("figcaption")).textContent = name;
  const runs = JSON.parse(place.dataset.runs ?? "[]"); // those that are compared, in order
  const box = { name, element: figure.appendChild(document.createElement("div")), runs, index: boxes.size };
  boxes.set(name, box);
  return box;
}

const places = document.querySelectorAll("[data-curves]");
for (const place of places) for (const name of JSON.parse(place.dataset.curves)) added(name, place);
if (places.length) {
  refresh();
  for (const control of [over, smooth, log]) control.addEventListener("input", again);
  document.addEventListener("everloop:refreshed", refresh);
  document.addEventListener("themechange", again);
  document.addEventListener("toggle", again, true);
}
