// Verifies the audit chain and says what was found.
const verdict = document.querySelector("[data-verdict]");
const button = document.querySelector("[data-verify]");

button.addEventListener("click", async () => {
  button.disabled = true;
  verdict.hidden = false;
  verdict.className = "outcome";
  verdict.textContent = "Recomputing every hash and checking every signature …";
  try {
    const answer = await fetch(button.dataset.verify);
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error.message);
    verdict.classList.add(told.is_intact ? "ok" : "failed");
    verdict.textContent = told.is_intact
      ? `Intact: all ${told.entries.toLocaleString()} entries are as they were written. Head ${told.head.slice(0, 24)}…`
      : `Broken: ${told.problems.slice(0, 5).join("; ")}${told.problems.length > 5 ? ` and ${told.problems.length - 5} more` : ""}`;
  } catch (error) {
    verdict.classList.add("failed");
    verdict.textContent = `It could not be verified: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});
