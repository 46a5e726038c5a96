"""What the log keeps of a prediction: which are drawn, and how personal inputs stand in it."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from everloop.errors import StorageFailed
from everloop.ids import new_prediction_id
from everloop.predictions import LogPolicy, Personal, drawn, evenly, log, log_key, tables, uniform, weights
from everloop.predictions.kept import DROPPED, Keeper, hashed, is_hidden
from everloop.serving import Field
from tests.serving.asgi import Got, InProcess
from tests.serving.home import COLOUR, TITLE, go_live, picky_model, write_release
from tests.serving.records import files_of_at_most, record

PREDICT = "/endpoints/category/predict"
MAIL = Field("mail", "string")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Callable[..., InProcess]]:
    """Starts an application whose endpoint logs as it is told; its model fails on colours that it has not seen."""
    started: list[InProcess] = []

    def start(policy: LogPolicy | None = None, **release: Any) -> InProcess:
        write_release(tmp_path, "rel_control", picky_model(), inputs=(TITLE, COLOUR), **release)
        go_live(tmp_path, ("control", 100), log=policy or LogPolicy(), key="colour")
        started.append(InProcess(tmp_path).__enter__())
        return started[-1]

    yield start
    for one in started:
        one.__exit__()


def ask(app: InProcess, colour: Any = "red", title: str = "a fridge", **more: Any) -> Got:
    return app.post(PREDICT, {"inputs": {"title": title, "colour": colour, **more}})


def logged(app: InProcess) -> list[dict[str, Any]]:
    return log.read(app.folder).to_pylist()


def test_a_sampled_log_keeps_a_share_and_each_record_says_its_chance(app: Callable[..., InProcess]) -> None:
    server = app(LogPolicy(sample=0.25))
    instances = [{"inputs": {"title": "a fridge", "colour": "red"}} for _ in range(1_000)]
    got = server.post(PREDICT, {"instances": instances})
    ids = {one["prediction_id"] for one in got.json()["predictions"]}
    kept = logged(server)
    assert {one["id"] for one in kept} == {one for one in ids if uniform(one) < 0.25}
    assert {one["probability"] for one in kept} == {0.25}
    assert 180 < len(kept) < 320
    assert got.headers["x-everloop-not-logged"] == f"sampling {1_000 - len(kept)}"


def test_what_fails_or_is_refused_is_kept_by_a_share_of_its_own(app: Callable[..., InProcess]) -> None:
    server = app(LogPolicy(sample=1e-9))
    assert "x-everloop-not-logged" in ask(server).headers
    for got in (ask(server, "blue"), ask(server, 8), server.post(PREDICT, b"no json")):
        assert "x-everloop-not-logged" not in got.headers
    assert [(one["status"], one["probability"]) for one in logged(server)] == [
        ("failed", 1.0),
        ("refused", 1.0),
        ("refused", 1.0),
    ]


def test_a_whole_log_says_nothing_of_sampling(app: Callable[..., InProcess]) -> None:
    server = app()
    assert "x-everloop-not-logged" not in ask(server).headers
    assert [one["probability"] for one in logged(server)] == [1.0]


def test_evenly_keeps_what_the_smallest_chance_would_have_kept() -> None:
    ids = [new_prediction_id(1) for _ in range(4_000)]
    rare = [record(id=one, probability=0.2) for one in ids if uniform(one) < 0.2]
    later = [record(probability=0.5) for _ in range(4_000)]
    often = [one for one in later if uniform(one.id) < 0.5]
    table, chance = evenly(pa.Table.from_batches([tables.to_batch([*rare, *often])]))
    assert chance == 0.2
    assert set(table["id"].to_pylist()) == {one.id for one in [*rare, *often] if uniform(one.id) < 0.2}
    assert weights(tables.to_batch([*rare, *often])).sum() == pytest.approx(8_000, rel=0.1)


def test_a_sample_lies_within_a_larger_one_and_has_nothing_to_do_with_the_logs_own() -> None:
    table = pa.Table.from_batches([tables.to_batch([record() for _ in range(4_000)])])
    few, more = drawn(table, 0.1), drawn(table, 0.3)
    assert (few <= more).all()
    assert (few == drawn(table, 0.1)).all()
    assert few[1_000:].tolist() == drawn(table.slice(1_000), 0.1).tolist()
    assert (few.mean(), more.mean()) == (pytest.approx(0.1, abs=0.02), pytest.approx(0.3, abs=0.03))
    logged = np.array([uniform(str(one)) < 0.3 for one in table["id"].to_pylist()])
    assert (logged & more).mean() == pytest.approx(0.09, abs=0.02)


def test_both_chances_multiply_and_what_the_log_kept_more_seldom_is_all_there() -> None:
    records = [record(probability=own) for own in (0.05, 0.2, 0.5, 1.0) for _ in range(4_000)]
    found = drawn(pa.Table.from_batches([tables.to_batch(records)]), 0.2).reshape(4, -1).mean(axis=1)
    assert found.tolist() == pytest.approx([1.0, 1.0, 0.4, 0.2], abs=0.04)
    assert found[:2].tolist() == [1.0, 1.0]


def test_evenly_leaves_a_whole_log_as_it_is() -> None:
    table = pa.Table.from_batches([tables.to_batch([record() for _ in range(3)])])
    assert evenly(table) == (table, 1.0)
    assert evenly(table.slice(0, 0))[1] == 1.0


def test_personal_inputs_are_kept_by_the_schemas_rules_and_the_model_gets_the_true_values(
    app: Callable[..., InProcess],
) -> None:
    server = app(personal={"title": "mask", "colour": "hash"})
    got = ask(server, title="a fridge, write to jo@example.org")
    assert got.json()["output"] == "Fridges"  # the colour's hash would have failed
    colour = hashed("red", log_key(server.folder))
    assert server.record(got).inputs == {"title": "a fridge, write to [email]", "colour": colour}
    assert server.record(got).key == colour  # which here is the key of a request that names none


def test_what_went_wrong_is_logged_without_personal_values(app: Callable[..., InProcess]) -> None:
    server = app(personal={"colour": "drop"})
    refused, failed, unknown = (
        ask(server, 88_421),
        ask(server, "aubergine"),
        ask(server, mail="jo@example.org"),
    )
    assert "88421" in refused.json()["error"]["message"]  # who sent it may see it
    text = str(logged(server))
    assert not any(secret in text for secret in ("88421", "aubergine", "jo@example.org"))
    assert server.record(refused).error == "does not fit: colour"
    assert (
        server.record(failed).error
        == "model_failed: ValueError (its text is not kept: it may show personal data)"
    )
    assert server.record(unknown).inputs["colour"] == DROPPED
    assert is_hidden(server.record(unknown).inputs["mail"])


@pytest.mark.parametrize(
    ("wide", "expected"),
    [
        ("hash", ["hash", "drop", "hash"]),
        ("drop", ["drop", "drop", "drop"]),
        ("keep", ["hash", "drop", None]),
    ],
)
def test_of_the_endpoints_and_the_schemas_rule_the_stronger_holds(
    wide: Any, expected: list[str | None]
) -> None:
    rules: dict[str, Personal] = {"title": "hash", "colour": "drop"}
    keeper = Keeper.of(("title", "colour", "mail"), rules, LogPolicy(inputs=wide), lambda: bytes(32))
    assert keeper is not None
    kept = keeper.inputs({"title": "a", "colour": "b", "mail": "c"})
    said = {"a": None, "b": None, "c": None, DROPPED: "drop"}
    assert [said.get(value, "hash") for value in kept.values()] == expected
    assert keeper.inputs({"title": None}) == {"title": None}


def test_equal_values_have_equal_hashes_under_one_key_alone(tmp_path: Path) -> None:
    key = log_key(tmp_path)
    assert log_key(tmp_path) == key
    assert hashed(3, key) == hashed(3.0, key) != hashed("3", key)
    assert hashed("jo", key) != hashed("jo", log_key(tmp_path / "another"))
    assert log_key(tmp_path, "a secret of several machines") == log_key(
        tmp_path / "another", "a secret of several machines"
    )
    assert stat.S_IMODE((tmp_path / "log.key").stat().st_mode) == 0o600


def test_a_spoilt_key_is_an_error_and_no_other_is_made(tmp_path: Path) -> None:
    (tmp_path / "log.key").write_bytes(b"short")
    with pytest.raises(StorageFailed, match="has 5 bytes"):
        log_key(tmp_path)


def test_columns_with_hidden_values_are_not_read() -> None:
    types: dict[str, pa.DataType] = {"title": pa.string(), "mail": pa.string(), "n": pa.int64()}
    texts = pa.array(
        ['{"title":"\\"mail\\":\\"hash:1","mail":"a","n":1}', '{"title":"b","mail":"a","n":"drop:"}']
    )
    assert list(tables.readable(texts, types)) == ["title", "mail"]
    assert list(tables.readable(pa.array(['{"mail":"hash:00"}']), types)) == ["title", "n"]


def test_uniform_is_uniform() -> None:
    drawn = np.sort([uniform(new_prediction_id(7)) for _ in range(4_000)])
    assert np.abs(drawn - np.linspace(0, 1, 4_000)).max() < 0.04


def test_without_room_for_the_log_an_endpoint_that_serves_all_the_same_says_so_and_goes_back_by_itself(
    app: Callable[..., InProcess],
) -> None:
    server = app(LogPolicy(when_full="serve"))
    ask(server)
    with files_of_at_most(0):
        got = ask(server)
        assert (got.status, got.headers["x-everloop-not-logged"]) == (200, "log-unwritable 1")
        assert "cannot be written" in server.get("/ready").json()["log_error"]
    assert "x-everloop-not-logged" not in ask(server).headers
    assert "log_error" not in server.get("/ready").json()
    assert len(logged(server)) == 2
