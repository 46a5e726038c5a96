"""`everloop labels`: taxonomies, labels, snapshots, quality."""

from __future__ import annotations

from pathlib import Path

import click

from everloop.cli.output import Output, pass_output


@click.group()
def labels() -> None:
    """Taxonomies, labels, snapshots, quality.

    \b
    Example: everloop labels import category labelled.csv --key listing_id --value category --annotator catalogue
    """


@labels.command()
@click.argument("name")
@click.option("--dataset", required=True, help="The dataset whose rows are labelled.")
@click.option(
    "--classes", required=True, type=click.Path(path_type=Path), help="A CSV or Parquet file of the classes."
)
@pass_output
def define(out: Output, name: str, dataset: str, classes: Path) -> None:
    """Define a label set from a taxonomy; a changed taxonomy makes a new version of it.

    \b
    Example: everloop labels define category --dataset listings --classes taxonomy.csv
    """
    from everloop import labels as room

    with out.workspace() as ws:
        found = room.define(ws, name, dataset=dataset, classes=classes)
        out.answer(found, f"{name}#{found.number}: {len(found.classes)} classes over {found.dataset}.")


@labels.command("import")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--key", required=True, help="The file's column that identifies the row.")
@click.option("--value", required=True, help="The file's column that holds the label.")
@click.option("--annotator", required=True, help="Who said so.")
@pass_output
def import_(out: Output, name: str, file: Path, key: str, value: str, annotator: str) -> None:
    """Import labels from a file; all or none is kept.

    \b
    Example: everloop labels import category labelled.csv --key listing_id --value category --annotator catalogue
    """
    from everloop import labels as room

    with out.workspace() as ws:
        report = room.import_labels(ws, name, file, key=key, value=value, annotator=annotator)
        unknown = f" {len(report.unknown_rows)} rows are not in the dataset." if report.unknown_rows else ""
        out.answer(report, f"Imported {report.imported:,} labels, {report.repeated:,} were known.{unknown}")


@labels.command()
@click.argument("name")
@pass_output
def quality(out: Output, name: str) -> None:
    """Report coverage, conflicts, duplicates, thin classes and agreement.

    \b
    Example: everloop labels quality category
    """
    from everloop import labels as room

    with out.workspace() as ws:
        found = room.quality(ws, name)
        lines = [
            f"{found.labelled:,} of {found.rows:,} rows are labelled, in {len(found.per_class)} classes.",
            f"conflicts: {found.conflict_count:,} rows with different labels",
            f"duplicates: {found.duplicate_groups:,} groups of equal content, {found.duplicate_conflict_count:,} with different labels",
            f"thin classes: {', '.join(f'{label} ({count})' for label, count in found.thin.items()) or 'none'}",
        ]
        out.answer(found, "\n".join(lines))


@labels.command()
@click.argument("name")
@click.option(
    "--rule", type=click.Choice(["latest", "majority", "reviewer_wins"]), default="latest", show_default=True
)
@pass_output
def snapshot(out: Output, name: str, rule: str) -> None:
    """Freeze what is known to be true now.

    \b
    Example: everloop labels snapshot category
    """
    from everloop import labels as room

    with out.workspace() as ws:
        found = room.snapshot(ws, name, rule=rule)  # type: ignore[arg-type]  # click checked it
        out.answer(found, f"Snapshot {found.digest[:12]}: {found.count:,} labels.")


@labels.command()
@click.argument("name")
@pass_output
def snapshots(out: Output, name: str) -> None:
    """List the snapshots of a label set.

    \b
    Example: everloop labels snapshots category
    """
    from everloop import labels as room

    with out.workspace() as ws:
        columns = {
            "digest": lambda one: one.digest,
            "labels": lambda one: one.count,
            "rule": lambda one: one.rule,
            "as of": lambda one: one.at,
            "who": lambda one: one.created_by,
        }
        out.table(
            room.snapshots(ws, name), columns, empty=f"No snapshots yet: everloop labels snapshot {name}"
        )
