"""`everloop rollouts`: canaries."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from everloop.cli.output import Output, carried_out, dry_run_option, pass_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from everloop.rollout import ArmMeasure, Forecast, Prospect, Rollout, Stage
    from everloop.workspace import Workspace


@click.group()
def rollouts() -> None:
    """Rollouts and splits: plan, start, pause, roll back, look.

    \b
    Example: everloop rollouts start category category@3 --reason "better on fridges" --dry-run
    """


@rollouts.command("list")
@click.option("--endpoint", help="Those of this endpoint alone.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
@pass_output
def list_(out: Output, endpoint: str | None, limit: int) -> None:
    """List rollouts, newest first.

    \b
    Example: everloop rollouts list --endpoint category
    """
    from everloop import rollout

    with out.workspace() as ws:
        columns = {
            "rollout": lambda one: one.id,
            "endpoint": lambda one: one.endpoint,
            "version": lambda one: one.version,
            "state": lambda one: one.state,
            "traffic": lambda one: "0 %" if one.state == "rolled_back" else f"{one.weight:g} %",
            "started": lambda one: one.started_at,
            "outcome": lambda one: one.outcome,
        }
        if endpoint is not None:
            rollout.endpoint(ws, endpoint)
        found = rollout.rollouts(ws, endpoint_name=endpoint, limit=limit)
        out.table(
            found, columns, empty="No rollouts yet: everloop rollouts start ENDPOINT VERSION --reason WHY"
        )


@rollouts.command()
@click.argument("rollout_id")
@pass_output
def show(out: Output, rollout_id: str) -> None:
    """Show what a rollout did and on which numbers, oldest first.

    \b
    Example: everloop rollouts show ro_0198...
    """
    from everloop import rollout

    with out.workspace() as ws:
        found = rollout.rollout_of(ws, rollout_id)
        events = list(reversed(rollout.history(ws, rollout=found.id, limit=1_000)))
        columns = {
            "when": lambda one: one.at,
            "act": lambda one: one.act,
            "stage": lambda one: one.stage,
            "who": lambda one: one.actor,
            "reason": lambda one: one.reason,
        }
        out.table(events, columns, empty="Nothing has happened yet.")


@rollouts.command()
@click.argument("endpoint")
@click.argument("version")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@click.option("--again", is_flag=True, help="Although this version was rolled back here before.")
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@pass_output
def start(out: Output, endpoint: str, version: str, reason: str, again: bool, dry_run: bool) -> None:
    """Start rolling a released version out.

    \b
    Example: everloop rollouts start category category@3 --reason "better on fridges" --dry-run
    """
    from everloop import rollout

    with out.workspace() as ws:
        plan = rollout.plan(ws, endpoint, version, again=again)
        lines = [f"{plan.from_version or 'nothing'} -> {plan.version} on {plan.endpoint}"]
        lines += [
            f"  stage {stage.number}: {_traffic(stage)}, {'and' if stage is plan.stages[-1] else 'left'} {stage.leaves}"
            for stage in plan.stages
        ]
        if plan.segment:
            lines.append(
                f"  until the last stage only requests whose {plan.segment}: the shares are of these"
            )
        if plan.deadline:
            lines.append(f"  {plan.deadline}")
        if dry_run:
            out.answer(plan, "\n".join([*lines, "Nothing was changed (--dry-run)."]))
            return
        started = rollout.start(ws, endpoint, version, reason=reason, again=again)
        out.answer(started, "\n".join([*lines, f"Started {started.id}."]))


@rollouts.command()
@click.argument("endpoint")
@click.option("--steps", help="Percentages to try in the place of the endpoint's own: 10,50,100.")
@click.option("--excess", multiple=True, metavar="METRIC=SHARE", help="A margin to try: errors=0.01.")
@click.option(
    "--control",
    multiple=True,
    metavar="METRIC=SHARE",
    help="How often the live version is bad; a KPI's mean.",
)
@click.option(
    "--new", multiple=True, metavar="METRIC=SHARE", help="How often the new version is bad; a KPI's mean."
)
@click.option("--per-hour", type=click.FloatRange(min=0, min_open=True), help="Requests an hour.")
@click.option(
    "--audited",
    type=click.FloatRange(0, 1, min_open=True),
    help="Part of the answers that is drawn for review.",
)
@click.option(
    "--reviewed-share",
    default=1.0,
    type=click.FloatRange(0, 1, min_open=True),
    help="Part of those drawn that reviewers answer.",
)
@click.option(
    "--reviewed-after", type=click.FloatRange(min=0), metavar="HOURS", help="How long they take on average."
)
@click.option("--said", multiple=True, metavar="CLASS=SHARE", help="Part of the answers that say so.")
@click.option("--new-said", multiple=True, metavar="CLASS=SHARE", help="The new version's, if it differs.")
@click.option("--spread", multiple=True, metavar="KPI=NUMBER", help="Standard deviation of a KPI's values.")
@click.option("--known-share", multiple=True, metavar="KPI=SHARE", help="Part of the requests with a value.")
@click.option(
    "--known-after", multiple=True, metavar="KPI=HOURS", help="How long after the request a value is known."
)
@click.option(
    "--reported-after",
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="How long reports take on average.",
)
@click.option("--requests", default=20_000, show_default=True, type=click.IntRange(100, 10_000_000))
@click.option("--rollouts", "n_rollouts", default=400, show_default=True, type=click.IntRange(20, 100_000))
@pass_output
def simulate(
    out: Output,
    endpoint: str,
    steps: str | None,
    excess: tuple[str, ...],
    control: tuple[str, ...],
    new: tuple[str, ...],
    per_hour: float | None,
    audited: float | None,
    reviewed_share: float,
    reviewed_after: float | None,
    said: tuple[str, ...],
    new_said: tuple[str, ...],
    spread: tuple[str, ...],
    known_share: tuple[str, ...],
    known_after: tuple[str, ...],
    reported_after: float | None,
    requests: int,
    n_rollouts: int,
) -> None:
    """Tell how a plan would go before it is used: made-up rollouts at the endpoint's own rates and traffic.

    What is not given is that of the last 28 days: rates, the part of the answers that is audited and how late it is reviewed, the
    values of KPIs. Only the steps are simulated, not what is mirrored before, with the deadline's rolling back.

    \b
    Example: everloop rollouts simulate category --steps 10,50,100 --new errors=0.03
    """
    from dataclasses import replace

    from everloop import rollout

    with out.workspace() as ws:
        plan = rollout.endpoint(ws, endpoint).canary
        if steps:
            plan = replace(plan, steps=_steps(steps))
        if excess:
            plan = replace(plan, excess_at_most={**plan.excess_at_most, **_shares(excess)})
        with click.progressbar(length=1_000, label="Simulating", file=sys.stderr) as bar:
            found = rollout.prospects(
                ws,
                endpoint,
                canary=plan,
                assumed=rollout.Assumed(
                    control=_shares(control),
                    new=_shares(new),
                    spread=_shares(spread),
                    said=_shares(said),
                    new_said=_shares(new_said),
                    audited=audited,
                    reviewed_share=reviewed_share,
                    reviewed_after_h=reviewed_after,
                    known_share=_shares(known_share),
                    known_after_h=_shares(known_after),
                    reported_after_h=reported_after,
                    per_hour=per_hour,
                ),
                requests_at_most=requests,
                n_rollouts=n_rollouts,
                progress=lambda done: bar.update(int(1_000 * done) - bar.pos),
            )
        columns = {
            "new version": lambda one: one.name,
            "passes": lambda one: f"{100 * one.forecast.passed:.3g} %",
            "passes after": lambda one: _after(one.forecast.requests_to_pass, one.hours_to_pass),
            "rolled back": lambda one: _rolled_back(one.forecast),
            "back after": lambda one: _after(one.forecast.requests_to_roll_back, one.hours_to_roll_back),
            f"undecided at {requests:,}": lambda one: f"{100 * one.forecast.on_hold:.3g} %",
        }
        out.table(found, columns, empty="")
        if not out.as_json:
            out.say(f"Taken for granted: {_granted(found[0])}")
        if not out.as_json and all(
            one.hours_to_pass[0] is None and one.hours_to_roll_back[0] is None for one in found
        ):
            out.say("How long that takes is not known before an hour of traffic; say it: --per-hour 1000")


def _granted(no_worse: Prospect) -> str:
    """What the live version is taken to do, and of which part of the requests it becomes known, and when."""
    parts = []
    for metric, (rate, _) in no_worse.rates.items():
        text = f"{metric} {rate:.3g}"
        if metric in no_worse.told:
            text += f", known of {100 * no_worse.told[metric]:.3g} %"
        if metric in no_worse.after_h:
            text += f", after {no_worse.after_h[metric]:.3g} h"
        parts.append(text)
    return "; ".join(parts)


def _rolled_back(forecast: Forecast) -> str:
    told = f"{100 * forecast.rolled_back:.3g} %"
    return told if not forecast.by_deadline else f"{told}, {100 * forecast.by_deadline:.3g} % by the deadline"


def _after(
    requests: tuple[float | None, float | None], hours: tuple[float | None, float | None]
) -> str | None:
    """The median over all rollouts, so that a half that never ends so has none."""
    if requests[0] is None:
        return None
    return f"{requests[0]:,.0f} requests" + ("" if hours[0] is None else f", {hours[0]:.3g} h")


def _steps(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise click.UsageError(f"{text!r} are no steps; write percentages: --steps 10,50,100") from None


def _shares(given: tuple[str, ...]) -> dict[str, float]:
    try:
        shares = {name: float(value) for name, _, value in (one.rpartition("=") for one in given)}
    except ValueError:
        raise click.UsageError(
            f"{' '.join(given)} cannot be read; write a name, = and a number, such as errors=0.01 or category@3=25."
        ) from None
    if len(shares) < len(given):
        raise click.UsageError(
            f"{' '.join(given)} names one thing twice; each has one number. Leave one out."
        )
    return shares


@rollouts.command()
@click.argument("endpoint")
@click.argument("shares", metavar="VERSION=PERCENT...", nargs=-1, required=True)
@click.option("--sticky", is_flag=True, help="Keep each key on one version, and count keys.")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@click.option("--again", is_flag=True, help="Although a version was rolled back here before.")
@click.option("--dry-run", is_flag=True, help="Show the split and change nothing.")
@pass_output
def split(
    out: Output,
    endpoint: str,
    shares: tuple[str, ...],
    sticky: bool,
    reason: str,
    again: bool,
    dry_run: bool,
) -> None:
    """Share an endpoint's traffic between versions (A/B, A/B/n) until you end it; nothing moves by itself.

    The version that answers now is one of them: the others are compared with it, and its share is the holdback.

    \b
    Example: everloop rollouts split category category@2=50 category@3=25 category@4=25 --sticky --reason "which sells"
    """
    from everloop import rollout

    with out.workspace() as ws:
        begin = rollout.plan_split if dry_run else rollout.split_traffic
        made = begin(ws, endpoint, _shares(shares), sticky=sticky, reason=reason, again=again)
        lines = [
            f"{made.endpoint}, by {_unit(rollout.endpoint(ws, endpoint).key) if sticky else 'request'}:",
            *(f"  {one.name:<8} {one.version}  {one.weight:g} %" for one in made.arms),
            "Nothing was changed (--dry-run)." if dry_run else f"Started {made.id}.",
        ]
        out.answer(made, "\n".join(lines))


def _unit(key: str | None) -> str:
    """What stays with its version, in words."""
    named = "the key that a request names" if key is None else f"the key that a request names, else its {key}"
    return f"{named} (requests without one are dealt one by one)"


@rollouts.command()
@click.argument("split", metavar="ENDPOINT|SPLIT")
@pass_output
def results(out: Output, split: str) -> None:
    """Show what the arms of a split did so far: shares and differences to the control, bounds that hold at every look.

    \b
    Example: everloop rollouts results category
    """
    from everloop import rollout

    with out.workspace() as ws:
        found = rollout.split_results(ws, rollout.split_of(ws, split))
        if out.as_json:
            out.answer(found)
            return
        columns = {
            "measure": lambda one: one[1].measure,
            "version": lambda one: one[0].version,
            f"{found.unit}s": lambda one: one[1].bounds.n,
            "mean": lambda one: _mean(one[1], one[1].bounds.mean),
            "between": lambda one: " and ".join(
                _mean(one[1], end) for end in (one[1].bounds.lower, one[1].bounds.upper)
            ),
            "says": lambda one: one[1].says,
        }
        names = [one.measure for one in found.arms[0].measures]
        rows = [
            (arm, measure)
            for name in names
            for arm in found.arms
            for measure in arm.measures
            if measure.measure == name
        ]
        out.table(rows, columns, empty="")
        for problem in found.problems:
            out.say(problem)
        if found.is_off:
            out.say(
                f"The traffic was not split as asked ({', '.join(f'{one.version}: {one.n:,}' for one in found.arms)}; "
                f"e = {found.ratio_e_value:.3g}): nothing here can be trusted. See whether some requests are not logged."
            )


def _mean(measure: ArmMeasure, mean: float | None) -> str:
    if mean is None:
        return "-"
    return f"{100 * mean:.2f} %" if measure.is_share else f"{mean:.4g}"


@rollouts.command("end-split")
@click.argument("endpoint")
@click.option("--keep", metavar="VERSION", help="The arm that gets all traffic; the control when not said.")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def end_split(out: Output, endpoint: str, keep: str | None, reason: str, dry_run: bool) -> None:
    """End a split: all traffic to one of its versions.

    \b
    Example: everloop rollouts end-split category --keep category@3 --reason "sells more"
    """
    from everloop import rollout

    with out.workspace() as ws:
        ended = carried_out(
            ws, lambda one: rollout.end_split(one, endpoint, keep=keep, reason=reason), dry_run=dry_run
        )
        out.answer(ended, f"{ended.id}: {ended.outcome}.", dry_run=dry_run)


def _traffic(stage: Stage) -> str:
    if stage.mirrored:
        return f"{stage.mirrored:g} % of the requests mirrored, 0 % of the traffic"
    return f"{stage.weight:g} % of the traffic"


def _turn(out: Output, rollout_id: str, reason: str, verb: Callable[..., None], *, dry_run: bool) -> None:
    from everloop import rollout

    def turned(ws: Workspace) -> tuple[Rollout, list[str]]:
        verb(ws, rollout_id, reason=reason)
        found = rollout.rollout_of(ws, rollout_id)
        return found, [
            f"{one.version} {one.weight:g} %" for one in rollout.endpoint(ws, found.endpoint).variants
        ]

    with out.workspace() as ws:
        found, answers = carried_out(ws, turned, dry_run=dry_run)
        state = found.state.replace("_", " ")
        out.answer(
            found,
            f"{found.id}: {state}; {found.endpoint} is answered by {', '.join(answers)}.",
            dry_run=dry_run,
        )


@rollouts.command()
@click.argument("rollout_id")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def pause(out: Output, rollout_id: str, reason: str, dry_run: bool) -> None:
    """Stop judging and moving; traffic stays split as it is.

    \b
    Example: everloop rollouts pause ro_0198... --reason "release freeze"
    """
    from everloop import rollout

    _turn(out, rollout_id, reason, rollout.pause, dry_run=dry_run)


@rollouts.command()
@click.argument("rollout_id")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def resume(out: Output, rollout_id: str, reason: str, dry_run: bool) -> None:
    """Go on with a paused rollout.

    \b
    Example: everloop rollouts resume ro_0198... --reason "freeze is over"
    """
    from everloop import rollout

    _turn(out, rollout_id, reason, rollout.resume, dry_run=dry_run)


@rollouts.command()
@click.argument("rollout_id")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def promote(out: Output, rollout_id: str, reason: str, dry_run: bool) -> None:
    """Give all traffic to the new version now, without waiting for the judge.

    \b
    Example: everloop rollouts promote ro_0198... --reason "verified by hand"
    """
    from everloop import rollout

    _turn(out, rollout_id, reason, rollout.promote_now, dry_run=dry_run)


@rollouts.command()
@click.argument("rollout_id")
@click.option("--reason", required=True, help="Why; recorded in the audit log.")
@dry_run_option
@pass_output
def rollback(out: Output, rollout_id: str, reason: str, dry_run: bool) -> None:
    """Take the new version off the endpoint now.

    \b
    Example: everloop rollouts rollback ro_0198... --reason "wrong prices"
    """
    from everloop import rollout

    _turn(out, rollout_id, reason, rollout.roll_back, dry_run=dry_run)
