"""`sql`: a query as a step."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from everloop.errors import Invalid
from everloop.pipelines.steps import step

if TYPE_CHECKING:
    from everloop.pipelines.values import Table


def sql(query: str, /, **inputs: Any) -> Table:
    """What a query gives, as a table: in a pipeline's body a step, elsewhere a function.

    It is run by DuckDB, in memory, on one thread, so that the same inputs give the same rows in the same order, and so the
    same digest. It reaches no file and no network: what it reads is what it is given. Its text is part of the step's
    cache key.

    Parameters
    ----------
    query
        The query, or the name of an `.sql` file beside the file that calls this.
    inputs
        Tables are tables of that name in the query; any other value is its parameter `$name`.

    Raises
    ------
    Invalid
        There is no such file, or the query cannot be run.
    """
    if not query.endswith(".sql"):
        return queried(text=query, inputs=inputs)
    caller = inspect.stack()[1].filename
    return queried(text=_read(query, Path(caller)), inputs=inputs, file=query)


@step
def queried(text: str, inputs: dict[str, Any], file: str = "the query") -> Table:
    """Run a query. The file's name is for people: it shows in the step's label."""
    import random  # noqa: PLC0415  (with the others)

    import duckdb  # noqa: PLC0415  (with pyarrow: not for declaring)
    import pyarrow as pa  # noqa: PLC0415

    tables = {name: one for name, one in inputs.items() if isinstance(one, pa.Table)}
    values = {name: one for name, one in inputs.items() if name not in tables}
    with duckdb.connect(config={"enable_external_access": "false", "threads": "1"}) as database:
        for name, table in tables.items():
            database.register(name, table)
        seed = {"seed": random.random()}  # noqa: S311  (set for each step, from the run's)
        database.execute("SELECT setseed($seed)", seed).fetchall()
        try:
            kinds = [one.type for one in database.extract_statements(text)]
            if kinds == [duckdb.StatementType.SELECT]:
                found: pa.Table = database.sql(text, params=values).to_arrow_table()
                return found
        except duckdb.Error as error:
            raise Invalid(
                f"{file} cannot be run: {error}\nIt is DuckDB's SQL over the tables {', '.join(tables) or '(none)'} with the "
                f"parameters {', '.join(f'${name}' for name in values) or '(none)'}, and reaches nothing else. Mend the query, or "
                "pass what it needs."
            ) from error

    raise Invalid(
        f"{file} is not one query that gives rows. Write one statement that begins with SELECT, WITH or FROM."
    )


def _read(name: str, caller: Path) -> str:
    place = caller.parent / name
    if Path(name).name != name or not place.is_file():
        raise Invalid(
            f"there is no file {name} beside {caller.name}. A query's file stands in the folder of the file that names it, "
            "where it is captured with the code."
        )
    return place.read_text(encoding="utf-8")
