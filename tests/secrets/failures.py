"""Failing tests for an inner pytest run, with objects that hold a key and with failing calls."""

from __future__ import annotations

import os
from typing import Any

import pytest

from llmengine import EngineConfig
from tests.secrets.secret_objects import OBJECTS, VARIABLE, config, key

ANSWERS = (
    "refuses",
    "redirects",
    "is no JSON",
    "has no choices",
    "is no HTTP",
    "is cut",
    "is nothing",
    "is an event of an error",
)
CLIENTS: dict[str, dict[str, Any]] = {
    "asyncio": {"transport": "asyncio"},
    "aiohttp": {"transport": "aiohttp"},
    "httpx": {"transport": "httpx"},
    "SDK": {"backend": "openai", "options": {"api": "chat"}},
}


def _sent(thing: Any) -> None:
    raise LookupError("what is an argument here is shown by pytest")


@pytest.mark.parametrize("name", OBJECTS)
def test_object(name: str) -> None:
    """The object is a local, an argument and a part of an assertion."""
    thing = OBJECTS[name]()
    if isinstance(thing, Exception):
        raise thing
    if name.startswith("H"):
        _sent(thing)
    assert thing is None


def _engine(client: str, answer: str) -> Any:
    place = f"{os.environ['TESTS_SHOWN_URL']}/{ANSWERS.index(answer)}"
    return config(
        endpoint=place, api_key=key(), headers={"X-Mine": key()}, max_retries=0, **CLIENTS[client]
    ).engine


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_call(client: str, answer: str) -> None:
    """The call raises through all frames of the library."""
    engine = _engine(client, answer)
    (result,) = engine.results("hi", extra_body={"user": key()})
    raise result.error


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_stream(client: str, answer: str) -> None:
    """A stream raises in the frames of its reader."""
    for _ in _engine(client, answer).stream("hi"):
        pass


def test_question_to_the_server() -> None:
    """Other requests than prompts fail too."""
    engine = _engine("aiohttp", "refuses")
    engine.fingerprint()


def test_no_server_listens() -> None:
    """No server listens at an address with a password."""
    config(endpoint=f"http://me:{key()}@127.0.0.1:9", max_retries=0).engine.generate("hi")


def test_variable_that_is_not_set() -> None:
    """A configuration cannot be resolved."""
    engine = config(api_key_env="TESTS_NOT_SET", headers={"X-Mine": key()}).engine
    engine.generate("hi")


def test_two_names_of_a_field() -> None:
    """Pydantic refuses the configuration."""
    EngineConfig.model_validate({"backend": "x", "model": "m", "api_key": key(), "endpoint": 5})


COUNT = len(OBJECTS) + 2 * len(CLIENTS) * len(ANSWERS) + 4

if os.environ.get("TESTS_SHOWN_LOCALS"):

    def test_local() -> None:
        """A text in a frame of the user's own code, which only the plugin can see."""
        thing = os.environ[VARIABLE]
        engine = config(api_key=key()).engine
        print("printed", thing)  # noqa: T201 - captured by pytest
        assert engine.api_key == f"something else than {thing}"
