"""The command line: parse, call one verb, print what it answers; no rule of the domain.

`everloop <noun> <verb>`. Answers go to stdout, talk to stderr; `--json` prints the answer as JSON. Exit codes: 0 done,
1 everloop failed, 2 wrong use, 3 the answer is no, 75 try again later. A group's module is loaded when it is used, so
that help stays quick. Owns no table. May call anything.
"""

from everloop.cli.entry import main

__all__ = ["main"]
