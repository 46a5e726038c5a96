"""The taxonomy of the simulated marketplace: department, family, category. Listings are put in categories."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Category:
    """A class to predict, the lowest of three levels; `id` outlives a change of its name."""

    id: int
    name: str
    family: str
    department: str


@dataclass(frozen=True)
class Node:
    """One line of the taxonomy as a tree; `parent` is another line's id, None for departments."""

    id: int
    name: str
    parent: int | None
    level: str


_TREE: dict[str, dict[str, tuple[str, ...]]] = {
    "Home": {"Kitchen": ("Kettles", "Pans", "Mugs"), "Climate": ("Fans", "Heaters")},
    "Clothing": {
        "Footwear": ("Sandals", "Trail Shoes", "Winter Boots"),
        "Outerwear": ("Rain Jackets", "Winter Coats"),
    },
    "Outdoors": {"Camping": ("Tents", "Lanterns"), "Bags": ("Backpacks", "Cool Bags")},
}


def _nodes() -> tuple[Node, ...]:
    """Ids count up by hundreds, tens and ones, so that a department's ids begin alike."""
    nodes = []
    for i, (department, families) in enumerate(_TREE.items(), start=1):
        nodes.append(Node(100 * i, department, None, "department"))
        for j, (family, names) in enumerate(families.items(), start=1):
            nodes.append(Node(100 * i + 10 * j, family, 100 * i, "family"))
            nodes += [
                Node(100 * i + 10 * j + k, name, 100 * i + 10 * j, "category")
                for k, name in enumerate(names, start=1)
            ]
    return tuple(nodes)


NODES = _nodes()
"""The taxonomy, parents first."""

_BY_ID = {node.id: node for node in NODES}


def _category(node: Node) -> Category:
    family = _BY_ID[node.parent or 0]
    return Category(node.id, node.name, family.name, _BY_ID[family.parent or 0].name)


CATEGORIES = tuple(_category(node) for node in NODES if node.level == "category")
FAMILIES = tuple(node.name for node in NODES if node.level == "family")


def neighbours(category: Category) -> tuple[Category, ...]:
    """The other categories of its family: what a tired person confuses it with."""
    return tuple(one for one in CATEGORIES if one.family == category.family and one != category)
