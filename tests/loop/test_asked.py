"""What the check `traffic_drift` gets to see of the prediction log."""

from __future__ import annotations

from pathlib import Path

from everloop import checks, loop, registry
from everloop.loop.asked import asked_lately
from everloop.workspace import Workspace
from tests.loop import shop as goods
from tests.loop.living import Shop

GATED = goods.LOOP.replace("gates=[", 'gates=[el.gate("traffic_drift", at_most=0.3), ')


def sellers(found: checks.Traffic | None) -> list[int]:
    assert found is not None
    return [int(one or 0) for one in found.rows["seller"].to_pylist()]


def test_what_the_endpoint_answered_in_the_last_week_is_read_typed(shop: Shop) -> None:
    shop.ask(2, inputs={"title": "old", "seller": 1})
    shop.later(days=8)
    shop.ask(3, inputs={"title": "new", "seller": 2})
    shop.later(minutes=1)
    found = asked_lately(shop.ws, "kind")
    assert sellers(found) == [2, 2, 2]
    assert found is not None
    assert found.endpoint == "kind"
    assert found.rows["title"].to_pylist() == ["new"] * 3


def test_replays_shadows_and_what_was_not_answered_are_left_out(shop: Shop) -> None:
    shop.ask(1, inputs={"title": "own", "seller": 1})
    for given in ({"replay": True}, {"shadow_of": "pred_1"}, {"status": "refused"}, {"status": "failed"}):
        shop.ask(1, inputs={"title": "other", "seller": 2}, **given)
    shop.later(minutes=1)
    assert sellers(asked_lately(shop.ws, "kind")) == [1]


def test_of_much_traffic_a_part_is_taken_evenly_spread(shop: Shop) -> None:
    for seller in range(100):
        shop.ask(1, inputs={"title": "x", "seller": seller})
    shop.later(minutes=1)
    found = sellers(asked_lately(shop.ws, "kind", most=10))
    assert len(found) == 10
    assert min(found) < 15
    assert max(found) > 80


def test_nothing_is_live_before_the_first_release(ws: Workspace, tmp_path: Path) -> None:
    trained = goods.train(ws, goods.set_up(ws, tmp_path, text=GATED))
    assert trained.gate_report is not None
    result = checks.report(ws, trained.gate_report).result("traffic_drift")
    assert result is not None
    assert result.verdict == "skipped"


def test_a_version_trained_on_other_rows_than_are_asked_is_blocked(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "shop_loop.py"
    file.write_text(GATED)
    found = loop.load(file)
    loop.apply(shop.ws, found)
    shop.ask(150, inputs={"title": "red leaf", "seller": 3})  # the training rows have seven sellers
    shop.later(hours=1)
    trained = goods.train(shop.ws, found)
    assert trained.version is not None
    obstacles = registry.readiness(shop.ws, trained.version).obstacles
    assert [one.kind for one in obstacles if "traffic_drift" in one.message] == ["check_failed"]
