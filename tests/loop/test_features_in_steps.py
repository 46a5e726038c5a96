"""A feature computes a column of the rows that steps take: another feature makes them run again."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop import loop, pipelines
from everloop.workspace import Workspace
from tests.loop import shop


@pytest.mark.parametrize(
    ("before", "after"),
    [("return past.num_rows", "return 2 * past.num_rows"), ('window="7d"', 'window="14d"')],
)
def test_a_changed_feature_makes_the_steps_that_take_its_rows_run_again(
    ws: Workspace, tmp_path: Path, before: str, after: str
) -> None:
    found = shop.set_up(ws, tmp_path)
    shop.train(ws, found)
    again = shop.train(ws, found)
    assert states(ws, again.run) == {"cached"}
    (tmp_path / "changed").mkdir()
    file = tmp_path / "changed" / "shop_loop.py"
    file.write_text(shop.LOOP.replace(before, after))
    changed = loop.load(file)
    loop.apply(ws, changed)
    trained = shop.train(ws, changed)
    assert "cached" not in states(ws, trained.run)
    assert "seller_volume" in pipelines.why(ws, trained.run, "split").sentence


def states(ws: Workspace, run: str) -> set[str]:
    return {one.state for one in pipelines.pipeline_run(ws, run).steps}
