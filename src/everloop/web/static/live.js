// Keeps a page's live parts fresh: fetches the page again every few seconds and swaps the parts that changed.
// Says how old what is seen is, and when the connection is lost.
const TICK_MS = 1000;

export function startLive() {
  const fresh = document.querySelector("[data-fresh]");
  const age = fresh.querySelector("[data-age]");
  const lost = document.querySelector("[data-lost]");
  let updated = Date.now();
  let asking = false;

  async function refresh(isAsked = false) {
    asking = true;
    const address = location.href;
    try {
      const answer = await fetch(address, { headers: { Accept: "text/html" }, cache: "no-store" });
      if (answer.redirected && new URL(answer.url).pathname === "/sign-in") location.reload();
      if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
      const text = await answer.text();
      if (address !== location.href) return; // something else was asked for meanwhile
      swap(text, fresh, isAsked);
      updated = Date.now();
      lost.textContent = "";
      document.body.classList.remove("is-lost");
    } catch (error) {
      document.body.classList.add("is-lost");
      const why = error instanceof TypeError ? "the server does not answer" : error.message;
      const text = `Connection lost: ${why}. What you see may be old; trying again.`;
      if (lost.textContent !== text) lost.textContent = text;
    } finally {
      asking = false;
    }
  }

  setInterval(() => {
    const seconds = Math.round((Date.now() - updated) / 1000);
    age.textContent = seconds < 2 ? "now" : `${seconds} s ago`;
    const every = Number(fresh.dataset.every ?? 0);
    const isBusy = asking || document.hidden || document.querySelector("dialog[open]");
    if (every && !isBusy && seconds >= every) refresh();
  }, TICK_MS);
  document.addEventListener("everloop:refresh", () => refresh(true));
}

const seen = new Map(); // by part: what the server sent last, which plots and people may have changed since

function swap(text, fresh, isAsked) {
  const page = new DOMParser().parseFromString(text, "text/html");
  fresh.dataset.every = page.querySelector("[data-fresh]").dataset.every ?? 0; // what was live may have come to rest
  for (const part of document.querySelectorAll("[data-live]")) {
    const next = page.querySelector(`[data-live="${part.dataset.live}"]`);
    // a part in which somebody is at work, or has opened or chosen something, is left alone unless they asked for another;
    // who stands on a link with an id stays on it
    const held = part.contains(document.activeElement) ? document.activeElement : null;
    const isInUse = (held && !(held.id && held.matches("a"))) || part.querySelector("details[open], input:checked");
    if (next && (isAsked || !isInUse) && next.innerHTML !== seen.get(part.dataset.live)) {
      part.innerHTML = next.innerHTML;
      seen.set(part.dataset.live, next.innerHTML);
      if (held?.id) document.getElementById(held.id)?.focus({ preventScroll: true });
    }
  }
  document.dispatchEvent(new Event("everloop:refreshed"));
}
