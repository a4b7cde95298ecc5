"""Keys are masked by their value."""

from __future__ import annotations

import base64
import pickle
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from llmengine.types import secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmengine.types.secrets import Where


def test_a_registered_key_is_masked_wherever_it_is() -> None:
    """In the middle of a text, twice, beside letters."""
    secrets.register("k-7f3a")
    assert secrets.scrub("xk-7f3ay and k-7f3a") == "x[redacted]y and [redacted]"
    assert secrets.scrub("nothing here") == "nothing here"


def test_a_key_that_holds_another_is_masked_whole() -> None:
    """No rest of the longer key is left."""
    secrets.register("k-outer")
    secrets.register("k-outer-and-more")
    assert secrets.scrub("k-outer-and-more, k-outer") == "[redacted], [redacted]"


@pytest.mark.parametrize("word", ["EMPTY", "ollama", "test", "abc", ""])
def test_placeholders_are_not_masked(word: str) -> None:
    """Words that are not secrets stay in texts."""
    secrets.register(word)
    assert secrets.scrub(f"an {word} word") == f"an {word} word"


def test_keys_can_be_registered_while_others_scrub() -> None:
    """Threads do not disturb each other, and no key is lost."""
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


SECRET = "sk-sp3lled/in+many=ways"


@pytest.mark.parametrize(
    "around", ["{}", "me:{}", "Bearer {}", "x{}yz", "Authorization: Bearer {}"]
)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_key_in_base64_is_masked_wherever_it_begins(
    around: str, encode: Callable[[bytes], bytes]
) -> None:
    """A text around the key shifts the bits of its Base64; nothing of the key can be decoded."""
    secrets.register(SECRET)

    text = secrets.scrub(encode(around.format(SECRET).encode()).decode())

    assert "[redacted]" in text
    for piece in text.split("[redacted]"):
        decoded = base64.urlsafe_b64decode(piece.rstrip("=") + "A" * (-len(piece.rstrip("=")) % 4))
        assert SECRET[:3].encode() not in decoded
        assert SECRET[-3:].encode() not in decoded


@pytest.mark.parametrize(
    "spelled",
    [
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
        quote(SECRET, safe=""),
        SECRET.replace("/", r"\/"),
    ],
)
def test_a_key_in_another_spelling_is_masked(spelled: str) -> None:
    """In hex, in a URL, in a JSON string."""
    secrets.register(SECRET)
    assert secrets.scrub(f"<{spelled}>") == "<[redacted]>"


def test_encodings_of_a_short_key_are_not_masked() -> None:
    """They are so short that any text may have them by chance."""
    secrets.register("k-7f3b")
    assert secrets.scrub(b"k-7f3b".hex()) == b"k-7f3b".hex()


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("field", "api_key apiKey openai-api-key accessToken client_secret PASSWORD secretKey"),
        ("pair", "key subscription-key api-version-key sig access_token X-Amz-Signature auth"),
        ("header", "Authorization X-API-Key api-key Ocp-Apim-Subscription-Key Cookie Set-Cookie"),
    ],
)
def test_names_that_hold_keys(where: Where, names: str) -> None:
    """In any spelling."""
    assert all(secrets.is_secret_name(name, where) for name in names.split())


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("field", "max_tokens token bos_token prompt_cache_key seed model api_key_env keys"),
        ("pair", "model version config design tokens"),
        ("header", "content-type x-ratelimit-remaining-tokens x-request-id"),
    ],
)
def test_names_that_do_not_hold_keys(where: Where, names: str) -> None:
    """A "token" in a body is a token of the model, and a limit of tokens is never a key."""
    assert not any(secrets.is_secret_name(name, where) for name in names.split())


def test_a_secret_is_the_text_with_another_repr() -> None:
    """Sending, formatting and pickling it give the text itself."""
    secret = secrets.Secret("plain-text")

    assert (secret, f"{secret}", str(secret)) == ("plain-text",) * 3
    assert pickle.loads(pickle.dumps(secret)) == "plain-text"
    assert {repr(secret), repr([secret])[1:-1], repr(secret[:5])} == {"'[redacted]'"}


def test_headers_without_secrets_stay_readable() -> None:
    """All others are hidden; only those that look like keys are masked in other texts."""
    headers = {
        "Content-Type": "text/plain",
        "X-Team": "a-team-of-mine",
        "X-Trace": "1a2b3c4d5e6f7a8b9c0d",
    }
    headers |= {"Cookie": "a=c00kie-one; b=c00kie-two", "Authorization": "Basic bWU6cDRzc3dvcmQh"}
    secrets.learn_headers(headers)

    shown = repr(secrets.secret_headers(headers))

    assert shown.count("[redacted]") == 4
    assert "text/plain" in shown
    assert secrets.scrub("a-team-of-mine") == "a-team-of-mine"
    for learned in (
        "c00kie-one",
        "c00kie-two",
        "bWU6cDRzc3dvcmQh",
        "p4ssword!",
        "1a2b3c4d5e6f7a8b9c0d",
    ):
        assert secrets.scrub(learned) == "[redacted]"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:pass-word-1@h:1/v1", "http://[redacted]@h:1/v1"),
        ("http://me:p@ss-word-2@h", "http://[redacted]@h"),
        ("me:pass-word-3@h:11434", "[redacted]@h:11434"),
        ("https://t0ken-as-a-user@h/v1", "https://[redacted]@h/v1"),
        (
            "https://h/v1?subscription-key=query-key-1&v=2",
            "https://h/v1?subscription-key=[redacted]&v=2",
        ),
        ("https://h/v1?mail=me@example.com", None),
        ("http://127.0.0.1:8000/v1", None),
    ],
)
def test_addresses_are_shown_without_logins_and_keys(address: str, shown: str | None) -> None:
    """An address without them is shown as it is."""
    secret = secrets.secret_address(address)

    assert secret == address
    assert repr(secret) == repr(shown or address)
