"""A fitted pipeline as a plan: its answers without its library's price per call.

Answers: can this model be compiled, and if not, which piece stands in the way? A plan is made for pipelines whose every piece
is known, and raises for a row that it does not stand for. Whether a plan may answer in its model's place is not decided
here: serving compares the two on a release's own rows first. Of some pipelines all that answers can be kept as data (`Kept`), from
which whole columns are answered without the library. `trees_of` gives a model's trees to whoever reads them.
Owns no table, reads no file, and looks at scikit-learn's models without importing it.
"""

from everloop.compiled.keeping import kept_of
from everloop.compiled.kept import Kept, read, written
from everloop.compiled.many import Many, many_of
from everloop.compiled.parts import NotCompiledError, UnreadableError, UnsureError
from everloop.compiled.plan import RULES, Plan, plan_of
from everloop.compiled.reading import Column
from everloop.compiled.scoring import Answered, Scoring
from everloop.compiled.trees import Tree, trees_of

__all__ = [
    "RULES",
    "Answered",
    "Column",
    "Kept",
    "Many",
    "NotCompiledError",
    "Plan",
    "Scoring",
    "Tree",
    "UnreadableError",
    "UnsureError",
    "kept_of",
    "many_of",
    "plan_of",
    "read",
    "trees_of",
    "written",
]
