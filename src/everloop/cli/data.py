"""`everloop data`: datasets and their versions."""

from __future__ import annotations

from pathlib import Path

import click

from everloop.cli.output import Output, pass_output


@click.group()
def data() -> None:
    """Datasets: ingest, clean, profile, diff.

    \b
    Example: everloop data ingest listings listings.csv --key listing_id --time received_at
    """


@data.command()
@click.argument("name")
@click.option("--key", required=True, help="The column that identifies a row for good.")
@click.option("--time", help="The column that says when a row happened.")
@click.option(
    "--input", "inputs", multiple=True, help="A column that a live request carries; repeat for each."
)
@pass_output
def define(out: Output, name: str, key: str, time: str | None, inputs: tuple[str, ...]) -> None:
    """Define a dataset; a loop file does the same with el.dataset(...).

    \b
    Example: everloop data define listings --key listing_id --time received_at --input title
    """
    from everloop import data as room

    with out.workspace() as ws:
        found = room.define(ws, name, key=key, time=time, inputs=inputs or None)
        out.answer(found, f"Dataset {name}. Add rows: everloop data ingest {name} FILE")


@data.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--mode",
    type=click.Choice(["merge", "append", "replace"]),
    default="merge",
    show_default=True,
    help="merge: known keys are replaced, new ones added.",
)
@click.option(
    "--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), help="Else by the file's ending."
)
@click.option("--key", help="Define the dataset with this key if there is none.")
@click.option("--time", help="And with this event time.")
@pass_output
def ingest(
    out: Output, name: str, file: Path, mode: str, form: str | None, key: str | None, time: str | None
) -> None:
    """Add a CSV, JSONL or Parquet file, or a folder of images, to a dataset.

    \b
    Example: everloop data ingest listings october.csv
    """
    from everloop import data as room

    with out.workspace() as ws:
        if key is not None:
            room.define(ws, name, key=key, time=time)
        version = room.ingest(ws, name, file, mode=mode, format=form)  # type: ignore[arg-type]  # click checked both
        found = {kind: sum(counts.values()) for kind, counts in version.personal.items()}
        note = f" Personal data seen: {found}." if found else ""
        out.answer(version, f"{version.ref}: {version.rows:,} rows, digest {version.digest[:12]}.{note}")


@data.command("list")
@pass_output
def list_(out: Output) -> None:
    """List the datasets.

    \b
    Example: everloop data list
    """
    from everloop import data as room

    with out.workspace() as ws:
        columns = {
            "name": lambda one: one.name,
            "key": lambda one: one.key,
            "time": lambda one: one.time,
            "inputs": lambda one: one.inputs,
            "columns": lambda one: len(one.schema.columns),
        }
        out.table(room.datasets(ws), columns, empty="No datasets yet. Begin with: everloop init FILE.csv")


@data.command()
@click.argument("name")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def versions(out: Output, name: str, limit: int) -> None:
    """List a dataset's versions, newest first.

    \b
    Example: everloop data versions listings
    """
    from everloop import data as room

    with out.workspace() as ws:
        columns = {
            "version": lambda one: one.ref,
            "rows": lambda one: one.rows,
            "made by": lambda one: one.operation["kind"],
            "who": lambda one: one.created_by,
            "when": lambda one: one.created_at,
            "digest": lambda one: one.digest[:12],
        }
        out.table(
            room.versions(ws, name, limit=limit),
            columns,
            empty=f"No versions yet: everloop data ingest {name} FILE",
        )


@data.command()
@click.argument("ref")
@pass_output
def profile(out: Output, ref: str) -> None:
    """Show what each column of a version looks like.

    \b
    Example: everloop data profile listings@3
    """
    from everloop import data as room

    with out.workspace() as ws:
        found = room.profile(ws, ref)
        columns = {
            "column": lambda one: one.name,
            "type": lambda one: one.type,
            "missing": lambda one: one.nulls,
            "distinct": lambda one: one.distinct,
            "personal": lambda one: one.personal,
        }
        out.table(found.columns, columns, empty="The version has no columns.")


@data.command()
@click.argument("before")
@click.argument("after")
@pass_output
def diff(out: Output, before: str, after: str) -> None:
    """Say which rows were added, removed and changed between two versions.

    \b
    Example: everloop data diff listings@2 listings@3
    """
    from everloop import data as room

    with out.workspace() as ws:
        found = room.diff(ws, before, after)
        counts = {
            "added": found.added.num_rows,
            "removed": found.removed.num_rows,
            "changed": found.changed.num_rows,
        }
        out.answer(counts)


@data.command()
@click.argument("name")
@click.option("--trim", "trim", multiple=True, help="Strip white space at both ends of this column.")
@click.option("--normalise", multiple=True, help="Unify Unicode forms and white space in this column.")
@click.option("--drop-duplicates", multiple=True, help="Of rows equal in these columns keep the earliest.")
@click.option("--drop-null", multiple=True, help="Drop rows where this column is missing.")
@pass_output
def clean(
    out: Output,
    name: str,
    trim: tuple[str, ...],
    normalise: tuple[str, ...],
    drop_duplicates: tuple[str, ...],
    drop_null: tuple[str, ...],
) -> None:
    """Clean a dataset by recorded operations; the result is a new version.

    \b
    Example: everloop data clean listings --normalise title --drop-duplicates title --drop-duplicates merchant_id
    """
    from everloop import data as room

    operations: list[room.Operation] = []
    operations += [room.Trim(trim)] if trim else []
    operations += [room.Normalise(normalise)] if normalise else []
    operations += [room.DropNull(drop_null)] if drop_null else []
    operations += [room.DropDuplicates(drop_duplicates)] if drop_duplicates else []
    with out.workspace() as ws:
        report = room.clean(ws, name, operations)
        text = f"{report.version.ref}: {report.changed:,} rows changed, {report.dropped:,} dropped."
        out.answer({"version": report.version, "steps": report.steps}, text)
