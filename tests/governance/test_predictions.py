"""How long predictions are kept, whose are erased, and where else they are: on this machine, on another, on none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everloop import feedback, governance, ledger, predictions, rollout, serving
from everloop.background import TICKS
from everloop.errors import Invalid, NotFound
from everloop.governance.shipping import forget_parts
from everloop.governance.store import all_parts, parts
from everloop.predictions import LogPolicy, LogWriter
from everloop.settings import Settings
from everloop.workspace import Workspace, open_workspace
from tests.loop.living import Shop
from tests.serving.home import go_live, title_model, write_release
from tests.serving.records import record
from tests.serving.server import Server


def keep(shop: Shop, **policy: Any) -> None:
    """Change how the shop's endpoint logs."""
    known = rollout.endpoint(shop.ws, "kind")
    shop.ws.write(
        lambda tx: rollout.define_endpoint(
            shop.ws, tx, "kind", model="kind", canary=known.canary, log=LogPolicy(**policy)
        )
    )


def sealed_shop(shop: Shop, count: int = 3) -> list[str]:
    """What was asked under the key 7 and is sealed; one more is not."""
    asked = [one.id for one in shop.ask(count, key="7")]
    shop.log._segment_bytes = 1
    shop.ask(1, key="8")
    predictions.seal(shop.ws.home / "serving")
    return asked


def test_what_is_kept_no_longer_goes_and_a_trace_says_when_and_why(shop: Shop) -> None:
    asked = sealed_shop(shop)
    feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=asked[0])
    assert not governance.has_expiring(shop.ws)
    keep(shop, keep_days=30)
    shop.later(days=31)
    (would,) = governance.expire_predictions(shop.ws, dry_run=True)
    assert (would.endpoint, would.rows, would.segments) == ("kind", 3, 1)
    assert governance.has_expiring(shop.ws)
    tick = next(one for one in TICKS if one.name.startswith("remove predictions"))
    assert tick.look(shop.ws)
    assert tick.verb(shop.ws) == 3
    assert not governance.has_expiring(shop.ws)
    assert predictions.read(shop.ws.home / "serving")["key"].to_pylist() == ["8"]
    (entry,) = [one for one in ledger.entries(shop.ws, limit=100) if one.act == "predictions.expire"]
    assert (entry.subject.id, entry.detail["rows"]) == ("kind", 3)
    trace = governance.trace(shop.ws, asked[0])
    assert "keep_days=30" in trace.gaps[0]
    assert [step.title for step in trace.steps][:2] == ["correction", "model version"]
    with pytest.raises(NotFound, match="removed what was from before"):
        governance.trace(shop.ws, asked[1])


def test_a_prediction_that_sampling_left_out_is_told_so(shop: Shop) -> None:
    keep(shop, sample=1e-9)
    lost = shop.ask(1)[0].id.replace("pred_0", "pred_1")
    with pytest.raises(NotFound, match="endpoint kind keeps 1e-07 % of what it answers"):
        governance.trace(shop.ws, lost)


def test_a_change_of_the_log_reaches_the_route_table_and_a_rollout_logs_whole(shop: Shop) -> None:
    folder = shop.ws.home / "serving"
    keep(shop, sample=0.25, inputs="hash")
    table = serving.read_routes(folder)
    assert table is not None
    assert table.endpoints["kind"].log == LogPolicy(sample=0.25, inputs="hash")
    from tests.loop import living  # noqa: PLC0415  (scikit-learn)

    living.release(shop.ws, "kind@2")
    rollout.start(shop.ws, "kind", "kind@2", reason="a test")
    judged = serving.read_routes(folder)
    assert judged is not None
    assert judged.endpoints["kind"].log == LogPolicy(inputs="hash")


def test_a_persons_predictions_are_erased_by_an_audited_act_that_names_nobody(shop: Shop) -> None:
    asked = sealed_shop(shop)
    reason = "request 2026-17"
    feedback.correct(shop.ws, endpoint="kind", value="Lamps", reporter="moderator", prediction_id=asked[0])
    feedback.report_value(shop.ws, endpoint="kind", name="revenue", value=12.5, prediction_id=asked[1])
    told = governance.erase_predictions(shop.ws, ["7"], reason=reason, dry_run=True)
    assert (told.predictions, told.reports) == (3, 2)
    done = governance.erase_predictions(shop.ws, ["7"], reason=reason)
    assert (done.predictions, done.segments, done.reports) == (3, 1, 2)
    (correction,) = feedback.corrections_of(shop.ws, asked[0])
    assert (correction.key, correction.value) == (None, "Lamps")
    assert governance.erase_predictions(shop.ws, ["7"], reason=reason, dry_run=True).reports == 0
    assert governance.erase_predictions(shop.ws, ["7"], reason=reason, dry_run=True).predictions == 0
    step = governance.trace(shop.ws, asked[0]).steps[0]
    assert step.facts["inputs"] == "erased"
    entry = next(one for one in ledger.entries(shop.ws, limit=5) if one.act == "predictions.erase")
    assert entry.detail["reason"] == reason
    assert all(one.startswith("hash:") for one in entry.detail["asked"])
    with pytest.raises(Invalid, match="nobody is named"):
        governance.erase_predictions(shop.ws, [""], reason=reason)


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Workspace, Workspace]]:
    """Two machines with one database and one folder of blobs that outlives both."""
    shared = Settings(database_url=f"sqlite:///{tmp_path / 'shared.db'}", blobs=str(tmp_path / "blobs"))
    with opened(tmp_path / "one", shared) as one, opened(tmp_path / "two", shared) as two:
        yield one, two


def opened(home: Path, shared: Settings) -> Workspace:
    return open_workspace(home, settings=replace(shared, home=home))


def logging(ws: Workspace, *, segment_bytes: int = 1 << 20) -> LogWriter:
    return LogWriter.claim(ws.home / "serving", segment_bytes=segment_bytes)


def ids(ws: Workspace) -> list[str]:
    return sorted(str(one) for one in predictions.read(ws.home / "serving")["id"].to_pylist())


def test_what_one_machine_logs_another_reads_live_and_sealed_and_nothing_is_sent_twice(
    homes: tuple[Workspace, Workspace],
) -> None:
    one, two = homes
    writers = logging(one), logging(two)
    first = [record(number, writer=1) for number in range(20)]
    writers[0].write(first[:10])
    assert (governance.ship_log(one).sent, governance.ship_log(two).brought) == (1, 1)
    assert governance.ship_log(one).sent == 0, "nothing was written since"
    writers[0].write(first[10:])
    assert (governance.ship_log(one).sent, governance.ship_log(two).brought) == (1, 1)
    expected = sorted(each.id for each in first)
    assert ids(two) == expected
    assert predictions.find(two.home / "serving", first[13].id) == first[13]
    writers[0].close()
    predictions.seal(one.home / "serving")
    assert (governance.ship_log(one).sent, governance.ship_log(two).brought) == (1, 1)
    assert ids(one) == ids(two) == expected
    assert len(list(one.blobs)) == 1, "the pieces made room for the sealed file"
    assert (governance.ship_log(one).sent, governance.ship_log(two).brought) == (0, 0)
    writers[1].close()


def test_whoever_goes_on_after_a_crash_sends_the_same_bytes(homes: tuple[Workspace, Workspace]) -> None:
    one, _ = homes
    writer = logging(one)
    writer.write([record(1)])
    governance.ship_log(one)
    with one.read() as connection:
        (part,) = all_parts(connection)
    writer.write([record(2)])
    planned = part.size_bytes + 10  # a piece that was planned, and perhaps sent, when the process died

    one.write(lambda tx: tx.execute(parts.update().values(planned_bytes=planned)))
    assert governance.ship_log(one).sent == 1
    with one.read() as connection:
        (after,) = all_parts(connection)
    assert [size for size, _ in after.pieces] == [part.size_bytes, 10]
    writer.close()


def test_what_a_policy_or_an_erasure_takes_here_goes_everywhere(homes: tuple[Workspace, Workspace]) -> None:
    one, two = homes
    writer = logging(one, segment_bytes=1)
    kept, gone = record(1, key="ann", at=record().at + 10**12), record(2, key="jo")
    for each in (gone, kept, record(3)):
        writer.write([each])
    predictions.seal(one.home / "serving")
    governance.ship_log(one)
    governance.ship_log(two)
    assert governance.erase_predictions(two, ["ann"], reason="a request").predictions == 1
    governance.ship_log(two)
    governance.ship_log(one)
    found = predictions.find(one.home / "serving", kept.id)
    assert found is not None
    assert found.key is None, "erased on the other machine"
    path = next(path for path in predictions.parts(one.home / "serving") if predictions.rows_in(path))
    forget_parts(one, [path])
    path.unlink()
    governance.ship_log(two)
    assert predictions.find(two.home / "serving", gone.id) is None
    assert governance.ship_log(one).brought == 0, "what a policy removed is not taken for lost"
    writer.close()


def test_what_is_erased_while_another_machine_writes_it_stays_erased(
    homes: tuple[Workspace, Workspace],
) -> None:
    one, two = homes
    writer = logging(one)
    asked = [record(1, key="jo", writer=1), record(2, key="ann", writer=1)]
    writer.write(asked)
    governance.ship_log(one)
    governance.ship_log(two)
    governance.erase_predictions(two, ["jo"], reason="a request")
    writer.close()
    predictions.seal(one.home / "serving")
    for ws in (one, two, two, one):
        governance.ship_log(ws)
    for ws in (two, one):
        keys = [predictions.find(ws.home / "serving", each.id) for each in asked]
        assert [each and each.key for each in keys] == [None, "ann"]


def test_a_sealed_file_that_was_lost_comes_back(homes: tuple[Workspace, Workspace]) -> None:
    one, _ = homes
    writer = logging(one)
    written = [record(1), record(2)]
    writer.write(written)
    writer.close()
    predictions.seal(one.home / "serving")
    governance.ship_log(one)
    shutil.rmtree(one.home / "serving" / "log" / "00001")
    assert governance.ship_log(one).brought == 1
    assert ids(one) == sorted(each.id for each in written)


def test_the_log_is_shipped_where_blobs_have_a_place_of_their_own_every_so_often(
    homes: tuple[Workspace, Workspace], ws: Workspace
) -> None:
    assert governance.has_shipping(homes[0])
    governance.ship_log(homes[0])
    assert not governance.has_shipping(homes[0]), "log_ship_s has not passed"
    assert not governance.has_shipping(ws), "the blobs are in the home, and would be lost with it"


def test_of_a_machine_that_vanishes_all_that_was_shipped_is_read_elsewhere(
    tmp_path: Path, s3_settings: Settings
) -> None:
    """A real server and a real S3: what is missing was asked after the last turn, the window of loss."""
    home = tmp_path / "vanishing"
    write_release(home, "rel_control", title_model())
    go_live(home, ("control", 100))
    shared = replace(s3_settings, database_url=f"sqlite:///{tmp_path / 'shared.db'}")
    server = Server(home)
    with opened(home, shared) as ws:
        before = [server.predict(key=number).json()["prediction_id"] for number in range(30)]
        governance.ship_log(ws)
        after = [server.predict().json()["prediction_id"] for _ in range(5)]
    server.kill()
    shutil.rmtree(home)
    with opened(tmp_path / "another", shared) as ws:
        governance.ship_log(ws)
        assert set(before) <= set(ids(ws)) <= {*before, *after}
        found = predictions.find(ws.home / "serving", before[7])
        assert found is not None
        assert found.key == "7"
