"""report.html: the whole report in one file that needs nothing else, for an artifact of a job."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from everloop.ci import wording
from everloop.ci.records import Metric, Report


@dataclass(frozen=True)
class Bar:
    """A difference with its interval on a scale from 0 to 100, `zero` where nothing differs."""

    low: float
    high: float
    value: float
    zero: float


def page(report: Report) -> str:
    """The report as HTML. Everything in it is escaped; it has no script and asks nothing of the network."""
    return _template().render(report=report)


def bar(metric: Metric) -> Bar | None:
    """Where a metric's difference lies, on a scale that is as wide on both sides of 0; None without an interval."""
    if metric.difference is None or metric.low is None or metric.high is None:
        return None
    widest = max(abs(metric.low), abs(metric.high), abs(metric.difference)) or 1.0

    def at(value: float) -> float:
        return round(50 + 48 * value / widest, 2)

    return Bar(at(metric.low), at(metric.high), at(metric.difference), 50)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("everloop.ci", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "answers_moved",
        "data_moved",
        "difference",
        "gate_pairs",
        "labels_moved",
        "number",
        "ran_and_why",
    )
    environment.globals |= {name: getattr(wording, name) for name in names} | {"bar": bar}
    return environment.get_template("report.html")
