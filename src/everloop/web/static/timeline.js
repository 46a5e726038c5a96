// Traffic, errors, latency, drift and accuracy of an endpoint over one time axis, with what happened as marks on it.
const EVERY_MS = 15000;
const ROWS = [
  // from the bottom up: axis, share of the height, question
  { axis: "y", title: "Accuracy, audited", size: 1.15 },
  { axis: "y2", title: "Drift from training, effect", size: 1.15 },
  { axis: "y3", title: "Latency, 99 % and median", size: 1.1 },
  { axis: "y4", title: "Failed requests", size: 0.9 },
  { axis: "y5", title: "Requests", size: 1.15 },
  { axis: "y6", title: "", size: 0.34 },
];
const GAP = 0.055;
const TONES = { ok: "--ok", attention: "--attention", failed: "--failed", live: "--live" };

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// plotly reads a little HTML in its labels: what came from outside must stay text
function plain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function wrapped(text, width = 64) {
  const lines = [""];
  for (const word of plain(text).split(" ")) {
    if ((lines.at(-1) + word).length > width) lines.push("");
    lines[lines.length - 1] += `${word} `;
  }
  return lines.slice(0, 6).join("<br>") + (lines.length > 6 ? "…" : "");
}

function coloursOf(series) {
  const found = {};
  let earlier = 0;
  for (const version of Object.keys(series.traffic)) {
    const role = series.roles[version];
    found[version] = colour(role ? `--${role}` : `--earlier-${(earlier++ % 4) + 1}`);
  }
  return found;
}

function traces(series) {
  const colours = coloursOf(series);
  // plotly leaves out an axis on which nothing is drawn: each row keeps its place all the same
  const found = ROWS.map((row) => ({ x: [series.start], y: [null], yaxis: row.axis, mode: "lines", showlegend: false, hoverinfo: "skip" }));
  for (const [version, one] of Object.entries(series.traffic)) {
    const name = plain(version);
    const shared = { x: one.x, legendgroup: version, name, xaxis: "x" };
    const line = { color: colours[version], width: 2, shape: "linear" };
    found.push({
      ...shared, yaxis: "y5", type: "bar", y: one.requests, marker: { color: colours[version] }, width: series.bucket_s * 920, offset: 0,
      customdata: one.replayed, hovertemplate: `${name}: %{y:,} requests<extra></extra>`,
    });
    const rates = {
      ...shared, yaxis: "y4", mode: "lines+markers", y: one.error_rate, line, marker: { size: 4 }, showlegend: false, connectgaps: false,
      customdata: one.failed.map((n, i) => [n, one.asked[i]]),
      hovertemplate: `${name}: %{y:.2%} failed, %{customdata[0]:,} of %{customdata[1]:,}<extra></extra>`,
    };
    found.push(rates);
    found.push({ ...shared, yaxis: "y3", mode: "lines+markers", y: one.p99_ms, line, marker: { size: 4 }, showlegend: false, connectgaps: false,
      hovertemplate: `${name}: 99 % under %{y:.3~g} ms<extra></extra>` });
    found.push({ ...shared, yaxis: "y3", mode: "lines", y: one.p50_ms, line: { ...line, width: 1.5, dash: "dot" }, showlegend: false, connectgaps: false,
      hovertemplate: `${name}: median %{y:.3~g} ms<extra></extra>` });
  }
  const shades = ["--line-1", "--line-2", "--line-3", "--line-4", "--line-5"];
  series.drift.forEach((one, i) => found.push({
    x: one.x, y: one.y, yaxis: "y2", mode: "lines+markers", name: plain(one.name), legend: "legend2",
    line: { color: colour(shades[i]), width: 1.5 }, marker: { size: 4, symbol: ["circle", "square", "diamond", "triangle-up", "x"][i] },
    customdata: one.n, hovertemplate: `${plain(one.name)}: %{y:.2~f} (n = %{customdata:,})<extra></extra>`,
  }));
  const right = series.accuracy;
  const band = { yaxis: "y", mode: "lines", line: { width: 0 }, hoverinfo: "skip", showlegend: false, connectgaps: false };
  found.push({ ...band, x: right.x, y: right.low });
  found.push({ ...band, x: right.x, y: right.high, fill: "tonexty", fillcolor: colour("--band") });
  found.push({
    x: right.x, y: right.y, yaxis: "y", mode: "lines+markers", line: { color: colour("--text"), width: 2 }, marker: { size: 4 }, showlegend: false,
    customdata: right.n.map((n, i) => [n, right.low[i], right.high[i]]), connectgaps: false,
    hovertemplate: "accuracy %{y:.1%} (%{customdata[1]:.0%} to %{customdata[2]:.0%}, %{customdata[0]:,} audited)<extra></extra>",
  });
  found.push({
    x: series.marks.map((one) => one.at), y: series.marks.map(() => 0), yaxis: "y6", mode: "markers", showlegend: false, cliponaxis: false,
    marker: {
      size: 11, line: { width: 1, color: colour("--surface") },
      color: series.marks.map((one) => colour(TONES[one.tone])),
      symbol: series.marks.map((one) => (one.kind === "retrain" ? "star" : one.kind.startsWith("rollout") ? "diamond" : "triangle-down")),
    },
    customdata: series.marks.map((one) => one.link),
    text: series.marks.map((one) => `<b>${plain(one.kind)}</b><br>${wrapped(one.title)}`),
    hovertemplate: "%{text}<extra></extra>",
  });
  return found;
}

function limit(axis, value, name) {
  if (value === null || value === undefined) return null;
  return {
    shape: { type: "line", xref: "paper", x0: 0, x1: 1, yref: axis, y0: value, y1: value, line: { color: colour("--failed"), width: 1, dash: "dash" } },
    note: { xref: "paper", x: 1, xanchor: "right", yref: axis, y: value, yanchor: "bottom", text: name, showarrow: false, font: { size: 11, color: colour("--failed") } },
  };
}

// The span that was asked for, or from where there is anything to see: an empty half says nothing.
function firstOf(series) {
  const known = [...Object.values(series.traffic).map((one) => one.x[0]), series.accuracy.x[0], ...series.drift.map((one) => one.x[0]), series.marks[0]?.at];
  const end = Date.parse(series.end);
  const first = Math.min(end - 8000 * series.bucket_s, ...known.filter(Boolean).map(Date.parse));
  return new Date(Math.max(Date.parse(series.start), first - (end - first) / 60)).toISOString();
}

function layout(series, width) {
  const total = ROWS.reduce((sum, one) => sum + one.size, 0);
  const room = 1 - GAP * (ROWS.length - 1);
  const grid = { gridcolor: colour("--border"), zeroline: false, linecolor: colour("--border"), tickcolor: colour("--border") };
  const formats = { y: ".0%", y2: ".2~f", y3: "~g", y4: ".1~%", y5: "~s" };
  const found = {
    height: 720, margin: { l: 60, r: 12, t: width < 560 ? 48 : 30, b: 44 }, barmode: "stack", bargap: 0,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: "kept",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--muted") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--muted"), activecolor: colour("--text") },
    hovermode: "x unified", hoversubplots: "axis",
    hoverlabel: { bgcolor: colour("--surface"), bordercolor: colour("--border"), font: { size: 12, color: colour("--text") }, align: "left", namelength: -1 },
    legend: { orientation: "h", x: 0, y: 1.005, yanchor: "bottom", xanchor: "left", itemclick: "toggle" },
    xaxis: { ...grid, type: "date", range: [firstOf(series), series.end], anchor: "y", hoverformat: "%-d %b %H:%M", tickformatstops: [{ dtickrange: [null, 86399999], value: "%H:%M\n%-d %b" }, { dtickrange: [86400000, "M1"], value: "%-d %b" }, { dtickrange: ["M1", null], value: "%b %Y" }], showspikes: true, spikemode: "across", spikethickness: 1, spikedash: "solid", spikecolor: colour("--muted"), spikesnap: "cursor" },
    shapes: [], annotations: [],
  };
  let bottom = 0;
  for (const row of ROWS) {
    const top = bottom + (row.size / total) * room;
    found[`yaxis${row.axis.slice(1)}`] = { ...grid, domain: [bottom, Math.min(1, top)], anchor: "x", nticks: 4, tickformat: formats[row.axis], rangemode: row.axis === "y" ? "normal" : "tozero", fixedrange: true, ticksuffix: row.axis === "y3" ? " ms" : "" };
    if (row.title) found.annotations.push({ xref: "paper", yref: "paper", x: 0, y: top + 0.004, xanchor: "left", yanchor: "bottom", text: row.title, showarrow: false, font: { size: 12, color: colour("--text") } });
    if (row.axis === "y2") found.legend2 = { orientation: "h", x: 1, xanchor: "right", y: top, yanchor: "bottom", font: { size: 11 } };
    bottom = top + GAP;
  }
  Object.assign(found.yaxis6, { visible: false, range: [-1, 1] });
  if (width < 560) found.legend2.visible = false;
  for (const [axis, list, top] of [["yaxis", series.accuracy.x, 1], ["yaxis2", series.drift, 0.2], ["yaxis3", Object.keys(series.traffic), 10], ["yaxis4", Object.keys(series.traffic), 0.01], ["yaxis5", Object.keys(series.traffic), 10]]) {
    if (!list.length) found[axis].range = [0, top];
  }
  for (const [axis, list] of [["y", series.accuracy.x], ["y2", series.drift], ["y5", Object.keys(series.traffic)]]) {
    if (!list.length) found.annotations.push({ xref: "paper", x: 0.5, yref: `${axis} domain`, y: 0.5, showarrow: false, text: { y: "no audited answer in this time", y2: "no window had enough rows", y5: "no request in this time" }[axis] });
  }
  for (const one of series.marks) {
    found.shapes.push({ type: "line", x0: one.at, x1: one.at, yref: "paper", y0: 0, y1: 1, layer: "below", line: { color: colour(TONES[one.tone]), width: 1, dash: "dot" }, opacity: 0.6 });
  }
  for (const one of [
    limit("y", series.accuracy_at_least, `at least ${Math.round(100 * series.accuracy_at_least)} %`),
    limit("y2", series.drift_matters, "matters from here"),
  ]) {
    if (one) {
      found.shapes.push(one.shape);
      found.annotations.push(one.note);
    }
  }
  return found;
}

async function draw(place) {
  const answer = await fetch(place.dataset.timeline, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  place.series = (await answer.json()).series;
  await show(place);
}

async function show(place) {
  const config = { responsive: true, displaylogo: false, modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]] };
  place.querySelector(".wait")?.remove();
  await Plotly.react(place, traces(place.series), layout(place.series, place.clientWidth), config);
  if (place.isListening) return;
  place.isListening = true;
  place.on("plotly_click", (event) => {
    const link = event.points.map((one) => one.customdata).find((one) => typeof one === "string" && one.startsWith("#"));
    if (link) {
      document.getElementById(link.slice(1))?.closest("details")?.setAttribute("open", "");
      location.hash = link;
    }
  });
}

for (const place of document.querySelectorAll("[data-timeline]")) {
  draw(place).catch((error) => {
    place.querySelector(".wait")?.replaceChildren(`The plot could not be drawn: ${error.message}. The numbers are in the table below.`);
  });
  setInterval(() => {
    if (!document.hidden) draw(place).catch(() => {}); // the page itself says that the connection is lost
  }, EVERY_MS);
  document.addEventListener("themechange", () => place.series && show(place));
}
