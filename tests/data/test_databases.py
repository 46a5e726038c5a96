"""What a query gives in a database of the user's, as SQLite and PostgreSQL give it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from everloop.data import queried_columns, query_database
from everloop.errors import Invalid

QUERY = "SELECT id, name, price, sold FROM goods WHERE price > 1 ORDER BY id;"


@pytest.fixture
def goods(database_url: str) -> str:
    """The URL of a database with a table."""
    engine = sa.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            sa.text("CREATE TABLE goods (id INTEGER, name TEXT, price NUMERIC(8, 2), sold BOOLEAN)")
        )
        connection.execute(
            sa.text("INSERT INTO goods VALUES (1, 'tea', 2.5, NULL), (2, NULL, 3, NULL), (3, 'x', 1, NULL)")
        )
    engine.dispose()
    return database_url


def test_rows_come_in_the_types_of_a_dataset(goods: str) -> None:
    found = query_database(goods, QUERY.replace(", sold", ""))
    assert found.to_pylist() == [
        {"id": 1, "name": "tea", "price": 2.5},
        {"id": 2, "name": None, "price": 3.0},
    ]
    assert queried_columns(goods, QUERY) == ["id", "name", "price", "sold"]


def test_nothing_that_a_query_does_is_kept(goods: str) -> None:
    with suppress(Invalid):  # PostgreSQL refuses it
        query_database(goods, "DELETE FROM goods RETURNING id")
    assert query_database(goods, "SELECT count(*) AS n FROM goods").to_pylist() == [{"n": 3}]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT gone FROM goods", "gone.*Mend the query"),
        ("DELETE FROM goods", "gives no rows|syntax error"),
        ("SELECT id FROM goods WHERE id > 9", "has no rows"),
    ],
)
def test_what_gives_no_rows_says_why(goods: str, query: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        query_database(goods, query)


@pytest.mark.parametrize("url", ["no url", "nosuch://x/y", "mysql+pymysql://x/y"])
def test_a_url_that_leads_nowhere_is_not_shown(url: str) -> None:
    with pytest.raises(Invalid, match=r"URL|driver") as told:
        query_database(url, "SELECT 1")
    assert url not in str(told.value)


def test_a_database_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="unable to open"):
        query_database(f"sqlite:///{tmp_path}/none/x.db", "SELECT 1")
