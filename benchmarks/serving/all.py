"""All of this folder's figures in one run of some ten minutes, on a machine that does nothing else.

    python -m benchmarks.serving.all [--data ../shared/data] [--rounds 7] [--seconds 1.5] [--write]

Prints them as Markdown. With --write they also replace those in README.md, every turn goes to turns.txt, and
requests.svg is drawn anew.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks.serving import costs
from benchmarks.serving.prediction_path import (
    BARS_HEAD,
    PEERS,
    Results,
    bars,
    measure,
    parser,
    table,
    task_of,
)
from benchmarks.serving.servers import HERE, Measured, started
from everloop.clock import wall
from tests.peer import PEERS as ENVIRONMENTS
from tests.peer import peer

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
PINNED = {
    "bench_fastapi": ("fastapi", "uvicorn"),
    "bench_litserve": ("litserve",),
    "bench_bentoml": ("bentoml",),
    "bench_mlflow": ("mlflow",),
}


def main() -> None:
    made = parser(__doc__)
    made.set_defaults(seconds=1.5)
    made.add_argument("--write", action="store_true")
    options = made.parse_args()
    for name in PINNED:
        peer(name)
    before = os.getloadavg()[0]
    ceiling = _ceiling(options.seconds)
    results = {
        model: measure(model, options.data, rounds=options.rounds, seconds=options.seconds) for model in PEERS
    }
    task = task_of("text", options.data)
    found = [bar for model, one in results.items() for bar in bars(model, one)]
    found += costs.costs(costs.Options(task, options.rounds, options.seconds))
    about = (
        f"{wall():%-d %B %Y}: {os.cpu_count()} cores, load {before:.1f} before and {os.getloadavg()[0]:.1f} after (the run itself "
        f"is about 2), {options.rounds} rounds of {options.seconds:g} s, medians. Python {platform.python_version()}, "
        f"{', '.join(_versions())}. From a server that reads nothing the program that asks takes "
        f"{ceiling.requests_per_s:,.0f} answers a second, at {ceiling.asking_us:.0f} us of processor time each."
    )
    met = "\n".join([BARS_HEAD, *(bar.row() for bar in found)])
    tables = [f"{model.capitalize()} model:\n\n{table(one)}" for model, one in results.items()]
    text = "\n\n".join([about, met, *tables]) + "\n"
    print(text)
    if options.write:
        readme = HERE / "README.md"
        start, rest = readme.read_text().split(BEGIN)
        readme.write_text(start + BEGIN + "\n" + text + "\n" + END + rest.split(END)[1])
        (HERE / "turns.txt").write_text(about + "\n" + _turns(results))
        (HERE / "requests.svg").write_text(drawn(results["text"]))


def _ceiling(seconds: float) -> Measured:
    """What the program that asks can ask for at most."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "bare.py"), "PORT"]
        with started("bare", command, path="/", bodies=b"{}", folder=Path(folder)) as server:
            return server.ask(connections=32, seconds=seconds)


def _versions() -> list[str]:
    """Of scikit-learn, and of each peer in the environment that it has to itself."""
    lines = {
        line.split(" ")[0]
        for name in PINNED
        for line in (ENVIRONMENTS.parent / "tests" / "peers" / f"{name}.txt").read_text().splitlines()
    }
    wanted = [name for names in PINNED.values() for name in names]
    found = {line.partition("==")[0]: line.partition("==")[2] for line in lines if "==" in line}
    return [f"scikit-learn {version('scikit-learn')}", *(f"{name} {found[name]}" for name in wanted)]


def _turns(results: dict[str, Results]) -> str:
    head = f"{'model':7}{'server':24}{'connections':>12}{'requests/s':>12}{'CPU us':>10}{'p50 ms':>10}{'p99 ms':>10}\n"
    rows = [
        f"{model:7}{name:24}{connections:12}{turn.requests_per_s:12.0f}{turn.cpu_us:10.0f}{turn.p50_ms:10.3f}{turn.p99_ms:10.3f}\n"
        for model, one in results.items()
        for (name, connections), turns in one.turns.items()
        for turn in turns
    ]
    return head + "".join(rows)


def drawn(results: Results) -> str:
    """Requests a second at 32 connections as bars, in colours that can be read on white and on black."""
    found = [(name, results.middle(name, 32, "requests_per_s")) for name, at in results.turns if at == 32]
    most = max(per_s for _, per_s in found)
    rows = []
    for place, (name, per_s) in enumerate(found):
        y, width = 34 + 26 * place, max(2.0, 380 * per_s / most)
        kind = "ours" if name.startswith("everloop") else "peer"
        rows.append(
            f'<text x="150" y="{y + 13}" text-anchor="end">{name}</text>'
            f'<rect class="{kind}" x="160" y="{y}" width="{width:.0f}" height="18" rx="2"/>'
            f'<text x="{167 + width:.0f}" y="{y + 13}">{per_s:,.0f}</text>'
        )
    height = 44 + 26 * len(found)
    style = (
        "text{font:12px system-ui,sans-serif;fill:#333}.ours{fill:#2563eb}.peer{fill:#9ca3af}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.ours{fill:#60a5fa}.peer{fill:#6b7280}}"
    )
    title = "Requests a second, 32 connections, one worker, a TF-IDF text classifier"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 620 {height}" role="img" aria-label="{title}">'
        f'<style>{style}</style><text x="10" y="18">{title}</text>\n' + "\n".join(rows) + "</svg>\n"
    )


if __name__ == "__main__":
    main()
