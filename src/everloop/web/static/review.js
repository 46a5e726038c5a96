// The reviewer's desk: one key or click a choice, then the next item.
const form = document.querySelector("[data-review]");
const problem = document.querySelector("[data-problem]");
let sending = false;

async function settle(value) {
  if (sending) return;
  sending = true;
  try {
    const answer = await fetch(form.dataset.review, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ value }),
    });
    if (!answer.ok) throw new Error((await answer.json()).error.message);
    location.reload();
  } catch (error) {
    problem.textContent = error instanceof TypeError ? "The server does not answer. Try again." : error.message;
    problem.hidden = false;
    sending = false;
  }
}

if (form) {
  form.addEventListener("click", (event) => {
    const choice = event.target.closest("[data-choice]");
    if (choice) settle(choice.dataset.choice);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const field = form.querySelector("#value");
    if (field) settle(Number(field.value));
  });
  form.querySelector("[data-filter]")?.addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const one of form.querySelectorAll("[data-choice]")) one.hidden = !one.dataset.choice.toLowerCase().includes(wanted);
  });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "s") document.querySelector("[data-skip]")?.click();
  if (form && /^[1-9]$/.test(event.key)) form.querySelectorAll("[data-choice]:not([hidden])")[event.key - 1]?.click();
});
