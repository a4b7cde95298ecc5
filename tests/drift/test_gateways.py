"""The gateways of ``benchmarks/drift``: each changes what its name says, and nothing else."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from llmengine.mock import MockServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PATH = Path(__file__).parents[2] / "benchmarks" / "drift" / "gateways.py"
ASKED = {"temperature": 0, "max_tokens": 4, "logprobs": True}


@pytest.fixture(scope="module")
def gateways() -> ModuleType:
    """The module, which is not part of a package."""
    spec = importlib.util.spec_from_file_location("drift_gateways", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server without a gateway."""
    with MockServer() as server:
        yield server.root_url


def answers(url: str, contents: str) -> list[dict[str, Any]]:
    """The answers to one message per letter."""
    with httpx.Client(trust_env=False) as client:
        replies = [
            client.post(
                f"{url}/v1/chat/completions",
                json={**ASKED, "model": "mock", "messages": [{"role": "user", "content": c}]},
            )
            for c in contents
        ]
    return [reply.raise_for_status().json() for reply in replies]


def text(answer: dict[str, Any]) -> str:
    """The text of an answer."""
    content: str = answer["choices"][0]["message"]["content"]
    return content


def tokens(answer: dict[str, Any]) -> list[str]:
    """The tokens of an answer."""
    return [row["token"] for row in answer["choices"][0]["logprobs"]["content"]]


@pytest.mark.parametrize("consistent", [True, False])
def test_the_last_token_is_dropped(gateways: ModuleType, url: str, consistent: bool) -> None:
    """The text loses it, and the rest of the answer only from a consistent gateway."""
    (whole,) = answers(url, "a")
    with gateways.running(gateways.shorter_answers(1.0, 0, consistent=consistent), url) as other:
        (cut,) = answers(other, "a")

    assert text(cut) == "".join(tokens(whole)[:-1])
    assert tokens(cut) == tokens(whole)[: -1 if consistent else None]
    lost = whole["usage"]["completion_tokens"] - cut["usage"]["completion_tokens"]
    assert lost == consistent


@pytest.mark.parametrize("consistent", [True, False])
def test_two_of_200_answers_are_swapped(gateways: ModuleType, url: str, consistent: bool) -> None:
    """They are the answer to the message before."""
    expected = dict(zip("ab", answers(url, "ab"), strict=True))
    with gateways.running(gateways.swapped_answers(0, consistent=consistent), url) as other:
        got = answers(other, "ab" * 100)

    swapped = [n for n, one in enumerate(got) if text(one) != text(expected["ab"[n % 2]])]
    assert len(swapped) == 2
    for n in swapped:
        before, own = expected["ba"[n % 2]], expected["ab"[n % 2]]
        assert text(got[n]) == text(before)
        assert tokens(got[n]) == tokens(before if consistent else own)


def test_answers_are_cached(gateways: ModuleType, url: str) -> None:
    """A repeated message has the id of the first answer."""
    with gateways.running(gateways.cached_answers(), url) as other:
        got = answers(other, "aba")

    assert [got[0]["id"] == one["id"] for one in got] == [True, False, True]


def test_log_probabilities_are_removed(gateways: ModuleType, url: str) -> None:
    """The text is left."""
    (whole,) = answers(url, "a")
    with gateways.running(gateways.text_only(), url) as other:
        (stripped,) = answers(other, "a")

    assert "logprobs" not in stripped["choices"][0]
    assert text(stripped) == text(whole)


def test_an_error_is_passed_on(gateways: ModuleType, url: str) -> None:
    """The status and the body are those of the server."""
    with gateways.running(gateways.other_fields(max_tokens=-1), url) as other:
        reply = httpx.post(f"{other}/v1/chat/completions", json={"messages": []}, trust_env=False)

    assert reply.status_code == 400
    assert "error" in reply.json()
