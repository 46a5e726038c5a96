"""A pipeline as data: calls of steps, and where each takes its arguments from."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from everloop.errors import NotFound
from everloop.pipelines.records import Source
from everloop.pipelines.steps import Step


@dataclass(frozen=True)
class Constant:
    """A parameter: a value known before anything runs."""

    value: Any


@dataclass(frozen=True)
class Output:
    """What another node makes."""

    node: str


@dataclass(frozen=True)
class Declared:
    """The rows of a declared data set or label set, as pinned when the run started; `name` is unique in the graph."""

    name: str


@dataclass(frozen=True)
class Group:
    """A list or tuple of which some items are made by nodes."""

    items: tuple[Binding, ...]
    is_tuple: bool


@dataclass(frozen=True)
class Mapped:
    """A dictionary of which some values are made by nodes."""

    items: tuple[tuple[str, Binding], ...]


@dataclass(frozen=True)
class Each:
    """One item after the other of a list: the node that takes it is called once for each."""

    items: Output | Group


@dataclass(frozen=True)
class Reference:
    """A secret, by its name."""

    secret: str


Binding = Constant | Output | Declared | Group | Mapped | Each | Reference
Guard = tuple[str, bool]  # a node that makes a condition, and what it has to be


@dataclass(frozen=True)
class Node:
    """One call of a step, or with `Each` among its bindings one for each item.

    `name` is unique in the graph; `bindings` say by parameter where each value comes from; `guards` are the conditions
    under which it runs, from the outermost branch to the innermost.
    """

    name: str
    step: Step[..., Any]
    bindings: Mapping[str, Binding]
    guards: tuple[Guard, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """The nodes whose results it takes."""
        leaves = (leaf for binding in self.bindings.values() for leaf in leaves_of(binding))
        return frozenset(leaf.node for leaf in leaves if isinstance(leaf, Output))


@dataclass(frozen=True)
class Graph:
    """A pipeline as data: nodes in an order in which each stands after those it needs.

    `sources` holds the declared inputs by the name that bindings use; `output` is what the pipeline returns.
    """

    name: str
    nodes: tuple[Node, ...]
    sources: Mapping[str, Source]
    output: Binding

    @functools.cached_property
    def _by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def node(self, name: str) -> Node:
        """Raises NotFound."""
        if name in self._by_name:
            return self._by_name[name]
        near = difflib.get_close_matches(name, self._by_name, n=3)
        raise NotFound(
            f"pipeline {self.name} has no step {name!r}. "
            + (f"Near names: {', '.join(near)}." if near else f"It has {len(self.nodes)} others.")
        )


def leaves_of(binding: Binding) -> Iterator[Binding]:
    """What a binding holds that is no list and no dictionary, in order."""
    if isinstance(binding, Group):
        for item in binding.items:
            yield from leaves_of(item)
    elif isinstance(binding, Mapped):
        for _, item in binding.items:
            yield from leaves_of(item)
    elif isinstance(binding, Each):
        yield from leaves_of(binding.items)
    else:
        yield binding
