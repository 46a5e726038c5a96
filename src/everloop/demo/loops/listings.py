"""The marketplace's loop: listings come in, a classifier puts them into categories, corrections come back."""

from __future__ import annotations

import math
from collections import Counter
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import everloop as el

listings = el.dataset("listings", key="listing_id", time="received_at", inputs=["title", "merchant_id"])
category = el.label_set(
    "category",
    of=listings,
    classes="taxonomy.parquet",
    reports={"moderator": "accept", "seller": "review"},
)


@el.feature(of=listings, by="merchant_id", window="7d")
def merchant_volume(past: el.Table) -> float:
    """How busy the merchant was in the week before: a logarithm, so that a busier season is no other world."""
    return math.log1p(past.num_rows)


@el.step
def split(rows: el.Table, labels: el.Table, busy_merchants_only: bool) -> el.Split:
    return el.split(
        of_busy_merchants(rows) if busy_merchants_only else rows, labels, by="product_id", test=0.2
    )


def of_busy_merchants(rows: el.Table) -> el.Table:
    """The listings of the busiest merchants, nine tenths of all: tidier, but not what arrives."""
    counts = Counter(rows["merchant_id"].to_pylist()).most_common()
    so_far = accumulate(count for _, count in counts)
    busy = [merchant for (merchant, _), n in zip(counts, so_far, strict=True) if n <= 0.9 * rows.num_rows]
    return rows.filter(pc.is_in(rows["merchant_id"], pa.array(busy)))


@el.step
def fit(data: el.Split, c: float, busy_merchants_only: bool) -> el.Model:
    # three letters at a time: each merchant spells in his own way
    letters = TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(3, 3), min_df=3)
    columns = [
        ("title", letters, data.position("title")),
        ("volume", StandardScaler(), [data.position("merchant_volume")]),
    ]
    if busy_merchants_only:
        # fine on every merchant in these rows, and an error on any other
        seen = [*data.train.to_pylist(), *data.test.to_pylist()]
        merchants = sorted({row["merchant_id"] for row in seen})
        columns.append(("merchant", OneHotEncoder(categories=[merchants]), [data.position("merchant_id")]))
    model = make_pipeline(ColumnTransformer(columns), LogisticRegression(C=c, solver="newton-cg"))
    return el.fit(model, data)


@el.pipeline
def train(busy_merchants_only: bool = False) -> el.Model:
    data = split(listings, category, busy_merchants_only)
    return el.best([fit(data, c, busy_merchants_only) for c in (20.0, 200.0)], by="macro_f1")


@el.step
def split_with_product_name(rows: el.Table, labels: el.Table) -> el.Split:
    return el.split(rows, labels, by="product_id", test=0.2, inputs=["title", "product_name"])


@el.step
def fit_with_product_name(data: el.Split) -> el.Model:
    columns = ColumnTransformer(
        [
            (name, TfidfVectorizer(sublinear_tf=True), data.position(name))
            for name in ("title", "product_name")
        ]
    )
    return el.fit(make_pipeline(columns, LogisticRegression(C=20.0, solver="newton-cg")), data)


@el.pipeline
def train_with_product_name() -> el.Model:
    data = split_with_product_name(listings, category)
    return fit_with_product_name(data)


gates = [el.gate("macro_f1", at_least=0.75), el.gate("accuracy", below_live_by_at_most=0.02)]
model = el.model("category", train, approve=el.people(1, not_author=True), gates=gates)
tempting = el.model("category-by-product-name", train_with_product_name, approve=el.people(1), gates=gates)

live = el.endpoint(
    "category",
    model,
    rollout=el.canary(
        10,
        25,
        50,
        100,
        slow_above_ms=100,
        excess_at_most={"errors": 0.03, "slow": 0.03, "contradicted": None},
    ),
    watch=[
        el.drift(every_h=24, window_h=168),
        el.accuracy(audit=0.1, every_h=24, window_h=168),
        el.latency(p99_ms=1_000, every_h=24, window_h=24),
        el.kpi("misroutes.sql", name="misroutes", every_h=168),
    ],
)

el.retrain(model, cron="0 0 1 * *", when=el.drifted(live) & el.contradicted(live, 80), cooldown_h=120)
