"""No object that may be in a frame shows a key, in any way of showing it."""

from __future__ import annotations

import copy
import pickle
import pprint
import reprlib
import traceback
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import pytest
from _pytest._io.saferepr import saferepr
from pydantic import BaseModel
from rich.pretty import pretty_repr

from llmengine import EngineConfig
from tests.secrets.secret_objects import OBJECTS

if TYPE_CHECKING:
    from collections.abc import Callable

# Dataclasses with plain bytes of an answer in their fields; only their repr hides them.
_FROM_THE_WIRE = frozenset(
    {"HTTP reply", "HTTP stream", "contract's target", "contract's reply", "recorded request"}
)


def _by_model(value: Any) -> str:
    if not isinstance(value, BaseModel):
        return ""
    return f"{value.model_dump()} {value.model_dump_json()} {value.model_dump(mode='json')}"


def _by_vars(value: Any) -> str:
    return repr(vars(value)) if hasattr(value, "__dict__") else ""


def _by_traceback(value: Any) -> str:
    """The error with its causes, and the locals of every frame."""
    if not isinstance(value, BaseException):
        return ""
    told = traceback.TracebackException.from_exception(value, capture_locals=True)
    return "".join(told.format())


WAYS: dict[str, Callable[[Any], str]] = {
    "repr": repr,
    "str": lambda value: "" if isinstance(value, str) else str(value),
    "format": lambda value: "" if isinstance(value, str) else f"{value}",
    "in a list": lambda value: repr([value, {"it": value}]),
    "a part": lambda value: repr(value[:12]) if isinstance(value, str) else "",
    "pprint": pprint.pformat,
    "reprlib": reprlib.repr,
    "pytest": saferepr,
    "rich": lambda value: pretty_repr(value, max_string=10),
    "vars": _by_vars,
    "model_dump": _by_model,
    "a deep copy": lambda value: repr(copy.deepcopy(value)) if isinstance(value, str) else "",
    "traceback": _by_traceback,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OBJECTS)
def test_no_way_shows_the_key(name: str, way: str, key: str) -> None:
    """Neither does a printed table of objects, nor an error tracker that reads frames."""
    assert key not in WAYS[way](OBJECTS[name]())


@pytest.mark.parametrize("name", sorted(OBJECTS.keys() - _FROM_THE_WIRE))
def test_asdict_shows_no_key(name: str, key: str) -> None:
    """The values hide themselves, so a copy of the fields does too."""
    value = OBJECTS[name]()

    assert not is_dataclass(value) or key not in repr(asdict(value))


def test_objects_hold_the_key(key: str) -> None:
    """The objects really hold it: objects without a key would prove nothing."""
    made = {name: OBJECTS[name]() for name in OBJECTS}

    assert made["engine's key"] == key
    assert made["engine's headers"]["Authorization"] == f"Bearer {key}"
    assert made["headers in aiohttp"]["x-my-gateway"] == key
    assert f"me:{key}@" in made["endpoint"]
    assert made["config with a body"].extra_body["auth"][0]["apiKey"] == key
    assert made["config with options"].options["client_secret"] == key
    assert key.encode() in made["HTTP body"]


def test_pickled_configuration_keeps_its_keys(key: str) -> None:
    """Another process needs them, and no text shows them there either."""
    config = EngineConfig(
        backend="openai_compatible",
        model="m",
        endpoint=f"http://me:{key}@127.0.0.1:9/v1",
        headers={"X-Mine": key},
    )

    loaded = pickle.loads(pickle.dumps(config))

    assert loaded == config
    assert loaded.headers["X-Mine"] == key
    assert key not in f"{loaded!r} {loaded.model_dump_json()}"
