"""What an endpoint's models may take: declared, changed, and in force by the next route table."""

from __future__ import annotations

import pytest

from everloop import ledger, rollout, serving
from everloop.errors import Invalid, NotFound
from everloop.serving import Limits
from tests.loop.living import Shop
from tests.rollout.test_rollouts import acts, counted, started


def in_force(shop: Shop) -> tuple[int, Limits]:
    table = serving.read_routes(shop.folder)
    assert table is not None
    return table.epoch, table.endpoints["kind"].limits


def test_limits_are_in_force_by_the_next_epoch_and_audited(any_shop: Shop) -> None:
    shop = any_shop
    epoch, before = in_force(shop)
    assert before == Limits()
    limits = rollout.limits(memory_mb=500, deadline_ms=200)
    assert rollout.set_limits(shop.ws, "kind", limits).limits == limits
    assert in_force(shop) == (epoch + 1, limits)
    rollout.set_limits(shop.ws, "kind", limits)
    assert in_force(shop) == (epoch + 1, limits)  # nothing changed, nothing is loaded anew
    entry = ledger.entries(shop.ws, subject=ledger.Node("endpoint", "kind"))[0]
    assert entry.act == "endpoint.limit"


def test_a_rollout_under_way_goes_on_under_new_limits(shop: Shop) -> None:
    made = started(shop, 50, 100)
    shop.ask(30)
    rollout.set_limits(shop.ws, "kind", rollout.limits(deadline_ms=200))
    shop.ask(30)
    assert counted(shop, made)["errors"] == 60
    assert [one.act for one in rollout.tick(shop.ws)] == ["finished"]
    assert acts(shop, made) == ["started", "finished"]
    assert in_force(shop)[1].deadline_ms == 200


def test_a_loop_file_that_declares_no_limits_takes_them_off(shop: Shop) -> None:
    rollout.set_limits(shop.ws, "kind", rollout.limits(queue=7))
    plan = rollout.canary(100)
    shop.ws.write(lambda tx: rollout.define_endpoint(shop.ws, tx, "kind", model="kind", canary=plan))
    assert in_force(shop)[1] == Limits()


def test_limits_of_no_endpoint_and_of_no_sense_are_refused(shop: Shop) -> None:
    with pytest.raises(NotFound, match="no endpoint 'none'"):
        rollout.set_limits(shop.ws, "none", rollout.limits(queue=7))
    with pytest.raises(Invalid, match=r"cores is 1\.5; it is a whole number from 1"):
        rollout.limits(cores=1.5)  # type: ignore[arg-type]  # what a loop file may hold
