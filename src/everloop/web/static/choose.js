// Rows that are chosen together: their values go to the form's address as one list, once there are enough of them.
function chosen(form) {
  return [...form.querySelectorAll("input[type=checkbox]:checked")].map((one) => one.value);
}

function tell(form) {
  const count = chosen(form).length;
  const [least, most] = [Number(form.dataset.least), Number(form.dataset.most)];
  form.querySelector("[data-choose-do]").disabled = count < least || count > most;
  form.querySelector("[data-choose-said]").textContent =
    count > most ? `${count} are chosen; ${most} at most.` : count < least ? `Choose ${least} to ${most}.` : `${count} are chosen.`;
}

document.addEventListener("change", (event) => {
  const form = event.target.closest("[data-choose]");
  if (form) tell(form);
});

document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-choose]");
  if (!form) return;
  event.preventDefault();
  location.href = `${form.getAttribute("action")}?${form.dataset.choose}=${chosen(form).map(encodeURIComponent).join(",")}`;
});
