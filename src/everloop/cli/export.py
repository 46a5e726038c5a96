"""`everloop export`: a pipeline as a file that another engine runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from everloop.cli.loop import parameters
from everloop.cli.output import Output, pass_output

if TYPE_CHECKING:
    from everloop.adapters import Exported

_LOOP = click.argument("source", metavar="LOOP_FILE[:PIPELINE]", default="loop.py")
_PARAMS = click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter's value in place of its default; it is JSON or plain text.",
)
_OUT = click.option("--out", "place", type=click.Path(path_type=Path), help="The file to write [stdout].")
_COMMAND = click.option(
    "--command", default="everloop", show_default=True, help="How everloop is called where the tasks run."
)


@click.group()
def export() -> None:
    """A pipeline as a file for another engine, whose tasks are everloop's steps.

    The engine decides when a step begins and how often it is tried; journal, cache, code and lineage are everloop's.

    \b
    Example: everloop export airflow loop.py:train --out dags/train.py
    """


@export.command()
@_LOOP
@_PARAMS
@_OUT
@_COMMAND
@click.option("--operator", type=click.Choice(["bash", "kubernetes"]), default="bash", show_default=True)
@click.option("--image", help="For kubernetes: the image that has everloop and your packages.")
@click.option("--volume", help="For kubernetes: the persistent volume claim that holds the home.")
@click.option("--pool", default="default_pool", show_default=True, help="The pool that all tasks are of.")
@click.option("--dag-id", help="The DAG's name [the pipeline's].")
@click.option("--on-data", is_flag=True, help="Run also when an asset of a dataset is updated.")
@pass_output
def airflow(
    out: Output,
    source: str,
    params: tuple[str, ...],
    place: Path | None,
    command: str,
    operator: str,
    image: str | None,
    volume: str | None,
    pool: str,
    dag_id: str | None,
    on_data: bool,
) -> None:
    """Write a DAG file for Airflow 3: task groups, retries, a pool, mapped tasks, branches, assets.

    The file imports airflow.sdk and the operator's provider alone. Apply the loop file in the home first.

    \b
    Example: everloop export airflow loop.py --out ~/airflow/dags/train.py
    """
    from everloop import adapters
    from everloop.settings import load_settings

    text = adapters.airflow_dag(
        _read(source, params),
        home=load_settings(out.home).home,
        command=command,
        operator=operator,  # type: ignore[arg-type]  # click checked it
        image=image,
        volume=volume,
        pool=pool,
        dag_id=dag_id,
        on_data=on_data,
    )
    _write(out, text, place)


@export.command()
@_LOOP
@_PARAMS
@_OUT
@_COMMAND
@click.option("--image", required=True, help="The image that has everloop and your packages.")
@click.option("--volume", help="The persistent volume claim that holds the home.")
@click.option("--cpu", help="What a step's container may use, such as 2 or 500m.")
@click.option("--memory", help="What a step's container may use, such as 4Gi.")
@pass_output
def kubeflow(
    out: Output,
    source: str,
    params: tuple[str, ...],
    place: Path | None,
    command: str,
    image: str,
    volume: str | None,
    cpu: str | None,
    memory: str | None,
) -> None:
    """Write IR YAML for Kubeflow Pipelines: container components, conditions, loops, retries, resources.

    Upload the file, or run it with kfp. Apply the loop file in the home first.

    \b
    Example: everloop export kubeflow loop.py --image shop:7 --volume shop-home --out train.yaml
    """
    from everloop import adapters
    from everloop.settings import load_settings

    found = adapters.kubeflow_ir(
        _read(source, params),
        image=image,
        home=load_settings(out.home).home,
        volume=volume,
        command=command,
        cpu=cpu,
        memory=memory,
    )
    _write(out, found, place)


def _read(source: str, params: tuple[str, ...]) -> Exported:
    """The pipeline that is named on the command line."""
    from everloop import adapters
    from everloop import loop as room

    file, _, pipeline = source.partition(":")
    given: dict[str, Any] = parameters(params)
    return adapters.exported(room.load(Path(file)), pipeline or None, given)


def _write(out: Output, text: str, place: Path | None) -> None:
    if place is None:
        out.answer({"text": text}, text.rstrip("\n"))
        return
    place.write_text(text)
    out.answer({"file": str(place)}, f"Written to {place}.")
