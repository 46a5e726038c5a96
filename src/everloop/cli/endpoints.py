"""`everloop endpoints`: what answers where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from everloop.cli.output import Output, carried_out, dry_run_option, pass_output

_LIMITS = (
    click.option("--deadline-ms", type=float, help="A row without an answer after so long gets none."),
    click.option(
        "--own-process/--no-own-process",
        default=None,
        help="Run each version in a process of its own, so that its crash is nobody else's.",
    ),
    click.option(
        "--memory-mb", type=int, help="Memory of that process, in 10^6 bytes; implies --own-process."
    ),
    click.option("--cores", type=int, help="Cores and threads of that process; implies --own-process."),
    click.option(
        "--hang-s", type=float, help="Stop that process when a batch has no answer after so long [30]."
    ),
    click.option("--batch-rows", type=int, help="How many rows are asked together at most [256]."),
    click.option("--wait-ms", type=float, help="How long a smaller batch waits for more rows [0]."),
    click.option("--queue", type=int, help="How many rows may wait or be in work [1024]."),
)


def _with_limits(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_LIMITS):
        command = option(command)
    return command


@click.group()
def endpoints() -> None:
    """What is live where, now and then.

    \b
    Example: everloop endpoints live category --at 2026-05-01
    """


@endpoints.command("list")
@pass_output
def list_(out: Output) -> None:
    """List the endpoints and what answers on them.

    \b
    Example: everloop endpoints list
    """
    from everloop import rollout

    with out.workspace() as ws:
        columns = {
            "endpoint": lambda one: one.name,
            "model": lambda one: one.model,
            "live": lambda one: [f"{variant.version} {variant.weight:g} %" for variant in one.variants],
        }
        found = rollout.endpoints(ws)
        if any(one.rules for one in found):
            columns["rules"] = lambda one: [f"{rule.name} to {rule.to}" for rule in one.rules]
        out.table(
            found,
            columns,
            empty="No endpoints yet. A loop file declares them: el.endpoint(...), or: everloop endpoints create NAME MODEL",
        )


@endpoints.command()
@click.argument("name")
@click.argument("model")
@click.option(
    "--steps",
    default="10,25,50,100",
    show_default=True,
    help="Percent of the traffic that a new version gets, step by step.",
)
@click.option(
    "--slow-above-ms",
    type=click.FloatRange(min=0, min_open=True),
    help="What slow means to the judge; learned from 100 requests when left out.",
)
@_with_limits
@pass_output
def create(
    out: Output, /, name: str, model: str, steps: str, slow_above_ms: float | None, **limits: Any
) -> None:
    """Make an endpoint for a model that no loop file declares, such as one that an mlflow client logged.

    \b
    Example: everloop endpoints create category category --steps 50,100
    """
    from everloop import rollout

    try:
        canary = rollout.canary(*(float(one) for one in steps.split(",")), slow_above_ms=slow_above_ms)
    except ValueError as error:
        raise click.UsageError(
            f"--steps {steps} is no list of percentages; for example --steps 50,100."
        ) from error
    with out.workspace() as ws:
        given = {key: value for key, value in limits.items() if value is not None}
        made = rollout.create_endpoint(ws, name, model, canary=canary, limits=rollout.limits(**given))
        out.answer(
            made,
            f"{made.name} serves {made.model}: the newest version that may be released goes live by itself.",
        )


@endpoints.command()
@click.argument("name")
@_with_limits
@click.option("--reset", is_flag=True, help="Begin without any limit; else what is not named stays.")
@dry_run_option
@pass_output
def limit(out: Output, /, name: str, reset: bool, dry_run: bool, **limits: Any) -> None:
    """Say what an endpoint's models may take, or change it: at once, and no request is lost.

    Where a loop file declares the endpoint, its limits= hold again when it is next applied.

    \b
    Example: everloop endpoints limit category --deadline-ms 200 --memory-mb 500
    """
    import msgspec

    from everloop import rollout

    given = {key: value for key, value in limits.items() if value is not None}
    with out.workspace() as ws:
        now = rollout.endpoint(ws, name).limits
        if given or reset:
            before = {} if reset else msgspec.to_builtins(now)
            new = rollout.limits(**{**before, **given})
            now = carried_out(ws, lambda one: rollout.set_limits(one, name, new), dry_run=dry_run).limits
        said = ", ".join(f"{key} {value}" for key, value in now.stated.items())
        out.answer(now, f"{name}: {said or 'no limits of its own'}", dry_run=dry_run)


@endpoints.command()
@click.argument("name")
@click.option(
    "--at", help="A moment such as 2026-05-01T12:00:00Z, or a day, at whose end (UTC); now when left out."
)
@pass_output
def live(out: Output, name: str, at: str | None) -> None:
    """Say which versions answer on an endpoint, or answered at a moment.

    \b
    Example: everloop endpoints live category --at 2026-05-01
    """
    from everloop import rollout
    from everloop.clock import parse_moment

    with out.workspace() as ws:
        columns = {
            "variant": lambda one: one.name,
            "version": lambda one: one.version,
            "traffic": lambda one: f"{one.weight:g} %",
            "release": lambda one: one.release,
        }
        found = rollout.live(ws, name, at=parse_moment(at) if at else None)
        out.table(found, columns, empty="Nothing was live then.")
        if at or out.as_json:
            return
        if segment := rollout.segment_of(ws, name):
            of_all = "" if segment.share is None else f", {100 * segment.share:.3g} % of all so far"
            out.say(
                f"These are shares of the requests whose {segment.when}{of_all}; {segment.rest} answers all others."
            )
        for rule in rollout.endpoint(ws, name).rules:
            out.say(f"Rule {rule.name}: {rule.to} answers where {rule.when}.")


@endpoints.command()
@click.argument("name")
@click.argument("rule")
@click.option("--to", required=True, help="A version such as category@3, or candidate, control, previous.")
@click.option("--header", metavar="NAME[=VALUE]", help="The header that is looked at, such as X-Beta=yes.")
@click.option(
    "--input", "input_", metavar="NAME[=JSON]", help='The input that is looked at, such as country="NO".'
)
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def rule(
    out: Output,
    name: str,
    rule: str,
    to: str,
    header: str | None,
    input_: str | None,
    reason: str,
    dry_run: bool,
) -> None:
    """Send requests with a header or an input to a version, whatever chance would deal; rules are asked in their order.

    A header is the choice of whoever sends the request. What a rule placed is logged, and no evidence in a rollout.

    \b
    Example: everloop endpoints rule category staff --header X-Staff=yes --to candidate --reason "staff look first"
    """
    from everloop import rollout

    where, _, value = (header if header is not None else input_ or "").partition("=")
    values = (value if header is not None else _json(value),) if value else ()
    made = rollout.RoutingRule(
        rule, to, where if header is not None else None, where if input_ is not None else None, values
    )
    with out.workspace() as ws:
        changed = carried_out(
            ws, lambda one: rollout.put_rule(one, name, made, reason=reason), dry_run=dry_run
        )
        out.answer(changed, f"{changed.name}: {made.to} answers where {made.when}.", dry_run=dry_run)


def _json(text: str) -> str | int | float | bool:
    """What a JSON value says, or the text itself where it is none."""
    import msgspec

    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if isinstance(value, str | int | float | bool) else text


@endpoints.command("drop-rule")
@click.argument("name")
@click.argument("rule")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def drop_rule(out: Output, name: str, rule: str, reason: str, dry_run: bool) -> None:
    """Take a rule away: its requests are dealt by chance again.

    \b
    Example: everloop endpoints drop-rule category staff --reason "everybody meets it now"
    """
    from everloop import rollout

    with out.workspace() as ws:
        changed = carried_out(
            ws, lambda one: rollout.drop_rule(one, name, rule, reason=reason), dry_run=dry_run
        )
        out.answer(changed, f"{changed.name}: the rule {rule} is gone.", dry_run=dry_run)


@endpoints.command()
@pass_output
def workers(out: Output) -> None:
    """List the processes that answer predictions, and how they do.

    \b
    Example: everloop endpoints workers
    """
    from everloop import rollout, serving

    with out.workspace() as ws:
        versions = {
            variant.release: variant.version
            for endpoint in rollout.endpoints(ws)
            for variant in (*endpoint.variants, *endpoint.standby)
        }
        columns = {
            "process": lambda one: one.pid,
            "port": lambda one: one.port,
            "epoch": lambda one: "loading" if one.epoch is None else one.epoch,
            "starts": lambda one: one.starts,
            "since": lambda one: one.started_at,
            "answered by": lambda one: [
                f"{versions[release]} {path}" for release, path in one.paths.items() if release in versions
            ],
            "problem": lambda one: one.error or one.log_error or "",
        }
        found = serving.workers(ws.home / "serving")
        out.table(
            found,
            columns,
            empty="No process answers predictions. 'everloop up' starts one when a version goes live.",
        )
