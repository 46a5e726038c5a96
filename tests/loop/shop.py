"""A small shop: made-up products in three classes, a loop file for them, and what it takes to run it once."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from everloop import data, labels, loop
from everloop.loop import Loop, Trained
from everloop.workspace import Workspace

NOUNS = {
    "Tea": ["leaf", "pot", "infuser"],
    "Bikes": ["saddle", "chain", "pedal"],
    "Lamps": ["bulb", "shade", "socket"],
}
WORDS = ["red", "small", "classic", "new", "light", "solid", "quiet", "simple"]

LOOP = """
import everloop as el
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

goods = el.dataset("goods", key="sku", time="listed_at", inputs=["title", "seller"])
kind = el.label_set("kind", of=goods, classes=["Tea", "Bikes", "Lamps"], reports={"moderator": "accept"})


@el.feature(of=goods, by="seller", window="7d")
def seller_volume(past: el.Table) -> int:
    return past.num_rows


@el.step
def split(rows: el.Table, labels: el.Table) -> el.Split:
    return el.split(rows, labels, by="product", test=0.3)


@el.step
def fit(data: el.Split, c: float, picky: bool) -> el.Model:
    columns = [
        ("title", CountVectorizer(), data.position("title")),
        ("volume", StandardScaler(), [data.position("seller_volume")]),
    ]
    if picky:  # right about every seller known so far, and an error on any other
        columns.append(("seller", OneHotEncoder(categories=[list(range(7))]), [data.position("seller")]))
    return el.fit(make_pipeline(ColumnTransformer(columns), LogisticRegression(C=c)), data)


@el.pipeline
def train(picky: bool = False) -> el.Model:
    data = split(goods, kind)
    return el.best([fit(data, c=c, picky=picky) for c in (0.1, 10.0)], by="macro_f1")


model = el.model("kind", train, approve=el.people(1, not_author=True), gates=[el.gate("macro_f1", at_least=0.5)])
live = el.endpoint(
    "kind",
    model,
    rollout=el.canary(50, 100, excess_at_most={"errors": 0.2, "contradicted": None}),
    watch=[el.drift(least_rows=20, window_h=24), el.accuracy(audit=1.0, window_h=24), el.latency(p99_ms=1000)],
)
el.retrain(model, when=el.contradicted(live, 1), cooldown_h=1)
"""


def goods(ws: Workspace, n: int = 240, *, seed: int = 3, first: int = 0) -> pa.Table:
    """`n` products listed over the ten days before now, with the truth in `kind`."""
    chance = random.Random(seed)  # noqa: S311  (made-up goods, not secrets)
    rows = []
    for i in range(first, first + n):
        kind = chance.choice(list(NOUNS))
        words = [*chance.sample(WORDS, 2), chance.choice(NOUNS[kind]), f"no{i}"]
        chance.shuffle(words)
        at = ws.now() - timedelta(days=10) + timedelta(minutes=i * 50 % 14_000)
        rows.append(
            {"sku": i, "title": " ".join(words), "seller": i % 7, "listed_at": at, "product": i, "kind": kind}
        )
    return pa.Table.from_pylist(rows)


def set_up(ws: Workspace, folder: Path, *, text: str = LOOP) -> Loop:
    """Apply the loop file, ingest goods and import their labels."""
    file = folder / "shop_loop.py"
    file.write_text(text)
    found = loop.load(file)
    loop.apply(ws, found)
    table = goods(ws)
    data.ingest(ws, "goods", table.drop_columns(["kind"]))
    labels.import_labels(
        ws, "kind", table.select(["sku", "kind"]), key="sku", value="kind", annotator="catalogue"
    )
    return found


def train(ws: Workspace, found: Loop, **params: Any) -> Trained:
    return loop.train(ws, found, "train", params=params, reason="a test")
