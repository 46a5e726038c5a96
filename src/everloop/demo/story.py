"""The story that `everloop demo` tells, one stage at a time; each stage is judged by what the server has on record.

Everything is real but the clock: a server process, HTTP requests for the traffic, commands for the people. No label is
used before it was given: corrections are sent when their time has come.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import everloop as el
from everloop.demo.marketplace import Figures, is_simulated
from everloop.demo.shop import Shop, ShopError, running_shop

LOOPS = Path(__file__).parent / "loops"
REAL_FIGURES = Figures(0.95, 0.78, 0.85, 0.12)
"""Of the real listings."""
START = datetime(2026, 8, 31, 23, 55, tzinfo=UTC)
_BEFORE_ALL = 1_780_185_600_000  # 2026-05-31 in milliseconds: the extract says no times
MOST_REPLAYS = 6_000  # listings re-sent for one rollout where the day's traffic is too little to decide on
_REPLAYS_AT_A_TIME = 200
Say = Callable[[str], None]


class StoryFailed(Exception):  # noqa: N818  (what happened, as everloop's own errors are named)
    """A stage did not happen; the demo ends with exit code 3."""

    def __init__(self, stage: int, why: str) -> None:
        super().__init__(f"stage {stage} did not happen: {why}")
        self.stage = stage


@dataclass(frozen=True)
class Listings:
    """The files of a marketplace, as tables; all times are UTC. In a hurry, month 1 is every third listing."""

    folder: Path
    in_a_hurry: bool = False

    def __getitem__(self, name: str) -> pa.Table:
        table = pq.read_table(self.folder / f"{name}.parquet")
        return table[::3] if self.in_a_hurry and name == "month_1" else table


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


def tell_story(
    home: Path,
    *,
    say: Say,
    data: Path,
    fast: bool = False,
    figures: Figures = REAL_FIGURES,
    loop_file: Path = LOOPS / "listings.py",
) -> None:
    """Tell the whole story in a new workspace `home`, on the listings in `data`, and judge it by `figures`.

    Raises
    ------
    StoryFailed
        A stage did not happen.
    """
    need_unused(home, but_for=data)
    el.open_workspace(home, simulation_from=START).close()
    project = _project(home, data, loop_file)
    listings = Listings(data, in_a_hurry=fast)
    inputs = tuple(
        name
        for name in ("title", "merchant_id", "description", "image")
        if name in listings["month_1"].column_names
    )
    on = " (simulated listings)" if is_simulated(data) else ""
    with running_shop(home, project) as shop:
        story = Story(shop, listings, say, figures, inputs)
        for stage, act in enumerate(STAGES, start=1):
            say(f"\n{stage}. {(act.__doc__ or '').splitlines()[0]}{on}")
            try:
                act(story)
            except ShopError as error:
                raise StoryFailed(stage, str(error)) from error


def need_unused(home: Path, *, but_for: Path | None = None) -> None:
    """Refuse a home that holds anything; the listings themselves may lie in it."""
    if home.exists() and any(path != but_for for path in home.iterdir()):
        raise StoryFailed(
            0, f"{home} is not empty; the story needs a home of its own. Name another with --home."
        )


def ingest_and_label(story: Story) -> None:
    """Listings come in, the taxonomy is defined, seed labels are imported and checked."""
    shop, seed = story.shop, story.listings["seed_labelled"]
    shop.command("apply", str(shop.project / "loop.py"))
    extract = story.listings["repeated_titles"]
    extract = extract.append_column("received_at", pa.array([_BEFORE_ALL] * len(extract), pa.timestamp("ms")))
    for table in (seed, story.listings["seed_unlabelled"], extract):
        version = _ingest(story, table)
    story.recent = seed.sort_by("received_at").to_pylist()[-1_500:]
    for table, who in ((seed, "catalogue"), (extract, "extract")):
        report = shop.send(
            "/api/labels/category/import",
            table.select(["listing_id", "category"]),
            key="listing_id",
            value="category",
            annotator=who,
        )
        story.say(f"   {report['imported']:,} labels by {who}")
    quality = shop.get("/api/labels/category/quality", content="title")
    thin = ", ".join(f"{name} ({count})" for name, count in quality["thin"].items()) or "none"
    story.say(
        f"   {version['rows']:,} listings; {quality['duplicate_groups']:,} titles repeat, "
        f"{quality['duplicate_conflict_count']} of them with different labels; thin classes: {thin}"
    )
    _need(quality["labelled"] > 0, "no seed label was imported")
    _need(quality["duplicate_conflict_count"] > 0, "the conflicting labels of one title were not found")
    cleaned = shop.command("data", "clean", "listings", "--normalise", "title", "--drop-duplicates", "title")
    dropped = sum(step["dropped"] for step in cleaned["steps"])
    story.say(
        f"   cleaned: {dropped:,} repeated listings dropped, the operations are recorded in {_ref(cleaned['version'])}"
    )


def train_on_schedule(story: Story) -> None:
    """The scheduled job trains two candidates and registers the better; a tempting one is blocked."""
    shop = story.shop
    shop.move_clock(datetime(2026, 9, 1, 0, 0, 5, tzinfo=UTC))
    shop.settle()
    jobs = shop.get("/api/jobs", kind="train")
    _need(bool(jobs) and jobs[0]["state"] == "done", f"the scheduled training did not end well: {jobs[:1]}")
    story.first_version = jobs[0]["result"]["version"]
    card = shop.get(f"/api/model-versions/{story.first_version}")
    fits = [
        one
        for one in shop.get(f"/api/runs/{jobs[0]['result']['run']}")["pipeline"]["steps"]
        if one["node"].startswith("fit")
    ]
    _need(len(fits) == 2, f"{len(fits)} candidates were trained instead of two")
    _need(
        card["gate_report"]["verdict"] == "passed", f"{story.first_version} failed its gates: {_failed(card)}"
    )
    story.say(f"   {jobs[0]['reason']}: {story.first_version}, {_metrics(card)}; all gates passed")
    blocked = shop.command("run", "train_with_product_name")["version"]
    failed = _failed(shop.get(f"/api/model-versions/{blocked}"))
    _need(
        "leakage" in failed,
        f"{blocked} knows the product's name, and the leakage gate let it pass (failed: {failed})",
    )
    story.say(
        f"   {blocked} would have looked better, but the {failed} gate blocks it: product_name gives the answer away"
    )


def approve_and_roll_out(story: Story) -> None:
    """A person approves, the version goes live; more labels make a second one, which ramps up as a canary."""
    shop = story.shop
    _approve(story, story.first_version, "numbers and gates look right")
    live = shop.get("/api/endpoints/category/live")
    _need(
        [one["version"] for one in live] == [story.first_version],
        f"{story.first_version} did not go live: {live}",
    )
    story.say(f"   {story.first_version} is live at once: there was nothing before it to compare with")
    truth = story.listings["seed_unlabelled_truth"]
    rows = list(zip(truth["listing_id"].to_pylist(), truth["category"].to_pylist(), strict=True))
    for start in range(0, len(rows), 500):
        given = [
            {"key": key, "value": value, "annotator": f"annotator-{start // 500 % 3 + 1}"}
            for key, value in rows[start : start + 500]
        ]
        shop.post("/api/labels/category/events", {"labels": given})
    second = shop.command("run", "train", "--reason", f"{len(rows):,} more labels by three annotators")[
        "version"
    ]
    card = shop.get(f"/api/model-versions/{second}")
    _need(card["gate_report"]["verdict"] == "passed", f"{second} failed its gates: {_failed(card)}")
    story.say(f"   {len(rows):,} more labels by three annotators: {second}, {_metrics(card)}")
    _replay(story, 300)
    _approve(story, second, "better on the thin classes")
    _ramp(story, second)


def quiet_month(story: Story) -> None:
    """Month 1: ordinary traffic, and no false alarm."""
    for name, week in _weeks(story.listings["month_1"], datetime(2026, 9, 1, tzinfo=UTC), 4):
        _serve_week(story, f"September {name}", week, story.listings["month_1_truth"])
    findings = _findings(story, "input_drift", "prediction_drift", "accuracy")
    _need(not findings, f"a false alarm in the quiet month: {findings and findings[0]['message']}")
    right = _accuracy(story, [one for ids in story.weekly.values() for one in ids])
    promised = story.figures.month_1_at_least
    _need(right >= promised, f"accuracy was {right:.3f}; at least {promised} was promised")
    story.say(f"   no finding of drift, no alarm; accuracy {right:.3f}")


def season_moves(story: Story) -> None:
    """Month 2: the season moves, corrections come in late, and drift is raised when it is real."""
    weeks = list(_weeks(story.listings["month_2"], datetime(2026, 10, 1, tzinfo=UTC), 4))
    for name, week in weeks[:3]:
        _serve_week(story, f"October {name}", week, story.listings["month_2_truth"])
    for kind, what in (("input_drift", "the inputs"), ("prediction_drift", "the answers")):
        found = _findings(story, kind)
        _need(bool(found), f"three weeks into the season no drift of {what} was found")
        first, newest = found[-1], found[0]
        for one in (first, newest) if newest is not first else (first,):
            story.say(f"   {one['at'][:10]}: {one['message']}")
    told, moved = newest["message"], _most_moved(story, _ids(weeks[2][1]))
    _need(moved in told, f"the alert does not say that {moved} moved most: {told}")
    _need("audited predictions" in told, f"the alert does not say what accuracy did: {told}")
    wrong = story.shop.get("/api/endpoints/category/contradictions")
    story.say(f"   {wrong['corrected']:,} answers were reported on, {wrong['contradicted']} of them as wrong")
    _need(wrong["contradicted"] > 0, "no correction contradicts an answer")


def retrain_and_recover(story: Story) -> None:
    """The trigger starts a retrain on fresh labels; gates, review, canary, ramp; accuracy recovers."""
    decisions = story.shop.get("/api/retrainings")
    _need(bool(decisions), "drift and contradictions did not start a retrain")
    _deliver_retrained(story)
    *_, (name, week) = _weeks(story.listings["month_2"], datetime(2026, 10, 1, tzinfo=UTC), 4)
    _serve_week(story, f"October {name}", week, story.listings["month_2_truth"])
    with_loop, without, n = _recovery(story, week)
    story.say(
        f"   week 4, {n:,} listings that nobody corrected: {with_loop:.3f} with the loop, {without:.3f} by {story.first_version}"
    )
    promised = story.figures
    _need(
        without <= promised.week_4_without_at_most,
        f"{story.first_version} alone still reaches {without:.3f}: the season did it no harm",
    )
    _need(
        with_loop >= promised.week_4_with_at_least,
        f"accuracy came back to {with_loop:.3f} only; at least {promised.week_4_with_at_least} was promised",
    )
    _need(
        with_loop >= without + promised.gain_at_least,
        f"the loop gained {with_loop - without:.3f} only; at least {promised.gain_at_least} was promised",
    )


def bad_version_leaves(story: Story) -> None:
    """A version that passes the gates but fails on new merchants is rolled back by the judge."""
    shop = story.shop
    before = shop.get("/api/endpoints/category/live")[0]["version"]
    bad = shop.command(
        "run", "train", "--param", "known_merchants_only=true", "--reason", "try merchants as an input"
    )["version"]
    card = shop.get(f"/api/model-versions/{bad}")
    _need(
        card["gate_report"]["verdict"] == "passed",
        f"{bad} failed its gates, so it never went live: {_failed(card)}",
    )
    _approve(story, bad, "accuracy went up")
    ended = _drive(story, bad)
    _need(ended["state"] == "rolled_back", f"the judge left {bad} at {ended['state']}: {ended['outcome']}")
    live = [one["version"] for one in shop.get("/api/endpoints/category/live")]
    _need(live == [before], f"after the rollback {live} answers instead of {before}")
    story.say(f"   {bad} passed every gate. Rolled back: {ended['outcome']}")


def trace_and_verify(story: Story) -> None:
    """One prediction of week 4 is traced to its end, and the chain of governed acts is verified."""
    shop = story.shop
    listing = story.weekly["October week 4"][-1]
    found = shop.get(f"/api/trace/{story.predicted[listing][0]}")
    for step in found["steps"]:
        story.say(f"   {step['title']:<18} {step['node'][1]}")
    titles = {step["title"] for step in found["steps"]}
    wanted = {
        "prediction",
        "what was live",
        "model version",
        "gates",
        "approval",
        "run",
        "code",
        "environment",
        "data",
        "labels",
    }
    _need(
        wanted <= titles and not found["gaps"], f"the trace lacks {sorted(wanted - titles)} {found['gaps']}"
    )
    chain = shop.get("/api/audit/verify")
    _need(chain["is_intact"] and chain["entries"] > 0, f"the audit chain is broken: {chain['problems']}")
    story.say(f"   audit chain intact: {chain['entries']:,} entries, head {chain['head'][:16]}")
    story.say("\n   accuracy by week          with the loop   without")
    for name, ids in story.weekly.items():
        story.say(f"   {name:<25} {_accuracy(story, ids):>12.3f}   {_first_accuracy(story, ids):>7.3f}")


STAGES: tuple[Callable[[Story], None], ...] = (
    ingest_and_label,
    train_on_schedule,
    approve_and_roll_out,
    quiet_month,
    season_moves,
    retrain_and_recover,
    bad_version_leaves,
    trace_and_verify,
)


def _project(home: Path, data: Path, loop_file: Path) -> Path:
    """A user's project folder: the loop file, its SQL, and the taxonomy it names."""
    project = home / "project"
    project.mkdir()
    shutil.copyfile(loop_file, project / "loop.py")
    shutil.copyfile(LOOPS / "misroutes.sql", project / "misroutes.sql")
    shutil.copyfile(data / "taxonomy.parquet", project / "taxonomy.parquet")
    return project


def _ingest(story: Story, table: pa.Table) -> Any:
    """Add listings to the dataset; columns that a source does not have are missing there."""
    for name, kind in (("product_id", pa.int64()), ("product_name", pa.string())):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), kind))
    columns = ["listing_id", *story.inputs, "received_at", "product_id", "product_name"]
    return story.shop.send("/api/datasets/listings/ingest", table.select(columns))


def _serve_week(story: Story, name: str, rows: pa.Table, truth: pa.Table) -> None:
    """A week of traffic in time order, in two parts, so that what one part taught is known in the next."""
    story.truth |= {row["listing_id"]: row["category"] for row in truth.to_pylist()}
    story.weekly[name] = _ids(rows)
    story.recent = rows.to_pylist()
    middle = _midnight_after(story.recent[0]["received_at"].replace(tzinfo=UTC) + timedelta(days=3))
    early = [row for row in story.recent if row["received_at"].replace(tzinfo=UTC) < middle]
    for part in (early, story.recent[len(early) :]):
        _serve(story, part)
    right = _accuracy(story, story.weekly[name])
    story.say(f"   {name:<16} {len(rows):>5,} listings, accuracy {right:.3f} (against the truth files)")


def _serve(story: Story, rows: list[dict[str, Any]]) -> None:
    """Some days of traffic, then what came back by their end: corrections and reviews."""
    shop = story.shop
    answers = shop.predict("category", [_request(story, row) for row in rows])
    for row, answer in zip(rows, answers, strict=True):
        prediction = answer["error"]["prediction_id"] if "error" in answer else answer["prediction_id"]
        story.predicted[row["listing_id"]] = (prediction, answer.get("output", ""))
    _ingest(story, pa.Table.from_pylist(rows, schema=story.listings["month_1"].schema))
    midnight = _midnight_after(rows[-1]["received_at"].replace(tzinfo=UTC))
    evening = midnight - timedelta(minutes=30)
    shop.move_clock(evening)
    _report_corrections(story, until=evening)
    _review(story)
    shop.move_clock(midnight)
    shop.settle()


def _request(story: Story, row: Mapping[str, Any]) -> dict[str, Any]:
    at = row["received_at"].replace(tzinfo=UTC).isoformat()
    return {"inputs": {name: row[name] for name in story.inputs}, "key": str(row["listing_id"]), "at": at}


def _report_corrections(story: Story, *, until: datetime) -> None:
    """Send the reports whose time has come, each by the key of its listing."""
    reports = story.listings["corrections_month_2"]
    for row in reports.to_pylist():
        at = row["corrected_at"].replace(tzinfo=UTC)
        listing = row["listing_id"]
        if at >= until or listing not in story.predicted or (listing, at) in story.reported:
            continue
        story.reported.add((listing, at))
        if not story.predicted[listing][1]:
            continue  # the request failed: there is no answer to report on
        body = {
            "value": row["category"],
            "reporter": row["reporter"],
            "prediction_id": story.predicted[listing][0],
            "at": at.isoformat(),
        }
        story.shop.post("/api/endpoints/category/corrections", body, token=story.shop.tokens.shop)


def _review(story: Story) -> None:
    """The reviewer settles what waits: sellers' reports and the audit sample, each by the truth."""
    while True:
        waiting = story.shop.get("/api/review", limit=500)
        known = [one for one in waiting if one["key"] is not None and int(one["key"]) in story.truth]
        for one in known:
            story.shop.post(
                f"/api/review/{one['id']}",
                {"value": story.truth[int(one["key"])]},
                token=story.shop.tokens.alice,
            )
        if len(waiting) < 500 or not known:
            return


def _deliver_retrained(story: Story) -> None:
    """Approve what retraining made, and ramp it up."""
    shop = story.shop
    done = [one for one in shop.get("/api/jobs", kind="train") if "decision" in one["payload"]]
    _need(bool(done) and done[0]["state"] == "done", f"the retraining did not end well: {done[:1]}")
    version = done[0]["result"]["version"]
    live = [one["version"] for one in shop.get("/api/endpoints/category/live")]
    if version in live:
        return
    card = shop.get(f"/api/model-versions/{version}")
    story.say(f"   retrained because {done[0]['reason']}: {version}, {_metrics(card)}")
    _need(card["gate_report"]["verdict"] == "passed", f"{version} failed its gates: {_failed(card)}")
    _approve(story, version, "fresh labels of the season")
    _ramp(story, version)


def _approve(story: Story, version: str, reason: str) -> None:
    story.shop.post(
        f"/api/model-versions/{version}/approve", {"reason": reason}, token=story.shop.tokens.alice
    )
    if not story.shop.get("/api/endpoints/category/live"):
        story.shop.settle()


def _ramp(story: Story, version: str) -> None:
    ended = _drive(story, version)
    _need(ended["state"] == "done", f"the rollout of {version} is {ended['state']}: {ended['outcome']}")
    looks = story.shop.get(f"/api/rollouts/{ended['id']}", limit=1000)["events"]
    steps = [one for one in reversed(looks) if one["act"] in ("started", "advanced", "finished")]
    path = " -> ".join(f"{one['variants'][-1]['weight']:g} %" for one in steps)
    story.say(f"   {version}: {path}, decided on {story.replays:,} replayed requests and the judge's bounds")


def _drive(story: Story, version: str) -> Any:
    """Send recent listings again, marked as replay, until the judge has decided."""
    rollout = _rollout_of(story, version)
    story.replays = 0
    while rollout["state"] == "running":
        _need(
            story.replays < MOST_REPLAYS,
            f"{version} is still on hold after {story.replays:,} replayed requests: stage {rollout['stage']}",
        )
        _replay(story, _REPLAYS_AT_A_TIME)
        rollout = _after_a_look(story, rollout)
    return rollout


def _rollout_of(story: Story, version: str) -> Any:
    for _ in range(300):
        found = [
            one for one in story.shop.get("/api/rollouts", endpoint="category") if one["version"] == version
        ]
        if found:
            return found[0]
        story.shop.get("/api/background")
    raise ShopError(f"no rollout of {version} was started")


def _after_a_look(story: Story, rollout: Any) -> Any:
    """The rollout after the judge has looked at what was just sent."""
    before = len(story.shop.get(f"/api/rollouts/{rollout['id']}", limit=1000)["events"])
    for _ in range(200):
        page = story.shop.get(f"/api/rollouts/{rollout['id']}", limit=1000)
        if len(page["events"]) > before:
            return page["rollout"]
    return page["rollout"]


def _replay(story: Story, n: int) -> None:
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


def _recovery(story: Story, week: pa.Table) -> tuple[float, float, int]:
    """Accuracy on the week's listings that were never corrected: with the loop, and by the first version."""
    corrected = set(story.listings["corrections_month_2"]["listing_id"].to_pylist())
    ids = [one for one in _ids(week) if one not in corrected]
    return _accuracy(story, ids), _first_accuracy(story, ids), len(ids)


def _accuracy(story: Story, ids: list[int]) -> float:
    """How many of the listings were answered rightly, by the truth that only the story knows."""
    return float(np.mean([story.predicted[one][1] == story.truth[one] for one in ids]))


def _first_accuracy(story: Story, ids: list[int]) -> float:
    """What the first version would have answered: scored by the same predictor, offline."""
    known = story.first_answers
    if missing := [one for one in ids if one not in known]:
        answers = story.shop.command("score", story.first_version, _file_of(story, missing))
        known.update({int(key): value for key, value in answers.items()})
    return float(np.mean([known[one] == story.truth[one] for one in ids]))


def _file_of(story: Story, ids: list[int]) -> str:
    wanted = set(ids)
    tables = [story.listings[name] for name in ("month_1", "month_2")]
    columns = ["listing_id", *story.inputs, "received_at"]
    rows = pa.concat_tables([table.select(columns) for table in tables])
    keep = pa.array([one in wanted for one in rows["listing_id"].to_pylist()])
    path = story.shop.home / "to-score.parquet"
    pq.write_table(rows.filter(keep), path)
    return str(path)


def _most_moved(story: Story, ids: list[int]) -> str:
    """The class whose share among these listings differs most from its share in month 1, by the truth."""
    month_1 = story.listings["month_1_truth"]["category"].to_pylist()
    before, now = Counter(month_1), Counter(story.truth[one] for one in ids)
    return max(now, key=lambda name: abs(now[name] / len(ids) - before[name] / len(month_1)))


def _weeks(month: pa.Table, start: datetime, count: int) -> Iterator[tuple[str, pa.Table]]:
    """A month in weeks of seven days; what is left at its end belongs to the last."""
    month = month.sort_by("received_at")
    at = np.asarray(month["received_at"].cast(pa.timestamp("us")).cast(pa.int64()))
    first = int(start.timestamp() * 1_000_000)
    week = np.minimum((at - first) // (7 * 86_400_000_000), count - 1)
    for number in range(count):
        yield f"week {number + 1}", month.filter(pa.array(week == number))


def _ids(listings: pa.Table) -> list[int]:
    return [int(row["listing_id"]) for row in listings.select(["listing_id"]).to_pylist()]


def _findings(story: Story, *kinds: str) -> list[Any]:
    found = story.shop.get("/api/findings", endpoint="category", limit=1000)
    return [one for one in found if one["kind"] in kinds]


def _midnight_after(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)


def _failed(card: Mapping[str, Any]) -> str:
    return ", ".join(one["name"] for one in card["gate_report"]["results"] if one["verdict"] == "failed")


def _metrics(card: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {card['version']['metrics'][name]:.3f}" for name in ("accuracy", "macro_f1"))


def _ref(version: Mapping[str, Any]) -> str:
    return f"{version['dataset']}@{version['number']}"


def _need(holds: bool, why: str) -> None:
    """Judge a stage. Not an assert statement: the demo must also judge under python -O."""
    if not holds:
        raise ShopError(why)
