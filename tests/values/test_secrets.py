"""Keys are masked by their value."""

from __future__ import annotations

import threading

import pytest

from llmengine.values import secrets


def test_a_registered_key_is_masked_wherever_it_is() -> None:
    """In the middle of a text, twice, beside letters."""
    secrets.register("k-7f3a")
    assert secrets.scrub("xk-7f3ay and k-7f3a") == "x[redacted]y and [redacted]"
    assert secrets.scrub("nothing here") == "nothing here"


def test_a_key_that_holds_another_is_masked_whole() -> None:
    """No tail of the longer key is left over."""
    secrets.register("k-outer")
    secrets.register("k-outer-and-more")
    assert secrets.scrub("k-outer-and-more, k-outer") == "[redacted], [redacted]"


@pytest.mark.parametrize("word", ["EMPTY", "ollama", "test", "abc", ""])
def test_placeholders_are_not_masked(word: str) -> None:
    """Words that are no secrets stay in texts."""
    secrets.register(word)
    assert secrets.scrub(f"an {word} word") == f"an {word} word"


def test_keys_can_be_registered_while_others_scrub() -> None:
    """Threads neither disturb one another nor lose a key."""
    keys = [f"thread-key-{number:03}" for number in range(200)]
    failures: list[BaseException] = []

    def work(mine: list[str]) -> None:
        try:
            for key in mine:
                secrets.register(key)
                assert secrets.scrub(f"<{key}>") == "<[redacted]>"
        except BaseException as exc:  # noqa: BLE001 - shown in the main thread
            failures.append(exc)

    threads = [threading.Thread(target=work, args=(keys[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert secrets.scrub(" ".join(keys)) == " ".join(["[redacted]"] * 200)
