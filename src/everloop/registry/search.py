"""Finding models and versions by what MLflow's language of filters can say."""

from __future__ import annotations

from collections.abc import Sequence

from everloop.errors import Invalid
from everloop.registry import queries
from everloop.registry.records import ModelVersion, RegisteredModel
from everloop.tracking import Condition, Grammar, Order, parse_filter, parse_orders
from everloop.workspace import Workspace

_TIMES = ("creation_timestamp", "last_updated_timestamp")
_MODELS = Grammar(
    texts=("name",), numbers=_TIMES, kinds=("attribute", "tag"), aliases={"timestamp": _TIMES[1]}
)
_VERSIONS = Grammar(
    texts=("name", "run_id", "source_path"),
    numbers=("version_number", *_TIMES),
    kinds=("attribute", "tag"),
)
# MLflow keeps prompts as models with this tag. Here there are none: all models are models.
_IS_PROMPT = "mlflow.prompt.is_prompt"
_NO_PROMPTS = (("=", "false"), ("!=", "true"))


def search_models(
    ws: Workspace, filter_: str = "", *, order_by: Sequence[str] = (), offset: int = 0, limit: int = 100
) -> list[RegisteredModel]:
    """Models that a filter such as `name LIKE 'cat%' AND tags.team = 'vision'` finds, in an order, ties by name.

    Raises Invalid for what cannot be read.
    """
    conditions, orders = _read(filter_, order_by, _MODELS)
    if conditions is None:
        return []
    with ws.read() as connection:
        return queries.search_models(connection, conditions, orders, offset=offset, limit=limit)


def search_versions(
    ws: Workspace, filter_: str = "", *, order_by: Sequence[str] = (), offset: int = 0, limit: int = 100
) -> list[ModelVersion]:
    """Versions that a filter such as `name = 'category' AND version_number > 3` finds, ties by name and newest first.

    It knows name, run_id, source_path, version_number, both times and tags. Raises Invalid for what cannot be read.
    """
    conditions, orders = _read(filter_, order_by, _VERSIONS)
    if conditions is None:
        return []
    with ws.read() as connection:
        return queries.search_versions(connection, conditions, orders, offset=offset, limit=limit)


def _read(
    filter_: str, order_by: Sequence[str], grammar: Grammar
) -> tuple[list[Condition] | None, list[Order]]:
    """Conditions and orders; no conditions at all (None) where nothing can meet them."""
    orders = parse_orders(order_by, grammar)
    if unordered := [one.key.name for one in orders if one.key.kind != "attribute"]:
        raise Invalid(
            f"the tag {unordered[0]!r} is no order; name an attribute, such as name or creation_timestamp."
        )
    kept: list[Condition] = []
    for condition in parse_filter(filter_, grammar):
        if (condition.key.kind, condition.key.name) != ("tag", _IS_PROMPT):
            kept.append(_by_run(condition))
        elif (condition.operator, condition.value) not in _NO_PROMPTS:
            return None, orders
    return kept, orders


def _by_run(condition: Condition) -> Condition:
    """MLflow's clients know runs by their 32 hex digits alone."""
    key, value = condition.key, condition.value
    if (key.kind, key.name) != ("attribute", "run_id"):
        return condition
    if isinstance(value, tuple):
        return Condition(key, condition.operator, tuple(f"run_{one}" for one in value))
    # the sign before the digits is one of LIKE's own, but matches itself
    return Condition(key, condition.operator, value if str(value).startswith("%") else f"run_{value}")
