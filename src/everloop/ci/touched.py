"""What a change touches: which steps of which pipelines would not do what they did on the base. A pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from everloop.ci.records import DeclaredPipeline, Look, Step, Touched, TouchedStep

_SHOWN = 60


def touched(
    before: Look | None,
    after: Look,
    data: Mapping[str, tuple[str | None, str | None]],
    *,
    run_all: bool = False,
) -> tuple[Touched, ...]:
    """Compare two checkouts pipeline by pipeline.

    Parameters
    ----------
    before
        None: there is nothing to be compared with, and all pipelines are new.
    data
        Digests of the rows and labels on both sides, by `dataset NAME` and `labels NAME`.
    run_all
        Run also what is not touched.
    """
    if before is None:
        return tuple(Touched(one.name, "new") for one in after.pipelines)
    other = dict.fromkeys(_redeclared(before, after), "was declared otherwise")
    other |= {name: "has other content" for name, (old, new) in data.items() if old != new}
    packages = _packages(before.packages, after.packages)
    found = []
    for pipeline in after.pipelines:
        known = before.pipeline(pipeline.name)
        if known is not None and known.problem is not None and known.problem == pipeline.problem:
            found.append(Touched(pipeline.name, "asked" if run_all else "untouched"))
            continue
        if known is None or known.problem is not None:
            found.append(Touched(pipeline.name, "new"))
            continue
        steps = tuple(_steps(known, pipeline, other, packages))
        reasons = tuple(_model(before, after, pipeline.name))
        if known.output != pipeline.output:
            reasons = (*reasons, "it returns another step's result")
        is_touched = bool(steps or reasons or pipeline.problem)
        found.append(
            Touched(
                pipeline.name,
                "touched" if is_touched else "asked" if run_all else "untouched",
                steps,
                reasons,
            )
        )
    gone = [one.name for one in before.pipelines if after.pipeline(one.name) is None]
    return (*found, *(Touched(name, "gone") for name in gone))


def _redeclared(before: Look, after: Look) -> set[str]:
    """Datasets and label sets that are declared otherwise: with other columns, features, classes."""
    kinds = {"dataset": "dataset", "labels": "labels", "feature": "dataset"}
    found = set()
    for key in before.declared.keys() | after.declared.keys():
        kind, _, name = key.partition(":")
        old, new = before.declared.get(key), after.declared.get(key)
        if kind in kinds and old != new:
            found.add(f"{kinds[kind]} {(new or old or {}).get('of', name) if kind == 'feature' else name}")
    for name in before.taxonomies.keys() | after.taxonomies.keys():
        if before.taxonomies.get(name) != after.taxonomies.get(name):
            found.add(f"labels {name}")
    return found


def _packages(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(_differences("environment", before, after))


def _steps(
    before: DeclaredPipeline, after: DeclaredPipeline, data: Mapping[str, str], packages: tuple[str, ...]
) -> Iterator[TouchedStep]:
    """In the order of the pipeline: those that differ themselves, and those that take what such a one makes."""
    known = {one.name: one for one in before.steps}
    changed: set[str] = set()
    for step in after.steps:
        taken = [name for name in step.needs if name in changed]
        reasons = (*_of_step(known.get(step.name), step, data), *packages)
        if taken:
            reasons = (*reasons, f"it takes what came of {' and '.join(taken)}")
        if reasons:
            changed.add(step.name)
            yield TouchedStep(step.name, step.label, reasons)
    for name in known.keys() - {one.name for one in after.steps}:
        yield TouchedStep(name, known[name].label, ("it is gone",))


def _of_step(before: Step | None, after: Step, data: Mapping[str, str]) -> Iterator[str]:
    if before is None:
        yield "it is new"
        return
    yield from _differences("source", before.source, after.source)
    if before.call != after.call and before.label != after.label:
        yield f"it is called as {after.label} instead of {before.label}"
    elif before.call != after.call:
        yield "it is called with something else"
    for name in after.inputs:
        if name in data:
            yield f"{name} {data[name]}"


def _model(before: Look, after: Look, pipeline: str) -> Iterator[str]:
    """What differs in the declaration of the models on a pipeline: their gates and who approves."""
    for key in sorted(before.declared.keys() | after.declared.keys()):
        old, new = before.declared.get(key, {}), after.declared.get(key, {})
        if key.startswith("model:") and pipeline in (old.get("pipeline"), new.get("pipeline")) and old != new:
            what = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
            is_there = bool(old) and bool(new)
            told = f"other {' and '.join(what)}" if is_there else "new" if new else "gone"
            yield (
                f"model {key.partition(':')[2]} is declared with {told}"
                if is_there
                else f"model {key[6:]} is {told}"
            )


def _differences(part: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        what = f"{part} {name}".replace(" =", "")
        if old == new:
            continue
        if old is None or new is None:
            yield f"{what} is {'new' if old is None else 'gone'}"
        elif part == "source" and not name.endswith(" ="):
            yield f"{what} was rewritten"
        else:
            yield f"{what} went from {_cut(old)} to {_cut(new)}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
