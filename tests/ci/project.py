"""A user's project in a real git repository: small pipelines that run in milliseconds, and a real model."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from everloop import ci
from everloop.settings import load_settings

# Two pipelines that need no data and no library.
STEPS = """
import everloop as el

START = 3


def doubled(number: int) -> int:
    return 2 * number


@el.step
def count(start: int) -> int:
    return doubled(start)


@el.step
def told(number: int) -> str:
    return f"{number} things"


@el.step
def other() -> int:
    return 1


@el.pipeline
def report() -> str:
    return told(count(START))


@el.pipeline
def beside() -> int:
    return other()
"""

MODEL = """
import everloop as el
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

people = el.dataset("people", key="id", inputs=["age", "calls"])
left = el.label_set("left", of=people, classes=["no", "yes"])


@el.step
def split(rows: el.Table, labels: el.Table) -> el.Split:
    return el.split(rows, labels, test=0.5)


@el.step
def fit(data: el.Split, c: float) -> el.Model:
    columns = ColumnTransformer([("numbers", "passthrough", data.positions(["age", "calls"]))])
    return el.fit(make_pipeline(columns, LogisticRegression(C=c)), data)


@el.pipeline
def train() -> el.Model:
    return fit(split(people, left), 1.0)


model = el.model(
    "left",
    train,
    gates=[
        el.gate("accuracy", at_least=0.7),
        el.gate("accuracy", below_live_by_at_most=0.02),
    ],
)
"""

DATA = """
[data.people]
file = "people.csv"

[labels.left]
file = "people.csv"
key = "id"
value = "left"
"""


@dataclass(frozen=True)
class Project:
    """A repository with a loop file in its folder."""

    root: Path

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.root), "-c", "user.name=A", "-c", "user.email=a@example.org", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, files: Mapping[str, str | None]) -> str:
        """Write files, or remove those given as None, and commit; the new commit."""
        for name, text in files.items():
            path = self.root / name
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "more")
        return self.git("rev-parse", "HEAD")

    def branch(self, name: str, files: Mapping[str, str | None]) -> str:
        """Begin a branch on main, and commit to it."""
        self.git("checkout", "--quiet", "-B", name, "main")
        return self.commit(files)

    def check(self, *, base: str | None = None, file: str = "loop.py") -> ci.Report:
        settings = load_settings(self.root / ".everloop", environ={}, actor="tester")
        return ci.check(self.root / file, settings, base=base)


def begun(root: Path, files: Mapping[str, str]) -> Project:
    """A new repository whose branch main holds these files."""
    root.mkdir(parents=True, exist_ok=True)
    project = Project(root)
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit(files)
    return project


def people(n: int = 240, *, seed: int = 5) -> str:
    """Rows as CSV: who calls often leaves; `because` is filled in for those alone."""
    chance = random.Random(seed)  # noqa: S311  (made-up people, not secrets)
    rows = [["id", "age", "calls", "because", "left"]]
    for number in range(n):
        calls = chance.randrange(10)
        left = chance.random() < (0.9 if calls > 5 else 0.1)
        rows.append(
            [
                f"p{number}",
                str(chance.randrange(18, 90)),
                str(calls),
                "price" if left else "",
                "yes" if left else "no",
            ]
        )
    return "".join(",".join(row) + "\n" for row in rows)
