"""What the people of the story do: listings come in, are asked about, reported on and reviewed; versions are rolled out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from everloop.demo.marketplace import Figures
from everloop.demo.shop import Command, Shop, ShopError

MOST_REPLAYS = 6_000  # listings re-sent for one rollout where the day's traffic is too little to decide on
_REPLAYS_AT_A_TIME = 200
_HALVED = ("seed_unlabelled", "seed_unlabelled_truth", "month_1", "month_1_truth")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Listings:
    """The files of a marketplace, as tables; all times are UTC. In a hurry, some have every other listing."""

    folder: Path
    in_a_hurry: bool = False

    def __getitem__(self, name: str) -> pa.Table:
        table = pq.read_table(self.folder / f"{name}.parquet")
        return table[::2] if self.in_a_hurry and name in _HALVED else table


@dataclass
class Story:
    """What the teller knows while telling."""

    shop: Shop
    listings: Listings
    say: Say
    figures: Figures
    inputs: tuple[str, ...]
    truth: dict[int, str] = field(default_factory=dict)
    predicted: dict[int, tuple[str, str]] = field(default_factory=dict)  # listing: prediction id, answer
    weekly: dict[str, list[int]] = field(default_factory=dict)  # week: listings
    replays: int = 0
    reported: set[tuple[int, datetime]] = field(default_factory=set)
    recent: list[dict[str, Any]] = field(default_factory=list)
    first_answers: dict[int, str] = field(default_factory=dict)
    first_version: str = ""
    tried: Command = field(init=False)  # what somebody trains while week 4 goes on


def ingest(story: Story, table: pa.Table) -> Any:
    """Add listings to the dataset; columns that a source does not have are missing there."""
    for name, kind in (("product_id", pa.int64()), ("product_name", pa.string())):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), kind))
    columns = ["listing_id", *story.inputs, "received_at", "product_id", "product_name"]
    return story.shop.send("/api/datasets/listings/ingest", table.select(columns))


def serve_week(story: Story, name: str, rows: pa.Table, truth: pa.Table) -> None:
    """A week of traffic in time order, in two parts, so that what one part taught is known in the next.

    What the server does at the end of a part goes on while the next one is asked about; so does, in a month's first
    week, the training that a schedule has started.
    """
    story.truth |= {row["listing_id"]: row["category"] for row in truth.to_pylist()}
    story.weekly[name] = ids_of(rows)
    story.recent = rows.to_pylist()
    middle = _midnight_after(story.recent[0]["received_at"].replace(tzinfo=UTC) + timedelta(days=3))
    early = [row for row in story.recent if row["received_at"].replace(tzinfo=UTC) < middle]
    for part in (early, story.recent[len(early) :]):
        _serve(story, part, wait_for_jobs=not name.endswith("week 1"))
    right = accuracy(story, story.weekly[name])
    story.say(f"   {name:<16} {len(rows):>5,} listings, accuracy {right:.3f} (against the truth files)")


def _serve(story: Story, rows: list[dict[str, Any]], *, wait_for_jobs: bool) -> None:
    """Some days of traffic, then what came back by their end: corrections and reviews."""
    shop = story.shop
    answers = shop.predict("category", [_request(story, row) for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        prediction = answer["error"]["prediction_id"] if "error" in answer else answer["prediction_id"]
        story.predicted[row["listing_id"]] = (prediction, answer.get("output", ""))
    shop.settle(jobs=wait_for_jobs)
    ingest(story, pa.Table.from_pylist(rows, schema=story.listings["month_1"].schema))
    midnight = _midnight_after(rows[-1]["received_at"].replace(tzinfo=UTC))
    evening = midnight - timedelta(minutes=30)
    shop.move_clock(evening)
    _report_corrections(story, until=evening)
    _review(story)
    shop.move_clock(midnight)


def _request(story: Story, row: Mapping[str, Any]) -> dict[str, Any]:
    at = row["received_at"].replace(tzinfo=UTC).isoformat()
    return {"inputs": {name: row[name] for name in story.inputs}, "key": str(row["listing_id"]), "at": at}


def _report_corrections(story: Story, *, until: datetime) -> None:
    """Send the reports whose time has come: sellers report one at a time, moderators hand in a list."""
    due = [row for row in story.listings["corrections_month_2"].to_pylist() if _is_due(story, row, until)]
    story.reported |= {_report(row) for row in due}
    told = [
        {
            "value": row["category"],
            "reporter": row["reporter"],
            "prediction_id": story.predicted[row["listing_id"]][0],
            "at": row["corrected_at"].replace(tzinfo=UTC).isoformat(),
        }
        for row in due
        if story.predicted[row["listing_id"]][1]  # of a request that failed there is no answer to report on
    ]
    where = "/api/endpoints/category/corrections"
    one_by_one = [(where, one) for one in told if one["reporter"] == "seller"]
    story.shop.post_all(one_by_one, token=story.shop.tokens.shop)
    listed = [one for one in told if one["reporter"] != "seller"]
    if listed:
        columns = {"prediction_id": "prediction_id", "at": "at"}
        story.shop.send(f"{where}/import", pa.Table.from_pylist(listed), **columns)


def _is_due(story: Story, row: Mapping[str, Any], until: datetime) -> bool:
    at = row["corrected_at"].replace(tzinfo=UTC)
    return at < until and row["listing_id"] in story.predicted and _report(row) not in story.reported


def _report(row: Mapping[str, Any]) -> tuple[int, datetime]:
    return row["listing_id"], row["corrected_at"]


def _review(story: Story) -> None:
    """The reviewer settles what waits: sellers' reports and the audit sample, each by the truth."""
    while True:
        waiting = story.shop.get("/api/review", limit=500)
        answers = {
            one["id"]: story.truth[int(one["key"])]
            for one in waiting
            if one["key"] is not None and int(one["key"]) in story.truth
        }
        if answers:
            story.shop.post("/api/review", {"answers": answers}, token=story.shop.tokens.alice)
        if len(waiting) < 500 or not answers:
            return


def deliver_retrained(story: Story) -> None:
    """Approve what retraining made, and ramp it up."""
    shop = story.shop
    done = [one for one in shop.get("/api/jobs", kind="train") if "decision" in one["payload"]]
    need(bool(done) and done[0]["state"] == "done", f"the retraining did not end well: {done[:1]}")
    version = done[0]["result"]["version"]
    live = [one["version"] for one in shop.get("/api/endpoints/category/live")]
    if version in live:
        return
    card = shop.get(f"/api/model-versions/{version}")
    story.say(f"   retrained because {done[0]['reason']}: {version}, {metrics_of(card)}")
    need(card["gate_report"]["verdict"] == "passed", f"{version} failed its gates: {failed_gates(card)}")
    approve(story, version, "fresh labels of the season")
    ramp(story, version)


def approve(story: Story, version: str, reason: str) -> None:
    story.shop.post(
        f"/api/model-versions/{version}/approve", {"reason": reason}, token=story.shop.tokens.alice
    )
    if not story.shop.get("/api/endpoints/category/live"):
        story.shop.settle()


def ramp(story: Story, version: str) -> None:
    ended = drive(story, version)
    need(ended["state"] == "done", f"the rollout of {version} is {ended['state']}: {ended['outcome']}")
    looks = story.shop.get(f"/api/rollouts/{ended['id']}", limit=1000)["events"]
    steps = [one for one in reversed(looks) if one["act"] in ("started", "advanced", "finished")]
    path = " -> ".join(f"{one['variants'][-1]['weight']:g} %" for one in steps)
    story.say(f"   {version}: {path}, decided on {story.replays:,} replayed requests and the judge's bounds")


def drive(story: Story, version: str) -> Any:
    """Send recent listings again, marked as replay, until the judge has decided."""
    rollout = _rollout_of(story, version)
    story.replays = 0
    while rollout["state"] == "running":
        need(
            story.replays < MOST_REPLAYS,
            f"{version} is still on hold after {story.replays:,} replayed requests: stage {rollout['stage']}",
        )
        seen = _looks(story, rollout)
        replay(story, _REPLAYS_AT_A_TIME)
        rollout = _after_a_look(story, rollout, seen)
    return rollout


def _rollout_of(story: Story, version: str) -> Any:
    for _ in range(300):
        found = [
            one for one in story.shop.get("/api/rollouts", endpoint="category") if one["version"] == version
        ]
        if found:
            return found[0]
        time.sleep(0.05)
    raise ShopError(f"no rollout of {version} was started")


def _looks(story: Story, rollout: Any) -> int:
    """How often the judge has looked."""
    return len(story.shop.get(f"/api/rollouts/{rollout['id']}", limit=1000)["events"])


def _after_a_look(story: Story, rollout: Any, seen: int) -> Any:
    """The rollout once the judge has looked more often than `seen`, or has had four seconds for it."""
    for _ in range(100):
        page = story.shop.get(f"/api/rollouts/{rollout['id']}", limit=1000)
        if len(page["events"]) > seen:
            break
        time.sleep(0.04)
    return page["rollout"]


def replay(story: Story, n: int) -> None:
    """Send the newest known listings once more, marked as replay: out of accuracy, drift and feedback."""
    source = story.recent
    start = story.replays % len(source)
    rows = (source + source)[start : start + n]
    story.shop.predict(
        "category",
        [
            {
                "inputs": {name: row[name] for name in story.inputs},
                "key": str(row["listing_id"]),
                "replay": True,
            }
            for row in rows
        ],
    )
    story.replays += n


def recovery(story: Story, week: pa.Table) -> tuple[float, float, int]:
    """Accuracy on the week's listings that were never corrected: with the loop, and by the first version."""
    corrected = set(story.listings["corrections_month_2"]["listing_id"].to_pylist())
    ids = [one for one in ids_of(week) if one not in corrected]
    return accuracy(story, ids), first_accuracy(story, ids), len(ids)


def accuracy(story: Story, ids: list[int]) -> float:
    """How many of the listings were answered rightly, by the truth that only the story knows."""
    return float(np.mean([story.predicted[one][1] == story.truth[one] for one in ids]))


def first_accuracy(story: Story, ids: list[int]) -> float:
    """What the first version would have answered: all traffic so far is scored offline, by the same predictor."""
    if not set(ids) <= story.first_answers.keys():
        scoring = story.shop.begin("score", story.first_version, _file_of_traffic(story))
        story.shop.settle(jobs=False)
        story.first_answers = {int(key): value for key, value in scoring.answer().items()}
    return float(np.mean([story.first_answers[one] == story.truth[one] for one in ids]))


def _file_of_traffic(story: Story) -> str:
    columns = ["listing_id", *story.inputs, "received_at"]
    rows = pa.concat_tables([story.listings[name].select(columns) for name in ("month_1", "month_2")])
    path = story.shop.home / "to-score.parquet"
    pq.write_table(rows, path)
    return str(path)


def most_moved(story: Story, *, before: list[int], now: list[int]) -> str:
    """The class whose share of the answers changed most between the two groups of listings."""
    old, new = (Counter(story.predicted[one][1] for one in group) for group in (before, now))
    return max(old | new, key=lambda name: abs(new[name] / len(now) - old[name] / len(before)))


def weeks(month: pa.Table, start: datetime, count: int) -> Iterator[tuple[str, pa.Table]]:
    """A month in weeks of seven days; what is left at its end belongs to the last."""
    month = month.sort_by("received_at")
    at = np.asarray(month["received_at"].cast(pa.timestamp("us")).cast(pa.int64()))
    first = int(start.timestamp() * 1_000_000)
    week = np.minimum((at - first) // (7 * 86_400_000_000), count - 1)
    for number in range(count):
        yield f"week {number + 1}", month.filter(pa.array(week == number))


def ids_of(listings: pa.Table) -> list[int]:
    return [int(row["listing_id"]) for row in listings.select(["listing_id"]).to_pylist()]


def findings(story: Story, *kinds: str) -> list[Any]:
    found = story.shop.get("/api/findings", endpoint="category", limit=1000)
    return [one for one in found if one["kind"] in kinds]


def _midnight_after(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def failed_gates(card: Mapping[str, Any]) -> str:
    return ", ".join(one["name"] for one in card["gate_report"]["results"] if one["verdict"] == "failed")


def metrics_of(card: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {card['version']['metrics'][name]:.3f}" for name in ("accuracy", "macro_f1"))


def ref_of(version: Mapping[str, Any]) -> str:
    return f"{version['dataset']}@{version['number']}"


def need(holds: bool, why: str) -> None:
    """Judge a stage. Not an assert statement: the demo must also judge under python -O."""
    if not holds:
        raise ShopError(why)
