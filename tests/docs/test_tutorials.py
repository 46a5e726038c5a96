"""Whoever follows a page sees what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.page_runner import matches, run_page
from tests.peer import peer

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [
    *sorted((DOCS / "tutorial").glob("[a-z]*.md")),
    *(
        DOCS / "how-to" / f"{name}.md"
        for name in (
            "check-a-pull-request",
            "look-at-experiments",
            "replay-your-history",
            "run-on-airflow",
            "run-pipelines-by-themselves",
            "score-in-batches",
            "search-for-parameters",
            "serve-your-own-function",
            "stages-and-approvals",
            "use-one-room",
            "verify-a-model",
        )
    ),
]

LONG = (
    "check-a-pull-request",
    "photos",
    "replay-your-history",
    "score-in-batches",
    "search-for-parameters",
    "serve-your-own-function",
    "table",
    "texts",
)


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on a quiet machine
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.long] if page.stem in LONG else [])
        for page in PAGES
    ],
)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_page_for_mlflows_clients_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "mlflow-env").symlink_to(peer("mlflow").parent)
    run_page(DOCS / "how-to" / "use-mlflow-clients.md", tmp_path)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_on_serving_mlflows_models_does_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "mlflow-env").symlink_to(peer("mlflow_models").parent)
    run_page(DOCS / "how-to" / "serve-a-model-from-mlflow.md", tmp_path)


@pytest.mark.parametrize(
    ("said", "shown", "fits"),
    [
        ("one\ntwo\n", "one\ntwo\n", True),
        ("one\ntwo\n", "one\n", False),
        ("one\n", "one\ntwo\n", False),
        ("run_12 done\n", "run_… done\n", True),
        ("run_12 FAILED\n", "run_… done\n", False),
        ("one\ntwo\nthree\n", "one\n…\nthree\n", True),
        ("one\nthree\n", "one\n…\nthree\n", True),
        ("one\ntwo\n", "one\n…\nthree\n", False),
        ("a.c", "abc\n", False),
    ],
)
def test_what_was_said_is_compared_line_by_line(said: str, shown: str, fits: bool) -> None:
    assert matches(said, shown) is fits


PAGE = """
```python greet.py
print("hello run_{id}")
```

```sh
python greet.py
```

```text
hello run_…
```

```sh
echo again run_…
```

```text
again run_{id}
```

```sh fails
ls nothing-here
```

```sh wait
echo x >> waited; cat waited
```

```text
x
x
```
"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("", "", None),
        ("hello run_…", "good day run_…", "line 6: .* said\nhello run_0"),
        ("ls nothing-here", "ls", "line 22: ended with 0"),
        ("echo again run_…", "echo again job_…", "no job_… was seen yet"),
        ("echo again run_…", "echo again run_…; false", "line 14: ended with 1"),
        ("```sh\necho", "```bash\necho", "no blocks of bash"),
    ],
)
def test_the_runner_finds_what_is_not_as_the_page_says(
    before: str, after: str, message: str | None, tmp_path: Path
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace("{id}", 32 * "0").replace(before, after, 1))
    if message is None:
        run_page(page, tmp_path)
        return
    with pytest.raises(AssertionError, match=message):
        run_page(page, tmp_path)
