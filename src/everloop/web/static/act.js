// Acts that change something: say in words what will happen, ask for a reason or more, do it through the JSON API.
const dialog = document.getElementById("confirm");
const reason = document.getElementById("confirm-reason");
const params = document.getElementById("confirm-params");
const note = document.getElementById("confirm-note");
const answer = document.getElementById("confirm-answer");
const tags = document.getElementById("confirm-tags");
const problem = dialog.querySelector("[data-problem]");
const button = dialog.querySelector("[data-do]");
let act = null;

document.addEventListener("click", (event) => {
  const asked = event.target.closest("[data-act]");
  if (!asked) return;
  act = { ...asked.dataset };
  dialog.querySelector("h2").textContent = act.title;
  dialog.querySelector("[data-words]").textContent = act.words;
  dialog.querySelector("p[data-recorded]").textContent = act.recorded;
  button.textContent = act.label;
  button.classList.toggle("harsh", act.kind === "danger");
  problem.hidden = true;
  const asks = act.asks.split(" ");
  for (const part of dialog.querySelectorAll("[data-asked]")) part.hidden = !part.dataset.asked.split(" ").some((one) => asks.includes(one));
  reason.required = asks.includes("reason");
  answer.required = asks.includes("answer") || asks.includes("number");
  answer.value = reason.value = params.value = tags.value = "";
  note.value = act.note ?? "";
  dialog.showModal();
  (dialog.querySelector("[data-asked]:not([hidden]) :is(textarea, input)") ?? button).focus();
});

dialog.querySelector("[data-cancel]").addEventListener("click", () => dialog.close());

dialog.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    await send(act.act, { ...JSON.parse(act.fields), ...asked() });
    dialog.close();
    location.reload();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  } finally {
    button.disabled = false;
  }
});

function asked() {
  const asks = act.asks.split(" ");
  return {
    ...(asks.includes("note") && { value: note.value.trim() }),
    ...(asks.includes("answer") && { value: answer.value.trim() }),
    ...(asks.includes("number") && { value: Number(answer.value) }),
    ...(asks.includes("reason") && { reason: reason.value.trim() }),
    ...(asks.includes("params") && { params: Object.fromEntries(lines(params).map(named)) }),
    ...(asks.includes("tags") && { tags: lines(tags).map(parted).map(([key, value]) => ({ key, value })) }),
  };
}

function lines(field) {
  return field.value.split("\n").map((line) => line.trim()).filter(Boolean);
}

// NAME=VALUE, as on the command line: a value that is no JSON is a text
function named(line) {
  const [name, value] = parted(line);
  try {
    return [name, JSON.parse(value)];
  } catch {
    return [name, value];
  }
}

function parted(line) {
  const [name, ...rest] = line.split("=");
  if (!rest.length) throw new Error(`The line ${line} has no value; write NAME=VALUE, such as c=4.`);
  return [name.trim(), rest.join("=").trim()];
}

async function send(url, body) {
  let told;
  try {
    told = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer; nothing was done as far as this page knows. Look again before you repeat it.");
  }
  if (!told.ok) {
    const said = await told.json().catch(() => null);
    throw new Error(said?.error?.message ?? said?.message ?? `The server answers ${told.status}.`);
  }
}
