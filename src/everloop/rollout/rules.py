"""Rules that place requests on an endpoint before chance does: by a header, or by an input."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from everloop import registry, serving
from everloop.errors import Conflict, Invalid, NotFound
from everloop.rollout import store
from everloop.rollout.endpoints import change_rules, endpoint, folder
from everloop.rollout.records import Endpoint, RoutingRule
from everloop.storage import Tx
from everloop.workspace import Workspace

_MOST = 50  # each is looked at for each request


def checked_rules(
    ws: Workspace, model: str, rules: Iterable[RoutingRule], *, inputs: Sequence[str] = ()
) -> tuple[RoutingRule, ...]:
    """The rules with the release of each version that they name, once they are seen to make sense for the model.

    Raises
    ------
    Invalid
        Two have one name, a version is of another model, or an input is none of `inputs`, where these are known.
    NotFound
        A version is not released.
    """
    given = tuple(rules)
    names = [one.name for one in given]
    if len(set(names)) < len(names) or len(names) > _MOST:
        raise Invalid(
            f"the rules are {', '.join(names)}; each has a name of its own, and there are at most {_MOST}. Rename or drop some."
        )
    return tuple(_resolved(ws, model, one, inputs) for one in given)


def put_rule(ws: Workspace, endpoint_name: str, rule: RoutingRule, *, reason: str) -> Endpoint:
    """Add a rule as the endpoint's last one, or put it in the place of the one of its name. Audited.

    Raises as `checked_rules`.
    """

    def put(known: tuple[RoutingRule, ...]) -> tuple[RoutingRule, ...]:
        if any(one.name == rule.name for one in known):
            return tuple(rule if one.name == rule.name else one for one in known)
        return (*known, rule)

    target = endpoint(ws, endpoint_name)
    rules = checked_rules(ws, target.model, put(target.rules), inputs=_inputs(ws, target))
    return _change(ws, target, rules, reason=reason)


def drop_rule(ws: Workspace, endpoint_name: str, rule: str, *, reason: str) -> Endpoint:
    """Take a rule away: chance deals its requests again. Audited. Raises NotFound."""
    target = endpoint(ws, endpoint_name)
    if not any(one.name == rule for one in target.rules):
        known = ", ".join(one.name for one in target.rules) or "none"
        raise NotFound(f"there is no rule {rule!r} on {target.name!r}; there is {known}. Name one of these.")
    return _change(ws, target, tuple(one for one in target.rules if one.name != rule), reason=reason)


def _resolved(ws: Workspace, model: str, rule: RoutingRule, inputs: Sequence[str]) -> RoutingRule:
    if inputs and rule.input is not None and rule.input not in inputs:
        raise Invalid(
            f"the rule {rule.name!r} looks at {rule.input!r}; the model's inputs are {', '.join(inputs)}. Name one of these."
        )
    if "@" not in rule.to:
        return replace(rule, release=None)
    if rule.to.partition("@")[0] != model:
        raise Invalid(
            f"the rule {rule.name!r} sends requests to {rule.to}, which is not a version of {model!r}, the model that the "
            "endpoint serves. Name one of its versions, or candidate."
        )
    return replace(rule, release=registry.release_of(ws, rule.to).id)


def _inputs(ws: Workspace, target: Endpoint) -> list[str]:
    if not target.variants:
        return []
    manifest = serving.read_manifest(folder(ws), target.variants[0].release)
    return [one.name for one in manifest.signature.inputs]


def _change(ws: Workspace, target: Endpoint, rules: tuple[RoutingRule, ...], *, reason: str) -> Endpoint:
    def change(tx: Tx) -> None:
        tx.lock(f"endpoint:{target.name}")
        current = store.endpoint_by_name(tx.connection, target.name)
        if current is None or current.rules != target.rules:
            raise Conflict(
                f"the rules of {target.name!r} changed just now. Look at them, and change them again."
            )
        change_rules(ws, tx, current, rules, reason=reason)

    ws.write(change)
    return endpoint(ws, target.name)
