"""Which of a row's inputs made a model answer as it did.

Answers: what did each input, each word of a text and each category add to the score that was answered? Linear models and trees
of scikit-learn are taken apart (`taken_apart`), in terms of the columns that stand before all transformers; any other model
is asked about rows between the given one and another (`by_asking`). What is given adds up to the model's own score, or is not
given.
Owns no table, reads no file, looks at scikit-learn's models without importing it at the top. May call compiled.
"""

from everloop.explaining.apart import TakenApart, taken_apart
from everloop.explaining.asking import by_asking
from everloop.explaining.origins import NotExplainedError
from everloop.explaining.records import Contribution, Explanation, Word, added_up

__all__ = [
    "Contribution",
    "Explanation",
    "NotExplainedError",
    "TakenApart",
    "Word",
    "added_up",
    "by_asking",
    "taken_apart",
]
