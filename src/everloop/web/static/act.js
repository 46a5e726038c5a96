// Acts that change something: say in words what will happen, ask for a reason, do it through the JSON API.
const dialog = document.getElementById("confirm");
const reason = dialog.querySelector("textarea");
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
  reason.value = "";
  dialog.showModal();
  reason.focus();
});

dialog.querySelector("[data-cancel]").addEventListener("click", () => dialog.close());

dialog.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    await send(act.act, { ...JSON.parse(act.fields), reason: reason.value.trim() });
    dialog.close();
    location.reload();
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  } finally {
    button.disabled = false;
  }
});

async function send(url, body) {
  let answer;
  try {
    answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  } catch {
    throw new Error("The server does not answer; nothing was done as far as this page knows. Look again before you repeat it.");
  }
  if (!answer.ok) {
    const told = await answer.json().catch(() => null);
    throw new Error(told?.error?.message ?? `The server answers ${answer.status}.`);
  }
}
