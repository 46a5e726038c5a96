"""Scoring that a loop file declares: at its times, with the version of that time, into versions of a dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop import background, data, governance, jobs, loop, pipelines, registry, triggers
from everloop.errors import Invalid
from everloop.workspace import Workspace
from tests.loop import living
from tests.loop import shop as goods_of
from tests.loop.living import Shop

SCORED = """
el.scoring(live, goods, to="answers", cron="0 4 * * *", only_new=True)
el.scoring(model, "SELECT sku, title, seller, listed_at FROM goods WHERE sku < 5", to="few", when=el.arrived(goods, 3))
"""


def applied(ws: Workspace, folder: Path, more: str) -> None:
    file = folder / "scored_loop.py"
    file.write_text(goods_of.LOOP + more)
    loop.apply(ws, loop.load(file))


def more_goods(ws: Workspace, n: int) -> None:
    known = data.version(ws, "goods").rows
    data.ingest(ws, "goods", goods_of.goods(ws, n, seed=5, first=known).drop_columns(["kind"]))


def scored_by(ws: Workspace, number: int) -> str:
    """The run that made a version of the answers."""
    ((_, run),) = data.version(ws, f"answers@{number}").operation["made_from"]
    return str(run)


def look(ws: Workspace) -> None:
    """What background work does."""
    jobs.fire_due(ws)
    triggers.consider(ws)
    background.run_jobs(ws)


def test_each_time_what_has_no_answer_yet_is_scored_with_what_is_live(shop: Shop, tmp_path: Path) -> None:
    applied(shop.ws, tmp_path, SCORED)
    shop.later(days=1)
    look(shop.ws)
    assert data.version(shop.ws, "answers").rows == 240
    more_goods(shop.ws, 5)
    shop.later(days=1)
    look(shop.ws)
    assert [one.rows for one in data.versions(shop.ws, "answers")] == [245, 240]
    newest, first = (scored_by(shop.ws, number) for number in (2, 1))
    assert pipelines.result(shop.ws, newest)["version"].to_pylist() == ["kind@1"] * 5
    told = [one.node.id for one in governance.trace(shop.ws, "answers:3").steps]
    assert first in told
    assert newest not in told


def test_a_model_scores_with_what_was_released_last_when_enough_has_come(shop: Shop, tmp_path: Path) -> None:
    applied(shop.ws, tmp_path, SCORED)
    living.release(shop.ws, "kind@2")
    look(shop.ws)
    assert not [one for one in data.datasets(shop.ws) if one.name == "few"]
    shop.later(minutes=1)
    more_goods(shop.ws, 3)
    look(shop.ws)
    assert set(data.read(shop.ws, "few@1")["version"].to_pylist()) == {"kind@2"}
    (firing,) = triggers.firings(shop.ws, "score-few")
    assert pipelines.pipeline_run(shop.ws, str(firing.run)).pipeline == "batch_scoring"
    assert registry.releases(shop.ws, "kind")[0].version == "kind@2"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('el.scoring(live, goods, to="goods", cron="0 4 * * *")', "are to become the same dataset"),
        ('el.scoring(live, goods, to="answers")', "states neither cron= nor when="),
        ('el.scoring(live, goods, to="answers", cron="4")', "cron"),
        ('el.scoring(live, "SELECT 1", to="goods", cron="0 4 * * *")', "declares a dataset of that name"),
    ],
)
def test_a_scoring_that_cannot_be_is_refused(ws: Workspace, tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        applied(ws, tmp_path, more)
