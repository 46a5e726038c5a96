from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import stats

from everloop.errors import Invalid
from everloop.monitoring.comparison import DriftReport, compare, share_changes
from everloop.monitoring.reference import learn_reference, profile_of


def numbers(n: int, *, n_columns: int, random: np.random.Generator, shifted: int = 0) -> pa.Table:
    """Normal columns, the first ones moved by 0.2 standard deviations."""
    return pa.table({f"c{i}": random.normal(0.2 if i < shifted else 0.0, 1.0, n) for i in range(n_columns)})


def mixed(n: int, random: np.random.Generator) -> pa.Table:
    """Twenty columns of all shapes that tables have."""
    skewed = 1.0 / np.arange(1, 201)
    columns: dict[str, Any] = {f"normal{i}": random.normal(size=n) for i in range(6)}
    columns |= {f"skewed{i}": random.lognormal(sigma=1.5, size=n) for i in range(3)}
    columns |= {f"count{i}": random.poisson(2.0, n) for i in range(3)}
    columns |= {f"few{i}": random.choice(["a", "b", "c"], n, p=[0.7, 0.2, 0.1]) for i in range(3)}
    columns |= {f"many{i}": random.choice(200, n, p=skewed / skewed.sum()).astype(str) for i in range(3)}
    columns |= {f"even{i}": random.choice(60, n).astype(str) for i in range(2)}
    return pa.table(
        {name: pa.array(values, mask=random.random(n) < 0.03) for name, values in columns.items()}
    )


@pytest.mark.parametrize(("n_reference", "n_current"), [(500, 500), (5_000, 500)])
def test_clean_reports_seldom_carry_a_flag(n_reference: int, n_current: int) -> None:
    """At 1 % of 60 reports more than three would come once in 300 runs."""
    random = np.random.default_rng(1)
    flagged = 0
    for _ in range(60):
        reference = learn_reference(mixed(n_reference, random))
        flagged += bool(compare(reference, mixed(n_current, random)).drifted)
    assert flagged <= 3


@pytest.mark.parametrize(("n_reference", "n_current", "power"), [(5_000, 5_000, 0.99), (5_000, 500, 0.7)])
def test_a_fifth_of_a_standard_deviation_in_one_of_twenty_columns_is_found(
    n_reference: int, n_current: int, power: float
) -> None:
    random = np.random.default_rng(2)
    found = 0
    for _ in range(40):
        reference = learn_reference(numbers(n_reference, n_columns=20, random=random))
        report = compare(reference, numbers(n_current, n_columns=20, random=random, shifted=1))
        found += "c0" in report.columns
    assert found / 40 >= power


def test_significant_trifles_are_not_reported() -> None:
    random = np.random.default_rng(3)
    reference = learn_reference(pa.table({"x": random.normal(size=200_000)}))
    report = compare(reference, pa.table({"x": random.normal(0.03, 1.0, 200_000)}))
    assert report.series[0].q_value < 1e-6
    assert report.series[0].verdict == "stable"


def test_the_same_rows_show_nothing() -> None:
    table = mixed(1_000, np.random.default_rng(4))
    report = compare(learn_reference(table), table)
    assert report.drifted == ()
    assert max(one.effect for one in report.series) == 0.0


def test_values_that_go_missing_are_a_drift_of_their_own() -> None:
    present = pa.table({"x": [float(i % 50) for i in range(1_000)]})
    missing = pa.table({"x": [None if i % 5 == 0 else float(i % 50) for i in range(1_000)]})
    report = compare(learn_reference(present), missing)
    assert [(one.name, round(one.effect, 2)) for one in report.drifted] == [("x (missing)", 0.2)]


def test_values_out_of_range_and_medians_are_told() -> None:
    reference = learn_reference(pa.table({"x": np.linspace(0.0, 1.0, 1_000)}))
    one = compare(reference, pa.table({"x": np.linspace(0.5, 1.5, 1_000)})).drifted[0]
    assert one.outside == pytest.approx(0.5, abs=0.01)
    assert one.medians == pytest.approx(
        (0.5, 1.0), abs=0.13
    )  # the second to within a wide bin beyond the range
    assert one.effect == pytest.approx(0.5, abs=0.01)


def test_few_rows_are_not_judged() -> None:
    reference = learn_reference(pa.table({"x": np.linspace(0.0, 1.0, 1_000)}))
    report = compare(reference, pa.table({"x": [9.0] * 49}))
    assert [one.verdict for one in report.series] == ["too few rows"]
    assert report.drifted == ()


def test_a_replaced_assortment_of_rare_products_is_seen() -> None:
    """Seventy products of 20 rows each, then twelve others: each rare, all new."""
    reference = learn_reference(pa.table({"product": [f"p{i % 70}" for i in range(1_400)]}))
    report = compare(reference, pa.table({"product": [f"q{i % 12}" for i in range(120)]}))
    assert report.columns == ("product",)
    assert report.series[0].psi is None


def test_a_profile_compares_as_its_rows_do() -> None:
    random = np.random.default_rng(5)
    reference, now = learn_reference(mixed(500, random)), mixed(500, random)
    parts = profile_of(now.slice(0, 100), reference.bins) + profile_of(now.slice(100), reference.bins)
    assert compare(reference, parts).as_dict() == compare(reference, now).as_dict()


def test_bins_of_another_reference_are_refused() -> None:
    one, other = (learn_reference(pa.table({"x": [1, last]})) for last in (2, 3))
    with pytest.raises(Invalid, match="only counts in the same bins compare"):
        compare(one, other.profile)


def test_a_report_is_stored_as_json() -> None:
    random = np.random.default_rng(6)
    report = compare(learn_reference(mixed(300, random)), mixed(300, random))
    stored = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert len(stored["series"]) == len(report.series)


def test_shares_that_moved_most_come_first_and_the_others_as_one() -> None:
    before = {str(i): 10 for i in range(20)}
    now = before | {"3": 60, "new": 20}
    changes = share_changes(before, now, top=2)
    assert [one.value for one in changes] == ["3", "new", None]
    assert sum(one.reference for one in changes) == pytest.approx(1.0)
    assert sum(one.current for one in changes) == pytest.approx(1.0)
    assert changes[0].change == pytest.approx(60 / 270 - 10 / 200)
    assert share_changes({}, {}) == ()


def week(report: DriftReport, series: str) -> tuple[bool, float]:
    found = next(one for one in report.series if one.name == series)
    return found.verdict == "drifted", found.effect


def test_real_listings_are_quiet_in_month_1_and_drift_in_month_2(shared_data: Path) -> None:
    folder = shared_data / "marketplace"
    columns = ["listing_id", "title", "merchant_id", "received_at"]
    reference = learn_reference(pq.read_table(folder / "seed_labelled.parquet", columns=columns))
    assert set(reference.bins.left_out) == {"listing_id", "received_at"}
    month_1 = pq.read_table(folder / "month_1.parquet")
    for start in range(0, 4_540, 1_135):
        assert compare(reference, month_1.slice(start, 1_135)).drifted == ()
    truth = pq.read_table(folder / "month_2_truth.parquet", columns=["listing_id", "week"])
    month_2 = pq.read_table(folder / "month_2.parquet").join(truth, "listing_id")
    reports = [
        compare(reference, month_2.filter(pc.equal(month_2["week"], pa.scalar(number))))
        for number in (1, 2, 3, 4)
    ]
    assert [week(report, "merchant_id")[0] for report in reports[1:]] == [True] * 3
    effects = [week(report, "title (unfamiliar words)")[1] for report in reports]
    assert effects == sorted(effects)
    assert all("title" in report.columns for report in reports[1:])


def test_a_real_split_of_the_census_is_quiet(shared_data: Path) -> None:
    folder = shared_data / "adult"
    report = compare(
        learn_reference(pq.read_table(folder / "train.parquet")), pq.read_table(folder / "test.parquet")
    )
    assert report.drifted == ()
    age = next(one for one in report.series if one.name == "age")
    ages = [pq.read_table(folder / name)["age"].to_numpy() for name in ("train.parquet", "test.parquet")]
    assert age.effect == pytest.approx(stats.ks_2samp(*ages).statistic, abs=1e-9)
