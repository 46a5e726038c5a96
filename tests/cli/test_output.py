from __future__ import annotations

from everloop.cli.output import shown


def test_people_read_the_beginning_of_a_digest() -> None:
    digest = "7b6cc2ea2b14" + 52 * "0"
    assert shown(digest) == "7b6cc2ea2b14"
    assert shown(f"blake3:{digest}") == "blake3:7b6cc2ea2b14"
    assert shown({"model.skops": digest}) == "model.skops 7b6cc2ea2b14"


def test_other_words_stay_whole() -> None:
    assert shown("a" * 65) == "a" * 65
    assert shown(f"run_{32 * 'a'}") == f"run_{32 * 'a'}"
