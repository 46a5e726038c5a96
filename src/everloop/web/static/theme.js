// Before the first paint: the theme that this person chose, if they chose one.
const chosen = localStorage.getItem("everloop-theme");
if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
