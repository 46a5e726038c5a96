"""What parts of serving cost: a second worker, routing and logging, a shadow, monitoring. everloop alone, the text model.

python -m benchmarks.serving.costs [--data ../shared/data] [--rounds 7] [--seconds 2]
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.serving import tasks
from benchmarks.serving.prediction_path import BARS_HEAD, PATH, Bar, ours, parser, task_of
from benchmarks.serving.servers import Measured, Server
from benchmarks.serving.tasks import Task
from everloop import monitoring, predictions, rollout
from everloop.clock import to_micros
from everloop.ids import new_prediction_id
from tests.conftest import simulation
from tests.loop import living
from tests.serving.asgi import InProcess

AT_ONCE = 32
LOGGED, LOGGED_AT_ONCE = 40_000, 100


@dataclass(frozen=True)
class Options:
    task: Task
    rounds: int
    seconds: float
    environment: dict[str, str] = field(default_factory=dict)


PARTS = ("workers", "routing", "shadow", "monitoring")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--part", choices=PARTS, help="this alone")
    options.add_argument("--unmodified", action="store_true", help="the shadow with the unmodified pipeline")
    given = options.parse_args()
    environment = {"EVERLOOP_COMPILED_MODELS": "false"} if given.unmodified else {}
    asked = Options(task_of("text", given.data), given.rounds, given.seconds, environment)
    found = costs(asked, given.part)
    print("\n".join(["", BARS_HEAD, *(bar.row() for bar in found)]))


def costs(options: Options, only: str | None = None) -> list[Bar]:
    found: list[Bar] = []
    parts: list[Callable[[Options], list[Bar]]] = [workers, routing_and_log, shadow, monitored]
    for name, part in zip(PARTS, parts, strict=True):
        if only not in (None, name):
            continue
        bars = part(options)
        print("\n".join(bar.row() for bar in bars), file=sys.stderr, flush=True)
        found += bars
    return found


def workers(options: Options) -> list[Bar]:
    """One and two workers behind one port, the program that asks on the same cores."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        tasks.release(home, options.task)
        servers = [
            stack.enter_context(ours(f"{number} workers", home, options.task, "--workers", str(number)))
            for number in (1, 2)
        ]
        one, two = in_turns(servers, options)
    pairs = list(zip(one, two, strict=True))
    return [
        Bar(
            "CPU a request, two workers / one", [more.cpu_us / less.cpu_us for less, more in pairs], most=1.2
        ),
        Bar(
            "requests/s, two workers / one, the program that asks on the same cores",
            [more.requests_per_s / less.requests_per_s for less, more in pairs],
        ),
    ]


def in_turns(servers: Sequence[Server], options: Options, *, rate: float = 0.0) -> list[list[Measured]]:
    found: list[list[Measured]] = [[] for _ in servers]
    for server in servers:
        server.stand_still()
    for number in range(options.rounds + 1):
        for server, turns in zip(servers, found, strict=True):
            server.go_on()
            measured = server.ask(connections=AT_ONCE, seconds=options.seconds if number else 1.0, rate=rate)
            server.stand_still()
            if number:  # the first round warms up
                turns.append(measured)
    return found


def routing_and_log(options: Options) -> list[Bar]:
    """In one process without HTTP, so that nothing hides them: a split between two variants and a log, and then one variant
    whose records go nowhere. The difference is held against the processor time of a request over HTTP.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        homes = _homes(Path(folder), options.task)
        tasks.go_live(homes[1], [("control", 1, 90.0), ("canary", 2, 10.0)], epoch=2)
        plain, whole = (stack.enter_context(InProcess(home)) for home in homes)
        plain._app._answerer.log = _nowhere
        spent: list[tuple[float, float]] = []
        for number in range(options.rounds + 1):
            pair = _in_process_us(plain, options), _in_process_us(whole, options)
            if number:
                spent.append(pair)
        server = stack.enter_context(ours("split and logged", homes[1], options.task))
        (turns,) = in_turns([server], options)
    request_us = median(turn.cpu_us for turn in turns)
    lost = [(more - less) / request_us for less, more in spent]
    return [
        Bar("routing and logging, share of a request's processor time, and so of throughput", lost, most=0.2)
    ]


async def _nowhere(*_given: object) -> dict[str, int]:
    """A log that keeps nothing, and says of no record that it left it out."""
    return {}


def _in_process_us(app: InProcess, options: Options) -> float:
    """Processor time a request, 32 at once."""
    bodies = options.task.bodies("everloop").splitlines()

    async def ask() -> int:
        count, until = 0, time.perf_counter() + options.seconds
        while time.perf_counter() < until:
            some = [bodies[(count + place) % len(bodies)] for place in range(AT_ONCE)]
            got = await asyncio.gather(*(app.ask("POST", PATH, body, {}) for body in some))
            assert {one.status for one in got} == {200}
            count += AT_ONCE
        return count

    begun = time.process_time()
    count = app.run(ask())
    return (time.process_time() - begun) * 1e6 / count


SHORT_TURNS = 5  # for each round of the others


def shadow(options: Options) -> list[Bar]:
    """p99 of what is answered, at half of what one worker can, with every request mirrored to another version and without.

    One process serves both, of two endpoints that differ in nothing else, in turns of a second each: many, since a tail is
    what anything else on the machine moves first.
    """
    found: list[tuple[Measured, Measured]] = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = Path(folder)
        tasks.release(home, options.task, versions=2)
        tasks.go_live_mirrored(home)
        alone = stack.enter_context(ours("alone", home, options.task, **options.environment))
        mirrored = replace(alone, path="/endpoints/mirrored/predict")
        full = [alone.ask(connections=AT_ONCE, seconds=options.seconds) for _ in range(3)]
        half = median(turn.requests_per_s for turn in full) / 2
        for number in range(SHORT_TURNS * options.rounds):
            turns = {}
            for server in (alone, mirrored) if number % 2 else (mirrored, alone):
                turns[server.path] = server.ask(connections=AT_ONCE, seconds=1.0, rate=half)
            found.append((turns[alone.path], turns[mirrored.path]))
        time.sleep(1.5)  # copies that still wait
        copies = _shadows_of(home)
    shed = sum(one.startswith("overloaded") for one in copies) / len(copies)
    ratios = [more.p99_ms / less.p99_ms for less, more in found]
    return [
        Bar(f"p99 with a shadow of every request / without, at {half:,.0f} requests/s", ratios, most=1.5),
        Bar("p99 with a shadow of every request, ms", [more.p99_ms for _, more in found]),
        Bar("p99 without, ms", [less.p99_ms for less, _ in found]),
        Bar("share of the copies for which there was no room", [shed], digits=4),
        Bar(
            "processor time a request with a shadow of every request / without",
            [more.cpu_us / less.cpu_us for less, more in found],
        ),
    ]


def _shadows_of(home: Path) -> list[str]:
    """What is said of each mirrored request: nothing, or its error."""
    table = predictions.read(home / "serving", endpoint="mirrored", columns=["shadow_of", "error"])
    return [one or "" for one in table.filter(table["shadow_of"].is_valid())["error"].to_pylist()]


def _homes(folder: Path, task: Task) -> list[Path]:
    """Two homes with two versions each, the first live."""
    homes = [folder / "first", folder / "second"]
    for home in homes:
        home.mkdir()
        tasks.release(home, task, versions=2)
    return homes


def monitored(options: Options) -> list[Bar]:
    """What monitoring costs a request, in all processes together: each part, and what they add up to.

    A request pays for its log record on its way, which it has in any case. What looks at the log does so in another process. Here an
    hour, for drift and accuracy a day, has 40,000 requests: they are counted before they are sealed, and looked at when they are. A rollout's
    judge looks at all requests since its beginning each time: what one look costs, of each of them.
    """
    path, traffic, latency, drift, accuracy, judge = [], [], [], [], [], []
    with tempfile.TemporaryDirectory() as folder, simulation(Path(folder, "home")) as ws:
        living.begin(ws, Path(folder))
        with living.opened(ws) as shop:
            for watch, hours, looks, before in (
                (monitoring.latency(p99_ms=100), 1, latency, 24),
                (monitoring.drift(), 24, drift, 8),
                (monitoring.accuracy(audit=0.02), 24, accuracy, 1),
            ):
                _watch(shop, [watch])
                for number in range(before + options.rounds):
                    on_path = _log(shop)
                    shop.later(hours=hours * 0.9)
                    counted = _look_us(shop)
                    shop.log._next_segment()  # as after an hour
                    predictions.seal(shop.folder)
                    shop.later(hours=hours * 0.1)
                    looked = _look_us(shop)
                    if number >= before:  # until then windows fill up; the first loads, too
                        path, traffic = [*path, on_path], [*traffic, counted]
                        looks.append(looked)
            _roll_out(shop)
            for _ in range(options.rounds):
                shop.ask(LOGGED)
                judge.append(_spent_us(lambda: rollout.tick(shop.ws)) / (len(judge) + 1))
    parts = [median(path), median(traffic), median(latency)]
    of_all = "monitoring, all processes, us a request"
    return [
        Bar("monitoring, on the request's own path: its log record, us", path),
        Bar("monitoring, in the background: counting traffic, us a request", traffic),
        Bar("monitoring, in the background: looks at latency, us a request", latency),
        Bar("monitoring, in the background: looks at drift, us a request", drift),
        Bar("monitoring, in the background: drawing 2 % for review, us a request", accuracy),
        Bar(f"{of_all}, with a watch of latency", [sum(parts[1:])], most=3.0),
        Bar(f"{of_all}, with a watch of latency, the log record counted too", [sum(parts)]),
        Bar(f"{of_all}, with watches of latency and drift", [sum(parts[1:]) + median(drift)], most=3.0),
        Bar(
            f"{of_all}, with a watch of accuracy besides", [sum(parts[1:]) + median(drift) + median(accuracy)]
        ),
        Bar("in a rollout besides: each look of the judge, us for each request since its beginning", judge),
    ]


def _roll_out(shop: living.Shop) -> None:
    """Begin a rollout that is not decided soon."""
    plan = rollout.canary(50, 100, excess_at_most={"errors": 0.000_01, "slow": 0.000_01})
    shop.ws.write(
        lambda tx: rollout.define_endpoint(
            shop.ws, tx, "kind", model="kind", canary=plan, stickiness="request"
        )
    )
    living.release(shop.ws, "kind@2")
    rollout.start(shop.ws, "kind", "kind@2", reason="what its judge costs")
    shop.acknowledge()


def _watch(shop: living.Shop, watches: list[Any]) -> None:
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", []))
    shop.ws.write(lambda tx: monitoring.set_watches(shop.ws, tx, "kind", watches))


def _log(shop: living.Shop) -> float:
    """Write records one by one, as answers do, and say what each cost."""
    (one,) = shop.ask(1)
    chance = random.Random(5)  # noqa: S311  (no secret)
    spent = 0.0
    for number in range(LOGGED // LOGGED_AT_ONCE):
        at = to_micros(shop.ws.now() + timedelta(milliseconds=number))
        some = [
            msgspec.structs.replace(
                one,
                id=new_prediction_id(shop.log.writer),
                at=at,
                latency_us=int(chance.lognormvariate(6.5, 0.7)),
            )
            for _ in range(LOGGED_AT_ONCE)
        ]
        begun = time.process_time()
        for record in some:
            shop.log.write([record])
        spent += time.process_time() - begun
    return spent * 1e6 / LOGGED


def _look_us(shop: living.Shop) -> float:
    return _spent_us(lambda: monitoring.observe(shop.ws))


def _spent_us(work: Callable[[], object]) -> float:
    """Of the processor, for each of 40,000 requests."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1e6 / LOGGED


if __name__ == "__main__":
    main()
