"""`everloop trace`, `everloop impact`, `everloop why`, `everloop audit`."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from everloop.cli.output import Output, pass_output, shown


@click.command()
@click.argument("identifier")
@pass_output
def trace(out: Output, identifier: str) -> None:
    """Trace a prediction, a run, a model version or a dataset version back to where it comes from.

    \b
    Example: everloop trace pred_0198...
    """
    from everloop import governance

    with out.workspace() as ws:
        found = governance.trace(ws, identifier)
        lines = []
        for step in found.steps:
            lines.append(f"{step.title}  {shown(step.node.id)}")
            lines += [
                f"    {name:<20} {shown(value)}"
                for name, value in step.facts.items()
                if value not in (None, {}, [])
            ]
        lines += [f"GAP: {gap}" for gap in found.gaps]
        out.answer(found, "\n".join(lines))


@click.command()
@click.argument("identifier")
@pass_output
def impact(out: Output, identifier: str) -> None:
    """Say what depends on a row, a person's labels, a dataset version, a snapshot, a run or a model version.

    \b
    Example: everloop impact listings:30519
    Example: everloop impact annotator:alice
    """
    from everloop import governance

    with out.workspace() as ws:
        found = governance.impact(ws, identifier)
        lines = [f"{kind:<16} {shown(ids)}" for kind, ids in found.reached.items()]
        lines += [f"{count:,} predictions by {release}" for release, count in found.predictions.items()]
        out.answer(found, "\n".join(lines) or "Nothing depends on it.")


@click.command()
@click.argument("identifier")
@pass_output
def why(out: Output, identifier: str) -> None:
    """Say why a step ran, a run began, a retrain started, a rollout moved, something was found, a version was blocked.

    \b
    Example: everloop why run_0198.../fit
    """
    from everloop import governance

    with out.workspace() as ws:
        found = governance.why(ws, identifier)
        lines = [found.answer, *(f"  {one}" for one in found.because)]
        lines += [f"  go on: everloop why {one}    # {what}" for one, what in found.go_on.items()]
        out.answer(found, "\n".join(lines))


@click.group()
def audit() -> None:
    """Read and verify the chain of governed acts.

    \b
    Example: everloop audit verify
    """


@audit.command("list")
@click.option("--who", help="Only acts of this actor.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def list_(out: Output, who: str | None, limit: int) -> None:
    """List governed acts, newest first.

    \b
    Example: everloop audit list --who alice
    """
    from everloop import ledger

    with out.workspace() as ws:
        columns = {
            "seq": lambda one: one.seq,
            "when": lambda one: one.at,
            "who": lambda one: one.actor,
            "act": lambda one: one.act,
            "what": lambda one: f"{one.subject.kind} {one.subject.id}",
            "detail": lambda one: (
                {name: value for name, value in one.detail.items() if name == "reason"} or None
            ),
        }
        out.table(
            ledger.entries(ws, actor=who, limit=limit), columns, empty="Nothing governed has happened yet."
        )


@audit.command()
@click.option("--anchor", help="A head noted earlier, SEQ:HASH: the chain must still contain it.")
@pass_output
def verify(out: Output, anchor: str | None) -> None:
    """Recompute the chain: exit 0 when every entry is as it was written, 3 when not.

    \b
    Example: everloop audit verify --anchor 412:9f3c...
    """
    from everloop import ledger

    with out.workspace() as ws:
        verdict = ledger.verify(ws, anchor=anchor)
        lines = [f"{verdict.entries:,} entries, head {verdict.head}", *verdict.problems]
        lines.append("The chain is intact." if verdict.is_intact else "The chain is BROKEN.")
        out.answer({"is_intact": verdict.is_intact, **asdict(verdict)}, "\n".join(lines))
        if not verdict.is_intact:
            sys.exit(3)


@audit.command()
@pass_output
def head(out: Output) -> None:
    """Print the chain's head, to be noted somewhere else as an anchor.

    \b
    Example: everloop audit head
    """
    from everloop import ledger

    with out.workspace() as ws:
        newest = ledger.head(ws)
        out.answer({"head": newest}, newest)
