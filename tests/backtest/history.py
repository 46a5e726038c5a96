"""A shop with a past: goods listed over forty days, of which one kind is called by new words from the thirtieth on."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pyarrow as pa

from everloop import data, labels, loop
from everloop.loop import Loop
from everloop.workspace import Workspace
from tests.conftest import START
from tests.loop import shop

DAYS = 40
CHANGE = START + timedelta(days=30)
A_DAY = 24  # goods
LOOP = (
    shop.LOOP.replace("el.canary(50, 100,", "el.canary(100,")
    .replace(
        "watch=[el.drift(least_rows=20, window_h=24), el.accuracy(audit=1.0, window_h=24), el.latency(p99_ms=1000)]",
        "watch=[el.drift(least_rows=20, window_h=72)]",
    )
    .replace("el.contradicted(live, 1), cooldown_h=1)", "el.contradicted(live, 12), cooldown_h=72)")
)


def past(*, changes: bool = True) -> pa.Table:
    chance = random.Random(5)  # noqa: S311  (made-up goods, not secrets)
    rows = []
    for i in range(DAYS * A_DAY):
        at = START + timedelta(hours=i * 24 / A_DAY)
        kind = chance.choice(list(shop.NOUNS))
        noun = chance.choice(shop.NOUNS[kind])
        if changes and kind == "Tea" and at >= CHANGE:
            noun = chance.choice(["saddle bag", "chain oil"])  # once, the words of bikes
        title = f"{chance.choice(shop.WORDS)} {noun} no{i}"
        rows.append({"sku": i, "title": title, "seller": i % 7, "listed_at": at, "product": i, "kind": kind})
    return pa.Table.from_pylist(rows)


def set_up(ws: Workspace, folder: Path, table: pa.Table, *, text: str = LOOP) -> Loop:
    """A live workspace long after: all goods are there, and all labels were imported in one go."""
    file = folder / "shop_loop.py"
    file.write_text(text)
    found = loop.load(file)
    loop.apply(ws, found)
    data.ingest(ws, "goods", table.drop_columns(["kind"]))
    labels.import_labels(
        ws, "kind", table.select(["sku", "kind"]), key="sku", value="kind", annotator="moderator"
    )
    return found
