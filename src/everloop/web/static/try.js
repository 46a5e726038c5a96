// Asks an endpoint with what stands in the form, and shows the answer, or beside each field what is wrong with it.
const form = document.querySelector("[data-try]");
const place = document.querySelector("[data-answer]");
const fields = form ? [...form.querySelectorAll("[data-field]")] : [];
const LONGEST = 4000; // characters of a file in the command

// A value as it stands in JSON; numbers as they were typed, since JavaScript's own would lose digits of long ones.
async function written(field, shortens = false) {
  const input = field.querySelector("[data-value]");
  const isNone = field.querySelector("[data-none]")?.checked;
  if (input.type === "file") {
    if (!input.files.length) return "nullable" in field.dataset ? "null" : JSON.stringify("");
    const text = await base64(input.files[0]);
    return JSON.stringify(shortens && text.length > LONGEST ? `BASE64 OF ${input.files[0].name}` : text);
  }
  const text = input.value;
  if (isNone || (text === "" && "nullable" in field.dataset && field.dataset.type !== "string")) return "null";
  switch (field.dataset.type) {
    case "integer":
    case "number":
      return numeral(text.trim());
    case "boolean":
      return text === "true" || text === "false" ? text : JSON.stringify(text);
    default:
      return JSON.stringify(text);
  }
}

// What is no number is sent as the text that it is: the endpoint says what it must be.
function numeral(text) {
  if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text)) return text;
  return text !== "" && Number.isFinite(Number(text)) ? String(Number(text)) : JSON.stringify(text);
}

async function base64(file) {
  const address = await new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
  return address.slice(address.indexOf(",") + 1);
}

async function inputs(shortens) {
  const parts = await Promise.all(fields.map(async (one) => `${JSON.stringify(one.dataset.field)}: ${await written(one, shortens)}`));
  return `{${parts.join(", ")}}`;
}

function explains() {
  return form.querySelector("[data-explain]:not([hidden]) input")?.checked ?? false;
}

async function showCommand() {
  const body = `{"inputs": ${await inputs(true)}${explains() ? ', "explain": true' : ""}}`;
  const quoted = `'${body.replaceAll("'", "'\\''")}'`;
  const token = "signsIn" in form.dataset ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const command = `curl -X POST ${form.dataset.address}${form.dataset.try} -H 'Content-Type: application/json'${token} -d ${quoted}`;
  document.querySelector("[data-curl]").textContent = command;
  document.querySelector("[data-curl] + [data-copy]").dataset.copy = command;
}

function made(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function percent(share) {
  return `${(100 * share).toFixed(share && share < 0.1 ? 2 : 1)} %`;
}

// Bars with their names and numbers; `longest` fills one.
function bars(pairs, said, longest) {
  const list = made("div", "bars");
  for (const [name, value] of pairs) {
    const line = made("div", "score");
    const meter = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    meter.setAttribute("class", `gauge ${value < 0 ? "attention" : "live"}`);
    meter.setAttribute("viewBox", "0 0 100 12");
    meter.setAttribute("preserveAspectRatio", "none");
    meter.setAttribute("aria-hidden", "true");
    for (const [kind, width] of [["track", 100], ["value", (100 * Math.abs(value)) / longest]]) {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      bar.setAttribute("class", kind);
      bar.setAttribute("y", 3);
      bar.setAttribute("width", width);
      bar.setAttribute("height", 6);
      meter.append(bar);
    }
    line.append(made("span", "", name), meter, made("span", "n", said(value)));
    list.append(line);
  }
  return list;
}

function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(3)}`;
}

function trace(id) {
  const line = made("p", "small");
  const link = made("a", "", id);
  link.href = `/trace/${encodeURIComponent(id)}`;
  line.append("Prediction ", link);
  return line;
}

function showAnswer(answer, tookMs) {
  const parts = [made("p", "answer", typeof answer.output === "number" ? String(answer.output) : answer.output)];
  parts.push(made("p", "muted", `${answer.model}@${answer.version}, ${answer.variant}, in ${tookMs.toFixed(0)} ms with the way there and back`));
  const scores = Object.entries(answer.scores ?? {}).sort((a, b) => b[1] - a[1]);
  if (scores.length) parts.push(made("h3", "", "Scores"), bars(scores, percent, 1));
  const why = answer.explanation;
  if (Array.isArray(why?.contributions) && why.contributions.length) {
    const named = why.contributions.map((one) => [nameOf(one), Number(one.contribution ?? one.value ?? one[1])]);
    const longest = Math.max(...named.map(([, value]) => Math.abs(value)), Number.MIN_VALUE);
    parts.push(made("h3", "", `Why, by ${why.method}`), bars(named, signed, longest));
  }
  parts.push(trace(answer.prediction_id));
  place.replaceChildren(...parts);
}

function nameOf(one) {
  return String(one.feature ?? one.name ?? one.field ?? one[0]);
}

function showRefusal(error) {
  for (const one of error.fields ?? []) {
    const field = fields.find((each) => each.dataset.field === one.field);
    const problem = field?.querySelector("[data-problem]");
    if (!problem) continue;
    problem.textContent = `${one.field} ${one.problem}`;
    problem.hidden = false;
    problem.id = `${field.querySelector("[data-value]").id}-problem`;
    field.querySelector("[data-value]").setAttribute("aria-invalid", "true");
    field.querySelector("[data-value]").setAttribute("aria-describedby", problem.id);
  }
  const parts = [made("p", "problem", error.message)];
  if (error.prediction_id) parts.push(trace(error.prediction_id));
  place.replaceChildren(...parts);
  form.querySelector("[aria-invalid]")?.focus();
}

function clearProblems() {
  for (const one of form.querySelectorAll("[data-problem]")) one.hidden = true;
  for (const one of form.querySelectorAll("[aria-invalid]")) {
    one.removeAttribute("aria-invalid");
    one.removeAttribute("aria-describedby");
  }
}

async function ask() {
  const marks = `"key": ${JSON.stringify(form.dataset.key)}, "replay": true${explains() ? ', "explain": true' : ""}`;
  const body = `{"inputs": ${await inputs(false)}, ${marks}}`;
  const begun = performance.now();
  const answer = await fetch(form.dataset.try, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const told = await answer.json().catch(() => null);
  if (answer.ok) showAnswer(told, performance.now() - begun);
  else showRefusal(told?.error ?? { message: `The server answers ${answer.status}.` });
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = form.querySelector("[data-ask]");
  if (!button) return;
  button.disabled = true;
  clearProblems();
  try {
    await ask();
  } catch {
    showRefusal({ message: "The server does not answer. Try again; nothing is lost." });
  } finally {
    button.disabled = false;
  }
});

form?.addEventListener("input", (event) => {
  const none = event.target.closest("[data-none]");
  if (none) none.closest("[data-field]").querySelector("[data-value]").disabled = none.checked;
  showCommand();
});

// Explanations are offered where the endpoint's own description has them.
async function offerExplanation() {
  const answer = await fetch(form.dataset.described);
  if (!answer.ok) return;
  const schemas = Object.values((await answer.json()).components?.schemas ?? {});
  form.querySelector("[data-explain]").hidden = !schemas.some((one) => one.properties?.inputs && one.properties.explain);
}

if (form) {
  showCommand();
  offerExplanation().catch(() => {});
}
