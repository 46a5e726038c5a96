"""Reads what a query gives in a database of the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from everloop.data.ingestion import typed
from everloop.data.sources import load
from everloop.errors import Invalid

_AT_ONCE = 10_000  # rows that are fetched in one go


def queried_columns(url: str, text: str) -> list[str]:
    """The columns that a query would give. Raises as `query_database`."""
    none_of_it = f"SELECT * FROM ({text.rstrip().rstrip(';')}) AS asked WHERE 1 = 0"  # noqa: S608  (the user's own query)
    with _asked(url, none_of_it) as result:
        return list(result.keys())


def query_database(url: str, text: str) -> pa.Table:
    """The rows of a query in the types that an ingest would give them. Nothing that the query does is kept.

    Parameters
    ----------
    url
        As SQLAlchemy writes it: `sqlite:////data/shop.db`, `postgresql+psycopg://reader:...@host/shop`.

    Raises
    ------
    Invalid
        The URL or the query is wrong, the database's driver is not installed, or there are no rows.
    """
    with _asked(url, text) as result:
        names = list(result.keys())
        parts = [[_plain(value) for value in row] for some in result.partitions(_AT_ONCE) for row in some]
    columns = zip(*parts, strict=True) if parts else [()] * len(names)
    try:
        table = pa.table({name: pa.array(list(values)) for name, values in zip(names, columns, strict=True)})
    except pa.ArrowException as error:
        raise Invalid(
            f"the query gives a column whose values are not of one type: {error}. Cast it in the query."
        ) from error
    return typed(load(table, key=None, file_format=None))[0]


@contextmanager
def _asked(url: str, text: str) -> Iterator[sa.CursorResult[Any]]:
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool)
    except (ArgumentError, NoSuchModuleError) as error:
        raise Invalid(
            "the database's URL cannot be read; it is one of SQLAlchemy's, such as postgresql+psycopg://reader:...@host/shop. "
            "Mend the secret."
        ) from error
    except ModuleNotFoundError as error:
        raise Invalid(
            f"the database's driver {error.name} is not installed; SQLAlchemy takes it by the URL. Install it: "
            f"pip install {error.name}"
        ) from error
    try:
        with engine.connect() as connection:
            result = connection.execution_options(stream_results=True).execute(sa.text(text))
            with closing(result):
                if not result.returns_rows:
                    raise Invalid("the query gives no rows; it is one SELECT. Mend it.")
                yield result
    except SQLAlchemyError as error:
        told = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise Invalid(
            f"the query cannot be run by the database: {told}. Mend the query or the URL."
        ) from error


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else value
