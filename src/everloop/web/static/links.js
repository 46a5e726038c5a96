// Links that MLflow's clients print (/#/experiments/3/runs/...) lead to our pages. What stands behind the # never reaches
// the server, so the front page looks at it. Only addresses of these forms are followed, and only to pages of ours.
const ID = /^[0-9a-f]{32}$/;

function text(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

function compared(query) {
  try {
    const runs = JSON.parse(new URLSearchParams(query).get("runs"));
    return runs.length && runs.every((one) => ID.test(one)) ? `/compare?runs=${runs.map((one) => `run_${one}`).join(",")}` : null;
  } catch {
    return null;
  }
}

// Where such a link leads; null when it is none.
function placeOf(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?", 2);
  const [root, kind, name, more, which] = path.split("/");
  if (root !== "") return null;
  if (kind === "experiments" && more === "runs" && ID.test(which)) return `/runs/run_${which}`;
  if (kind === "experiments" && /^\d{1,9}$/.test(name)) return `/experiments/${name}`;
  if (kind === "runs" && ID.test(name)) return `/runs/run_${name}`;
  if (kind === "models" && text(name)) {
    const model = `/models/${encodeURIComponent(text(name))}`;
    return more === "versions" && /^\d{1,9}$/.test(which) ? `${model}/${which}` : model;
  }
  if (kind === "compare-runs") return compared(query);
  return kind === "experiments" || kind === "models" ? `/${kind}` : null;
}

export function followLinks() {
  const place = placeOf(location.hash);
  const onward = document.querySelector("form [name=next]"); // who must sign in first goes there afterwards
  if (place && location.pathname === "/") location.replace(place);
  else if (place && onward) onward.value = place;
}
