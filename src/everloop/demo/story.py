"""The story that `everloop demo` tells, one stage at a time; each stage is judged by what the server has on record.

Everything is real but the clock: a server process, HTTP requests for the traffic, commands for the people. No label is
used before it was given: corrections are sent when their time has come.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

import everloop as el
from everloop.demo import acts
from everloop.demo.acts import Listings, Say, Story, need
from everloop.demo.marketplace import Figures, is_simulated
from everloop.demo.shop import ShopError, running_shop

LOOPS = Path(__file__).parent / "loops"
REAL_FIGURES = Figures(0.95, 0.78, 0.85, 0.12)
"""Of the real listings."""
START = datetime(2026, 8, 31, 23, 55, tzinfo=UTC)
_BEFORE_ALL = 1_780_185_600_000  # 2026-05-31 in milliseconds: the extract says no times


class StoryFailed(Exception):  # noqa: N818  (what happened, as everloop's own errors are named)
    """A stage did not happen; the demo ends with exit code 3."""

    def __init__(self, stage: int, why: str) -> None:
        super().__init__(f"stage {stage} did not happen: {why}")
        self.stage = stage


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
        version = acts.ingest(story, table)
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
    need(quality["labelled"] > 0, "no seed label was imported")
    need(quality["duplicate_conflict_count"] > 0, "the conflicting labels of one title were not found")
    cleaned = shop.command("data", "clean", "listings", "--normalise", "title", "--drop-duplicates", "title")
    dropped = sum(step["dropped"] for step in cleaned["steps"])
    story.say(
        f"   cleaned: {dropped:,} repeated listings dropped, the operations are recorded in {acts.ref_of(cleaned['version'])}"
    )


def train_on_schedule(story: Story) -> None:
    """The scheduled job trains two candidates and registers the better; a tempting one is blocked."""
    shop = story.shop
    tempting = shop.begin("run", "train_with_product_name")  # meanwhile, somebody tries
    shop.move_clock(datetime(2026, 9, 1, 0, 0, 5, tzinfo=UTC))
    shop.settle()
    jobs = shop.get("/api/jobs", kind="train")
    need(bool(jobs) and jobs[0]["state"] == "done", f"the scheduled training did not end well: {jobs[:1]}")
    story.first_version = jobs[0]["result"]["version"]
    card = shop.get(f"/api/model-versions/{story.first_version}")
    fits = [
        one
        for one in shop.get(f"/api/runs/{jobs[0]['result']['run']}")["pipeline"]["steps"]
        if one["node"].startswith("fit")
    ]
    need(len(fits) == 2, f"{len(fits)} candidates were trained instead of two")
    need(
        card["gate_report"]["verdict"] == "passed",
        f"{story.first_version} failed its gates: {acts.failed_gates(card)}",
    )
    story.say(f"   {jobs[0]['reason']}: {story.first_version}, {acts.metrics_of(card)}; all gates passed")
    blocked = tempting.answer()["version"]
    failed = acts.failed_gates(shop.get(f"/api/model-versions/{blocked}"))
    need(
        "leakage" in failed,
        f"{blocked} knows the product's name, and the leakage gate let it pass (failed: {failed})",
    )
    story.say(
        f"   {blocked} would have looked better, but the {failed} gate blocks it: product_name gives the answer away"
    )


def approve_and_roll_out(story: Story) -> None:
    """A person approves, the version goes live; more labels make a second one, which ramps up as a canary."""
    shop = story.shop
    acts.approve(story, story.first_version, "numbers and gates look right")
    live = shop.get("/api/endpoints/category/live")
    need(
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
    need(card["gate_report"]["verdict"] == "passed", f"{second} failed its gates: {acts.failed_gates(card)}")
    story.say(f"   {len(rows):,} more labels by three annotators: {second}, {acts.metrics_of(card)}")
    acts.replay(story, 300)
    acts.approve(story, second, "better on the thin classes")
    acts.ramp(story, second)


def quiet_month(story: Story) -> None:
    """Month 1: ordinary traffic, and no false alarm."""
    for name, week in acts.weeks(story.listings["month_1"], datetime(2026, 9, 1, tzinfo=UTC), 4):
        acts.serve_week(story, f"September {name}", week, story.listings["month_1_truth"])
    story.shop.settle(jobs=False)
    findings = acts.findings(story, "input_drift", "prediction_drift", "accuracy")
    need(not findings, f"a false alarm in the quiet month: {findings and findings[0]['message']}")
    right = acts.accuracy(story, [one for ids in story.weekly.values() for one in ids])
    promised = story.figures.month_1_at_least
    need(right >= promised, f"accuracy was {right:.3f}; at least {promised} was promised")
    story.say(f"   no finding of drift, no alarm; accuracy {right:.3f}")


def season_moves(story: Story) -> None:
    """Month 2: the season moves, corrections come in late, and drift is raised when it is real."""
    weeks = list(acts.weeks(story.listings["month_2"], datetime(2026, 10, 1, tzinfo=UTC), 4))
    for name, week in weeks[:3]:
        acts.serve_week(story, f"October {name}", week, story.listings["month_2_truth"])
    story.shop.settle()
    alerts = acts.findings(story, "input_drift", "prediction_drift")
    for alert in reversed(alerts):
        story.say(f"   {alert['at'][:10]}: {alert['message']}")
    need(
        any(one["kind"] == "input_drift" for one in alerts), "in three weeks no drift of the inputs was found"
    )
    told = next((one["message"] for one in alerts if one["kind"] == "prediction_drift"), None)
    need(told is not None, "in three weeks no drift of the answers was found")
    month_1, month_2 = (
        [one for name, ids in story.weekly.items() if name.startswith(month) for one in ids]
        for month in ("September", "October")
    )
    moved = acts.most_moved(story, before=month_1, now=month_2)
    need(moved in str(told), f"the alert does not say that {moved} moved most: {told}")
    need("audited predictions" in str(told), f"the alert does not say what accuracy did: {told}")
    wrong = story.shop.get("/api/endpoints/category/contradictions")
    story.say(f"   {wrong['corrected']:,} answers were reported on, {wrong['contradicted']} of them as wrong")
    need(wrong["contradicted"] > 0, "no correction contradicts an answer")


def retrain_and_recover(story: Story) -> None:
    """The trigger starts a retrain on fresh labels; gates, review, canary, ramp; accuracy recovers."""
    decisions = story.shop.get("/api/retrainings")
    need(bool(decisions), "drift and contradictions did not start a retrain")
    acts.deliver_retrained(story)
    story.tried = story.shop.begin(
        "run", "train", "--param", "busy_merchants_only=true", "--reason", "try merchants as an input"
    )
    *_, (name, week) = acts.weeks(story.listings["month_2"], datetime(2026, 10, 1, tzinfo=UTC), 4)
    acts.serve_week(story, f"October {name}", week, story.listings["month_2_truth"])
    with_loop, without, n = acts.recovery(story, week)
    story.say(
        f"   week 4, {n:,} listings that nobody corrected: {with_loop:.3f} with the loop, {without:.3f} by {story.first_version}"
    )
    promised = story.figures
    need(
        without <= promised.week_4_without_at_most,
        f"{story.first_version} alone still reaches {without:.3f}: the season did it no harm",
    )
    need(
        with_loop >= promised.week_4_with_at_least,
        f"accuracy came back to {with_loop:.3f} only; at least {promised.week_4_with_at_least} was promised",
    )
    need(
        with_loop >= without + promised.gain_at_least,
        f"the loop gained {with_loop - without:.3f} only; at least {promised.gain_at_least} was promised",
    )


def bad_version_leaves(story: Story) -> None:
    """A version that passes the gates but fails on small merchants is rolled back by the judge."""
    shop = story.shop
    before = shop.get("/api/endpoints/category/live")[0]["version"]
    bad = story.tried.answer()["version"]
    card = shop.get(f"/api/model-versions/{bad}")
    need(
        card["gate_report"]["verdict"] == "passed",
        f"{bad} failed its gates, so it never went live: {acts.failed_gates(card)}",
    )
    acts.approve(story, bad, "accuracy went up")
    ended = acts.drive(story, bad)
    need(ended["state"] == "rolled_back", f"the judge left {bad} at {ended['state']}: {ended['outcome']}")
    live = [one["version"] for one in shop.get("/api/endpoints/category/live")]
    need(live == [before], f"after the rollback {live} answers instead of {before}")
    story.say(f"   {bad} passed every gate. Rolled back: {ended['outcome']}")


def trace_and_verify(story: Story) -> None:
    """One prediction of week 4 is traced to its end, and the chain of governed acts is verified."""
    shop = story.shop
    if shop.now is not None:
        shop.move_clock(shop.now + timedelta(minutes=10))  # so that the last traffic is counted, too
        shop.settle()
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
    need(wanted <= titles and not found["gaps"], f"the trace lacks {sorted(wanted - titles)} {found['gaps']}")
    chain = shop.get("/api/audit/verify")
    need(chain["is_intact"] and chain["entries"] > 0, f"the audit chain is broken: {chain['problems']}")
    story.say(f"   audit chain intact: {chain['entries']:,} entries, head {chain['head'][:16]}")
    story.say("\n   accuracy by week          with the loop   without")
    for name, ids in story.weekly.items():
        story.say(
            f"   {name:<25} {acts.accuracy(story, ids):>12.3f}   {acts.first_accuracy(story, ids):>7.3f}"
        )


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
